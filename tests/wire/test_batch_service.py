"""Batch scoring on the wire: what is sent, what lost answers do, and what a run tells when it ends."""

from __future__ import annotations

import copy
import json
import threading
import time
import tomllib
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.adapters.azure import batch_deployments, batch_pipeline, endpoint_service, pipeline_runs
from shared.adapters.azure.batch_service import SynapseBatchService
from shared.adapters.azure.credential import AppCredential
from shared.adapters.azure.endpoint_names import batch_endpoint
from shared.adapters.azure.lake import BlobLake
from shared.adapters.azure.pipeline_runs import PipelineRuns
from shared.adapters.azure.workspace import Workspace
from shared.domain.pipelines import NAME as PIPELINE_NAME
from shared.errors import Missing, Refused, Rejected, Transient
from shared.ports.batch_service import BatchScoringJob
from shared.ports.jobs import JobStatus
from shared.settings import ROOT
from tests.contracts.scoring_azure import QUERY, SYNAPSE, publish
from tests.standin import StandIn
from tests.standin.azureml import GROUP, NAME, SUBSCRIPTION, WORKSPACE
from tests.standin.batch_endpoints import NAME as ENDPOINT_NAME
from tests.standin.pipelines import Run

CREATE = "POST .*/createRun"
JOB = BatchScoringJob(
    name="churn-score-1-abc", pipeline="churn", model="churn", version="1", input="in/rows.csv",
    output="out/scored.parquet", key="id", label="left",
)  # fmt: skip


class Registry:
    """The model churn with versions 1 to 30."""

    def get(self, name: str, version: str) -> object | None:
        return object() if name == "churn" and int(version) <= 30 else None


class Scoring:
    """Services on one lake; each call of :meth:`service` is another process's."""

    def __init__(self, azure: StandIn) -> None:
        self.azure = azure
        self.credential: Any = AppCredential()
        self.workspace = Workspace(SUBSCRIPTION, GROUP, NAME, self.credential, seconds=2)
        account = azure.ml.account
        address = f"https://{account}.blob.core.windows.net"
        self.lake = BlobLake(address, account, f"lake-{uuid.uuid4().hex[:8]}", self.credential)

    def service(self, *, grace: float = 45) -> SynapseBatchService:
        registry: Any = Registry()
        return SynapseBatchService(
            SYNAPSE, self.workspace, self.lake, registry, seconds=1, grace=timedelta(seconds=grace)
        )

    @property
    def runs(self) -> list[Run]:
        return list(self.azure.pipelines.runs.values())

    def tell(self, **progress: Any) -> None:
        """What the scoring job writes."""
        self.lake.write(f"batch/jobs/{JOB.name}/progress.json", json.dumps(progress).encode())

    def ended(self) -> JobStatus:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            status = self.service().status(JOB.name)
            if status is not None and status.ended:
                return status
            time.sleep(0.02)
        raise AssertionError("it has not ended")


@pytest.fixture
def scoring(azure: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scoring]:
    """Azure with the pipeline, whose runs stay queued, and without a cluster."""
    monkeypatch.setattr(azure.ml, "worker", None)
    monkeypatch.setattr(azure.pipelines, "held", True)
    monkeypatch.setattr(batch_deployments, "LOOK_SECONDS", 0.02)
    azure.batch.all.clear()
    azure.pipelines.runs.clear()
    for version in range(1, 31):
        place = f"azureml://datastores/workspaceblobstore/paths/churn/{version}"
        azure.ml.assets["models", "churn", str(version)] = {"modelUri": place, "flavors": {}}
        conda = b"dependencies: [python=3.11, {pip: [mlflow==3.17.2, scikit-learn==1.9.1, pandas==2.2.0]}]"
        azure.blobs.write("azureml", f"churn/{version}/conda.yaml", conda)
    made = Scoring(azure)
    publish(made.credential)
    yield made
    azure.batch.held = False
    azure.batch.release()
    azure.pipelines.listed = lambda runs: runs
    for endpoint in azure.batch.all.values():
        for job in endpoint.jobs:
            azure.ml.move(job, "Canceled")


