"""One story on real customers, in the order of the loop: each test goes on where the one before it stopped."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import cycle
from typing import Any

import pytest

from shared.domain.ledger import DriftCheck, Run
from shared.domain.signals import DriftCheckDue, RetrainingDue
from shared.features import manifests
from shared.settings import ROOT
from tests.scenarios.living_loop import LivingLoop, eventually

NAME = "customer-churn"
SCORE = f"/api/pipelines/{NAME}/score"
FIRST_ANSWER = """
import json, sys
import azure.functions as func, function_app

name, body = sys.argv[1:]
score = next(f for f in function_app.app.get_functions() if f.get_function_name() == "http_score").get_user_function()
answer = score(func.HttpRequest("POST", "/", headers={}, route_params={"name": name}, body=body.encode()))
print(json.dumps([answer.status_code, sorted(sys.modules.keys() & {"mlflow", "pandas", "sklearn", "sqlalchemy"})]))
"""


@pytest.fixture(scope="module")
def customers() -> list[dict[str, str]]:
    with (ROOT / "samples" / "telco_churn.csv").open(newline="") as sample:
        return list(csv.DictReader(sample))


@pytest.fixture(scope="module")
def late(customers: list[dict[str, str]]) -> list[dict[str, str]]:
    """Customers of one segment whose labels land when they have been scored."""
    return [customer for customer in customers[1500:] if in_segment(customer)][:600]


def in_segment(customer: dict[str, str]) -> bool:
    return customer["internet_service"] == "Fiber optic" and customer["contract"] == "Month-to-month"


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivingLoop]:
    loop = LivingLoop(tmp_path_factory.mktemp("churn"))
    loop.ship(NAME)
    with loop.alive():
        yield loop


def as_csv(rows: list[dict[str, str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def raw(living: LivingLoop, row: dict[str, str]) -> dict[str, Any]:
    """A customer as a caller sends one: typed, without the label."""
    types = living.loop.catalog.get(NAME).pipeline.landing.columns
    cast = {"int": int, "double": float, "string": str}
    return {n: cast[types[n].rstrip("?")](v) if v else None for n, v in row.items() if n != "churn"}


def test_the_first_customers_become_version_1_which_takes_all_traffic(
    living: LivingLoop, customers: list[dict[str, str]]
) -> None:
    run = living.pass_of(NAME, living.land(f"landing/{NAME}/first.csv", as_csv(customers[:1500])))
    assert (run.status, run.version) == ("succeeded", "1"), run.reason
    assert living.state(NAME).traffic == {"v1": 100}
    assert living.version(NAME, "1").verdict is not None


def test_a_better_challenger_takes_traffic_in_steps(
    living: LivingLoop, customers: list[dict[str, str]], late: list[dict[str, str]]
) -> None:
    stop, seen, answered = threading.Event(), [], set()

    def ask() -> None:
        # Customers of all kinds, as in training: always the same one would be a shift of the predictions.
        for row in cycle(customers):
            if stop.wait(0.02):
                return
            answer = living.call("POST", SCORE, {"dataframe_records": [raw(living, row)]})
            assert answer.status_code == 200, answer.text
            answered.add(answer.json()["deployment"])
            traffic = living.state(NAME).traffic
            if not seen or seen[-1] != traffic:
                seen.append(traffic)

    visitor = threading.Thread(target=ask)
    visitor.start()
    rest = [customer for customer in customers[1500:] if customer not in late]
    run = living.pass_of(NAME, living.land(f"landing/{NAME}/rest.csv", as_csv(rest)))
    stop.set()
    visitor.join()
    assert (run.status, run.version) == ("succeeded", "2"), run.reason
    assert seen == [{"v1": 100}, {"v2": 10, "v1": 90}, {"v2": 50, "v1": 50}, {"v2": 100}]
    assert answered == {"v1", "v2"}
    manifest = manifests.read(living.loop.ports.lake, manifests.place(run.features))
    assert manifest.prepared.startswith(f"added {len(rest):,} landed rows"), manifest.prepared
    version = living.version(NAME, "2")
    assert version.evaluation is not None and version.evaluation.gain is not None
    assert version.evaluation.gain_low is not None and version.evaluation.gain_low > 0


def test_every_form_of_request_gets_the_same_answer(living: LivingLoop, customers: list[dict[str, str]]) -> None:
    records = [raw(living, row) for row in customers[:3]]
    columns = list(records[0])
    rows = [list(record.values()) for record in records]
    forms = [
        {"dataframe_records": records},
        {"dataframe_split": {"columns": columns, "data": rows}},
        {"inputs": records},
        {"inputs": {name: [record[name] for record in records] for name in columns}},
    ]
    answers = [living.call("POST", SCORE, form) for form in forms]
    assert [a.status_code for a in answers] == [200] * len(forms), [a.text for a in answers]
    assert len({json.dumps(a.json()["probabilities"]) for a in answers}) == 1
    assert answers[0].json()["model"] == {"name": NAME, "version": "2"}


def test_the_first_answer_of_a_process_waits_for_no_library_that_trained_the_model(
    living: LivingLoop, customers: list[dict[str, str]]
) -> None:
    body = json.dumps({"dataframe_records": [raw(living, customers[0])]})
    done = subprocess.run(
        [sys.executable, "-c", FIRST_ANSWER, NAME, body],
        cwd=ROOT,
        env=living.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [200, []]


def test_the_guide_s_form_takes_the_model_s_columns_by_position(
    living: LivingLoop, customers: list[dict[str, str]]
) -> None:
    by_name = living.call("POST", SCORE, {"dataframe_records": [raw(living, customers[0])]}).json()
    prepared = living.loop.ports.features.prepare_rows(
        _scoring_sql(living), _landed_columns(living), [{**raw(living, customers[0]), "churn": None}]
    )[0]
    signature = living.loop.ports.registry.get(NAME, "2")
    assert signature is not None
    row = [prepared[column.name] for column in signature.signature]
    by_position = living.call("POST", SCORE, {"data": [row]})
    assert by_position.status_code == 200, by_position.text
    assert by_position.json()["probabilities"] == by_name["probabilities"]


def _scoring_sql(living: LivingLoop) -> str:
    from shared.features.features_sql import scoring_sql

    folder = living.loop.catalog.get(NAME)
    return scoring_sql(folder.sql, folder.pipeline.features.label, folder.pipeline.features.key)


def _landed_columns(living: LivingLoop) -> dict[str, str]:
    return {n: t.rstrip("?") for n, t in living.loop.catalog.get(NAME).pipeline.landing.columns.items()}


def test_a_header_chooses_the_deployment(living: LivingLoop, customers: list[dict[str, str]]) -> None:
    body = {"dataframe_records": [raw(living, customers[0])]}
    answer = living.call("POST", SCORE, body, azureml_model_deployment="v1")
    assert answer.json()["deployment"] == "v1"
    assert living.call("POST", SCORE, body, azureml_model_deployment="v9").status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"no json", 400, "JSON"),
        ({"dataframe_records": []}, 400, "row"),
        ({"rows": [[1]]}, 400, "rows"),
        ({"dataframe_records": [{"tenure": 1}]}, 400, "column"),
        ({"data": [[1, 2]]}, 400, "2 values"),
        ({"data": [[1]], "inputs": [[1]]}, 400, "inputs"),
        (b'{"data": [' + b"[1]," * 4_000_000 + b"[1]]}", 413, "batch scoring"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(living: LivingLoop, body: Any, status: int, said: str) -> None:
    answer = living.call("POST", SCORE, body)
    assert answer.status_code == status, answer.text
    assert said.lower() in answer.text.lower()


@pytest.mark.parametrize("value", ["NaN", "Infinity", '"two years"', "true", "[1]", "null"])
def test_a_wrong_value_is_told_with_its_row_and_column(
    living: LivingLoop, customers: list[dict[str, str]], value: str
) -> None:
    records = [raw(living, row) for row in customers[:2]]
    text = json.dumps({"dataframe_records": records})
    wrong = text.replace(f'"tenure": {records[1]["tenure"]},', f'"tenure": {value},')
    answer = living.call("POST", SCORE, wrong.encode())
    assert answer.status_code == 400, answer.text
    fault = answer.json()["error"]["faults"][0]
    assert (fault["row"], fault["column"]) == (1, "tenure")


def test_requests_and_answers_are_in_the_prediction_log(living: LivingLoop, customers: list[dict[str, str]]) -> None:
    answer = living.call("POST", SCORE, {"dataframe_records": [raw(living, customers[7])]}).json()
    living.loop.predictions.flush()
    text = "\n".join(
        living.loop.ports.lake.read(info.path).decode()
        for info in living.loop.ports.lake.list(f"predictions/{NAME}/")
        if info.path.endswith(".jsonl")
    )
    line = next(line for line in text.splitlines() if answer["request_id"] in line)
    assert answer["predictions"][0] in line
    assert "tenure" in line


def test_drift_that_hurts_is_found_in_traffic_of_one_segment_but_there_is_nothing_new_to_learn(
    living: LivingLoop, customers: list[dict[str, str]]
) -> None:
    segment = [customer for customer in customers if in_segment(customer)]
    for start in range(0, 2000, 500):
        records = [raw(living, row) for row in segment[start : start + 500]]
        assert living.call("POST", SCORE, {"dataframe_records": records}).status_code == 200
    living.loop.predictions.flush()
    # Two windows in which drift is seen are wanted. The host's own timer may have looked at one of them already.
    now, every = datetime.now(UTC), living.loop.catalog.get(NAME).pipeline.drift.every
    for window in range(2):
        said = living.ask(DriftCheckDue(pipeline=NAME, slot=now + window * every)).reason
        assert "performance is hurt" in said
    assert said.endswith("since version 2 was trained, so that retraining would give the same model")
    checks = list(living.loop.ports.ledger.list(DriftCheck, NAME))
    assert "internet_service" in checks[-1].drifted


def test_labels_that_land_later_start_a_run_that_ties_and_tell_how_good_the_predictions_were(
    living: LivingLoop, late: list[dict[str, str]]
) -> None:
    run = living.pass_of(NAME, living.land(f"landing/{NAME}/late.csv", as_csv(late)))
    assert (run.status, living.state(NAME).champion) == ("kept", "2"), run.reason
    said = living.ask(DriftCheckDue(pipeline=NAME, slot=datetime.now(UTC))).reason
    assert f"on {len(late):,} predictions whose labels landed" in said
    (row,) = (r for r in living.call("GET", "/api/status").json()["pipelines"] if r["name"] == NAME)
    assert row["performance"]["realised"]["metric"] == "roc_auc"
    assert row["performance"]["realised"]["rows"] == len(late)
    assert 0 < row["performance"]["realised"]["late"] < 600


def test_the_budget_holds_further_retrainings_back_with_a_reason_and_prepares_nothing_again(living: LivingLoop) -> None:
    before = len([r for r in living.loop.ports.ledger.list(Run, NAME) if r.cause == "schedule"])
    slots = [f"storm{n}" for n in range(8)]
    for slot in slots:
        living.loop.ports.queue.send(RetrainingDue(pipeline=NAME, cause="schedule", slot=slot, reason="storm"))

    def refused() -> bool:
        said = [d.reason for d in living.decisions(NAME, "nothing") if d.what == "retraining"]
        return len([r for r in said if "storm" in r]) >= 7

    eventually(refused)
    after = [r for r in living.loop.ports.ledger.list(Run, NAME) if r.cause == "schedule"]
    assert len(after) - before <= 1
    ended = [living.ended(run) for run in after]
    manifests = {
        json.loads(living.loop.ports.lake.read(f"{run.features}/manifest.json"))["train"]
        for run in living.loop.ports.ledger.list(Run, NAME)
        if run.features_version == ended[-1].features_version
    }
    assert len(manifests) == 1, "the same data are not prepared again"


def test_a_rollback_over_http_brings_the_previous_version_back(living: LivingLoop) -> None:
    answer = living.call(
        "POST", f"/api/pipelines/{NAME}/rollback", {"request": "r1", "by": "ada", "reason": "complaints"}
    )
    assert answer.status_code == 202
    eventually(lambda: living.state(NAME).champion == "1")
    assert living.state(NAME).traffic == {"v1": 100}
    again = living.call("POST", f"/api/pipelines/{NAME}/rollback", {"request": "r1"})
    assert again.status_code == 202
    eventually(lambda: any("duplicate" in d.reason for d in living.decisions(NAME) if d.what == "RollbackRequested"))
    assert living.state(NAME).champion == "1"


def test_pin_and_freeze_over_http(living: LivingLoop) -> None:
    assert living.call("POST", f"/api/pipelines/{NAME}/pin", {"version": "2"}).status_code == 202
    eventually(lambda: living.state(NAME).champion == "2")
    assert living.state(NAME).pinned == "2"
    assert living.call("POST", f"/api/pipelines/{NAME}/freeze", {}).status_code == 202
    eventually(lambda: living.state(NAME).frozen)
    assert living.call("POST", f"/api/pipelines/{NAME}/freeze", {"frozen": False}).status_code == 202
    assert living.call("POST", f"/api/pipelines/{NAME}/pin", {}).status_code == 202
    eventually(lambda: not living.state(NAME).frozen and not living.state(NAME).pinned)
    assert living.call("POST", f"/api/pipelines/{NAME}/pin", {"verison": "2"}).status_code == 400
    assert living.call("POST", "/api/pipelines/nobody/pin", {"version": "2"}).status_code == 404


def test_status_has_the_shape_that_programs_rely_on(living: LivingLoop) -> None:
    # A timer may have looked at drift between the two.
    eventually(lambda: living.call("GET", "/api/status").json() == living.command_json("status"))
    (row,) = living.command_json("status")["pipelines"]
    assert row["name"] == NAME
    assert row["champion"]["version"] == "2"
    assert row["champion"]["metrics"]["roc_auc"] > 0.8
    assert row["traffic"] == {"v2": 100}
    assert set(row["last_run"]) >= {"id", "cause", "stage", "status"}
    # The segment's traffic may lie behind the last window, on a busy machine.
    assert row["drift"]["status"] in ("drift", "hurt")


def test_a_table_is_scored_by_the_command_line(living: LivingLoop, tmp_path: Any) -> None:
    import pyarrow.parquet as pq

    out = tmp_path / "scored.parquet"
    done = living.command("score", NAME, str(ROOT / "samples" / "telco_churn.csv"), "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == 7043
    assert pq.read_table(out).column_names == ["customer_id", "prediction", "probability", "version", "problem"]


def test_batch_scores_over_http_appear_in_the_lake(living: LivingLoop, customers: list[dict[str, str]]) -> None:
    living.land("scoring/in.csv", as_csv(customers[:50]))
    body = {"input": "scoring/in.csv", "output": f"scoring/{NAME}/out.parquet", "partition": "2026-11-24"}
    assert living.call("POST", f"/api/pipelines/{NAME}/batch-scores", body).status_code == 202
    eventually(lambda: living.loop.ports.lake.stat(f"scoring/{NAME}/out.parquet"))


def test_why_tells_the_whole_story_of_a_file_and_of_a_model(living: LivingLoop) -> None:
    story = " ".join(d["reason"] for d in living.command_json("why", f"landing/{NAME}/rest.csv"))
    for part in (
        "joined batch",
        "run customer-churn-b000002 begins",
        "landed rows to features/",
        "registered as version 2",
    ):
        assert part in story
    assert "promote version 2" in story
    assert "is the champion" in " ".join(d["reason"] for d in living.command_json("why", f"{NAME}:2"))
    run = living.command_json("run", f"{NAME}-b000002")
    assert run["model"]["verdict"]["promote"] is True
    assert [step["stage"] for step in run["steps"]][-1] == "rollout"
