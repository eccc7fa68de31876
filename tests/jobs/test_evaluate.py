"""The evaluation job: what it measures, and what it says of models that cannot be measured."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.pipeline import make_pipeline

from shared.domain.drift import Profile
from shared.domain.gate import Evaluation, decide
from shared.domain.performance import estimate
from shared.domain.pipelines import Features, Gate, Landing, Pipeline
from shared.domain.records import from_record, to_record
from shared.jobs import evaluate
from shared.models.compiled_model import Graph
from shared.settings import ROOT, child_environment

GOOD = ["tenure", "charges"]
POOR = ["charges", "noise"]


def rows(seed: int, count: int = 600) -> pd.DataFrame:
    """``tenure`` says most about ``churn``, ``charges`` a little, ``noise`` nothing."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "customer_id": [f"C{i}" for i in range(count)],
            "tenure": random.integers(0, 72, count),
            "charges": random.normal(70.0, 20.0, count),
            "noise": random.normal(0.0, 1.0, count),
            "contract": random.choice(["month", "year"], count),
        }
    )
    logit = 0.15 * (36 - frame.tenure) + 0.02 * (frame.charges - 70)
    frame["churn"] = np.where(random.random(count) < 1 / (1 + np.exp(-logit)), "Yes", "No")
    return frame


def save(folder: Path, columns: list[str], train: pd.DataFrame | None = None, label: str = "churn") -> Any:
    """A fitted model of these columns as an MLflow model with signature; returns the estimator."""
    import mlflow.sklearn
    from mlflow.models import infer_signature

    train = rows(1, 3000) if train is None else train
    estimator = LogisticRegression(max_iter=500) if label == "churn" else LinearRegression()
    model = make_pipeline(SimpleImputer(), estimator).fit(train[columns], train[label].to_numpy())
    mlflow.sklearn.save_model(
        model,
        folder,
        signature=infer_signature(train[columns]),
        serialization_format="skops",
        skops_trusted_types=["numpy.dtype"],
        pip_requirements=["scikit-learn"],
    )
    return model


@dataclass(frozen=True)
class Models:
    """Two models of the same rows."""

    good: Path
    poor: Path
    estimator: Any


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("models")
    estimator = save(folder / "good", GOOD)
    save(folder / "poor", POOR)
    return Models(folder / "good", folder / "poor", estimator)


@dataclass(frozen=True)
class Result:
    evaluation: Evaluation
    predictions: Profile
    smoke: dict[str, Any]
    graph: bytes | None


Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(
        challenger: Path,
        champion: Path | None = None,
        *,
        test: pd.DataFrame | None = None,
        label: str = "churn",
        **gate: Any,
    ) -> Result:
        (tmp_path / "test").mkdir()
        (rows(2) if test is None else test).to_parquet(tmp_path / "test" / "part-0.parquet", index=False)
        pipeline = Pipeline(
            name="customer-churn",
            landing=Landing(path="landing/customer-churn"),
            features=Features(key="customer_id", label=label),
            gate=Gate(**{"metric": "roc_auc", "positive": "Yes", **gate}),
        )
        (tmp_path / "pipeline.json").write_text(json.dumps(to_record(pipeline)))
        arguments = [
            "--challenger",
            challenger,
            "--test",
            tmp_path / "test",
            "--output",
            tmp_path / "out" / "evaluation",
        ]
        arguments += ["--pipeline", tmp_path / "pipeline.json", *(["--champion", champion] if champion else [])]
        evaluate.main([str(argument) for argument in arguments])
        made = {path.name: json.loads(path.read_text()) for path in (tmp_path / "out" / "evaluation").glob("*.json")}
        graph = tmp_path / "out" / "evaluation" / "compiled.onnx"
        return Result(
            from_record(Evaluation, made["evaluation.json"]),
            from_record(Profile, made["predictions.json"]),
            made["smoke.json"],
            graph.read_bytes() if graph.exists() else None,
        )

    return run


def test_a_challenger_that_answers_alike_when_compiled_leaves_its_graph_and_the_proof(models: Models, run: Run) -> None:
    result = run(models.good)
    proof = result.evaluation.compiled
    assert proof and proof.verified and proof.rows == 600 and proof.max_difference < 1e-9
    assert proof.versions.keys() == {"skl2onnx", "onnx", "onnxruntime", "scikit-learn", "numpy", "numba"}
    assert result.graph
    graph = Graph(result.graph)
    answer = graph.predict(result.smoke["columns"], result.smoke["rows"])
    assert answer.values == result.smoke["predictions"] and graph.classes == ["No", "Yes"]