def moved(scoring: Scoring, status: str, *, error: str = "") -> str:
    """Let the run go to Azure ML, and bring its job there to an end."""
    (run,) = scoring.runs
    threading.Thread(target=scoring.azure.pipelines._run, args=(run,), daemon=True).start()
    end = time.monotonic() + 10
    while time.monotonic() < end:
        jobs = [job for endpoint in scoring.azure.batch.all.values() for job in endpoint.jobs]
        if jobs:
            scoring.azure.ml.move(jobs[0], status, error=error)
            return jobs[0]
        time.sleep(0.01)
    raise AssertionError("no job was posted")


def test_the_pipeline_is_one_that_synapse_s_own_client_knows_word_for_word() -> None:
    from azure.synapse.artifacts.models import Activity, Dataset, LinkedService, PipelineResource

    for sql in (True, False):
        pipeline = {"properties": batch_pipeline.batch_scoring_pipeline("lake", sql=sql)}
        known = PipelineResource.from_dict(copy.deepcopy(pipeline))
        assert known.serialize() == pipeline
        assert known.activities and Activity not in map(type, known.activities)
        for made in batch_pipeline.datasets("lake", sql=sql).values():
            assert Dataset.from_dict(copy.deepcopy(made)).serialize() == made
        for made in batch_pipeline.linked_services("account", "ws", "pool" if sql else "").values():
            assert LinkedService.from_dict(copy.deepcopy(made)).serialize() == made


def test_a_version_is_scored_in_its_own_environment_by_a_step_that_is_never_taken_from_an_earlier_one(
    scoring: Scoring,
) -> None:
    scoring.service().submit(JOB)
    assets = scoring.azure.ml.assets
    (endpoint,) = scoring.azure.batch.all.values()
    (deployment,) = endpoint.deployments.values()
    assert endpoint.name == batch_endpoint("churn", WORKSPACE)
    settings = deployment.properties["deploymentConfiguration"]["settings"]
    assert settings == {"default_compute": "cpu-cluster", "continue_on_step_failure": False, "force_rerun": True}
    pipeline = assets["components", "landfall_score_churn", deployment.name.removeprefix("v")]["componentSpec"]
    (step,) = pipeline["jobs"].values()
    assert step["identity"] == {"identity_type": "Managed"}
    name = scoring.azure.ml.asset(step["componentId"], "components")
    assert name
    component = assets["components", *name]["componentSpec"]
    assert component["is_deterministic"] is False
    environment = scoring.azure.ml.asset(component["environment"].removeprefix("azureml:"), "environments")
    assert environment
    conda = assets["environments", *environment]["condaFile"]
    assert "scikit-learn==1.9.1" in conda and "duckdb==" in conda
    assert "pandas==2.2.0" in conda and conda.count("pandas") == 1


def test_the_requirements_of_clusters_and_deployments_are_those_of_the_app() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["laptop"]
    (server,) = (name for name in endpoint_service.SERVING if name.startswith("azureml-inference-server-http=="))
    assert server in (ROOT / "benchmarks" / "environments.py").read_text()
    needs = {*batch_deployments.NEEDS, *endpoint_service.SERVING_COMPILED} - {server}
    assert needs <= {*(ROOT / "requirements.txt").read_text().splitlines(), *project}


def test_names_of_endpoints_fit_azure_ml_and_do_not_meet() -> None:
    names = ["abc", "customer-churn", "a" * 32, "a" * 31 + "b", "nineteen-characters-and-more"]
    assert all(PIPELINE_NAME.fullmatch(name) for name in names)
    made = {batch_endpoint(name, workspace) for name in names for workspace in ("/one", "/two")}
    assert len(made) == 2 * len(names) and all(ENDPOINT_NAME.fullmatch(name) for name in made)


