"""`landfall new`: awkward tables in, pipelines that prepare and train out."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from landfall.check import check_for_spark
from landfall.scaffold import Scaffolded, new
from shared.adapters.local.features_job import prepare
from shared.adapters.local.lake import FolderLake
from shared.adapters.system_clock import SystemClock
from shared.definitions.catalog import Catalog
from shared.domain.landing import LandedFile
from shared.errors import ConfigurationError
from shared.features.features_sql import analyse, scoring_sql
from shared.ports.feature_engine import FeaturesJob, Manifest

Rows = Sequence[dict[str, Any]]


def as_csv(path: Path, rows: Rows) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def as_jsonl(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def as_parquet(path: Path, rows: Rows) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def nasty(rows: int = 400, seed: int = 0) -> list[dict[str, Any]]:
    """Customers as an export gives them: odd names, gaps, texts for numbers, and columns that say nothing."""
    rng = random.Random(seed)
    made = []
    for i in range(rows):
        age = rng.randint(18, 90)
        bought = rng.random() < (0.7 if age > 50 else 0.2)
        made.append(
            {
                "Customer ID": f"C-{i:05}",
                "Full Name": f"Person number {i}",
                "select": age,
                'Ein"kommen (€)': f"${rng.randint(1000, 9000):,}.00",
                "zip": f"0{rng.randint(1000, 1020)}",
                "Score": "?" if i % 37 == 0 else rng.randint(0, 1000),
                "Größe": "" if i % 11 == 0 else round(rng.gauss(170, 10), 1),
                "Stadt, Land": rng.choice(["Bonn; DE", "Köln", "O'Hara", ""]),
                "street": f"Street {rng.randint(0, 350)}",
                "source": "export",
                "empty": "",
                "VIP": rng.choice(["true", "false"]),
                "since": f"20{rng.randint(10, 24)}-0{rng.randint(1, 9)}-1{rng.randint(0, 9)}",
                "landed at": f"2024-01-0{rng.randint(1, 9)} 1{rng.randint(0, 9)}:30:00",
                "row": i + 1,
                "gift": "voucher" if bought else "none",
                "Bought?": "Yes" if bought else "no",
            }
        )
    return made


def prepared(tmp_path: Path, made: Scaffolded, data: Path) -> tuple[Manifest, FolderLake]:
    """What the pipeline's own features job makes of the table when it lands."""
    found = Catalog(made.folder.parent).get(made.folder.name)
    lake = FolderLake(tmp_path / "lake", "account", "lake")
    info = lake.write(f"{found.pipeline.landing.path}/{data.name}", data.read_bytes())
    job = FeaturesJob(
        name="job",
        pipeline=found.pipeline,
        run="run",
        sql=found.sql,
        files=(LandedFile(path=info.path, etag=info.etag, size=info.size, at=info.modified),),
        earlier=(),
        fingerprint="fingerprint",
        output=f"features/{found.pipeline.name}/run",
    )
    return prepare(job, lake, tmp_path / "work", SystemClock()), lake


