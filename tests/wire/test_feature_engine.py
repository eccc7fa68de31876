"""Spark batches on the wire: exactly one batch whatever becomes of the answers, and what it looks like on Synapse."""

from __future__ import annotations

import io
import json
import re
import time
import zipfile
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from shared.adapters.azure.credential import AppCredential
from shared.adapters.azure.feature_engine import SynapseFeatureEngine
from shared.adapters.azure.lake import BlobLake
from shared.domain.landing import LandedFile
from shared.domain.pipelines import Features, Landing, Pipeline
from shared.domain.records import from_record
from shared.errors import Rejected, Transient
from shared.jobs.prepare_features_spark import SparkFeaturesSpec
from shared.ports.feature_engine import FeaturesJob
from shared.ports.jobs import JobStatus
from shared.settings import ROOT
from tests.moving_clock import MovingClock
from tests.standin import StandIn
from tests.standin.synapse import Batch

CREATE, LIST = r"POST ws\..*/batches$", r"GET ws\..*/batches$"
ROOT_ADDRESS = "abfss://lake@landfall.dfs.core.windows.net"
LOST: list[dict[str, Any]] = [
    {"status": 503}, {"status": 500}, {"status": 504}, {"reset": True}, {"delay": 1.5},
    {"status": 503, "headers": {"Retry-After": "1"}},
]  # fmt: skip
LOST_NAMES = ["503", "500", "504", "reset", "time-out", "503-with-retry-after"]


@dataclass
class Engines:
    """Engines on one lake, as the instances of an app are; a call may take a second."""

    lake: BlobLake

    def new(self, pool: str = "spark", *, grace: float = 60) -> SynapseFeatureEngine:
        return SynapseFeatureEngine("ws", pool, self.lake, AppCredential(), seconds=1, grace=timedelta(seconds=grace))


@pytest.fixture
def engines(azure: StandIn, monkeypatch: pytest.MonkeyPatch) -> Engines:
    """The batches stay as they are until a test moves them."""
    monkeypatch.setattr(azure.synapse, "started", lambda batch: None)
    return Engines(BlobLake("https://landfall.blob.core.windows.net", "landfall", "lake", AppCredential()))


@pytest.fixture
def engine(engines: Engines) -> SynapseFeatureEngine:
    return engines.new()


@pytest.fixture
def job(request: pytest.FixtureRequest) -> FeaturesJob:
    run = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    return FeaturesJob(
        name=f"{run}-features",
        pipeline=Pipeline(
            name="shop", landing=Landing(path="landing/shop"), features=Features(key="id", label="label")
        ),
        run=run,
        sql="SELECT * FROM landed",
        files=(LandedFile(path="landing/shop/a.csv", etag="1", size=10, at=MovingClock().now()),),
        earlier=(),
        fingerprint="f",
        output=f"features/shop/{run}",
    )


def batches(azure: StandIn, job: FeaturesJob) -> list[Batch]:
    return [batch for batch in azure.synapse.batches if batch.body["name"] == job.name]


def look(engine: SynapseFeatureEngine, job: FeaturesJob) -> JobStatus:
    status = engine.status(job.name)
    assert status is not None
    return status


def test_a_job_is_a_spark_batch_with_its_script_code_and_tags(
    azure: StandIn, engines: Engines, engine: SynapseFeatureEngine, job: FeaturesJob
) -> None:
    assert engine.status(job.name) is None
    engine.submit(job)
    (batch,) = batches(azure, job)
    body = batch.body
    assert body["tags"] == {"landfall.run": job.run, "landfall.pipeline": "shop", "landfall.lake": "landfall/lake"}
    assert (body["driverMemory"], body["executorMemory"], body["numExecutors"]) == ("28g", "28g", 2)
    (spec,) = body["args"]
    given = json.loads(engines.lake.read(spec.removeprefix(f"{ROOT_ADDRESS}/")))
    assert from_record(SparkFeaturesSpec, given).job == job
    assert (given["root"], given["failure"]) == (ROOT_ADDRESS, f"spark/jobs/{job.name}/failure.json")
    script = engines.lake.read(body["file"].removeprefix(f"{ROOT_ADDRESS}/"))
    assert script == (ROOT / "shared/jobs/prepare_features_spark.py").read_bytes()
    assert look(engine, job).state == "queued"