def test_a_second_job_needs_no_second_deployment_and_another_version_gets_its_own(scoring: Scoring) -> None:
    service = scoring.service()
    service.submit(JOB)
    puts = len(scoring.azure.made("PUT .*/batchEndpoints/"))
    service.submit(replace(JOB, name="another"))
    assert len(scoring.azure.made("PUT .*/batchEndpoints/")) == puts
    service.submit(replace(JOB, name="newer", version="2"))
    (endpoint,) = scoring.azure.batch.all.values()
    assert [name.partition("-")[0] for name in endpoint.deployments] == ["v1", "v2"]
    assert len(scoring.runs) == 3


def test_the_oldest_deployment_of_a_full_endpoint_makes_room(scoring: Scoring) -> None:
    scoring.service().submit(JOB)
    (endpoint,) = scoring.azure.batch.all.values()
    (made,) = endpoint.deployments.values()
    for number in range(2, 21):
        created = f"2026-01-{number:02}T00:00:00+00:00"
        endpoint.deployments[f"v{number}-old"] = replace(made, name=f"v{number}-old", created=created)
    scoring.service().submit(replace(JOB, name="newer", version="21"))
    assert [name.partition("-")[0] for name in endpoint.deployments] == ["v1", *(f"v{n}" for n in range(3, 22))]


def test_a_deployment_that_is_being_made_is_waited_for_by_the_queue(
    scoring: Scoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_deployments, "READY_SECONDS", 0.1)
    scoring.azure.batch.held = True
    with pytest.raises(Transient, match=r"endpoint churn-batch-.* is being created"):
        scoring.service().submit(JOB)
    scoring.azure.batch.release()
    with pytest.raises(Transient, match=r"deployment v1-.* is being created"):
        scoring.service().submit(JOB)
    assert scoring.service().status(JOB.name) is None and not scoring.runs
    scoring.azure.batch.release()
    scoring.service().submit(JOB)
    assert len(scoring.runs) == 1


def test_a_deployment_that_failed_is_made_again_by_the_next_try(
    scoring: Scoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_deployments, "READY_SECONDS", 0.1)
    scoring.azure.batch.held = True
    with pytest.raises(Transient):
        scoring.service().submit(JOB)
    scoring.azure.batch.release(failing="no quota")
    scoring.azure.batch.held = False
    scoring.service().submit(JOB)
    assert len(scoring.runs) == 1


@pytest.mark.parametrize("fault", [{"status": 503}, {"reset": True}, {"delay": 2.5}], ids=["503", "reset", "time-out"])
def test_what_was_made_without_an_answer_is_looked_up_and_not_made_again(
    scoring: Scoring, fault: dict[str, Any]
) -> None:
    scoring.azure.faults.add("PUT .*/batchEndpoints/[^/]+$", after=True, **fault)
    scoring.azure.faults.add("PUT .*/batchEndpoints/.*/deployments/", after=True, **fault)
    before = len(scoring.azure.made("PUT .*/batchEndpoints/"))
    scoring.service().submit(JOB)
    assert len(scoring.azure.made("PUT .*/batchEndpoints/")) - before == 2
    assert len(scoring.runs) == 1


@pytest.mark.parametrize("fault", [{"status": 503}, {"reset": True}, {"delay": 1.5}], ids=["503", "reset", "time-out"])
def test_a_run_that_started_without_an_answer_is_the_only_one(scoring: Scoring, fault: dict[str, Any]) -> None:
    scoring.service().submit(replace(JOB, name="a-job-before"))
    scoring.service().submit(replace(JOB, name="and-another"))
    scoring.azure.faults.add(CREATE, after=True, **fault)
    scoring.service().submit(JOB)
    scoring.service().submit(JOB)
    assert [run.parameters["name"] for run in scoring.runs].count(JOB.name) == 1
    status = scoring.service().status(JOB.name)
    assert status is not None and status.state == "queued"


