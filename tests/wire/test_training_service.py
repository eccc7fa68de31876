"""Command jobs on the wire: exactly one job whatever becomes of the answers, and what it looks like on Azure ML."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.adapters.azure.credential import AppCredential
from shared.adapters.azure.training_service import AzureTrainingService
from shared.adapters.azure.workspace import Workspace
from shared.errors import Missing, Rejected, Transient
from shared.ports.training_service import CommandJob
from shared.settings import ROOT
from tests.standin import StandIn
from tests.standin.azureml import GROUP, NAME, SUBSCRIPTION, WORKSPACE
from tests.standin.work import Worker


class Lake:
    """One file, ``one/file``; everything else is a folder."""

    def stat(self, path: str) -> object | None:
        return object() if path == "one/file" else None

    def uri(self, path: str) -> str:
        return f"abfss://lake@landfall.dfs.core.windows.net/{path}"


class Registry:
    """The model churn with version 3."""

    def get(self, name: str, version: str) -> object | None:
        return object() if (name, version) == ("churn", "3") else None


@pytest.fixture
def service(azure: StandIn, monkeypatch: pytest.MonkeyPatch) -> AzureTrainingService:
    """A service whose jobs stay queued until a test moves them, and whose calls may take a second."""
    monkeypatch.setattr(azure.ml, "worker", None)
    lake: Any = Lake()
    registry: Any = Registry()
    return AzureTrainingService(Workspace(SUBSCRIPTION, GROUP, NAME, AppCredential(), seconds=1), lake, registry)


@pytest.fixture
def job(request: pytest.FixtureRequest, tmp_path: Path) -> CommandJob:
    code = tmp_path / "code"
    code.mkdir()
    (code / "train.py").write_text(f"print({request.node.name!r})")
    (code / "environment.yml").write_text("name: churn\ndependencies: [python=3.11]\n")
    return CommandJob(
        name=request.node.name.replace("[", "-").replace("]", "").lower(),
        experiment="churn",
        code=code,
        command="python train.py",
        timeout=timedelta(hours=2),
        environment="environment.yml",
        image="mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest",
        compute="cpu-cluster",
        tags={"landfall.run": "churn-b1", "landfall.data_version": "7"},
    )


def sent(azure: StandIn, job: CommandJob) -> list[int]:
    """The answers to the calls that sent the job."""
    return [call.status for call in azure.made(rf"^PUT .*/jobs/{job.name}$")]


def test_a_job_is_a_command_job_of_azure_ml_with_its_data_environment_and_tags(
    azure: StandIn, service: AzureTrainingService, job: CommandJob
) -> None:
    wanted = replace(
        job,
        command="python train.py --data ${{inputs.data}} --model ${{inputs.model}} ${{inputs.one}} ${{outputs.out}}",
        inputs={"data": "features/churn/b1/train", "model": "model:churn:3", "one": "one/file"},
        outputs={"out": "mlflow_model"},
    )
    azure.ml.assets["models", "churn", "3"] = {"modelUri": "azureml://datastores/d/paths/m/"}
    service.submit(wanted)
    made = azure.ml.jobs[wanted.name].properties
    assert made["experimentName"] == "churn"
    assert made["computeId"] == f"{WORKSPACE}/computes/cpu-cluster"
    assert made["limits"]["timeout"] == "PT2H"
    assert made["tags"].items() >= wanted.tags.items()
    assert made["identity"] == {"identityType": "Managed"}
    inputs = {name: (given["jobInputType"], given["uri"]) for name, given in made["inputs"].items()}
    assert inputs["data"] == ("uri_folder", "abfss://lake@landfall.dfs.core.windows.net/features/churn/b1/train")
    assert inputs["one"] == ("uri_file", "abfss://lake@landfall.dfs.core.windows.net/one/file")
    assert inputs["model"][0] == "mlflow_model" and inputs["model"][1].endswith("churn/versions/3")
    assert made["outputs"]["out"]["jobOutputType"] == "mlflow_model"
    assert made["outputs"]["out"]["uri"] == (
        f"azureml://datastores/workspaceblobstore/paths/azureml/{wanted.name}/out/"
    )
    environment = azure.ml.assets["environments", *azure.ml.asset(made["environmentId"], "environments")]  # type: ignore[misc]
    assert environment["image"] == wanted.image
    assert "python=3.11" in environment["condaFile"]


def test_the_same_code_is_uploaded_once(azure: StandIn, service: AzureTrainingService, job: CommandJob) -> None:
    service.submit(job)
    before = len(azure.made("PUT .*blob"))
    service.submit(replace(job, name=f"{job.name}-again"))
    assert len(azure.made("PUT .*blob")) == before


def test_of_the_app_only_the_package_shared_is_sent(
    azure: StandIn, service: AzureTrainingService, job: CommandJob, tmp_path: Path
) -> None:
    environment = str(job.code / "environment.yml")
    service.submit(replace(job, code=ROOT, command="python -m shared.jobs.evaluate", environment=environment))
    target = tmp_path / "sent"
    Worker(azure.ml, azure.blobs, tmp_path).code(azure.ml.jobs[job.name].properties["codeId"], target)
    assert [path.name for path in target.iterdir()] == ["shared"]
    assert (target / "shared" / "jobs" / "evaluate.py").read_text() == (ROOT / "shared/jobs/evaluate.py").read_text()
    assert not list(target.rglob("*.pyc"))


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 503},
        {"status": 500},
        {"reset": True},
        {"delay": 1.5},
        {"status": 503, "headers": {"Retry-After": "1"}},
    ],
    ids=["503", "500", "reset", "time-out", "503-with-retry-after"],
)
def test_a_create_that_took_effect_without_an_answer_is_one_job(
    azure: StandIn, service: AzureTrainingService, job: CommandJob, fault: dict[str, Any]
) -> None:
    azure.faults.add(rf"PUT .*/jobs/{job.name}$", after=True, **fault)
    service.submit(job)
    service.submit(job)
    assert len(sent(azure, job)) == 1


@pytest.mark.parametrize("fault", [{"status": 503}, {"reset": True}], ids=["503", "reset"])
def test_a_create_without_effect_is_transient_and_the_next_submit_makes_the_job(
    azure: StandIn, service: AzureTrainingService, job: CommandJob, fault: dict[str, Any]
) -> None:
    azure.faults.add(rf"PUT .*/jobs/{job.name}$", **fault)
    with pytest.raises(Transient, match=job.name):
        service.submit(job)
    assert job.name not in azure.ml.jobs
    service.submit(job)
    assert job.name in azure.ml.jobs
    assert len(sent(azure, job)) == 2


def test_a_throttled_create_waits_as_long_as_it_is_told(
    azure: StandIn, service: AzureTrainingService, job: CommandJob
) -> None:
    azure.faults.add(rf"PUT .*/jobs/{job.name}$", status=429, headers={"Retry-After": "1"})
    start = time.monotonic()
    service.submit(job)
    assert time.monotonic() - start >= 1
    assert sent(azure, job) == [429, 201]


def test_who_is_told_to_wait_long_gives_the_signal_back_to_the_queue(
    azure: StandIn, service: AzureTrainingService, job: CommandJob
) -> None:
    azure.faults.add(rf"PUT .*/jobs/{job.name}$", status=429, headers={"Retry-After": "600"})
    start = time.monotonic()
    with pytest.raises(Transient, match="429"):
        service.submit(job)
    assert time.monotonic() - start < 5


def test_a_look_up_that_fails_for_a_moment_is_repeated(
    azure: StandIn, service: AzureTrainingService, job: CommandJob
) -> None:
    service.submit(job)
    azure.faults.add(rf"GET .*/jobs/{job.name}$", status=503)
    status = service.status(job.name)
    assert status is not None and status.state == "queued"


def test_nothing_is_sent_while_it_is_not_known_whether_the_job_exists(
    azure: StandIn, service: AzureTrainingService, job: CommandJob
) -> None:
    azure.faults.add(rf"GET .*/jobs/{job.name}$", status=503, times=99)
    with pytest.raises(Transient):
        service.submit(job)
    assert sent(azure, job) == []


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("NotStarted", "queued"), ("Preparing", "queued"), ("Finalizing", "running"), ("CancelRequested", "running")],
)
def test_the_states_of_azure_ml_are_ours(
    azure: StandIn, service: AzureTrainingService, job: CommandJob, theirs: str, ours: str
) -> None:
    service.submit(job)
    azure.ml.move(job.name, theirs)
    status = service.status(job.name)
    assert status is not None and status.state == ours


def test_a_failed_job_tells_what_run_history_says_and_the_end_of_a_long_log(
    azure: StandIn, service: AzureTrainingService, job: CommandJob
) -> None:
    service.submit(job)
    log = "".join(f"epoch {number}\n" for number in range(20_000)) + "MemoryError\n"
    azure.ml.move(job.name, "Failed", error="the node ran out of memory", log=log)
    status = service.status(job.name)
    assert status is not None
    assert (status.state, status.reason) == ("failed", "the node ran out of memory: MemoryError")
    assert status.log_tail[-2:] == ("epoch 19999", "MemoryError") and len(status.log_tail) == 20


def test_the_state_is_known_when_run_history_is_not(
    azure: StandIn, service: AzureTrainingService, job: CommandJob
) -> None:
    service.submit(job)
    azure.ml.move(job.name, "Failed", error="lost")
    azure.faults.add("GET .*/history/", status=503, times=9)
    status = service.status(job.name)
    assert status is not None and status.state == "failed"
    assert "run history could not be read" in status.reason


def test_a_log_that_cannot_be_read_hides_neither_the_reason_nor_shows_its_signed_address(
    azure: StandIn, service: AzureTrainingService, job: CommandJob, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    service.submit(job)
    azure.ml.move(job.name, "Failed", error="the node ran out of memory", log="epoch 1\n")
    assert service.status(job.name) is not None
    for fault, lack in (({"status": 403}, "the service answered 403"), ({"reset": True}, "no answer came")):
        azure.faults.add("HEAD .*std_log.txt", **fault)
        status = service.status(job.name)
        assert status is not None and status.state == "failed"
        assert status.reason.startswith("the node ran out of memory (its log could not be read, ")
        assert lack in status.reason and "sig=" not in status.reason and "https:" not in status.reason
    assert "std_log.txt" not in caplog.text


def test_a_secret_that_a_job_printed_is_in_no_reason_and_in_no_line(
    azure: StandIn, service: AzureTrainingService, job: CommandJob
) -> None:
    service.submit(job)
    line = "cannot read https://landfall.blob.core.windows.net/lake/x?sv=1&sig=abc%2F123&se=2, exit code=1"
    azure.ml.move(job.name, "Failed", error="it failed", log=f"{line}\n")
    status = service.status(job.name)
    assert status is not None and status.log_tail == (line.replace("abc%2F123", "…"),)
    assert status.reason == f"it failed: {status.log_tail[0]}"


def test_an_input_that_is_not_there_is_rejected_before_anything_is_sent(
    azure: StandIn, service: AzureTrainingService, job: CommandJob
) -> None:
    wanted = replace(job, command="python train.py ${{inputs.x}}", inputs={"x": "model:churn:4"})
    with pytest.raises(Rejected, match="model:churn:4"):
        service.submit(wanted)
    assert sent(azure, job) == []


def test_a_user_assigned_identity_is_asked_for_by_its_client_id(
    azure: StandIn, service: AzureTrainingService, job: CommandJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = "22222222-0000-0000-0000-000000000001"
    monkeypatch.setattr(azure.identity, "client_id", client)
    with pytest.raises(Transient, match="identity"):
        service.status(job.name)
    lake: Any = Lake()
    registry: Any = Registry()
    named = Workspace(SUBSCRIPTION, GROUP, NAME, AppCredential(client))
    assert AzureTrainingService(named, lake, registry).status(job.name) is None


def test_an_output_of_a_job_is_read_with_the_apps_identity(
    azure: StandIn, service: AzureTrainingService, job: CommandJob
) -> None:
    service.submit(replace(job, outputs={"out": "uri_folder"}))
    azure.blobs.write("azureml", f"azureml/{job.name}/out/a.json", b"{}")
    with pytest.raises(Missing, match="queued"):
        service.read_output(job.name, "out", "a.json")
    azure.ml.move(job.name, "Completed")
    assert service.read_output(job.name, "out", "a.json") == b"{}"
    assert "https://storage.azure.com" in azure.identity.asked


def test_a_store_that_is_busy_for_a_moment_is_asked_again_long_before_the_message_comes_back(
    azure: StandIn, service: AzureTrainingService, job: CommandJob
) -> None:
    service.submit(replace(job, outputs={"out": "uri_folder"}))
    azure.blobs.write("azureml", f"azureml/{job.name}/out/a.json", b"{}")
    azure.ml.move(job.name, "Completed")
    azure.faults.add(r"GET .*/out/a\.json", status=503)
    start = time.monotonic()
    assert service.read_output(job.name, "out", "a.json") == b"{}"
    assert time.monotonic() - start < 10