def train(tmp_path: Path, made: Scaffolded, manifest: Manifest, lake: FolderLake) -> tuple[str, Path]:
    """What train.py prints, and the folder of its model."""
    arguments = ["--data", lake.uri(manifest.train), "--test-data", lake.uri(manifest.test)]
    model = tmp_path / "model"
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    done = subprocess.run(
        [sys.executable, str(made.folder / "train.py"), *arguments, "--model-output", str(model)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, model


def faults_of(tmp_path: Path, data: Path, label: str, name: str = "fresh", key: str | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        new(tmp_path / "pipelines", name, data, label, key)
    assert not (tmp_path / "pipelines" / name).exists() or name == "taken"
    return [str(fault) for fault in caught.value.faults]


def saying(made: Scaffolded, about: str) -> str:
    return "\n".join(text for text in made.decisions if text.startswith(about))


def test_a_nasty_table_becomes_a_pipeline_that_prepares_and_trains(tmp_path: Path) -> None:
    data = as_csv(tmp_path / "nasty.csv", nasty())
    made = new(tmp_path / "pipelines", "fresh", data, "Bought?")
    pipeline = Catalog(tmp_path / "pipelines").get("fresh").pipeline

    assert "2 classes, no (" in saying(made, "Bought?")
    assert (pipeline.gate.metric, pipeline.gate.positive) == ("roc_auc", "Yes")
    assert (pipeline.features.key, pipeline.features.label) == ("Customer ID", "Bought")
    assert "identifier" in saying(made, "Customer ID: the key")
    for column, why in {
        "Full Name": "nearly one each",
        "street": "nearly one each",
        "source": "always has the same value",
        "empty": "always empty",
        "row": "only numbers the rows",
    }.items():
        assert why in saying(made, f"{column}: left out")
        assert column not in pipeline.landing.columns
    assert "thousands commas" in saying(made, 'Ein"kommen (€)')
    assert "(11 here)" in saying(made, "Score")
    assert any(text.startswith("gift alone tells 100.0% of Bought?") for text in made.warnings)
    assert pipeline.landing.columns["zip"] == "string"
    assert pipeline.landing.columns["Stadt, Land"] == "string?"

    manifest, lake = prepared(tmp_path, made, data)
    assert manifest.status == "ready", manifest.faults
    assert manifest.row_wise
    assert manifest.train_rows + manifest.test_rows == 400
    assert manifest.columns == {
        "select": "int",
        "Ein_kommen": "double",
        "zip": "string",
        "Score": "double",
        "Größe": "double",
        "Stadt_Land": "string",
        "VIP": "int",
        "since_days": "int",
        "since_month": "int",
        "since_weekday": "int",
        "landed_at_days": "int",
        "landed_at_month": "int",
        "landed_at_weekday": "int",
        "landed_at_hour": "int",
        "gift": "string",
    }
    printed, model = train(tmp_path, made, manifest, lake)
    assert "roc_auc: 1.0000" in printed  # gift tells it all, as was warned

    from shared.models.served_model import ServedModel

    served = ServedModel(model)
    assert served.columns == tuple(manifest.columns)
    row = [40, 2500.0, "01001", None, None, "nowhere seen", 1, 5000, 3, 4, 8800, 1, 2, 15, "voucher"]
    assert served.predict(served.columns, [row]).values == ["Yes"]


def test_a_table_of_numbers_becomes_a_regression_with_a_key_of_its_own(tmp_path: Path) -> None:
    from sklearn.datasets import load_diabetes

    data = tmp_path / "diabetes.csv"
    load_diabetes(as_frame=True).frame.to_csv(data, index=False)
    made = new(tmp_path / "pipelines", "diabetes", data, "target")
    pipeline = Catalog(tmp_path / "pipelines").get("diabetes").pipeline
    assert (pipeline.gate.metric, pipeline.gate.positive, pipeline.landing.keep) == ("rmse", None, "all")
    assert "count once (0 copies here)" in saying(made, "row_key")
    manifest, lake = prepared(tmp_path, made, data)
    assert (manifest.status, manifest.row_wise) == ("ready", True)
    printed, _ = train(tmp_path, made, manifest, lake)
    r2 = float(printed.split("r2: ")[1].split()[0])
    assert 0.2 < r2 < 0.7


@pytest.mark.parametrize(
    ("dataset", "metric"),
    [("iris", "balanced_accuracy"), ("wine", "balanced_accuracy"), ("breast_cancer", "roc_auc")],
)
def test_well_known_tables_prepare(tmp_path: Path, dataset: str, metric: str) -> None:
    import sklearn.datasets

    data = tmp_path / "table.parquet"
    getattr(sklearn.datasets, f"load_{dataset}")(as_frame=True).frame.to_parquet(data)
    made = new(tmp_path / "pipelines", "fresh", data, "target")
    pipeline = Catalog(tmp_path / "pipelines").get("fresh").pipeline
    assert (pipeline.gate.metric, pipeline.landing.format) == (metric, "parquet")
    manifest, _ = prepared(tmp_path, made, data)
    assert manifest.status == "ready", manifest.faults
    assert made.warnings == ()


def test_json_lines_with_gaps_and_other_types_prepare(tmp_path: Path) -> None:
    rng = random.Random(1)
    rows = []
    for i in range(200):
        row: dict[str, Any] = {
            "id": i * 7,
            "flag": rng.random() < 0.5,
            "tags": [rng.choice("ab")],
            "y": rng.randint(0, 2),
        }
        if i % 3:
            row["amount"] = rng.random() if i % 2 else rng.randint(0, 9)
        rows.append(row)
    data = as_jsonl(tmp_path / "table.jsonl", rows)
    made = new(tmp_path / "pipelines", "fresh", data, "y")
    pipeline = Catalog(tmp_path / "pipelines").get("fresh").pipeline
    assert pipeline.features.key == "id"
    assert pipeline.landing.columns["amount"].endswith("?")
    manifest, _ = prepared(tmp_path, made, data)
    assert manifest.status == "ready", manifest.faults
    assert manifest.columns == {"flag": "int", "tags": "string", "amount": "double"}


def test_nan_and_infinity_count_as_missing(tmp_path: Path) -> None:
    odd = [float("nan"), float("inf"), 1.0, 2.0, 3.0]
    rows = [{"id": f"r{i}", "x": odd[i % 5], "z": i % 7, "y": i % 2 == 0} for i in range(100)]
    data = as_parquet(tmp_path / "table.parquet", rows)
    made = new(tmp_path / "pipelines", "fresh", data, "y")
    assert "40 values are NaN or infinite" in saying(made, "x")
    assert Catalog(tmp_path / "pipelines").get("fresh").pipeline.gate.positive == "true"
    manifest, lake = prepared(tmp_path, made, data)
    assert manifest.status == "ready", manifest.faults
    found = duckdb.execute(
        f"SELECT count(*), count(x), max(x) FROM '{lake.uri('features')}/fresh/run/t*/*.parquet'"
    ).fetchone()
    assert found == (100, 60, 3.0)


def test_rows_without_a_label_are_left_out_of_training_and_stay_scorable(tmp_path: Path) -> None:
    rows = [{"id": f"r{i}", "x": i % 9, "y": "" if i % 10 == 0 else "ab"[i % 3 == 0]} for i in range(200)]
    data = as_csv(tmp_path / "table.csv", rows)
    made = new(tmp_path / "pipelines", "fresh", data, "y")
    assert "20 rows have no label and are left out" in saying(made, "y: 20")
    manifest, _ = prepared(tmp_path, made, data)
    assert manifest.train_rows + manifest.test_rows == 180
    sql = scoring_sql(Catalog(tmp_path / "pipelines").get("fresh").sql, "y", "id")
    landed = duckdb.connect()
    landed.execute("CREATE TABLE landed AS SELECT 3 AS x")
    assert landed.execute(sql).fetchall() == [(3,)]


def test_few_identical_rows_count_once(tmp_path: Path) -> None:
    rows = [{"x": i, "z": i * i % 17, "y": i % 2} for i in range(0, 200, 2)]
    rows = [{**row, "y": n % 2} for n, row in enumerate(rows)]
    data = as_csv(tmp_path / "table.csv", [*rows, *rows[:5]])
    made = new(tmp_path / "pipelines", "fresh", data, "y")
    assert "count once (5 copies here)" in saying(made, "row_key")
    manifest, _ = prepared(tmp_path, made, data)
    assert (manifest.status, manifest.train_rows + manifest.test_rows) == ("ready", 100)


def test_where_most_rows_have_a_twin_all_are_kept_under_numbered_keys(tmp_path: Path) -> None:
    rng = random.Random(2)
    rows = [{"sex": rng.choice("mf"), "class": rng.randint(1, 3), "survived": rng.randint(0, 1)} for _ in range(300)]
    data = as_csv(tmp_path / "table.csv", rows)
    made = new(tmp_path / "pipelines", "fresh", data, "survived")
    assert "number among identical rows" in saying(made, "row_key")
    assert any("not landed rows" in text for text in made.warnings)
    manifest, _ = prepared(tmp_path, made, data)
    assert (manifest.status, manifest.row_wise) == ("ready", False)
    assert manifest.train_rows + manifest.test_rows == 300


def test_a_given_key_is_taken(tmp_path: Path) -> None:
    rows = [{"id": i, "Nr.": f"n{i}", "x": i % 5, "y": i % 2} for i in range(60)]
    data = as_csv(tmp_path / "table.csv", rows)
    made = new(tmp_path / "pipelines", "fresh", data, "y", "Nr.")
    pipeline = Catalog(tmp_path / "pipelines").get("fresh").pipeline
    assert pipeline.features.key == "Nr."
    assert prepared(tmp_path, made, data)[0].status == "ready"


def test_more_rows_are_held_out_when_a_class_is_rare(tmp_path: Path) -> None:
    rows = [{"id": f"r{i}", "x": i % 5, "y": "rare" if i % 20 == 0 else "usual"} for i in range(100)]
    data = as_csv(tmp_path / "table.csv", rows)
    made = new(tmp_path / "pipelines", "fresh", data, "y")
    pipeline = Catalog(tmp_path / "pipelines").get("fresh").pipeline
    assert pipeline.gate.positive == "rare"
    assert pipeline.features.test_share > 0.2 or made.warnings


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda row: row["y"] * 10, "x alone tells 100.0% of y"),
        (lambda row: "a" if row["y"] else None, "x alone tells 100.0% of y"),
    ],
)
def test_a_column_made_from_the_label_is_warned_of(tmp_path: Path, change: Any, told: str) -> None:
    rows = [{"id": f"r{i}", "y": i % 2, "other": i % 7} for i in range(200)]
    data = as_csv(tmp_path / "table.csv", [{**row, "x": change(row)} for row in rows])
    made = new(tmp_path / "pipelines", "fresh", data, "y")
    assert [text[: len(told)] for text in made.warnings] == [told]


