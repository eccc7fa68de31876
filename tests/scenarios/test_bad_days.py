"""What goes wrong before a model exists: every case leaves a reason, and the loop goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from shared.domain.ledger import Batch, Landed, Run
from tests.scenarios.living_loop import TINY_SQL, TINY_YAML, LivingLoop, eventually, tiny_rows

HANG = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(f"child {child.pid}", flush=True)
time.sleep(600)
"""
ONLY_TRAIN = "import sys\nprint('reading the rows')\nsys.exit('the disk is full')"


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivingLoop]:
    loop = LivingLoop(tmp_path_factory.mktemp("bad-days"))
    loop.add_pipeline("tiny", TINY_YAML, TINY_SQL, ONLY_TRAIN)
    with loop.alive():
        yield loop


def test_a_train_script_that_crashes_is_a_failed_run_with_the_end_of_its_log(living: LivingLoop) -> None:
    run = living.pass_of("tiny", living.land("landing/tiny/crash.csv", tiny_rows(60)))
    assert (run.stage, run.status) == ("training", "failed")
    assert "the disk is full" in run.reason
    assert living.state("tiny").training == ""


def test_a_train_script_that_registers_nothing_is_a_failed_run(living: LivingLoop) -> None:
    (living.pipelines / "tiny" / "train.py").write_text("print('all is well')")
    run = living.pass_of("tiny", living.land("landing/tiny/nothing.csv", tiny_rows(60, start=100)))
    assert run.status == "failed"
    assert "all is well" in run.reason
    assert "model" in run.reason


def test_a_train_script_that_hangs_is_killed_with_its_children(living: LivingLoop) -> None:
    folder = living.pipelines / "tiny"
    (folder / "train.py").write_text(HANG)
    (folder / "pipeline.yaml").write_text(TINY_YAML.replace("timeout: 60s", "timeout: 3s"))
    run = living.pass_of("tiny", living.land("landing/tiny/hang.csv", tiny_rows(60, start=200)))
    assert run.status == "failed"
    assert "3 s" in run.reason or "0:00:03" in run.reason
    child = int(next(word for word in run.reason.split() if word.isdecimal() and int(word) > 100))
    eventually(lambda: not psutil.pid_exists(child))
    (folder / "pipeline.yaml").write_text(TINY_YAML)
    (folder / "train.py").write_text(ONLY_TRAIN)


def test_a_batch_that_breaks_the_checks_is_rejected_with_counts_and_rows(living: LivingLoop) -> None:
    rows = tiny_rows(60, start=300).replace("k305,", "k304,")
    lines = rows.splitlines()
    lines[11] = lines[11].replace(lines[11].split(",")[1], "777", 1)
    run = living.pass_of("tiny", living.land("landing/tiny/broken.csv", "\n".join(lines) + "\n"))
    assert (run.stage, run.status) == ("features", "rejected")
    assert "777" in run.reason
    assert "k304" in run.reason
    assert "broken.csv" in str(living.command_json("run", run.id))
    batch = living.loop.ports.ledger.read(Batch, "tiny", run.batches[0])
    assert batch is not None and batch.status == "rejected"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("half.parquet.csv", "id,x,kind,label\nk1,1.0", "half.parquet.csv"),
        ("wrong.csv", "id,y,kind,label\nk1,1.0,a,yes\n", "x"),
        ("header-only.csv", "id,x,kind,label\n", "row"),
        ("binary.csv", "\x00\x01\x02PAR1", "binary.csv"),
        ("not-a-number.csv", "id,x,kind,label\nk1,plenty,a,yes\nk2,1.0,a,no\n", "plenty"),
    ],
)
def test_a_file_that_is_no_data_is_rejected_with_its_name(
    living: LivingLoop, name: str, content: str, said: str
) -> None:
    run = living.pass_of("tiny", living.land(f"landing/tiny/{name}", content))
    assert run.status == "rejected", run.reason
    assert said in run.reason


def test_a_label_of_one_class_is_rejected(living: LivingLoop) -> None:
    (living.pipelines / "one-class").exists() or living.add_pipeline(
        "one-class", TINY_YAML.replace("tiny", "one-class"), TINY_SQL, ONLY_TRAIN
    )
    rows = tiny_rows(60).replace(",no\n", ",yes\n")
    run = living.pass_of("one-class", living.land("landing/one-class/a.csv", rows))
    assert run.status == "rejected"
    assert "label" in run.reason


def test_a_file_written_slowly_counts_once_and_whole(living: LivingLoop) -> None:
    living.add_pipeline("slowly", TINY_YAML.replace("tiny", "slowly"), TINY_SQL, ONLY_TRAIN)
    place = Path(living.loop.ports.lake.uri("landing/slowly/slow.csv"))
    place.parent.mkdir(parents=True)
    with place.open("w") as file:
        for line in tiny_rows(60).splitlines(keepends=True):
            file.write(line)
            file.flush()
            time.sleep(0.01)
    info = living.loop.ports.lake.stat("landing/slowly/slow.csv")
    assert info is not None
    run = living.pass_of("slowly", info)
    assert run.stage == "training", run.reason
    assert [r.id for r in living.loop.ports.ledger.list(Run, "slowly")] == [run.id]