def test_the_code_is_uploaded_once_and_again_when_it_changes(
    azure: StandIn, engines: Engines, engine: SynapseFeatureEngine, job: FeaturesJob
) -> None:
    engine.submit(job)
    engine.submit(replace(job, name=f"{job.name}-again"))
    (archive,) = batches(azure, job)[0].body["pyFiles"]
    path = archive.removeprefix(f"{ROOT_ADDRESS}/")
    assert len(azure.made(f"PUT .*/{path}")) <= 1
    names = zipfile.ZipFile(io.BytesIO(engines.lake.read(path))).namelist()
    assert {"shared/spark/lake.py", "shared/spark/query.py", "sqlglot/__init__.py"} <= set(names)
    assert not [name for name in names if name.startswith("shared/adapters/") or not name.endswith(".py")]


@pytest.mark.parametrize("fault", LOST, ids=LOST_NAMES)
def test_a_create_that_took_effect_without_an_answer_is_one_batch(
    azure: StandIn, engine: SynapseFeatureEngine, job: FeaturesJob, fault: dict[str, Any]
) -> None:
    azure.faults.add(CREATE, after=True, **fault)
    engine.submit(job)
    engine.submit(job)
    assert len(batches(azure, job)) == 1
    azure.synapse.move(batches(azure, job)[0].id, "running")
    assert look(engine, job).state == "running"


@pytest.mark.parametrize("fault", LOST[:4], ids=LOST_NAMES[:4])
def test_a_create_without_effect_is_sent_again_once_it_is_sure(
    azure: StandIn, engines: Engines, job: FeaturesJob, fault: dict[str, Any]
) -> None:
    azure.faults.add(CREATE, **fault)
    before = len(azure.made(CREATE))
    for _ in range(2):
        with pytest.raises(Transient, match=job.name):
            engines.new().submit(job)
    assert len(azure.made(CREATE)) == before + 1
    engines.new(grace=0).submit(job)
    assert len(batches(azure, job)) == 1