def test_a_number_that_follows_the_label_is_warned_of(tmp_path: Path) -> None:
    rng = random.Random(3)
    rows = [{"id": f"r{i}", "y": rng.gauss(0, 1), "other": rng.random()} for i in range(200)]
    data = as_csv(tmp_path / "table.csv", [{**row, "cents": row["y"] * 100} for row in rows])
    made = new(tmp_path / "pipelines", "fresh", data, "y")
    assert [text.split(" ")[0] for text in made.warnings] == ["cents"]


SOME = [{"id": i, "x": i % 5, "y": i % 2} for i in range(60)]


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    data = as_csv(tmp_path / "table.csv", SOME)
    found = faults_of(tmp_path, data, "Y", "No Name", "idd")
    assert [fault.split(":")[0] for fault in found] == ["NAME", "--label", "--key"]
    assert "has no column 'Y'. Did you mean y?" in found[1]
    assert "Did you mean id?" in found[2]


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (SOME[:20], "20 rows of table.csv have a y; fewer than 50"),
        ([{**row, "y": "same"} for row in SOME], "all 60 rows have the same value"),
        ([{**row, "y": ""} for row in SOME], "0 rows of table.csv have a y"),
        ([{**row, "y": f"text {row['id']}"} for row in SOME], "has 60 different texts in 60 rows"),
        ([{**row, "y": f"2024-01-{row['id'] % 28 + 1:02}"} for row in SOME], "is a date"),
        ([{"y": row["y"], "const": 1} for row in SOME], "no column of table.csv but y tells anything"),
        ([{**row, "landfall_x": 1} for row in SOME], "names that begin with landfall_ are reserved. Rename it."),
        ([{**row, "": 1} for row in SOME], "column 4 has no name"),
        ([{**row, "X": 1} for row in SOME], "two columns are called x, the 2. (x) and the 4. (X). Rename one of them."),
    ],
)
def test_tables_that_cannot_teach_are_refused(tmp_path: Path, rows: Rows, fault: str) -> None:
    (found,) = faults_of(tmp_path, as_csv(tmp_path / "table.csv", rows), "y")
    assert fault in found