def test_a_run_that_turns_up_late_is_met_and_nothing_is_sent_before(scoring: Scoring) -> None:
    scoring.azure.pipelines.listed = lambda runs: []
    scoring.azure.faults.add(CREATE, after=True, status=503)
    with pytest.raises(Transient, match="503"):
        scoring.service().submit(JOB)
    with pytest.raises(Transient, match="may still turn up"):
        scoring.service().submit(JOB)
    status = scoring.service().status(JOB.name)
    assert status is not None and status.state == "queued"
    scoring.azure.pipelines.listed = lambda runs: runs
    scoring.service(grace=0).submit(JOB)
    assert len(scoring.runs) == 1


def test_a_start_without_effect_is_sent_again_once_nothing_can_turn_up_any_more(scoring: Scoring) -> None:
    scoring.azure.faults.add(CREATE, status=503)
    with pytest.raises(Transient):
        scoring.service().submit(JOB)
    with pytest.raises(Transient):
        scoring.service().submit(JOB)
    assert not scoring.runs
    scoring.service(grace=0).submit(JOB)
    scoring.service(grace=0).submit(JOB)
    assert len(scoring.runs) == 1


def test_a_service_that_asks_for_patience_gets_it(scoring: Scoring) -> None:
    scoring.azure.faults.add(CREATE, times=2, status=429, headers={"Retry-After": "0"})
    scoring.service().submit(JOB)
    assert len(scoring.runs) == 1


def test_a_service_that_stays_busy_is_asked_again_by_the_queue_at_once(scoring: Scoring) -> None:
    scoring.azure.faults.add(CREATE, times=1, status=429, headers={"Retry-After": "60"})
    with pytest.raises(Transient, match="429"):
        scoring.service().submit(JOB)
    assert scoring.service().status(JOB.name) is None
    scoring.service().submit(JOB)
    assert len(scoring.runs) == 1