def test_files_that_land_together_are_one_run(living: LivingLoop) -> None:
    living.add_pipeline("together", TINY_YAML.replace("tiny", "together"), TINY_SQL, ONLY_TRAIN)
    infos = [living.land(f"landing/together/{n}.csv", tiny_rows(40, start=n * 100)) for n in range(5)]
    run = living.pass_of("together", infos[0])
    assert [r.id for r in living.loop.ports.ledger.list(Run, "together")] == [run.id]
    batch = living.loop.ports.ledger.read(Batch, "together", run.batches[0])
    assert batch is not None and len(batch.files) == 5


def test_repeated_and_malformed_and_foreign_events_have_no_effect_and_leave_reasons(living: LivingLoop) -> None:
    info = living.land("landing/tiny/events.csv", tiny_rows(60, start=900))
    living.pass_of("tiny", info)
    runs_before = [run.id for run in living.loop.ports.ledger.list(Run, "tiny")]
    genuine = living.event(info)
    foreign = {**genuine, "id": "foreign", "topic": genuine["topic"].replace("/landfall", "/stranger")}
    foreign["data"] = {**genuine["data"], "url": genuine["data"]["url"].replace("//landfall", "//stranger")}
    outside = {
        **genuine,
        "id": "outside",
        "subject": "/blobServices/default/containers/lake/blobs/landing/tiny/../../x",
    }
    odd = [
        {**genuine, "id": f"odd{n}", "data": data, "subject": ""} for n, data in enumerate((None, {}, [], {"url": 7}))
    ]
    assert living.deliver(genuine, genuine, foreign, outside, *odd).status_code == 202

    def told() -> bool:
        said = " ".join(d.reason for d in (*living.decisions("tiny"), *living.decisions("-")))
        return "duplicate" in said and "stranger" in said and len(living.decisions("-", "rejected")) >= 4

    eventually(told)
    assert [run.id for run in living.loop.ports.ledger.list(Run, "tiny")] == runs_before


def test_events_of_unknown_functions_and_kinds_are_answered_as_azure_does(living: LivingLoop) -> None:
    info = living.land("landing/elsewhere/a.csv", "x")
    assert living.deliver(living.event(info), function="nobody").status_code == 404
    assert living.http.post("/runtime/webhooks/eventgrid", params={"functionName": "event_storage"}).status_code == 400


def test_a_broken_pipeline_folder_does_not_stop_the_others(living: LivingLoop) -> None:
    broken = living.pipelines / "broken"
    broken.mkdir()
    (broken / "pipeline.yaml").write_text(
        "name: broken\nlandin: {path: x}\nfeatures: {key: id, label: label, test_share: 7}\n"
    )
    check = living.command("check")
    assert check.returncode == 1
    assert "did you mean" in check.stdout.lower() or "landing" in check.stdout
    assert "test_share" in check.stdout
    run = living.pass_of("tiny", living.land("landing/tiny/still.csv", tiny_rows(60, start=1500)))
    assert run.stage == "training"
    status = living.call("GET", "/api/status").json()
    assert "broken" in status["faults"]


def test_the_command_line_says_what_is_not_there(living: LivingLoop) -> None:
    for arguments in (("runs", "nobody"), ("run", "nobody-b1"), ("why", "landing/nobody/x.csv")):
        done = living.command(*arguments)
        assert done.returncode == 3, done.stderr
        assert "nobody" in done.stderr
    assert living.command("land", "tiny", "/no/such/file.csv").returncode == 2
    assert living.command("score", "tiny", os.devnull).returncode != 0
    assert living.command("rollback", "tiny").returncode == 1


def test_a_message_that_fails_at_every_attempt_is_a_dead_letter_that_can_be_replayed(living: LivingLoop) -> None:
    from shared.domain.signals import BatchDue

    living.loop.ports.queue.send(BatchDue(pipeline="tiny", batch="b999999", due=living.loop.ports.clock.now()))
    letters = eventually(lambda: living.command_json("events", "dead"), 60)
    assert "b999999" in letters[0]["message"]
    assert "b999999 of tiny is not in the ledger" in letters[0]["error"]
    assert any("gave up" in d.reason for d in living.decisions("tiny", "failed"))
    done = living.command("events", "replay")
    assert done.returncode == 0, done.stderr
    assert "1 dead letter" in done.stdout
    assert "0 dead letters" in living.command("events", "replay", letters[0]["id"]).stdout


def test_nothing_that_landed_is_unaccounted_for(living: LivingLoop) -> None:
    files = list(living.loop.ports.lake.list("landing/tiny/"))
    assert files
    for info in files:
        landed = living.loop.ports.ledger.read(Landed, "tiny", info.path)
        assert landed is not None, info.path
        batch = living.loop.ports.ledger.read(Batch, "tiny", landed.batch)
        assert batch is not None and batch.status in ("accepted", "rejected", "failed"), (info.path, batch)