def test_a_column_name_with_a_line_break_is_refused(tmp_path: Path) -> None:
    data = as_parquet(tmp_path / "table.parquet", [{**row, "a\nb": 1} for row in SOME])
    (found,) = faults_of(tmp_path, data, "y")
    assert "the name of column 'a\\nb' holds a control character" in found


@pytest.mark.parametrize(
    ("key", "fault"),
    [("x", "'x' is not unique: 55 of 60 rows repeat a value"), ("y", "'y' is the label, too")],
)
def test_keys_that_are_none_are_refused(tmp_path: Path, key: str, fault: str) -> None:
    found = faults_of(tmp_path, as_csv(tmp_path / "table.csv", SOME), "y", key=key)
    assert any(fault in text for text in found)


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("table.csv", None, "there is no such file"),
        ("table.xlsx", b"x", ".xlsx is no known format"),
        ("table.csv", b"", "is empty"),
        ("table.csv", b"a,y\n", "has no rows"),
        ("table.csv", b"a,y\n1,2,3\n", "cannot be read"),
        ("table.csv", b"\xff\xfe\x00a", "line 1 is no UTF-8: byte 0xff at offset 0"),
        ("table.csv", b"a,y\n1,caf\xe9\n", "line 2 is no UTF-8: byte 0xe9 at offset 9. If it is Latin-1"),
        ("table.parquet", b"PAR1 no", "cannot be read"),
        ("table.jsonl", b'{"y": 1}\n{"y": ', "cannot be read"),
    ],
)
def test_files_that_cannot_be_read_are_refused(tmp_path: Path, name: str, content: bytes | None, fault: str) -> None:
    data = tmp_path / name
    if content is not None:
        data.write_bytes(content)
    (found,) = faults_of(tmp_path, data, "y")
    assert fault in found


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    data = as_csv(tmp_path / "table.csv", SOME)
    new(tmp_path / "pipelines", "taken", data, "y")
    before = (tmp_path / "pipelines" / "taken" / "pipeline.yaml").stat()
    (found,) = faults_of(tmp_path, data, "y", "taken")
    assert "the folder pipelines/taken exists" in found
    assert (tmp_path / "pipelines" / "taken" / "pipeline.yaml").stat() == before