def test_of_many_who_submit_at_the_same_time_one_starts_the_run(scoring: Scoring) -> None:
    scoring.service().submit(replace(JOB, name="makes-the-deployment"))
    start, said = threading.Barrier(6), []

    def submit() -> None:
        service = scoring.service()
        start.wait()
        try:
            service.submit(JOB)
            said.append("done")
        except Transient:
            said.append("again")

    threads = [threading.Thread(target=submit) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "done" in said and len(said) == 6
    assert [run.parameters["name"] for run in scoring.runs].count(JOB.name) == 1


def test_a_workspace_without_the_pipeline_is_to_be_set_up_and_then_takes_the_job(scoring: Scoring) -> None:
    pipeline = scoring.azure.synapse.pipelines.pop(batch_pipeline.PIPELINE)
    with pytest.raises(Rejected, match="landfall setup"):
        scoring.service().submit(JOB)
    assert scoring.service().status(JOB.name) is None
    scoring.azure.synapse.pipelines[batch_pipeline.PIPELINE] = pipeline
    scoring.service().submit(JOB)
    assert len(scoring.runs) == 1


def test_a_job_is_posted_once_and_followed_to_its_end(scoring: Scoring) -> None:
    posted = len(scoring.azure.made("POST .*/jobs$"))
    scoring.service().submit(JOB)
    scoring.tell(state="running", rows=20_000, problems=3, seconds=2.5)
    status = scoring.service().status(JOB.name)
    assert status is not None and json.loads(status.log_tail[-1]) == {"rows": 20_000, "problems": 3, "seconds": 2.5}
    moved(scoring, "Completed")
    assert scoring.ended().state == "completed"
    assert len(scoring.azure.made("POST .*/jobs$")) == posted + 1


def test_a_failed_job_has_the_reason_that_it_told(scoring: Scoring) -> None:
    scoring.service().submit(JOB)
    scoring.tell(state="failed", reason="the input lacks tenure, which version 1 needs")
    moved(scoring, "Failed")
    status = scoring.ended()
    assert (status.state, status.reason) == ("failed", "the input lacks tenure, which version 1 needs")


def test_a_job_that_died_before_it_could_tell_is_named(scoring: Scoring) -> None:
    scoring.service().submit(JOB)
    job = moved(scoring, "Failed", error="the image could not be built")
    status = scoring.ended()
    assert status.state == "failed"
    assert job in status.reason and "Failed" in status.reason


def test_an_endpoint_that_refuses_the_job_ends_the_run_with_what_it_said(scoring: Scoring) -> None:
    scoring.service().submit(JOB)
    (endpoint,) = scoring.azure.batch.all.values()
    endpoint.deployments.clear()
    (run,) = scoring.runs
    scoring.azure.pipelines._run(run)
    status = scoring.ended()
    assert status.state == "failed" and "has no deployment" in status.reason


def test_a_look_that_fails_for_once_does_not_end_the_run(scoring: Scoring) -> None:
    scoring.azure.faults.add("GET .*/jobs/", times=3, status=503)
    scoring.service().submit(JOB)
    moved(scoring, "Completed")
    assert scoring.ended().state == "completed"


def test_a_cancelled_run_is_cancelled(scoring: Scoring) -> None:
    scoring.service().submit(JOB)
    (run,) = scoring.runs
    run.status = "Cancelled"
    assert scoring.ended().state == "cancelled"


def test_a_run_that_synapse_has_forgotten_is_what_its_job_told(scoring: Scoring) -> None:
    scoring.service().submit(JOB)
    scoring.tell(state="completed", rows=5, problems=0, seconds=1.0)
    scoring.azure.pipelines.runs.clear()
    assert scoring.ended().state == "completed"
    scoring.tell(state="running")
    status = scoring.ended()
    assert status.state == "failed" and "does not know pipeline run" in status.reason


def test_without_a_sql_pool_a_job_that_needs_one_fails_with_the_cure(scoring: Scoring) -> None:
    publish(scoring.credential, sql=False)
    scoring.service().submit(replace(JOB, input="in/rows/", query=QUERY))
    (run,) = scoring.runs
    scoring.azure.pipelines._run(run)
    status = scoring.ended()
    assert status.state == "failed" and "name one and run landfall setup" in status.reason


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"name": "../up"}, "cannot name a batch job"),
        ({"query": QUERY}, "end with a slash"),
        ({"table": "dbo.scores; DROP TABLE x"}, "no table"),
        ({"output": "in/rows.csv"}, "over its input"),
        ({"output": "scored.parquet"}, "top of the lake"),
    ],
)
def test_what_cannot_be_a_job_is_rejected_before_anything_is_sent(
    scoring: Scoring, changes: dict[str, Any], match: str
) -> None:
    before = len(scoring.azure.calls)
    with pytest.raises(Rejected, match=match):
        scoring.service().submit(replace(JOB, **changes))
    assert len(scoring.azure.calls) == before


def test_an_unknown_version_is_missing_and_makes_nothing(scoring: Scoring) -> None:
    with pytest.raises(Missing, match="99"):
        scoring.service().submit(replace(JOB, version="99"))
    assert not scoring.azure.batch.all


def test_an_endpoint_that_cannot_be_made_is_refused(scoring: Scoring, monkeypatch: pytest.MonkeyPatch) -> None:
    scoring.azure.batch.held = True
    fail = threading.Timer(0.5, lambda: scoring.azure.batch.release(failing="no quota"))
    fail.start()
    with pytest.raises(Refused, match="could not be created"):
        scoring.service().submit(JOB)
    fail.join()


def test_a_list_of_runs_that_does_not_end_is_given_back_to_the_queue(
    scoring: Scoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_runs, "LOOKING", 0)
    for number in range(5):
        scoring.service().submit(replace(JOB, name=f"{JOB.name}-{number}"))
    runs = PipelineRuns(SYNAPSE, scoring.credential, seconds=1)
    with pytest.raises(Transient, match=r"did not end in 0 s \(2 runs\)"):
        runs.find(batch_pipeline.PIPELINE, JOB.name, datetime.now(UTC))