def test_a_challenger_that_cannot_be_compiled_is_measured_and_leaves_the_reason(
    models: Models, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    result = run(models.good)
    assert result.graph is None and result.evaluation.challenger
    proof = result.evaluation.compiled
    assert proof and not proof.verified and "skl2onnx is not installed" in proof.reason


def test_a_better_challenger_is_measured_as_better_on_the_same_rows(models: Models, run: Run) -> None:
    held_out = rows(2)
    result = run(models.good, models.poor, test=held_out, slices=("contract",)).evaluation

    expected = roc_auc_score(held_out.churn == "Yes", models.estimator.predict_proba(held_out[GOOD])[:, 1])
    assert result.rows == 600
    assert result.challenger["roc_auc"] == pytest.approx(expected)
    assert result.challenger["accuracy"] == pytest.approx(
        accuracy_score(held_out.churn, models.estimator.predict(held_out[GOOD]))
    )
    assert result.gain == pytest.approx(result.challenger["roc_auc"] - result.champion["roc_auc"])
    assert result.gain_low is not None and result.gain_low > 0
    assert {(part.column, part.value) for part in result.slices} == {("contract", "month"), ("contract", "year")}
    assert result.problems == ()


def test_a_model_against_itself_is_a_tie(models: Models, run: Run) -> None:
    result = run(models.good, models.good).evaluation
    assert (result.gain, result.gain_low, result.gain_high) == (0.0, 0.0, 0.0)
    assert result.challenger == result.champion


def test_without_a_champion_there_is_no_gain(models: Models, run: Run) -> None:
    result = run(models.good).evaluation
    assert (result.champion, result.gain, result.champion_latency_ms, result.problems) == ({}, None, None, ())
    assert result.challenger["roc_auc"] > 0.8


def test_latency_and_size_are_measured(models: Models, run: Run) -> None:
    result = run(models.good, models.poor).evaluation
    assert 0 < result.latency_ms < 1000
    assert result.champion_latency_ms is not None and result.champion_latency_ms > 0
    assert result.size_mb == sum(file.stat().st_size for file in models.good.rglob("*")) / 1e6 > 0


def test_the_spread_of_the_challengers_predictions_is_kept(models: Models, run: Run) -> None:
    held_out = rows(2)
    profile = run(models.good, test=held_out).predictions

    probability = models.estimator.predict_proba(held_out[GOOD])[:, 1]
    labels = models.estimator.predict(held_out[GOOD])
    assert profile.rows == 600
    assert profile.columns["probability"].kind == "numeric"
    assert profile.columns["probability"].mean == pytest.approx(probability.mean())
    prediction = profile.columns["prediction"]
    assert dict(zip(prediction.categories, prediction.reference.counts, strict=True)) == {
        "Yes": (labels == "Yes").sum(),
        "No": (labels == "No").sum(),
    }


@pytest.mark.parametrize(("positive", "column"), [("No", 0), ("Yes", 1), (None, 1)])
def test_the_kept_probability_is_that_of_the_positive_class(
    models: Models, run: Run, positive: str | None, column: int
) -> None:
    held_out = rows(2)
    profile = run(models.good, test=held_out, positive=positive).predictions
    expected = models.estimator.predict_proba(held_out[GOOD])[:, column].mean()
    assert profile.columns["probability"].mean == pytest.approx(expected)


@pytest.mark.parametrize("positive", ["Yes", "no"])
def test_the_kept_calibration_gives_the_measured_accuracy_without_labels(
    models: Models, run: Run, positive: str
) -> None:
    measured = run(models.good, positive=positive).evaluation
    assert measured.calibration is not None and sum(measured.calibration.rows) == 600
    found = estimate(measured.calibration, measured.calibration.column.reference, "accuracy")
    assert found is not None and found.value == pytest.approx(measured.challenger["accuracy"])


def test_too_few_rows_are_not_calibrated(models: Models, run: Run) -> None:
    assert run(models.good, test=rows(2, 150)).evaluation.calibration is None


def test_a_few_rows_are_kept_to_compare_a_deployment_with(models: Models, run: Run) -> None:
    held_out = rows(2)
    held_out.loc[1, "charges"] = np.nan

    smoke = run(models.good, test=held_out).smoke

    assert smoke["columns"] == GOOD
    assert smoke["rows"][0] == [int(held_out.tenure[0]), float(held_out.charges[0])]
    assert smoke["rows"][1][1] is None
    assert smoke["predictions"] == models.estimator.predict(held_out[GOOD].head(5)).tolist()


def test_columns_are_found_by_name_in_any_order(models: Models, run: Run) -> None:
    held_out = rows(2)
    result = run(models.good, models.good, test=held_out[sorted(held_out.columns, reverse=True)])
    expected = roc_auc_score(held_out.churn == "Yes", models.estimator.predict_proba(held_out[GOOD])[:, 1])
    assert result.evaluation.challenger["roc_auc"] == pytest.approx(expected)


def test_whole_numbers_with_a_null_reach_the_model_as_nulls(models: Models, run: Run) -> None:
    held_out = rows(2).astype({"tenure": "float64"})
    held_out.loc[:9, "tenure"] = np.nan
    result = run(models.good, test=held_out).evaluation
    assert result.problems == ()
    assert result.rows == 600


def test_a_champion_that_cannot_be_loaded_is_a_problem_and_no_crash(models: Models, run: Run, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    result = run(models.good, tmp_path / "broken").evaluation

    assert result.challenger["roc_auc"] > 0.8
    assert result.champion == {} and result.gain is None
    [problem] = result.problems
    assert problem.startswith("champion: could not be loaded")
    assert not decide(result, Gate(metric="roc_auc"), challenger="2", champion="1").promote


def test_a_champion_that_lacks_columns_is_a_problem_and_no_crash(models: Models, run: Run) -> None:
    result = run(models.good, models.poor, test=rows(2).drop(columns="noise")).evaluation
    assert result.problems == ("champion: needs columns that the held-out rows do not have: noise",)
    assert result.challenger["roc_auc"] > 0.8


def test_a_challenger_that_cannot_be_asked_is_turned_down_with_the_reason(models: Models, run: Run) -> None:
    test = rows(2).astype({"tenure": "str"})
    test["tenure"] = "many"

    result = run(models.good, test=test)

    assert result.evaluation.challenger == {}
    [problem] = result.evaluation.problems
    assert problem.startswith("challenger: could not be loaded or asked: ValueError")
    assert "many" in problem
    assert not decide(result.evaluation, Gate(metric="roc_auc"), challenger="1", champion=None).promote
    assert (result.predictions.rows, result.smoke["rows"]) == (0, [])


def test_held_out_rows_of_one_class_are_a_problem(models: Models, run: Run) -> None:
    test = rows(2)
    test["churn"] = "No"
    [problem] = run(models.good, models.poor, test=test).evaluation.problems
    assert "'No'" in problem


def test_no_held_out_rows_are_a_problem(models: Models, run: Run) -> None:
    result = run(models.good, test=rows(2).head(0))
    assert result.evaluation.rows == 0
    assert result.evaluation.problems
    assert result.smoke["rows"] == []


def test_a_slice_that_the_rows_do_not_have_is_a_problem(models: Models, run: Run) -> None:
    [problem] = run(models.good, slices=("region",)).evaluation.problems
    assert "region" in problem


def test_rows_without_the_label_fail_the_job_and_name_it(models: Models, run: Run) -> None:
    with pytest.raises(SystemExit, match="no label column churn"):
        run(models.good, test=rows(2).drop(columns="churn"))


def test_a_regression_has_numbers_as_predictions_and_no_probability(run: Run, tmp_path: Path) -> None:
    train, test = rows(1), rows(2)
    for frame in (train, test):
        frame["churn"] = 2.0 * frame["charges"] + frame["noise"]
    model = save(tmp_path / "regression", POOR, train.rename(columns={"churn": "value"}), label="value")
    test = test.rename(columns={"churn": "value"})

    result = run(tmp_path / "regression", test=test, label="value", metric="rmse", positive=None)

    assert result.evaluation.challenger["rmse"] == pytest.approx(0.0, abs=1e-6)
    assert set(result.predictions.columns) == {"prediction"}
    assert result.predictions.columns["prediction"].kind == "numeric"
    assert result.predictions.columns["prediction"].mean == pytest.approx(model.predict(test[POOR]).mean())


def test_the_job_needs_nothing_of_the_app_but_the_domain_and_models() -> None:
    code = "import sys, shared.jobs.evaluate; print(*sys.modules)"
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=child_environment({}), check=True, capture_output=True, text=True
    )
    loaded = set(process.stdout.split())
    ours = {name for name in loaded if name.startswith("shared.")}
    assert {name for name in ours if not name.startswith(("shared.domain", "shared.jobs", "shared.models"))} <= {
        "shared.errors"
    }
    assert not loaded & {"mlflow", "pandas", "pydantic", "yaml"}