def test_a_landing_folder_that_another_pipeline_has_is_refused(tmp_path: Path) -> None:
    data = as_csv(tmp_path / "table.csv", SOME)
    other = new(tmp_path / "pipelines", "fresh", data, "y").folder
    other.rename(other.with_name("older"))
    text = (other.with_name("older") / "pipeline.yaml").read_text().replace("name: fresh", "name: older")
    (other.with_name("older") / "pipeline.yaml").write_text(text + "rollout: {endpoint: fresh}\n")
    made = new(tmp_path / "pipelines", "fresh", data, "y")
    assert [f.pipeline.name for f in Catalog(made.folder.parent).all()] == ["fresh"]


def test_no_draft_is_left_behind(tmp_path: Path) -> None:
    made = new(tmp_path / "pipelines", "fresh", as_csv(tmp_path / "table.csv", SOME), "y")
    assert [path.name for path in made.folder.parent.iterdir()] == ["fresh"]
    assert sorted(path.name for path in made.folder.iterdir()) == [
        "environment.yml",
        "features.sql",
        "pipeline.yaml",
        "train.py",
    ]


NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Co"]), min_size=1, max_size=12).filter(
    lambda name: name.strip() and not name.lower().startswith("landfall_")
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    names=st.lists(NAMES, min_size=3, max_size=6, unique_by=lambda name: name.strip().casefold()),
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
)
def test_any_column_names_and_texts_give_a_valid_pipeline(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], texts: list[str], seed: int
) -> None:
    rng = random.Random(seed)
    folder = tmp_path_factory.mktemp("table")
    rows = []
    for i in range(60):
        values: list[Any] = [i, f"class {i % 2}", rng.random(), rng.choice(texts), None if i % 3 else "x", i % 2 == 0]
        rows.append(dict(zip(names, values, strict=False)))
    data = as_parquet(folder / "table.parquet", rows)
    made = new(folder / "pipelines", "fresh", data, names[1], names[0])
    found = Catalog(folder / "pipelines").get("fresh")
    assert set(found.pipeline.landing.columns) <= set(names)
    assert analyse(found.sql, found.pipeline.landing.columns).row_wise
    manifest, _ = prepared(folder, made, data)
    assert manifest.status == "ready", manifest.faults


def test_a_comma_is_read_as_its_column_writes_it_and_nothing_is_unproven_for_spark(tmp_path: Path) -> None:
    rng = random.Random(4)
    rows = [
        {
            "real": rng.random() * 100,
            "whole": f"0,{100 + i // 2}",
            "euro": f"{i + 1}.234,50 €",
            "dollar": f"${i // 2 + 1},234.50",
            "unclear": f"{i // 2 + 1},234",
            "mixed": ("1,5", "2.5", "7.75")[i % 3],
            "at": f"2024-01-0{i % 9 + 1} 10:30:00",
            "y": rng.choice("ab"),
        }
        for i in range(80)
    ]
    data = tmp_path / "table.csv"
    with data.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    made = new(tmp_path / "pipelines", "fresh", data, "y")
    assert "thousands or of decimals: 1,234 is read as 1234" in saying(made, "unclear")
    assert "27 of its numbers have a decimal comma and 53 a point" in saying(made, "mixed")
    assert "1,234 may be 1234 or 1.234" in (made.folder / "pipeline.yaml").read_text()
    assert check_for_spark(tmp_path / "pipelines") == []
    manifest, lake = prepared(tmp_path, made, data)
    assert manifest.status == "ready", manifest.faults
    bounds = "min(whole), max(whole) < 1, min(euro), min(dollar), min(unclear), count(DISTINCT row_key)"
    found = duckdb.execute(f"SELECT {bounds} FROM '{lake.uri('features')}/fresh/run/t*/*.parquet'").fetchone()
    assert found is not None
    assert found[0] < 1
    assert found[1:] == (True, 1234.5, 1234.5, 1234.0, 80)


def test_what_is_looked_for_and_dates_that_are_read_as_text_are_told(tmp_path: Path) -> None:
    rows = [
        {"id": f"n{i}", "signed": f"{i % 28 + 1:02}.{i % 12 + 1:02}.2024", "x": i % 5, "left": "yes" if i % 3 else "no"}
        for i in range(90)
    ]
    made = new(tmp_path / "pipelines", "fresh", as_csv(tmp_path / "table.csv", rows), "left")
    assert "yes is the class looked for (gate.positive)" in saying(made, "left")
    assert "they look like dates: written as 2024-03-14" in saying(made, "signed")
