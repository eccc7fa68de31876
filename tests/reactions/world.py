"""A whole loop on real lake, ledger and queue folders, with services that do at once what a test tells them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from shared import reactions
from shared.adapters.local.event_publisher import EventLog
from shared.adapters.local.lake import FolderLake
from shared.adapters.local.run_ledger import SqliteLedger
from shared.definitions.catalog import Catalog
from shared.definitions.last_valid import LastValid
from shared.domain.compiled import Compiled
from shared.domain.gate import Evaluation
from shared.domain.ledger import Batch, Decision, PipelineState, RolloutState, Run, Version
from shared.domain.pipelines import Rollout
from shared.domain.records import to_record
from shared.domain.signals import (
    DataLanded,
    EvaluationFinished,
    FeaturesReady,
    ModelRegistered,
    Signal,
    TrainingFinished,
)
from shared.errors import Missing, Refused, Rejected, Transient
from shared.loop import Loop
from shared.ports import Ports
from shared.ports.batch_service import BatchScoringJob
from shared.ports.endpoint_service import Answer, Deployment, check_split
from shared.ports.feature_engine import FeaturesJob, Manifest
from shared.ports.jobs import JobStatus
from shared.ports.model_registry import ModelVersion
from shared.ports.training_service import CommandJob
from shared.predictions.prediction_log import PredictionLog
from shared.settings import Settings

PIPELINE = """
name: churn
landing:
  path: landing/churn
  complete: {quiet: 30s, max_wait: 10m}
  expect_every: 7d
  columns: {customer_id: string, tenure: int, churn: string}
