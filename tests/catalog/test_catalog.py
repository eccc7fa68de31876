"""Folders of pipelines: found, judged one by one and together, and read again when they change."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.definitions.catalog import Catalog
from shared.definitions.catalog import _stamp as stamp
from shared.errors import ConfigurationError, Fault, Missing

SQL = "select customer_id, tenure, churn from landed"
YAML = """
name: NAME
landing: {path: landing/NAME}
features: {key: customer_id, label: churn}
"""

Put = Callable[..., Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    def put(name: str, text: str = YAML, sql: str = SQL) -> Path:
        folder = tmp_path / "pipelines" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pipeline.yaml").write_text(text.replace("NAME", name))
        (folder / "features.sql").write_text(sql)
        (folder / "train.py").touch()
        (folder / "environment.yml").touch()
        return folder

    return put


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    (tmp_path / "pipelines").mkdir()
    return Catalog(tmp_path / "pipelines")


def only_fault(catalog: Catalog, name: str) -> Fault:
    (fault,) = catalog.faults()[name]
    return fault


def test_a_minimal_folder_is_a_pipeline(catalog: Catalog, put: Put) -> None:
    folder = put("churn")
    found = catalog.get("churn")
    assert (found.folder, found.sql) == (folder, SQL)
    assert found.pipeline.landing.path == "landing/churn"
    assert catalog.all() == [found]
    assert catalog.faults() == {}


def test_names_are_the_folders_with_a_pipeline_yaml(catalog: Catalog, put: Put) -> None:
    put("beta")
    put("alpha", "broken: [")
    (catalog.root / "notes").mkdir()
    assert catalog.names() == ["alpha", "beta"]
    assert Catalog(catalog.root / "nowhere").names() == []


def test_an_unknown_name_is_missing_and_the_nearest_is_named(catalog: Catalog, put: Put) -> None:
    put("customer-churn")
    with pytest.raises(Missing, match=r"no pipeline .customer-chrun. in pipelines/\. Did you mean customer-churn\?"):
        catalog.get("customer-chrun")


def test_a_broken_folder_does_not_stop_the_others(catalog: Catalog, put: Put) -> None:
    put("alpha", "name: [")
    put("beta")
    assert [f.pipeline.name for f in catalog.all()] == ["beta"]
    assert list(catalog.faults()) == ["alpha"]
    assert catalog.get("beta").pipeline.name == "beta"
    with pytest.raises(ConfigurationError, match=r"pipelines/alpha/pipeline.yaml:\d+: is no YAML"):
        catalog.get("alpha")


def test_all_faults_of_a_file_are_found_at_once_with_line_field_and_cure(catalog: Catalog, put: Put) -> None:
    put(
        "churn",
        """name: churn
description: some
landing:
  path: ../elsewhere
  formt: csv
  complete: each_file
  expect_every: 30
  columns: {customer_id: strng, tenure: int, churn: string}
  checks: [{column: tenur, max_null_share: 1%}, {column: churn, between: [0, 1]}, {column: tenure}]
features: {key: customer, label: churn, test_share: 2}
gate:
  metric: rocauc
  floors: {recal: 0.5, recall: 7}
  slices: contract
