"""What every TrainingService does: the sentences of its docstrings, on each backend."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from shared.adapters.azure.credential import AppCredential
from shared.adapters.azure.training_service import AzureTrainingService
from shared.adapters.azure.workspace import Workspace
from shared.adapters.local import spool, tracking
from shared.adapters.local.lake import FolderLake
from shared.adapters.local.processes import Processes
from shared.adapters.local.training_service import ProcessTrainingService
from shared.errors import Missing, Rejected
from shared.ports.jobs import JobStatus
from shared.ports.lake import Lake
from shared.ports.training_service import CommandJob, TrainingService
from shared.settings import ROOT, child_environment
from tests.standin import StandIn
from tests.standin.azureml import GROUP, NAME, SUBSCRIPTION

EXPERIMENT = "contract"
SLEEP = "import time; time.sleep(120)"


@dataclass
class Harness:
    """A backend under test. ``events`` are those that were raised for a job: (type without namespace, data)."""

    service: TrainingService
    lake: Lake
    events: Callable[[str], list[tuple[str, dict[str, Any]]]]
    home: Path


class NoModels:
    """A registry that knows one model, the folder that a test points it at."""

    folder: Path | None = None

    def model_folder(self, name: str, version: str) -> Path:
        if self.folder is None or (name, version) != ("churn", "3"):
            raise Missing(f"there is no model {name} version {version}")
        return self.folder


@pytest.fixture(scope="module")
def local_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home for all tests: making MLflow's database takes seconds."""
    home = tmp_path_factory.mktemp("home")
    subprocess.run(
        [sys.executable, "-m", tracking.__name__, str(home), EXPERIMENT],
        cwd=ROOT,
        env=child_environment(tracking.QUIET),
        check=True,
    )
    return home


on_a_laptop = pytest.mark.parametrize("harness", ["local"], indirect=True)
"""For what is about processes of this machine; Azure ML runs a job in a container that it takes away at the end."""


class WorkspaceLake:
    """As much of a lake as a job needs, in the storage account that the stand-in's cluster reads."""

    def __init__(self, standin: StandIn) -> None:
        self._standin = standin

    def write(self, path: str, data: bytes) -> None:
        self._standin.blobs.write("lake", path, data)

    def stat(self, path: str) -> object | None:
        return self._standin.blobs.files.get(("lake", path))

    def uri(self, path: str) -> str:
        return f"abfss://lake@{self._standin.ml.account}.dfs.core.windows.net/{path}"


def azure_harness(standin: StandIn, home: Path) -> Harness:
    lake: Any = WorkspaceLake(standin)
    service = AzureTrainingService(Workspace(SUBSCRIPTION, GROUP, NAME, AppCredential()), lake, NoModels())

    def events(job: str) -> list[tuple[str, dict[str, Any]]]:
        found = [event for event in standin.ml.raised if event.data.get("runId") == job]
        return [(event.kind.rpartition(".")[2], event.data) for event in found]

    return Harness(service=service, lake=lake, events=events, home=home)


@pytest.fixture(params=["local", "azure"])
def harness(request: pytest.FixtureRequest, local_home: Path) -> Iterator[Harness]:
    if request.param == "azure":
        yield azure_harness(request.getfixturevalue("azure"), local_home)
        return
    lake = FolderLake(local_home / "lake", "landfall", "lake")
    service = ProcessTrainingService(local_home, lake, NoModels())

    def events(job: str) -> list[tuple[str, dict[str, Any]]]:
        found = [json.loads(path.read_text()) for path in spool.waiting(local_home)]
        return [(e["eventType"].rpartition(".")[2], e["data"]) for e in found if e["data"]["runId"] == job]

    yield Harness(service=service, lake=lake, events=events, home=local_home)


@pytest.fixture
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., CommandJob]:
    """A job named after the test, whose train.py has the given text."""

    def make(script: str, *, command: str = "python train.py", timeout: float = 60, **fields: Any) -> CommandJob:
        code = tmp_path / "code"
        code.mkdir(exist_ok=True)
        (code / "train.py").write_text(textwrap.dedent(script))
        environment = tmp_path / "environment.yml"
        environment.write_text("name: contract\ndependencies: [python=3.11]\n")
        given: dict[str, Any] = {
            "name": request.node.originalname.replace("_", "-"),
            "experiment": EXPERIMENT,
            "code": code,
            "command": command,
            "timeout": timedelta(seconds=timeout),
            "environment": str(environment),
            "image": "image",
            "compute": "cpu-cluster",
        }
        return CommandJob(**{**given, **fields})

    return make


