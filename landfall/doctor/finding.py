"""What was found, and what finds it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from shared.errors import ConfigurationError, Forbidden, LandfallError, Missing

State = Literal["ok", "wrong", "unknown", "skipped"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """``what`` was found of ``subject``; ``cure`` says what to do unless all is well.

    Unknown is what could not be examined. Skipped is what only the app itself can probe: no fault of the installation.
    """

    check: str
    subject: str
    state: State
    what: str
    cure: str = ""


@dataclass(frozen=True, kw_only=True)
class Check:
    """``look`` finds; ``cure`` is for errors that it raises, ``forbidden`` and ``missing`` for those of that kind.

    ``audience`` is whose token the check cannot do without. Of a check that does what the app does, being
    refused is a fault only when doctor runs as the app, which ``as_app`` tells.
    """

    name: str
    subject: str
    look: Callable[[], Iterable[Finding]]
    cure: str = "Run it again; if it stays so, look at the status page of Azure."
    forbidden: str = ""
    missing: str = ""
    audience: str = ""
    as_app: Callable[[], bool] = lambda: True

    def ok(self, what: str) -> Finding:
        return Finding(check=self.name, subject=self.subject, state="ok", what=what)

    def wrong(self, what: str, cure: str) -> Finding:
        return Finding(check=self.name, subject=self.subject, state="wrong", what=what, cure=cure)

    def run(self) -> list[Finding]:
        """All findings; whatever goes wrong is one of them."""
        try:
            return list(self.look())
        except Forbidden as error:
            if self._by_somebody_else():
                what = "not probed: who runs doctor may not, and need not; the app's own roles are looked at below"
                return [Finding(check=self.name, subject=self.subject, state="skipped", what=what)]
            return [self._found("wrong", error, self.forbidden)]
        except Missing as error:
            return [self._found("wrong", error, self.missing)]
        except ConfigurationError as error:
            return [
                Finding(check=self.name, subject=fault.where, state="wrong", what=fault.what, cure=fault.cure)
                for fault in error.faults
            ]
        except LandfallError as error:
            return [self._found("unknown", error, "")]
        except Exception as error:  # noqa: BLE001 - what one check did not expect must not hide what others find
            what = f"could not be examined: {type(error).__name__}: {error}"
            return [Finding(check=self.name, subject=self.subject, state="unknown", what=what, cure=self.cure)]

    def _by_somebody_else(self) -> bool:
        try:
            return not self.as_app()
        except LandfallError:
            return False

    def _found(self, state: State, error: LandfallError, cure: str) -> Finding:
        return Finding(check=self.name, subject=self.subject, state=state, what=str(error), cure=cure or self.cure)


def examine(checks: Iterable[Check], refused: Callable[[], set[str]] = set) -> list[Finding]:
    """The findings of all checks, in their order.

    None hides another: a check that needs a token which ``refused`` names is listed as not examined.
    """
    found: list[Finding] = []
    for check in checks:
        if check.audience and check.audience in refused():
            found.append(
                Finding(
                    check=check.name,
                    subject=check.subject,
                    state="unknown",
                    what=f"not examined: there is no token for {check.audience}",
                    cure="First cure what is said of that token.",
                )
            )
            continue
        found += check.run()
    return found
