"""Online endpoints on a laptop: deployments served in the processes that ask, their state in a file each."""

from __future__ import annotations

import json
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from shared.adapters.local.lake import FolderLake
from shared.adapters.local.whole_file import write_whole
from shared.domain.compiled import GRAPH, place
from shared.domain.pipelines import Rollout
from shared.errors import Missing, Refused, Rejected, Transient
from shared.models.compiled_model import CompiledModel, load
from shared.models.served_model import ServedModel
from shared.ports.clock import Clock
from shared.ports.endpoint_service import Answer, Deployment, Route, check_split
from shared.scoring.number_array import sequence

if TYPE_CHECKING:
    from shared.adapters.local.model_registry import MlflowRegistry

LATELY = 0.02
"""Seconds for which a look at an endpoint's file serves who asks its deployments for answers."""
LOADING_ATTEMPTS = 3
"""A deployment whose loading was cut short this often is failed: its model may be what ends the process."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,31}")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _State:
    """What an endpoint's file says; ``attempts`` counts how often the loading of a deployment was begun."""

    deployments: dict[str, Deployment] = field(default_factory=dict)
    traffic: dict[str, int] = field(default_factory=dict)
    mirror: dict[str, int] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)


class LocalEndpoints:
    """Deployments loaded in this process on first use, or when they are created, in their compiled form if the lake
    has one.

    The state of an endpoint is ``home``/endpoints/<name>.json. It is changed under a file lock and
    replaced as a whole, so several processes may act on it. Who loads a new deployment holds a lock
    that ends with its process: any later look takes the work over when it is free.
    """

    def __init__(self, home: Path, registry: MlflowRegistry, clock: Clock, lake: FolderLake) -> None:
        self._folder = home / "endpoints"
        self._registry = registry
        self._clock = clock
        self._lake = lake
        self._files: dict[str, Path] = {}
        self._states: dict[str, tuple[tuple[int, int], _State]] = {}
        self._seen: dict[str, tuple[float, _State]] = {}
        self._models: dict[tuple[str, str, str, str], CompiledModel | ServedModel] = {}
        self._loading = threading.Lock()

    def ensure(self, endpoint: str) -> None:
        """See :meth:`EndpointService.ensure`. Raises Rejected for a name that no endpoint can have."""
        if not _NAME.fullmatch(endpoint):
            raise Rejected(
                f"{endpoint!r} cannot name an endpoint: use up to 32 letters, digits and dashes, a letter first"
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._locked(endpoint):
            if not self._file(endpoint).exists():
                self._write(endpoint, _State())

    def deploy(self, endpoint: str, deployment: str, *, model: str, version: str, sizing: Rollout) -> None:
        """See :meth:`EndpointService.deploy`. A laptop has one size: ``sizing`` changes nothing."""
        if not _NAME.fullmatch(deployment):
            raise Rejected(
                f"{deployment!r} cannot name a deployment: use up to 32 letters, digits and dashes, a letter first"
            )
        if self._registry.get(model, version) is None:
            raise Missing(f"model {model} has no version {version}; register it before it is deployed")
        new = Deployment(name=deployment, model=model, version=version, state="creating")
        self._change(endpoint, lambda s: replace(s, deployments={deployment: new, **s.deployments}))
        self._resume(endpoint)

    def deployments(self, endpoint: str) -> dict[str, Deployment]:
        """See :meth:`EndpointService.deployments`."""
        self._resume(endpoint)
        return dict((self._state(endpoint) or _State()).deployments)

    def traffic(self, endpoint: str) -> dict[str, int]:
        """See :meth:`EndpointService.traffic`; empty when the endpoint does not exist."""
        return dict((self._state(endpoint) or _State()).traffic)

    def routes(self, endpoint: str) -> tuple[Route, ...]:
        """See :meth:`EndpointService.routes`; here it is never old."""
        state = self._state(endpoint) or _State()
        return tuple(
            Route(d.name, d.model, d.version, state.traffic.get(d.name, 0), state.mirror.get(d.name, 0))
            for d in state.deployments.values()
            if d.state == "ready"
        )

    def mirror(self, endpoint: str) -> dict[str, int]:
        """See :meth:`EndpointService.mirror`; who asks for answers makes the copies."""
        return dict((self._state(endpoint) or _State()).mirror)

    def set_traffic(self, endpoint: str, traffic: dict[str, int], *, mirror: dict[str, int] | None = None) -> None:
        """See :meth:`EndpointService.set_traffic`; it is in force when this returns."""
        wanted = {name: share for name, share in traffic.items() if share}
        copied = {name: share for name, share in (mirror or {}).items() if share}
        check_split(endpoint, wanted, copied)

        def change(state: _State) -> _State:
            for name in (*wanted, *copied):
                present = state.deployments.get(name)
                if present is None or present.state != "ready":
                    what = f"is {present.state}" if present else "does not exist"
                    raise Refused(f"deployment {name} of endpoint {endpoint} {what}: only a ready one can take traffic")
            return replace(state, traffic=wanted, mirror=copied)

        self._change(endpoint, change)

    def remove(self, endpoint: str, deployment: str) -> None:
        """See :meth:`EndpointService.remove`. Every process forgets the model when it next looks."""

        def change(state: _State) -> _State:
            if state.traffic.get(deployment):
                raise Refused(
                    f"deployment {deployment} of endpoint {endpoint} has {state.traffic[deployment]} % of the traffic:"
                    " move it to another one first"
                )
            if state.mirror.get(deployment):
                raise Refused(f"deployment {deployment} of endpoint {endpoint} gets copies of requests: end that first")
            return replace(
                state,
                deployments={name: d for name, d in state.deployments.items() if name != deployment},
                attempts={name: n for name, n in state.attempts.items() if name != deployment},
            )

        if self._state(endpoint) is not None:
            self._change(endpoint, change)
            self._claim_file(endpoint, deployment).unlink(missing_ok=True)

    def score(
        self, endpoint: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, deployment: str | None = None
    ) -> Answer:
        """See :meth:`EndpointService.score`."""
        state = self._lately(endpoint)
        if state is None:
            raise Missing(f"there is no endpoint {endpoint}")
        if deployment is None:
            if not state.traffic:
                raise Missing(f"no deployment of endpoint {endpoint} has traffic")
            (deployment,) = random.choices(list(state.traffic), cum_weights=list(accumulate(state.traffic.values())))
        present = state.deployments.get(deployment)
        if present is None:
            raise Missing(f"endpoint {endpoint} has no deployment {deployment}")
        if present.state != "ready":
            raise Transient(f"deployment {deployment} of endpoint {endpoint} is {present.state}; ask again later")
        try:
            model = self._model(endpoint, present)
        except Exception as error:
            raise Transient(f"version {present.version} of model {present.model} cannot be loaded: {error}") from error
        start = time.perf_counter()
        values, probabilities = model.answer(columns, rows)
        return Answer(
            predictions=sequence(values),
            deployment=deployment,
            version=present.version,
            milliseconds=(time.perf_counter() - start) * 1000,
            probabilities=None if probabilities is None else sequence(probabilities),
            classes=model.classes,
        )

    def _model(self, endpoint: str, deployment: Deployment) -> CompiledModel | ServedModel:
        """The deployment's model, loaded once however many threads ask."""
        key = (endpoint, deployment.name, deployment.model, deployment.version)
        model = self._models.get(key)
        if model is None:
            with self._loading:
                model = self._models.get(key)
                if model is None:
                    name, version = deployment.model, deployment.version
                    compiled = Path(self._lake.uri(place(name, version, GRAPH)))
                    model = load(self._registry.model_folder(name, version), compiled)
                    self._models[key] = model
        return model

    def _resume(self, endpoint: str) -> None:
        """Load each deployment that is creating, in the background, unless somebody is at it."""
        for deployment in (self._state(endpoint) or _State()).deployments.values():
            if deployment.state != "creating":
                continue
            lock = self._claim_file(endpoint, deployment.name).open("ab")
            if _try_lock(lock):
                name = f"load {endpoint}/{deployment.name}"
                threading.Thread(target=self._load, args=(endpoint, deployment, lock), name=name, daemon=True).start()
            else:
                lock.close()

    def _load(self, endpoint: str, deployment: Deployment, lock: IO[bytes]) -> None:
        """Make a deployment ready or failed; closing ``lock`` lets others look after it again."""
        name = deployment.name

        def begin(state: _State) -> _State:
            if state.deployments.get(name) != deployment:
                return state
            return replace(state, attempts={**state.attempts, name: state.attempts.get(name, 0) + 1})

        def end(state: _State) -> _State:
            if state.deployments.get(name) != deployment:
                return state
            ended = replace(deployment, state="failed" if reason else "ready", reason=reason)
            return replace(state, deployments={**state.deployments, name: ended})

        reason = ""
        # Who removes the home removes the endpoint with it: then there is nothing to load, nor to say.
        with lock, suppress(Missing):
            state = self._change(endpoint, begin)
            if state.deployments.get(name) != deployment:
                return  # removed, or ended by whoever held the lock before
            try:
                if state.attempts[name] > LOADING_ATTEMPTS:
                    reason = f"loading was cut short {LOADING_ATTEMPTS} times: the model may be what ended the process"
                else:
                    self._model(endpoint, deployment)
            except (Exception, SystemExit) as error:
                _logger.exception("deployment %s of endpoint %s cannot load its model", name, endpoint)
                reason = f"{type(error).__name__}: {error}"
            self._change(endpoint, end)

    def _lately(self, endpoint: str) -> _State | None:
        """The state as it was a moment ago: who asks for answers has just looked for the route."""
        seen = self._seen.get(endpoint)
        return seen[1] if seen and time.monotonic() - seen[0] < LATELY else self._state(endpoint)

    def _state(self, endpoint: str) -> _State | None:
        """The present state, from memory as long as its file is the same; None when there is no endpoint."""
        if not _NAME.fullmatch(endpoint):
            return None
        file = self._file(endpoint)
        try:
            stat = file.stat()
        except FileNotFoundError:
            return None
        stamp = (stat.st_mtime_ns, stat.st_ino)
        known = self._states.get(endpoint)
        if known and known[0] == stamp:
            self._seen[endpoint] = (time.monotonic(), known[1])
            return known[1]
        record = json.loads(file.read_text())
        state = _State(
            deployments={d["name"]: Deployment(**d) for d in record["deployments"]},
            traffic=record["traffic"],
            mirror=record.get("mirror", {}),
            attempts=record["attempts"],
        )
        self._states[endpoint] = (stamp, state)
        self._seen.pop(endpoint, None)
        for key in list(self._models):
            served = state.deployments.get(key[1])
            if key[0] == endpoint and (served is None or (served.model, served.version) != key[2:]):
                self._models.pop(key, None)
        return state

    def _change(self, endpoint: str, change: Callable[[_State], _State]) -> _State:
        """Replace the state by what ``change`` makes of it; it may raise to refuse. Raises Missing without endpoint."""
        if self._state(endpoint) is None:
            raise Missing(f"there is no endpoint {endpoint}; create it before it is changed")
        with self._locked(endpoint):
            present = self._state(endpoint)
            assert present is not None, "endpoints are never deleted"
            wanted = change(present)
            if wanted != present:
                self._write(endpoint, wanted)
        return wanted

    def _write(self, endpoint: str, state: _State) -> None:
        record = {
            "changed_at": self._clock.now().isoformat(),
            "deployments": [asdict(d) for d in state.deployments.values()],
            "traffic": state.traffic,
            "mirror": state.mirror,
            "attempts": state.attempts,
        }
        # Its time stamps always differ, which those of quick writes by other ways do not.
        self._seen.pop(endpoint, None)
        write_whole(self._file(endpoint), json.dumps(record).encode(), staging=self._folder / ".partial")

    def _file(self, endpoint: str) -> Path:
        file = self._files.get(endpoint)
        if file is None:
            file = self._files[endpoint] = self._folder / f"{endpoint}.json"
        return file

    def _claim_file(self, endpoint: str, deployment: str) -> Path:
        return self._folder / f"{endpoint}.{deployment}.loading"

    @contextmanager
    def _locked(self, endpoint: str) -> Iterator[None]:
        import fcntl

        with (self._folder / f"{endpoint}.lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _try_lock(file: IO[bytes]) -> bool:
    """Lock an open file unless another one that is open, in any process, holds it."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