rollout: {steps: [10, 50], bake: fast}
drift: {sustained: 3 of 2, min_rows: many}
retraining: {schedule: "0 2 * * SUN", budget: lots}
rollot: {}
""",
    )
    found = [(f.where.removeprefix("pipelines/churn/pipeline.yaml:"), f.cure) for f in catalog.faults()["churn"]]
    assert [where for where, _ in found] == [
        "4 landing.path",
        "5 landing.formt",
        "6 landing.complete",
        "7 landing.expect_every",
        "8 landing.columns.customer_id",
        "9 landing.checks[0].max_null_share",
        "9 landing.checks[0].column",
        "9 landing.checks[1].between",
        "9 landing.checks[2]",
        "10 features.test_share",
        "10 features.key",
        "12 gate.metric",
        "13 gate.floors.recal",
        "13 gate.floors.recall",
        "14 gate.slices",
        "15 rollout.bake",
        "15 rollout.steps",
        "16 drift.min_rows",
        "16 drift.sustained",
        "17 retraining.budget",
        "17 retraining.schedule",
        "18 rollot",
    ]
    cures = dict(found)
    assert cures["5 landing.formt"] == "Did you mean format?"
    assert cures["6 landing.complete"] == "Write {each_file: true}."
    assert cures["7 landing.expect_every"] == "Say the unit: 30s, 30m, 30h or 30d."
    assert cures["8 landing.columns.customer_id"].startswith("Did you mean string?")
    assert cures["9 landing.checks[0].column"] == "Did you mean tenure?"
    assert cures["12 gate.metric"] == "Did you mean roc_auc?"
    assert cures["18 rollot"] == "Did you mean rollout?"


def test_the_name_must_be_the_folders(catalog: Catalog, put: Put) -> None:
    put("churn", YAML.replace("NAME", "other", 1))
    assert only_fault(catalog, "churn").what == "is 'other', but the folder is called 'churn'"


@pytest.mark.parametrize(
    "path",
    ["/landing/x", "a/../b", "landing/", "a//b", "./a", "features/x", "predictions", "batch/x", "a\\b", '"a\\tb"'],
)
def test_a_landing_path_is_a_plain_folder_where_landfall_does_not_write(catalog: Catalog, put: Put, path: str) -> None:
    put("churn", YAML.replace("landing/NAME", path))
    assert only_fault(catalog, "churn").where == "pipelines/churn/pipeline.yaml:3 landing.path"


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("landing.complete.quiet", "{quiet: 2h, max_wait: 1h}"),
        ("landing.complete.max_wait", "{quiet: 0s, max_wait: 0s}"),
        ("landing.complete", "{marker: _SUCCESS, each_file: true}"),
        ("landing.complete.marker", "{marker: a/_SUCCESS}"),
        ("landing.complete.min_rows", "{min_rows: 0}"),
    ],
)
def test_contradictions_in_complete_are_faults(catalog: Catalog, put: Put, field: str, text: str) -> None:
    put("churn", YAML.replace("NAME}", f"NAME, complete: {text}}}"))
    assert only_fault(catalog, "churn").where.endswith(f" {field}")


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ("gate: {metric: rmse, floors: {recall: 0.5}}", "gate.floors.recall"),
        ("gate: {slices: [region]}", "gate.slices[0]"),
        ("gate: {slices: [tenure, tenure]}", "gate.slices[1]"),
        ("gate: {confidence: 1}", "gate.confidence"),
        ("gate: {max_latency_ms: 0}", "gate.max_latency_ms"),
        ("rollout: {endpoint: My_Endpoint}", "rollout.endpoint"),
        ("rollout: {instance_count: 0}", "rollout.instance_count"),
        ("rollout: {rollback_when: {error_rate: 2}}", "rollout.rollback_when.error_rate"),
        ("training: {script: ../train.py}", "training.script"),
        ("training: {script: trian.py}", "training.script"),
        ("training: {timeout: 0s}", "training.timeout"),
        ("drift: {psi: .inf}", "drift.psi"),
    ],
)
def test_rules_beyond_types(catalog: Catalog, put: Put, extra: str, field: str) -> None:
    put("churn", YAML + extra + "\n")
    assert only_fault(catalog, "churn").where == f"pipelines/churn/pipeline.yaml:5 {field}"


def test_every_missing_file_is_named(catalog: Catalog, put: Put) -> None:
    folder = put("churn")
    for name in ("features.sql", "train.py", "environment.yml"):
        (folder / name).unlink()
    assert {f.what for f in catalog.faults()["churn"]} == {
        "there is no file features.sql",
        "there is no file train.py",
        "there is no file environment.yml",
    }


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("", "features.sql is empty"),
        ("select customer_id, tenure from landed", "'churn' is no column that features.sql gives"),
        ("select customer_id, churn, churn from landed", "features.sql gives two columns called 'churn'"),
        ("select CUSTOMER_ID, churn from landed", "'customer_id' is no column that features.sql gives"),
    ],
)
def test_features_sql_must_give_key_and_label_once(catalog: Catalog, put: Put, sql: str, what: str) -> None:
    put("churn", sql=sql)
    assert only_fault(catalog, "churn").what == what


def test_a_fault_in_features_sql_names_its_line(catalog: Catalog, put: Put) -> None:
    put("churn", sql="select customer_id, churn,\n  random() as x\nfrom landed")
    assert only_fault(catalog, "churn").where == "pipelines/churn/features.sql:2"


def test_a_star_gives_the_landed_columns(catalog: Catalog, put: Put) -> None:
    columns = "columns: {customer_id: string, churn: string}"
    put("churn", YAML.replace("NAME}", "NAME, " + columns + "}"), "select * from landed")
    assert catalog.faults() == {}
    put(
        "churn",
        YAML.replace("NAME}", "NAME, " + columns.replace("churn:", "left:") + "}"),
        "select * from landed",
    )
    assert only_fault(catalog, "churn").where.endswith("features.label")


def test_a_key_that_features_sql_makes_needs_keep_all(catalog: Catalog, put: Put) -> None:
    landing = "NAME, columns: {id: int, churn: string}, keep: KEEP}"
    sql = "select md5(cast(id as varchar)) as customer_id, churn from landed"
    put("churn", YAML.replace("NAME}", landing.replace("KEEP", "latest")), sql)
    assert only_fault(catalog, "churn").where.endswith("landing.keep")
    put("churn", YAML.replace("NAME}", landing.replace("KEEP", "all")), sql)
    assert catalog.faults() == {}


def test_an_edit_is_seen_and_an_unchanged_folder_stays_the_same_object(catalog: Catalog, put: Put) -> None:
    put("alpha")
    put("beta")
    alpha, beta = catalog.get("alpha"), catalog.get("beta")
    assert catalog.get("alpha") is alpha
    folder = put("alpha", YAML + "gate: {metric: f1}\n")
    assert catalog.get("alpha").pipeline.gate.metric == "f1"
    (folder / "features.sql").write_text(SQL + " where tenure > 0")
    assert catalog.get("alpha").sql.endswith("tenure > 0")
    (folder / "train.py").unlink()
    with pytest.raises(ConfigurationError, match=r"no file train\.py"):
        catalog.get("alpha")
    (folder / "train.py").touch()
    assert catalog.get("alpha").pipeline.gate.metric == "f1"
    assert catalog.get("beta") is beta


def test_an_edit_of_the_same_size_and_time_is_seen_when_the_file_was_replaced(catalog: Catalog, put: Put) -> None:
    folder = put("churn", YAML + "description: one\n")
    assert catalog.get("churn").pipeline.description == "one"
    path, fresh = folder / "pipeline.yaml", folder / "fresh"
    stat = path.stat()
    fresh.write_text(path.read_text().replace("one", "two"))
    os.utime(fresh, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    fresh.replace(path)
    assert catalog.get("churn").pipeline.description == "two"


def test_folders_that_come_and_go_are_seen(catalog: Catalog, put: Put) -> None:
    with pytest.raises(Missing):
        catalog.get("churn")
    folder = put("churn")
    assert catalog.get("churn").folder == folder
    (folder / "pipeline.yaml").unlink()
    with pytest.raises(Missing):
        catalog.get("churn")


def test_a_lookup_of_unchanged_pipelines_reads_nothing(catalog: Catalog, put: Put) -> None:
    for i in range(10):
        put(f"pipeline-{i}")
    catalog.all()
    started = time.perf_counter()
    for _ in range(100):
        catalog.get("pipeline-5")
    assert (time.perf_counter() - started) / 100 < 0.001


def test_a_file_lands_for_the_pipeline_whose_folder_is_above_it(catalog: Catalog, put: Put) -> None:
    put("churn")
    put("churn-2")
    for path, name in {
        "landing/churn/a.csv": "churn",
        "landing/churn/2024/01/a.csv": "churn",
        "landing/churn-2/a.csv": "churn-2",
    }.items():
        found = catalog.for_path(path)
        assert found is not None and found.pipeline.name == name
    for path in ("landing/churn", "landing/churners/a.csv", "landing/a.csv", "other/landing/churn/a.csv", ""):
        assert catalog.for_path(path) is None


@pytest.mark.parametrize("path", ["landing/alpha", "landing/alpha/more", "landing"])
def test_landing_folders_may_not_meet_and_the_one_named_after_its_pipeline_keeps_its(
    catalog: Catalog, put: Put, path: str
) -> None:
    put("alpha")
    put("aaa", YAML.replace("landing/NAME", path))
    assert [f.pipeline.name for f in catalog.all()] == ["alpha"]
    assert "where data for alpha land" in only_fault(catalog, "aaa").what
    owner = catalog.for_path("landing/alpha/more/x.csv")
    assert owner is not None and owner.pipeline.name == "alpha"


def test_a_broken_pipeline_does_not_lose_its_folder_to_another(catalog: Catalog, put: Put) -> None:
    put("alpha", YAML + "gate: {metric: none}\n")
    put("beta", YAML.replace("landing/NAME", "landing/alpha"))
    assert catalog.all() == []
    assert catalog.for_path("landing/alpha/x.csv") is None


def test_two_pipelines_may_not_share_an_endpoint(catalog: Catalog, put: Put) -> None:
    put("alpha", YAML + "rollout: {endpoint: beta}\n")
    put("beta")
    assert [f.pipeline.name for f in catalog.all()] == ["beta"]
    assert only_fault(catalog, "alpha").where == "pipelines/alpha/pipeline.yaml:5 rollout.endpoint"


def test_where_a_file_lands_is_told_from_its_own_pipeline_alone(
    catalog: Catalog, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("alpha", "beta", "gamma"):
        put(name)
    first = catalog.for_path("landing/beta/x.csv")
    looked_at: list[Path] = []
    monkeypatch.setattr("shared.definitions.catalog._stamp", lambda path: looked_at.append(path) or stamp(path))
    assert catalog.for_path("landing/beta/2026/y.csv") is first
    assert {path.parent.name for path in looked_at} == {"beta", catalog.root.parent.name}


def test_where_a_file_lands_changes_with_the_pipelines(catalog: Catalog, put: Put) -> None:
    folder = put("alpha")
    assert catalog.for_path("landing/alpha/x.csv")
    put("alpha", YAML.replace("landing/NAME", "landing/elsewhere"))
    assert catalog.for_path("landing/alpha/x.csv") is None
    assert catalog.for_path("landing/elsewhere/x.csv") is catalog.get("alpha")
    put("beta")
    assert catalog.for_path("landing/beta/x.csv") is catalog.get("beta")
    (folder / "pipeline.yaml").unlink()
    assert catalog.for_path("landing/elsewhere/x.csv") is None
