"""Keys of a laptop's functions, made at the first start and kept in keys.json, readable by its owner only."""

from __future__ import annotations

import hmac
import json
import os
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from landfall.host.home_lock import writing

FILE = "keys.json"


@dataclass(frozen=True, kw_only=True, repr=False)
class Keys:
    """``master`` opens everything, also /admin; ``function`` opens functions of auth level function."""

    master: str
    function: str

    def open(self, level: str, key: str) -> bool:
        """True when ``key`` is enough for an auth level: anonymous, function or admin."""
        if level == "anonymous":
            return True
        good = [self.master] if level == "admin" else [self.master, self.function]
        return any([hmac.compare_digest(key.encode(), known.encode()) for known in good])


def load(home: Path) -> Keys:
    """The keys of this home; made when there are none. Two processes that make them at once get the same ones.

    Raises :class:`~shared.errors.Refused` when the home cannot be written.
    """
    path = home / FILE
    with writing(home):
        if not path.exists():
            _make(path)
        return Keys(**json.loads(path.read_text(encoding="utf-8")))


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{FILE}.{os.getpid()}.{secrets.token_hex(4)}")
    made = Keys(master=secrets.token_urlsafe(32), function=secrets.token_urlsafe(32))
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(made), file)
        with suppress(FileExistsError):
            os.link(part, path)
    finally:
        part.unlink()