features: {key: customer_id, label: churn}
rollout: {steps: [10, 50, 100], bake: 10m, keep_previous: 24h}
drift: {every: 1h, sustained: 1 of 1, min_rows: 10}
retraining: {budget: 2 a week}
"""


VISIBILITY = timedelta(seconds=30)


class Crash(BaseException):
    """The process dies here."""


@dataclass
class MovedClock:
    """A clock that a test moves."""

    at: datetime = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)

    def now(self) -> datetime:
        self.at += timedelta(microseconds=1)
        return self.at


@dataclass
class MemoryQueue:
    """Messages with the time from which they are visible; the one numbered ``lost`` vanishes."""

    clock: MovedClock
    messages: list[tuple[datetime, str]] = field(default_factory=list)
    sent: int = 0
    lost: int = 0

    def send(self, signal: Signal, *, delay: timedelta = timedelta(0)) -> None:
        self.sent += 1
        if self.sent == self.lost:
            return
        self.messages.append((self.clock.at + delay, signal.to_message()))


@dataclass
class Services:
    """Features, training, registry, endpoints and batch scoring; ``outbox`` holds the events they raised."""

    lake: FolderLake
    outbox: list[Signal] = field(default_factory=list)
    features_jobs: dict[str, FeaturesJob] = field(default_factory=dict)
    jobs: dict[str, CommandJob] = field(default_factory=dict)
    states: dict[str, JobStatus] = field(default_factory=dict)
    models: dict[tuple[str, str], ModelVersion] = field(default_factory=dict)
    aliases: dict[tuple[str, str], str] = field(default_factory=dict)
    endpoints: dict[str, dict[str, Deployment]] = field(default_factory=lambda: defaultdict(dict))
    splits: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    mirrors: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    batch_jobs: dict[str, BatchScoringJob] = field(default_factory=dict)
    manifest_status: str = "ready"
    training_state: str = "completed"
    hold_training: bool = False
    gain: float = 0.05
    compiled: Compiled | None = None
    lose_events: bool = False
    wrong_answers: bool = False

    @property
    def deployed(self) -> dict[str, Deployment]:
        """The deployments of the endpoint churn."""
        return self.endpoints["churn"]

    @property
    def split(self) -> dict[str, int]:
        """The traffic of the endpoint churn."""
        return self.splits["churn"]

    @split.setter
    def split(self, traffic: dict[str, int]) -> None:
        self.splits["churn"] = traffic

    # features
    def submit(self, job: Any) -> None:
        if isinstance(job, FeaturesJob):
            self._prepare(job)
        elif isinstance(job, BatchScoringJob):
            self.batch_jobs.setdefault(job.name, job)
        else:
            self._run(job)

    def _prepare(self, job: FeaturesJob) -> None:
        if job.name in self.features_jobs:
            return
        self.features_jobs[job.name] = job
        rows = 10 * len(job.files)
        status = "short" if rows < job.min_rows else self.manifest_status
        manifest = Manifest(
            run=job.run,
            pipeline=job.pipeline.name,
            status=status,
            fingerprint=job.fingerprint,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            faults=({"text": "3 rows have a negative tenure"},) if status == "rejected" else (),
            train=f"{job.output}/train",
            test=f"{job.output}/test",
            landed_rows=rows,
            profile=f"{job.output}/profile.json",
        )
        if status == "crashed":
            self.states[job.name] = JobStatus(name=job.name, state="failed", reason="killed", log_tail=("boom",))
        else:
            text = json.dumps(to_record(manifest)).encode()
            if status == "ready":
                self.lake.write(f"features/{job.pipeline.name}/by-input/{job.fingerprint}.json", text)
            self.lake.write(f"{job.output}/manifest.json", text)
            self.states[job.name] = JobStatus(name=job.name, state="completed")

    def status(self, name: str) -> JobStatus | None:
        return self.states.get(name)

    # training
    def _run(self, job: CommandJob) -> None:
        if job.name in self.jobs:
            return
        self.jobs[job.name] = job
        if job.tags["landfall.step"] == "evaluate":
            self.states[job.name] = JobStatus(name=job.name, state="completed")
            self.raises(
                EvaluationFinished(
                    pipeline=job.experiment, version=job.tags["landfall.version"], status="completed", job=job.name
                )
            )
        elif self.hold_training:
            self.states[job.name] = JobStatus(name=job.name, state="running")
        else:
            self.finish(job.name)

    def finish(self, name: str) -> None:
        job = self.jobs[name]
        failed = self.training_state != "completed"
        self.states[name] = JobStatus(
            name=name,
            state=self.training_state,
            reason="exit code 1" if failed else "",
            log_tail=("Traceback", "ValueError: boom") if failed else (),
        )
        self.raises(TrainingFinished(pipeline=job.experiment, run=job.tags["landfall.run"], status=self.training_state))

    def raises(self, signal: Signal) -> None:
        if not self.lose_events:
            self.outbox.append(signal)

    def cancel(self, name: str) -> None: ...

    def read_output(self, name: str, output: str, file: str) -> bytes:
        job = self.jobs[name]
        champion = "champion" in job.inputs
        if file == "evaluation.json":
            measured = Evaluation(
                rows=100,
                challenger={"accuracy": 0.8 + (self.gain if champion else 0)},
                champion={"accuracy": 0.8} if champion else {},
                gain=self.gain if champion else None,
                gain_low=self.gain - 0.01 if champion else None,
                gain_high=self.gain + 0.01 if champion else None,
                latency_ms=1.0,
                compiled=self.compiled,
            )
            return json.dumps(to_record(measured)).encode()
        if file == "compiled.onnx":
            return b"a graph"
        if file == "smoke.json":
            return json.dumps({"columns": ["tenure"], "rows": [[1]], "predictions": ["Yes"]}).encode()
        return json.dumps({"rows": 0, "columns": {}}).encode()

    # registry
    def register(self, name: str, *, job: str, output: str, tags: dict[str, str]) -> ModelVersion:
        if self.training_state == "empty":
            raise Rejected("train.py wrote no model")
        for model in self.models.values():
            if model.job == job:
                return model
        version = str(sum(1 for known, _ in self.models if known == name) + 1)
        model = ModelVersion(
            name=name,
            version=version,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            run=tags["landfall.run"],
            job=job,
            tags=tags,
        )
        self.models[name, version] = model
        self.raises(ModelRegistered(model=name, version=version))
        return model

    def get(self, name: str, version: str) -> ModelVersion | None:
        return self.models.get((name, version))

    def versions(self, name: str) -> Any:
        return iter([model for (n, _), model in self.models.items() if n == name])

    def set_alias(self, name: str, alias: str, version: str) -> None:
        self.aliases[name, alias] = version

    def alias(self, name: str, alias: str) -> str | None:
        return self.aliases.get((name, alias))

    # endpoints
    def ensure(self, endpoint: str) -> None: ...

    def deploy(self, endpoint: str, deployment: str, *, model: str, version: str, sizing: Rollout) -> None:
        new = Deployment(name=deployment, model=model, version=version, state="ready")
        self.endpoints[endpoint].setdefault(deployment, new)

    def deployments(self, endpoint: str) -> dict[str, Deployment]:
        return dict(self.endpoints[endpoint])

    def traffic(self, endpoint: str) -> dict[str, int]:
        return dict(self.splits[endpoint])

    def mirror(self, endpoint: str) -> dict[str, int]:
        return dict(self.mirrors[endpoint])

    def set_traffic(self, endpoint: str, traffic: dict[str, int], *, mirror: dict[str, int] | None = None) -> None:
        if not {*traffic, *(mirror or {})} <= set(self.endpoints[endpoint]):
            raise Refused(f"no such split: {traffic}, {mirror}")
        check_split(endpoint, traffic, mirror or {})
        self.splits[endpoint] = {name: share for name, share in traffic.items() if share}
        self.mirrors[endpoint] = mirror or {}

    def remove(self, endpoint: str, deployment: str) -> None:
        if self.splits[endpoint].get(deployment) or self.mirrors[endpoint].get(deployment):
            raise Refused(f"{deployment} has traffic")
        self.endpoints[endpoint].pop(deployment, None)

    def score(self, endpoint: str, columns: Any, rows: Any, *, deployment: str | None = None) -> Answer:
        if deployment not in self.endpoints[endpoint]:
            raise Missing(f"no deployment {deployment}")
        prediction = "No" if self.wrong_answers else "Yes"
        return Answer(predictions=[prediction] * len(rows), deployment=deployment, version="1", milliseconds=1.0)


class Fragile:
    """A port whose n-th call, counted over all ports, kills the process before or after it takes effect."""

    def __init__(self, inner: Any, fuse: Fuse) -> None:
        self._inner, self._fuse = inner, fuse

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._inner, name)
        if not callable(member):
            return member

        def call(*arguments: Any, **named: Any) -> Any:
            self._fuse.burn(before=True)
            trouble = self._fuse.trouble.get(name)
            if trouble:
                trouble(*arguments, **named)
            result = member(*arguments, **named)
            self._fuse.burn(before=False)
            return result

        return call


@dataclass
class Fuse:
    """Counts calls and half-calls down; at zero the process dies. None: never.

    ``trouble`` is called in front of a port's method of that name, and may raise what a service would.
    """

    left: int | None = None
    trouble: dict[str, Callable[..., Any]] = field(default_factory=dict)

    def burn(self, *, before: bool) -> None:
        if self.left is None:
            return
        self.left -= 1
        if self.left == 0:
            self.left = None
            raise Crash("before" if before else "after")


class FragileLedger(SqliteLedger):
    """The real ledger, each of whose writes may be the last thing that the process does."""

    fuse: Fuse

    def insert(self, entry: Any) -> Any:
        self.fuse.burn(before=True)
        result = super().insert(entry)
        self.fuse.burn(before=False)
        return result

    def replace(self, entry: Any) -> Any:
        self.fuse.burn(before=True)
        result = super().replace(entry)
        self.fuse.burn(before=False)
        return result


class World:
    """The loop and its surroundings."""

    def __init__(self, folder: Path, pipeline: str = PIPELINE, *others: str) -> None:
        self.folder = folder
        for name in ("churn", *others):
            source = folder / "pipelines" / name
            source.mkdir(parents=True)
            (source / "pipeline.yaml").write_text(pipeline.replace("churn\n", f"{name}\n", 2))
            (source / "features.sql").write_text("select customer_id, tenure, churn from landed")
            (source / "train.py").write_text("print('trained')")
            (source / "environment.yml").write_text("name: churn\ndependencies: [python=3.11]\n")
        self.clock = MovedClock()
        self.fuse = Fuse()
        self.trouble = self.fuse.trouble
        self.lake = FolderLake(folder / "home" / "lake", "landfall", "lake")
        self.queue = MemoryQueue(self.clock)
        self.ledger = FragileLedger(folder / "home" / "ledger.db")
        self.ledger.fuse = self.fuse
        self.services = Services(self.lake)
        self.manifests: set[tuple[str, str]] = set()
        self.tries: dict[str, int] = {}
        self.events = EventLog(folder / "home" / "events.jsonl", self.clock)
        fragile: Callable[[Any], Any] = lambda port: Fragile(port, self.fuse)  # noqa: E731
        services = fragile(self.services)
        self.loop = Loop(
            settings=Settings(
                backend="local",
                home=folder / "home",
                port=0,
                pipelines=folder / "pipelines",
                account="landfall",
                container="lake",
            ),
            catalog=Catalog(folder / "pipelines", last_valid=LastValid(self.ledger, self.clock)),
            ports=Ports(
                lake=fragile(self.lake),
                queue=fragile(self.queue),
                ledger=self.ledger,
                features=services,
                training=services,
                registry=services,
                endpoints=services,
                batch=services,
                events=fragile(self.events),
                clock=self.clock,
            ),
            predictions=PredictionLog(self.lake, self.clock),
        )

    def land(
        self, path: str = "landing/churn/a.csv", content: bytes = b"x", *, api: str = "FlushWithClose"
    ) -> DataLanded:
        """A file is written and its event is queued."""
        info = self.lake.write(path, content)
        return self.event(path, api=api, etag=info.etag, size=len(content))

    def event(self, path: str, *, api: str = "FlushWithClose", etag: str = "", size: int | None = 1) -> DataLanded:
        signal = DataLanded(
            account="landfall", container="lake", path=path, api=api, event="e1", at=self.clock.at, etag=etag, size=size
        )
        self.queue.send(signal)
        return signal

    def drain(self, within: timedelta = timedelta(0)) -> None:
        """Deliver everything that becomes visible within a span, moving the clock along; a crash delivers again."""
        end = self.clock.at + within
        for _ in range(2000):
            self.collect()
            if not self.queue.messages:
                break
            self.queue.messages.sort(key=lambda message: message[0])
            at, text = self.queue.messages[0]
            if at > max(end, self.clock.at):
                break
            self.clock.at = max(self.clock.at, at)
            self.deliver(text)
        else:
            raise AssertionError(f"the loop never rests: {self.queue.messages[:3]}")
        self.clock.at = max(self.clock.at, end)

    def collect(self) -> None:
        """Put the events that the services and the lake have raised on the queue."""
        self._watch()
        for signal in self.services.outbox:
            self.queue.send(signal)
        self.services.outbox.clear()

    def _watch(self) -> None:
        """The storage event of each manifest that arrives."""
        for info in self.lake.list("features/"):
            if info.path.endswith("/manifest.json") and (info.path, info.etag) not in self.manifests:
                self.manifests.add((info.path, info.etag))
                _, pipeline, run, _ = info.path.split("/")
                self.services.raises(FeaturesReady(pipeline=pipeline, run=run))

    def deliver(self, text: str) -> None:
        """One delivery, as the queue makes it: again after a failure, at most five times."""
        entry = next(message for message in self.queue.messages if message[1] == text)
        self.tries[text] = self.tries.get(text, 0) + 1
        try:
            reactions.handle(text, self.loop, delivery=text)
        except (Crash, Transient):
            self.queue.messages.remove(entry)
            if self.tries[text] < 5:
                self.queue.messages.append((self.clock.at + VISIBILITY, text))
            else:
                reactions.poisoned(text, self.loop, hashlib.sha256(text.encode()).hexdigest())
            return
        self.queue.messages.remove(entry)

    def to_champion(self, path: str = "landing/churn/a.csv", content: bytes = b"x") -> None:
        """Land a file and let the loop go on until its version serves."""
        self.land(path, content)
        self.drain(timedelta(hours=2))

    @property
    def state(self) -> PipelineState:
        return self.ledger.read(PipelineState, "churn", "state") or PipelineState(pipeline="churn")

    @property
    def runs(self) -> list[Run]:
        return sorted(self.ledger.list(Run, "churn"), key=lambda run: run.created_at)

    @property
    def batches(self) -> list[Batch]:
        return list(self.ledger.list(Batch, "churn"))

    @property
    def versions(self) -> dict[str, Version]:
        return {version.version: version for version in self.ledger.list(Version, "churn")}

    @property
    def rollouts(self) -> list[RolloutState]:
        return list(self.ledger.list(RolloutState, "churn"))

    def decisions(self, pipeline: str = "churn") -> list[Decision]:
        """Oldest first."""
        return list(self.ledger.list(Decision, pipeline))[::-1]

    def reasons(self, outcome: str, pipeline: str = "churn") -> str:
        return "\n".join(d.reason for d in self.decisions(pipeline) if d.outcome == outcome)

    def close(self) -> None:
        self.loop.predictions.close()
        shutil.rmtree(self.folder, ignore_errors=True)