def test_a_batch_that_shows_up_late_is_not_sent_again(
    azure: StandIn, engines: Engines, job: FeaturesJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engines.new()
    azure.faults.add(CREATE, after=True, reset=True)
    seen = len(azure.synapse.batches)
    monkeypatch.setattr(azure.synapse, "listed", lambda found: [b for b in found if b.id < seen])
    with pytest.raises(Transient):
        engine.submit(job)
    assert look(engine, job).state == "queued"
    with pytest.raises(Transient, match="may still turn up"):
        engines.new().submit(job)
    monkeypatch.setattr(azure.synapse, "listed", lambda found: found)
    engines.new().submit(job)
    assert len(batches(azure, job)) == 1
    azure.synapse.move(batches(azure, job)[0].id, "running")
    assert look(engine, job).state == "running"


def test_an_app_that_died_while_it_submitted_leaves_one_batch(
    azure: StandIn, engines: Engines, job: FeaturesJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = engines.new()
    monkeypatch.setattr(dying._attempts, "_enter", lambda *given: (_ for _ in ()).throw(SystemExit("died")))
    with pytest.raises(SystemExit):
        dying.submit(job)
    assert look(engines.new(), job).state == "queued"
    engines.new().submit(job)
    assert len(batches(azure, job)) == 1


def test_two_instances_that_submit_at_once_make_one_batch(
    azure: StandIn, engines: Engines, job: FeaturesJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = engines.new(), engines.new()
    create = second._create

    def after_the_other(*given: Any) -> str:
        with pytest.raises(Transient, match=r"somebody else|may still turn up"):
            first.submit(job)
        return create(*given)

    monkeypatch.setattr(second, "_create", after_the_other)
    second.submit(job)
    first.submit(job)
    assert len(batches(azure, job)) == 1


def test_a_batch_is_found_behind_many_others(
    azure: StandIn, engines: Engines, job: FeaturesJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [Batch(10_000 + number, "spark", {"name": f"other-{number}"}) for number in range(45)]
    monkeypatch.setattr(azure.synapse, "listed", lambda found: [*found, *others])
    azure.faults.add(CREATE, after=True, status=503)
    engines.new().submit(job)
    engines.new().submit(job)
    assert len(batches(azure, job)) == 1


def test_a_batch_of_that_name_on_another_lake_is_another_job(
    azure: StandIn, engines: Engines, job: FeaturesJob
) -> None:
    Engines(BlobLake("https://landfall.blob.core.windows.net", "landfall", "other", AppCredential())).new().submit(job)
    assert engines.new().status(job.name) is None
    engines.new().submit(job)
    assert [batch.body["tags"]["landfall.lake"] for batch in batches(azure, job)] == ["landfall/other", "landfall/lake"]


def test_a_throttled_create_waits_as_long_as_it_is_told(
    azure: StandIn, engine: SynapseFeatureEngine, job: FeaturesJob
) -> None:
    azure.faults.add(CREATE, status=429, headers={"Retry-After": "1"})
    start = time.monotonic()
    engine.submit(job)
    assert time.monotonic() - start >= 1
    assert len(batches(azure, job)) == 1


def test_who_is_told_to_wait_long_gives_the_signal_back_and_sends_again_at_once_later(
    azure: StandIn, engine: SynapseFeatureEngine, job: FeaturesJob
) -> None:
    azure.faults.add(CREATE, status=429, headers={"Retry-After": "600"})
    start = time.monotonic()
    with pytest.raises(Transient, match="429"):
        engine.submit(job)
    assert time.monotonic() - start < 5
    assert engine.status(job.name) is None
    engine.submit(job)
    assert len(batches(azure, job)) == 1


def test_a_first_batch_is_sent_without_a_look_at_all_that_the_pool_ever_ran(
    azure: StandIn, engine: SynapseFeatureEngine, job: FeaturesJob
) -> None:
    before = len(azure.made(LIST))
    engine.submit(job)
    assert len(azure.made(LIST)) == before and len(batches(azure, job)) == 1


def test_nothing_is_sent_again_while_it_is_not_known_whether_the_batch_exists(
    azure: StandIn, engines: Engines, job: FeaturesJob
) -> None:
    azure.faults.add(CREATE, after=True, reset=True)
    azure.faults.add(LIST, status=503, times=99)
    before = len(azure.made(CREATE))
    for _ in range(2):
        with pytest.raises(Transient):
            engines.new(grace=0).submit(job)
    assert len(azure.made(CREATE)) == before + 1


def test_a_look_up_that_fails_for_a_moment_is_repeated(
    azure: StandIn, engine: SynapseFeatureEngine, job: FeaturesJob
) -> None:
    engine.submit(job)
    azure.faults.add(r"GET ws\..*/batches/\d+$", status=503)
    assert look(engine, job).state == "queued"


def test_a_pool_that_is_not_there_is_rejected_in_words(azure: StandIn, engines: Engines, job: FeaturesJob) -> None:
    with pytest.raises(Rejected, match=r"workspace ws has no Spark pool sparc.*LANDFALL_SPARK_POOL"):
        engines.new("sparc").submit(job)


def test_a_lack_of_cores_that_passes_is_transient_and_one_that_stays_is_rejected(
    azure: StandIn, engine: SynapseFeatureEngine, job: FeaturesJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(azure.synapse, "cores", 8)
    with pytest.raises(Rejected, match="12 vcores"):
        engine.submit(job)
    monkeypatch.setattr(azure.synapse, "cores", 12)
    monkeypatch.setattr(azure.synapse, "busy_cores", 8)
    with pytest.raises(Transient, match="12 vcores"):
        engine.submit(job)
    monkeypatch.setattr(azure.synapse, "busy_cores", 0)
    engine.submit(job)
    assert len(batches(azure, job)) == 1


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("not_started", "queued"), ("starting", "queued"), ("running", "running"), ("recovering", "running"),
     ("shutting_down", "running"), ("thinking", "running")],
)  # fmt: skip
def test_the_states_of_livy_are_ours(
    azure: StandIn, engine: SynapseFeatureEngine, job: FeaturesJob, theirs: str, ours: str
) -> None:
    engine.submit(job)
    azure.synapse.move(batches(azure, job)[0].id, theirs)
    assert look(engine, job).state == ours


def test_a_batch_that_succeeded_is_completed_with_its_manifest_only(
    azure: StandIn, engines: Engines, engine: SynapseFeatureEngine, job: FeaturesJob
) -> None:
    engine.submit(job)
    azure.synapse.move(batches(azure, job)[0].id, "success")
    status = look(engine, job)
    assert (status.state, status.reason.endswith("ended without a manifest")) == ("failed", True)
    engines.lake.write(f"{job.output}/manifest.json", b"{}")
    assert look(engine, job).state == "completed"


def test_a_dead_batch_tells_what_the_script_said_and_the_end_of_its_log(
    azure: StandIn, engines: Engines, engine: SynapseFeatureEngine, job: FeaturesJob
) -> None:
    engine.submit(job)
    log = [f"step {number}" for number in range(100)] + ["Traceback", "Rejected: no column label"]
    azure.synapse.move(batches(azure, job)[0].id, "dead", log=log, error="the application exited with 1")
    status = look(engine, job)
    assert (status.state, status.reason) == ("failed", "the application exited with 1")
    assert status.log_tail[-2:] == ("Traceback", "Rejected: no column label") and len(status.log_tail) == 20
    said = {"reason": "features.sql gives no column label"}
    engines.lake.write(f"spark/jobs/{job.name}/failure.json", json.dumps(said).encode())
    assert look(engine, job).reason == said["reason"]


def test_a_dead_batch_that_says_nothing_but_its_log_tells_the_last_line(
    azure: StandIn, engine: SynapseFeatureEngine, job: FeaturesJob
) -> None:
    engine.submit(job)
    azure.synapse.move(batches(azure, job)[0].id, "dead", log=["java.lang.OutOfMemoryError: Java heap space"])
    assert look(engine, job).reason == "java.lang.OutOfMemoryError: Java heap space"


def test_a_batch_that_somebody_kills_is_cancelled(
    azure: StandIn, engine: SynapseFeatureEngine, job: FeaturesJob
) -> None:
    engine.submit(job)
    number = batches(azure, job)[0].id
    engine._client.spark_batch.cancel_spark_batch_job(number)
    status = look(engine, job)
    assert (status.state, status.ended) == ("cancelled", True)
    assert f"cancelled Spark batch {number} of pool spark" in status.reason


def test_a_batch_that_the_pool_forgot_is_what_it_left_in_the_lake(
    azure: StandIn, engines: Engines, engine: SynapseFeatureEngine, job: FeaturesJob
) -> None:
    engine.submit(job)
    azure.synapse.forget(batches(azure, job)[0].id)
    status = look(engine, job)
    assert (status.state, "does not know" in status.reason) == ("failed", True)
    engine.submit(job)
    assert len(batches(azure, job)) == 1
    engines.lake.write(f"spark/jobs/{job.name}/failure.json", b'{"reason": "no label"}')
    assert look(engine, job).reason == "no label"
    engines.lake.write(f"{job.output}/manifest.json", b"{}")
    assert look(engine, job).state == "completed"