def eventually(holds: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return value


def ended(harness: Harness, name: str) -> JobStatus:
    def final() -> JobStatus | None:
        status = harness.service.status(name)
        assert status is not None
        return status if status.ended else None

    return eventually(final)


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def pids(path: Path) -> list[int]:
    """The pids that a script wrote to a file, one a line, once both are there."""
    return eventually(lambda: path.exists() and len(lines := path.read_text().split()) >= 2 and [int(x) for x in lines])


FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(120)"],
                         start_new_session=True)
with open(sys.argv[1], "w") as file:
    file.write(f"{os.getpid()}\\n{child.pid}\\n")
"""  # noqa: E501


def test_a_command_reads_its_inputs_and_writes_its_outputs(harness: Harness, job: Callable[..., CommandJob]) -> None:
    harness.lake.write("features/my churn/train/part.txt", b"rows")
    wanted = job(
        "import pathlib, sys; data, out = map(pathlib.Path, sys.argv[2::2])\n"
        "(out / 'model.txt').write_text((data / 'part.txt').read_text() + ' learned')",
        command="python train.py \\\n  --data ${{inputs.data}} --out ${{ outputs.model }}",
        inputs={"data": "features/my churn/train"},
        outputs={"model": "uri_folder"},
    )

    harness.service.submit(wanted)

    assert ended(harness, wanted.name).state == "completed"
    assert harness.service.read_output(wanted.name, "model", "model.txt") == b"rows learned"


@on_a_laptop
def test_an_input_can_be_a_registered_model(harness: Harness, job: Callable[..., CommandJob], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text("flavors")
    models = NoModels()
    models.folder = tmp_path / "model"
    service = ProcessTrainingService(harness.home, harness.lake, models)
    wanted = job(
        "import pathlib, sys; print((pathlib.Path(sys.argv[1]) / 'MLmodel').read_text())",
        command="python train.py ${{inputs.model}}",
        inputs={"model": "model:churn:3"},
    )

    service.submit(wanted)

    assert ended(harness, wanted.name).log_tail == ("flavors",)
    with pytest.raises(Rejected):
        service.submit(replace(wanted, name="has-no-such-input", inputs={"model": "model:churn:4"}))
    assert service.status("has-no-such-input") is None


def test_submit_returns_at_once_and_the_job_is_running_until_it_ends(
    harness: Harness, job: Callable[..., CommandJob], tmp_path: Path
) -> None:
    gate = tmp_path / "go"
    wanted = job(f"import os, time\nprint('waits')\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.02)")

    harness.service.submit(wanted)

    status = eventually(lambda: (s := harness.service.status(wanted.name)) and s.log_tail and s)
    assert (status.state, status.ended, status.log_tail) == ("running", False, ("waits",))
    gate.touch()
    assert ended(harness, wanted.name).state == "completed"


def test_a_second_submit_meets_the_first_job(harness: Harness, job: Callable[..., CommandJob], tmp_path: Path) -> None:
    count = tmp_path / "count"
    wanted = job(f"open({str(count)!r}, 'a').write('ran\\n')")
    harness.service.submit(wanted)
    ended(harness, wanted.name)

    harness.service.submit(replace(wanted, command="python elsewhere.py"))

    assert harness.service.status(wanted.name) == ended(harness, wanted.name)
    assert count.read_text() == "ran\n"
    eventually(lambda: len(harness.events(wanted.name)) == 2)


@on_a_laptop
def test_of_racing_submits_exactly_one_process_comes(
    harness: Harness, job: Callable[..., CommandJob], tmp_path: Path
) -> None:
    count = tmp_path / "count"
    wanted = job(f"open({str(count)!r}, 'a').write('ran\\n')")
    start = threading.Barrier(6)

    def submit() -> None:
        start.wait()
        harness.service.submit(wanted)

    threads = [threading.Thread(target=submit) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ended(harness, wanted.name).state == "completed"
    # A second process would have had the time in which the first one came.
    time.sleep(0.3)
    assert count.read_text() == "ran\n"


@on_a_laptop
def test_one_process_too_many_for_a_job_leaves_at_once(
    harness: Harness, job: Callable[..., CommandJob], tmp_path: Path
) -> None:
    count = tmp_path / "count"
    wanted = job(f"open({str(count)!r}, 'a').write('ran\\n')")
    harness.service.submit(wanted)
    folder = Processes(harness.home).folder(wanted.name)

    for _ in range(2):
        subprocess.run(
            [sys.executable, "-m", "shared.adapters.local.supervisor", str(folder)], cwd=ROOT, check=True, timeout=30
        )

    ended(harness, wanted.name)
    assert count.read_text() == "ran\n"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"command": "python missing.py"}, "missing.py"),
        ({"command": "python train.py ${{inputs.data}}"}, "inputs.data"),
        ({"command": "python train.py ${{outputs.model}}"}, "outputs.model"),
        ({"command": "python 'train.py"}, "cannot be read"),
        ({"command": " "}, "empty"),
        ({"code": Path("/nowhere/at/all")}, "/nowhere/at/all"),
        ({"name": "../elsewhere"}, "../elsewhere"),
    ],
    ids=["script", "input", "output", "quote", "empty", "code", "name"],
)
def test_a_job_that_can_never_run_is_rejected_and_leaves_nothing(
    harness: Harness, job: Callable[..., CommandJob], fields: dict[str, Any], says: str
) -> None:
    with pytest.raises(Rejected, match=says):
        harness.service.submit(job("", **fields))
    if "name" not in fields:
        assert harness.service.status(job("").name) is None


@pytest.mark.gap("local", "never: on a laptop every compute is this machine")
def test_an_unknown_compute_is_rejected(harness: Harness, job: Callable[..., CommandJob]) -> None:
    with pytest.raises(Rejected):
        harness.service.submit(job("", compute="no-such-cluster"))


def test_a_job_that_was_never_submitted_has_no_status(harness: Harness) -> None:
    assert harness.service.status("never-submitted") is None


def test_a_crash_is_a_failed_job_with_the_last_lines_of_its_log(
    harness: Harness, job: Callable[..., CommandJob]
) -> None:
    wanted = job(
        "for i in range(100): print('epoch', i)\nraise ValueError('y has one class')", tags={"landfall.run": "r1"}
    )

    harness.service.submit(wanted)

    status = ended(harness, wanted.name)
    assert status.state == "failed"
    assert "code 1" in status.reason and status.reason.endswith(": ValueError: y has one class")
    assert status.log_tail[-1] == "ValueError: y has one class"
    assert len(status.log_tail) == 20 and "epoch 99" in status.log_tail
    [(kind, data)] = eventually(lambda: harness.events(wanted.name))
    assert (kind, data["runStatus"], data["runTags"]) == ("RunStatusChanged", "Failed", {"landfall.run": "r1"})


def test_the_end_of_a_job_raises_the_events_of_azure_ml(harness: Harness, job: Callable[..., CommandJob]) -> None:
    wanted = job("", tags={"landfall.run": "r1", "landfall.pipeline": "churn"})

    harness.service.submit(wanted)

    assert ended(harness, wanted.name).state == "completed"
    eventually(lambda: len(harness.events(wanted.name)) == 2)
    kinds = {kind: data for kind, data in harness.events(wanted.name)}
    assert set(kinds) == {"RunCompleted", "RunStatusChanged"}
    assert kinds["RunStatusChanged"]["runStatus"] == "Completed"
    for data in kinds.values():
        assert (data["experimentName"], data["runId"], data["runTags"]) == (EXPERIMENT, wanted.name, wanted.tags)


def test_a_hanging_job_is_killed_with_its_grandchildren_after_its_timeout(
    harness: Harness, job: Callable[..., CommandJob], tmp_path: Path
) -> None:
    wanted = job(FAMILY + SLEEP, command=f"python train.py {tmp_path / 'pids'}", timeout=1)

    harness.service.submit(wanted)

    family = pids(tmp_path / "pids")
    status = ended(harness, wanted.name)
    assert status.state == "failed"
    assert "timeout of 1 s" in status.reason
    assert not any(map(running, family))


@on_a_laptop
def test_what_a_job_leaves_behind_ends_with_it(
    harness: Harness, job: Callable[..., CommandJob], tmp_path: Path
) -> None:
    wanted = job(FAMILY, command=f"python train.py {tmp_path / 'pids'}")

    harness.service.submit(wanted)

    family = pids(tmp_path / "pids")
    assert ended(harness, wanted.name).state == "completed"
    assert not any(map(running, family))


def test_a_job_whose_process_is_killed_is_failed(harness: Harness, job: Callable[..., CommandJob]) -> None:
    wanted = job("import os, signal; print('about to go', flush=True); os.kill(os.getpid(), signal.SIGKILL)")
    harness.service.submit(wanted)
    status = ended(harness, wanted.name)
    assert status.state == "failed" and status.reason.endswith(": about to go")


@on_a_laptop
def test_a_job_that_dies_with_its_machine_is_failed_and_leaves_nothing_running(
    harness: Harness, job: Callable[..., CommandJob], tmp_path: Path
) -> None:
    wanted = job(FAMILY + SLEEP, command=f"python train.py {tmp_path / 'pids'}")
    harness.service.submit(wanted)
    family = pids(tmp_path / "pids")
    folder = Processes(harness.home).folder(wanted.name)
    eventually((folder / "process.json").exists)

    os.kill(json.loads((folder / "supervisor.json").read_text())["pid"], signal.SIGKILL)

    assert ended(harness, wanted.name).state == "failed"
    assert not any(map(running, family))
    harness.service.submit(wanted)
    assert ended(harness, wanted.name).state == "failed"


@on_a_laptop
def test_a_pid_that_was_used_again_is_not_taken_for_the_job(harness: Harness, job: Callable[..., CommandJob]) -> None:
    folder = Processes(harness.home).folder(job("").name)
    folder.mkdir(parents=True)
    (folder / "job.json").write_text("{}")
    (folder / "supervisor.json").write_text(json.dumps({"pid": os.getpid(), "create_time": 1.0}))
    assert ended(harness, folder.name).state == "failed"


HOST = """
import os, pickle, sys
from pathlib import Path
from shared.adapters.local.lake import FolderLake
from shared.adapters.local.processes import Processes
from shared.adapters.azure.training_service import AzureTrainingService
from shared.adapters.azure.workspace import Workspace
from shared.adapters.local.training_service import ProcessTrainingService
home, dies = Path(sys.argv[1]), sys.argv[2]
if dies == "before-launch":
    Processes._launch = lambda *_: os._exit(9)
service = ProcessTrainingService(home, FolderLake(home / "lake", "landfall", "lake"), None)
service.submit(pickle.loads(sys.stdin.buffer.read()))
os._exit(9)
"""


def submit_and_die(harness: Harness, wanted: CommandJob, moment: str) -> None:
    import pickle

    host = subprocess.run(
        [sys.executable, "-c", HOST, str(harness.home), moment], input=pickle.dumps(wanted), cwd=ROOT, timeout=60
    )
    assert host.returncode == 9


@on_a_laptop
def test_a_job_survives_the_death_of_the_host(harness: Harness, job: Callable[..., CommandJob], tmp_path: Path) -> None:
    gate = tmp_path / "go"
    wanted = job(f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.02)\nprint('still here')")
    submit_and_die(harness, wanted, "after-submit")
    gate.touch()
    assert ended(harness, wanted.name).log_tail == ("still here",)


@on_a_laptop
def test_a_submit_that_was_cut_off_is_gone_on_with(harness: Harness, job: Callable[..., CommandJob]) -> None:
    wanted = job("print('ran after all')")
    submit_and_die(harness, wanted, "before-launch")
    status = harness.service.status(wanted.name)
    assert status is not None and status.state == "queued"

    made = Processes(harness.home).folder(wanted.name) / "job.json"
    os.utime(made, (time.time() - 60, time.time() - 60))

    assert ended(harness, wanted.name).log_tail == ("ran after all",)


def test_who_edits_the_script_after_the_submit_changes_nothing(
    harness: Harness, job: Callable[..., CommandJob]
) -> None:
    wanted = job("import helper; print(helper.WORD)")
    (wanted.code / "shared.py").write_text("raise ImportError('not the module that was meant')")
    (wanted.code / "helper.py").write_text("WORD = 'before'")
    harness.service.submit(wanted)
    (wanted.code / "helper.py").write_text("WORD = 'after'")
    assert ended(harness, wanted.name).log_tail == ("before",)


def test_the_apps_own_modules_can_be_the_command(harness: Harness, job: Callable[..., CommandJob]) -> None:
    wanted = job("", code=ROOT, command="python -m shared.settings")
    harness.service.submit(wanted)
    assert ended(harness, wanted.name).state == "completed"


def test_read_output_gives_only_what_a_completed_job_wrote(
    harness: Harness, job: Callable[..., CommandJob], tmp_path: Path
) -> None:
    gate = tmp_path / "go"
    wanted = job(
        f"import os, sys, time\nopen(sys.argv[1] + '/half', 'w').write('x')\nprint('wrote')\n"
        f"while not os.path.exists({str(gate)!r}): time.sleep(0.02)",
        command="python train.py ${{outputs.out}}",
        outputs={"out": "uri_folder"},
    )
    harness.service.submit(wanted)
    eventually(lambda: (s := harness.service.status(wanted.name)) and s.log_tail)

    with pytest.raises(Missing, match="running"):
        harness.service.read_output(wanted.name, "out", "half")
    gate.touch()
    ended(harness, wanted.name)

    assert harness.service.read_output(wanted.name, "out", "half") == b"x"
    for output, file in (("out", "other"), ("elsewhere", "half"), ("out", "")):
        with pytest.raises(Missing):
            harness.service.read_output(wanted.name, output, file)
    with pytest.raises(Missing):
        harness.service.read_output("never-submitted", "out", "half")
    with pytest.raises(Rejected):
        harness.service.read_output(wanted.name, "out", "../../job.json")
