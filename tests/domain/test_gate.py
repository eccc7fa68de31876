"""The gate measures both models on the same rows and promotes only what is better beyond luck."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk

from shared.domain.compiled import Compiled
from shared.domain.gate import Evaluation, Predictions, Rule, SliceResult, Verdict, compare, decide
from shared.domain.pipelines import Gate
from shared.domain.records import to_record
from shared.domain.resampling import resampled_differences


def model(y: np.ndarray, noise: float, seed: int, classes: tuple[Any, ...] = ("No", "Yes")) -> Predictions:
    """A model of known skill: the truth seen through ``noise``."""
    truth = (y == classes[1]).astype(float)
    score = 2 * truth - 1 + noise * np.random.default_rng(seed).normal(size=len(y))
    positive = 1 / (1 + np.exp(-score))
    return Predictions(np.where(positive > 0.5, classes[1], classes[0]), np.c_[1 - positive, positive], list(classes))


def churn(rows: int = 1400, seed: int = 0) -> np.ndarray:
    return np.where(np.random.default_rng(seed).random(rows) < 0.27, "Yes", "No")


# measuring


def test_all_metrics_of_both_models_are_measured() -> None:
    y = churn()
    challenger, champion = model(y, 1.5, 1), model(y, 1.6, 2)
    evaluation = compare(y, challenger, champion, Gate(metric="roc_auc"), {})
    assert evaluation.rows == 1400 and not evaluation.problems
    for values, given in ((evaluation.challenger, challenger), (evaluation.champion, champion)):
        assert values["roc_auc"] == pytest.approx(sk.roc_auc_score(y == "Yes", given.probabilities[:, 1]))
        assert values["recall"] == pytest.approx(sk.recall_score(y, given.labels, pos_label="Yes"))
        assert values["log_loss"] == pytest.approx(sk.log_loss(y, given.probabilities))
        assert len(values) == 9
    gain = evaluation.challenger["roc_auc"] - evaluation.champion["roc_auc"]
    assert evaluation.gain == pytest.approx(gain)
    assert evaluation.gain_low < gain < evaluation.gain_high


def test_identical_predictions_are_an_exact_tie() -> None:
    y = churn()
    for metric in ("roc_auc", "average_precision", "log_loss", "brier", "accuracy", "f1"):
        same = model(y, 1.5, 1)
        evaluation = compare(y, same, replace(same), Gate(metric=metric), {})
        assert (evaluation.gain, evaluation.gain_low, evaluation.gain_high) == (0.0, 0.0, 0.0)
        assert not decide(evaluation, Gate(metric=metric), challenger="2", champion="1").promote


@pytest.mark.parametrize("metric", ["log_loss", "brier"])
def test_a_smaller_loss_is_a_gain(metric: str) -> None:
    y = churn(4000)
    evaluation = compare(y, model(y, 0.8, 1), model(y, 1.6, 2), Gate(metric=metric), {})
    assert evaluation.gain == pytest.approx(evaluation.champion[metric] - evaluation.challenger[metric])
    assert 0 < evaluation.gain_low < evaluation.gain < evaluation.gain_high


def test_the_interval_is_that_of_redrawing_rows_one_by_one() -> None:
    y = churn(300)
    challenger, champion = model(y, 1.2, 1), model(y, 1.5, 2)
    evaluation = compare(y, challenger, champion, Gate(metric="accuracy"), {}, resamples=4000)
    random, gains = np.random.default_rng(5), []
    for _ in range(4000):
        rows = random.integers(0, 300, 300)
        gains.append((challenger.labels[rows] == y[rows]).mean() - (champion.labels[rows] == y[rows]).mean())
    expected = np.quantile(gains, [0.025, 0.975])
    assert [evaluation.gain_low, evaluation.gain_high] == pytest.approx(expected, abs=0.008)


def test_rows_grouped_by_what_they_say_are_drawn_as_often_as_single_rows() -> None:
    values = np.array([0.0, 1.0, 5.0])
    counts = np.array([50, 30, 20])

    def mean(weights: np.ndarray) -> np.ndarray:
        return weights @ values / weights.sum(axis=1)

    def mean_of_rows(weights: np.ndarray) -> np.ndarray:
        return weights @ np.repeat(values, counts) / weights.sum(axis=1)

    def zero(weights: np.ndarray) -> np.ndarray:
        return np.zeros(len(weights))

    grouped = resampled_differences(mean, zero, counts, resamples=20_000, seed=1)
    single = resampled_differences(mean_of_rows, zero, np.ones(100, dtype=int), resamples=20_000, seed=2)
    assert grouped.mean() == pytest.approx(single.mean(), abs=0.01)
    assert grouped.std() == pytest.approx(single.std(), rel=0.02)


def test_about_one_in_twenty_equal_models_falls_outside_the_interval() -> None:
    outside = 0
    for seed in range(300):
        y = churn(400, seed)
        evaluation = compare(
            y, model(y, 1.5, 2 * seed), model(y, 1.5, 2 * seed + 1), Gate(metric="accuracy"), {}, resamples=400
        )
        outside += not evaluation.gain_low <= 0 <= evaluation.gain_high
    assert 3 <= outside <= 32


def test_the_same_arguments_give_the_same_evaluation() -> None:
    y = churn()
    arguments = (y, model(y, 1.5, 1), model(y, 1.6, 2), Gate(metric="roc_auc"), {"half": np.arange(1400) % 2})
    assert compare(*arguments) == compare(*arguments)


def test_without_a_champion_only_the_challenger_is_measured() -> None:
    y = churn()
    evaluation = compare(y, model(y, 1.0, 1), None, Gate(), {"half": np.arange(1400) % 2})
    assert evaluation.challenger and evaluation.champion == {}
    assert evaluation.gain is None and evaluation.slices == ()


def test_numbers_text_and_booleans_of_one_class_are_the_same_class() -> None:
    y = np.array([1, 0, 1, 1, 0, 0])
    as_text = Predictions(np.array(["1", "0", "1", "1", "0", "0"], dtype=object))
    as_float = Predictions(np.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0]))
    evaluation = compare(y, as_text, as_float, Gate(), {})
    assert evaluation.challenger["accuracy"] == evaluation.champion["accuracy"] == 1.0
    flags = Predictions(np.array([True, False, True, True, False, False]))
    assert compare(y == 1, flags, None, Gate(positive="True"), {}).challenger["recall"] == 1.0


def test_weighted_averages_are_measured_for_two_classes_when_asked_for() -> None:
    y = churn()
    challenger = model(y, 1.5, 1)
    evaluation = compare(y, challenger, None, Gate(average="weighted"), {})
    assert evaluation.challenger["precision"] == pytest.approx(
        sk.precision_score(y, challenger.labels, average="weighted")
    )


def test_the_positive_class_is_the_last_in_order_unless_named() -> None:
    y = churn()
    challenger = model(y, 1.5, 1)
    for positive, label in ((None, "Yes"), ("No", "No"), ("no", "No")):
        measured = compare(y, challenger, None, Gate(positive=positive), {}).challenger["recall"]
        assert measured == pytest.approx(sk.recall_score(y, challenger.labels, pos_label=label))


def test_three_classes_get_weighted_averages() -> None:
    random = np.random.default_rng(1)
    y = random.choice([2, 10, 30], 600)
    raw = random.random((600, 3)) + 0.5 * (y[:, None] == np.array([2, 10, 30]))
    p = raw / raw.sum(axis=1, keepdims=True)
    challenger = Predictions(np.array([2, 10, 30])[p.argmax(axis=1)], p[:, ::-1], [30, 10, 2])
    values = compare(y, challenger, None, Gate(metric="roc_auc"), {}).challenger
    assert values["roc_auc"] == pytest.approx(sk.roc_auc_score(y, p, multi_class="ovr", average="weighted"))
    assert values["f1"] == pytest.approx(sk.f1_score(y, challenger.labels, average="weighted"))


def test_a_champion_that_never_saw_a_class_gives_it_probability_zero() -> None:
    y = np.array(["a", "b", "c"] * 100)
    random = np.random.default_rng(2)
    p = random.dirichlet([1, 1, 1], 300)
    old = random.dirichlet([1, 1], 300)
    challenger = Predictions(np.array(["a", "b", "c"])[p.argmax(axis=1)], p, ["a", "b", "c"])
    champion = Predictions(np.array(["a", "b"])[old.argmax(axis=1)], old, ["a", "b"])
    evaluation = compare(y, challenger, champion, Gate(metric="log_loss"), {})
    assert not evaluation.problems
    assert evaluation.champion["log_loss"] > 10


def test_regression_is_measured_in_the_labels_unit() -> None:
    random = np.random.default_rng(3)
    y = random.normal(100, 20, 800)
    challenger, champion = Predictions(y + random.normal(0, 2, 800)), Predictions(y + random.normal(0, 4, 800))
    evaluation = compare(y, challenger, champion, Gate(metric="rmse"), {})
    assert set(evaluation.challenger) == {"rmse", "mae", "r2"}
    assert evaluation.challenger["rmse"] == pytest.approx(sk.root_mean_squared_error(y, challenger.labels))
    assert 1.5 < evaluation.gain_low < evaluation.gain < evaluation.gain_high < 2.5


def test_rows_without_a_label_are_left_out() -> None:
    y = churn().astype(object)
    challenger = model(y, 1.5, 1)
    missing = y.copy()
    missing[::7] = None
    evaluation = compare(missing, challenger, None, Gate(), {})
    kept = np.arange(1400) % 7 != 0
    assert evaluation.rows == kept.sum()
    assert evaluation.challenger["accuracy"] == pytest.approx((y == challenger.labels)[kept].mean())


# slices


def test_slices_are_compared_where_there_are_rows_enough() -> None:
    y = churn()
    contract = np.array(["month"] * 1000 + ["year"] * 360 + ["two years"] * 39 + [None], dtype=object)
    evaluation = compare(y, model(y, 1.2, 1), model(y, 1.5, 2), Gate(), {"contract": contract})
    assert [(part.value, part.rows) for part in evaluation.slices] == [("month", 1000), ("year", 360)]
    month = evaluation.slices[0]
    assert month.gain == pytest.approx(month.challenger - month.champion)


def test_nulls_are_a_slice() -> None:
    y = churn()
    part = np.array([1.0, np.nan] * 700)
    evaluation = compare(y, model(y, 1.2, 1), model(y, 1.5, 2), Gate(), {"part": part})
    assert [result.value for result in evaluation.slices] == ["1", "null"]


def test_a_slice_where_the_metric_is_undefined_is_left_out() -> None:
    y = np.array(["No"] * 200 + ["Yes", "No"] * 200)
    evaluation = compare(y, model(y, 1.2, 1), model(y, 1.5, 2), Gate(metric="roc_auc"), {"half": np.arange(600) < 200})
    assert [part.value for part in evaluation.slices] == ["false"] and not evaluation.problems


def sliced(rows: int, wrong: int, gain_elsewhere: float = 0.2) -> tuple[Evaluation, Gate]:
    """A challenger that is better elsewhere and wrong on ``wrong`` more rows of a slice of ``rows`` rows."""
    elsewhere = 2000
    y = np.array(["Yes", "No"] * ((elsewhere + rows) // 2))
    bad = np.where(y == "Yes", "No", "Yes")
    challenger, champion = y.copy(), y.copy()
    champion[: int(elsewhere * gain_elsewhere)] = bad[: int(elsewhere * gain_elsewhere)]
    if wrong:
        challenger[-wrong:] = bad[-wrong:]
    champion[elsewhere : elsewhere + rows // 3] = bad[elsewhere : elsewhere + rows // 3]
    challenger[elsewhere : elsewhere + rows // 3] = bad[elsewhere : elsewhere + rows // 3]
    gate = Gate(slices=("part",))
    part = np.where(np.arange(elsewhere + rows) < elsewhere, "rest", "special")
    return compare(y, Predictions(challenger), Predictions(champion), gate, {"part": part}), gate


def test_a_slice_that_clearly_loses_keeps_the_champion() -> None:
    evaluation, gate = sliced(rows=200, wrong=30)
    verdict = decide(evaluation, gate, challenger="2", champion="1")
    assert not verdict.promote
    assert "on the 200 rows with part special accuracy is" in verdict.summary


def test_a_slice_within_the_tolerance_does_not_matter() -> None:
    evaluation, gate = sliced(rows=200, wrong=8)
    assert decide(evaluation, gate, challenger="2", champion="1").promote


def test_a_loss_that_a_small_slices_noise_explains_does_not_count() -> None:
    loss = SliceResult(
        column="part", value="x", rows=60, challenger=0.70, champion=0.78, gain=-0.08, gain_low=-0.2, gain_high=0.03
    )
    evaluation = replace(GOOD, slices=(loss,))
    assert decide(evaluation, Gate(slices=("part",)), challenger="2", champion="1").promote
    certain = replace(evaluation, slices=(replace(loss, gain_high=-0.01),))
    assert not decide(certain, Gate(slices=("part",)), challenger="2", champion="1").promote


# what cannot be measured


def problems_of(y: Any, challenger: Predictions, champion: Predictions | None = None, **gate: Any) -> str:
    evaluation = compare(np.asarray(y), challenger, champion, Gate(**gate), {})
    json.dumps(to_record(evaluation), allow_nan=False)
    assert evaluation.problems
    assert not decide(evaluation, Gate(**gate), challenger="2", champion="1" if champion else None).promote
    return "; ".join(evaluation.problems)


def labels(*values: Any) -> Predictions:
    return Predictions(np.array(values, dtype=object))


def test_no_rows_are_a_problem() -> None:
    assert "no held-out rows" in problems_of([], labels())
    assert "no held-out rows with a label (2 without)" in problems_of([None, None], labels("a", "b"))
    assert "no held-out rows" in problems_of([], labels(), metric="rmse")


def test_one_class_only_is_a_problem() -> None:
    assert "all 3 held-out rows have the label 'No'" in problems_of(["No"] * 3, labels("No", "Yes", "No"))


def test_as_many_predictions_as_rows_are_asked_for() -> None:
    assert "challenger: gave predictions of shape (1,) for 2 rows" in problems_of(["a", "b"], labels("a"))


def test_missing_predictions_are_counted() -> None:
    assert "champion: 1 of 2 predictions are missing" in problems_of(["a", "b"], labels("a", "b"), labels("a", None))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_predictions_that_are_not_finite_are_counted(bad: float) -> None:
    text = problems_of([1.0, 2.0, 3.0], Predictions(np.array([1.0, bad, 3.0])), metric="rmse")
    assert "challenger: 1 of 3 predictions are not finite" in text
    p = Predictions(np.array(["a", "b"]), np.array([[0.5, 0.5], [bad, 0.5]]), ["a", "b"])
    assert "challenger: 1 of 2 probabilities are not finite" in problems_of(["a", "b"], p)


def test_labels_that_are_not_finite_are_counted() -> None:
    text = problems_of([1.0, np.inf], Predictions(np.array([1.0, 2.0])), metric="mae")
    assert "held-out rows: 1 of 2 labels are not finite" in text


def test_probabilities_outside_0_to_1_are_a_problem() -> None:
    scores = Predictions(np.array(["a", "b"]), np.array([[2.5, -1.5], [0.5, 0.5]]), ["a", "b"])
    assert "probabilities lie between -1.5 and 2.5" in problems_of(["a", "b"], scores)


def test_a_metric_of_probabilities_needs_them() -> None:
    text = problems_of(["a", "b"], labels("a", "b"), metric="roc_auc")
    assert "challenger: roc_auc needs probabilities, the model gives labels only" in text


def test_probabilities_need_a_class_for_each_column() -> None:
    p = Predictions(np.array(["a", "b"]), np.full((2, 3), 1 / 3), ["a", "b"])
    assert "gave probabilities of shape (2, 3) for 2 rows and 2 classes" in problems_of(["a", "b"], p)


def test_a_model_that_knows_other_classes_is_named() -> None:
    text = problems_of(["Yes", "No"], labels("1", "0"))
    assert "challenger: it knows the classes 1, 0, the held-out rows have No, Yes" in text


def test_text_is_no_regression() -> None:
    assert "needs numbers as labels" in problems_of(["a", "b"], labels("a", "b"), metric="r2")
    assert "needs numbers as predictions" in problems_of([1.0, 2.0], labels("a", "b"), metric="r2")


def test_r2_of_a_constant_label_is_a_problem() -> None:
    assert "the label is 4 on all 2 held-out rows" in problems_of(
        [4.0, 4.0], Predictions(np.array([4.0, 4.0])), metric="r2"
    )


def test_an_unknown_positive_class_is_named_with_the_known_ones() -> None:
    text = problems_of(["No", "Yes"], labels("No", "Yes"), positive="churned")
    assert "gate.positive is 'churned', the classes are No, Yes" in text


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="'auc' is no metric; known are"):
        compare(np.array([1]), labels(1), None, Gate(metric="auc"), {})


def test_predictions_that_overflow_are_a_problem_and_not_a_number() -> None:
    text = problems_of([1.0, 2.0], Predictions(np.array([1e200, 1e300])), metric="rmse")
    assert "rmse is undefined or not finite" in text


# the verdict

GOOD = Evaluation(
    rows=1400,
    challenger={"accuracy": 0.85, "recall": 0.6, "log_loss": 0.4},
    champion={"accuracy": 0.83, "recall": 0.55},
    gain=0.02,
    gain_low=0.005,
    gain_high=0.035,
    latency_ms=3.0,
    size_mb=2.0,
)


def test_a_latency_says_when_it_is_that_of_the_compiled_form() -> None:
    compiled = replace(GOOD, compiled=Compiled(verified=True, rows=10))
    said = next(
        rule.text for rule in decide(compiled, Gate(), challenger="2", champion="1").rules if rule.name == "latency"
    )
    assert said == "latency 3.000 ms per row, compiled as it will be served, is within 1,000"


def test_a_better_challenger_is_promoted_with_its_numbers() -> None:
    assert decide(GOOD, Gate(), challenger="2", champion="1") == Verdict(
        promote=True,
        summary="promote version 2 over version 1: accuracy 0.850 against 0.830, gain 0.020 "
        "(95 % interval 0.005 to 0.035)",
        rules=(
            Rule("trust", True, "the measurement can be trusted"),
            Rule("gain", True, "the gain in accuracy is 0.020, at least 0 is asked for"),
            Rule("interval", True, "the 95 % interval 0.005 to 0.035 of the gain lies above zero"),
            Rule("latency", True, "latency 3.000 ms per row is within 1,000"),
            Rule("size", True, "size 2.000 MB is within 1,024"),
        ),
    )


def test_a_worse_challenger_is_kept_out_in_one_sentence() -> None:
    worse = replace(
        GOOD, challenger={"roc_auc": 0.842}, champion={"roc_auc": 0.845}, gain=-0.003, gain_low=-0.011, gain_high=0.004
    )
    verdict = decide(worse, Gate(metric="roc_auc"), challenger="2", champion="1")
    assert verdict.summary == (
        "keep version 1: roc_auc 0.842 against 0.845, gain -0.003 (95 % interval -0.011 to 0.004)"
    )


CASES: list[tuple[str, Evaluation, Gate, str]] = [
    ("interval", replace(GOOD, gain_low=0.0), Gate(), "gain 0.020 (95 % interval 0 to 0.035)"),
    ("gain", GOOD, Gate(min_gain=0.05), "the gain in accuracy is 0.020, at least 0.050 is asked for"),
    (
        "gain",
        replace(GOOD, gain=None, gain_low=None, gain_high=None),
        Gate(),
        "the gain over version 1 was not measured",
    ),
    ("floor recall", GOOD, Gate(floors={"recall": 0.7}), "recall 0.600 is below 0.700"),
    ("floor log_loss", GOOD, Gate(floors={"log_loss": 0.3}), "log_loss 0.400 is above 0.300"),
    ("floor roc_auc", GOOD, Gate(floors={"roc_auc": 0.3}), "roc_auc was not measured, its floor is 0.300"),
    ("latency", GOOD, Gate(max_latency_ms=2.5), "latency 3.000 ms per row is above 2.500"),
    ("size", GOOD, Gate(max_size_mb=1), "size 2.000 MB is above 1.000"),
    ("trust", replace(GOOD, problems=("no rows", "too hot")), Gate(), "cannot be trusted: no rows; too hot"),
]


@pytest.mark.parametrize(("rule", "evaluation", "gate", "text"), CASES, ids=[f"{c[0]}: {c[3]}" for c in CASES])
def test_one_broken_rule_keeps_the_champion_and_is_named(
    rule: str, evaluation: Evaluation, gate: Gate, text: str
) -> None:
    verdict = decide(evaluation, gate, challenger="2", champion="1")
    assert not verdict.promote
    assert [broken.name for broken in verdict.rules if not broken.passed] == [rule]
    assert verdict.summary.startswith("keep version 1: ") and text in verdict.summary
    assert verdict.summary.count(text) == 1


def test_exactly_the_gain_that_was_asked_for_is_enough() -> None:
    assert decide(GOOD, Gate(min_gain=0.02), challenger="2", champion="1").promote


def test_floors_of_losses_are_ceilings() -> None:
    verdict = decide(GOOD, Gate(floors={"log_loss": 0.5, "recall": 0.6}), challenger="2", champion="1")
    assert verdict.promote
    assert [rule.text for rule in verdict.rules if rule.name.startswith("floor")] == [
        "log_loss 0.400 is within 0.500",
        "recall 0.600 is not below 0.600",
    ]


def test_a_first_version_needs_no_gain_but_its_floors() -> None:
    first = Evaluation(rows=1400, challenger={"accuracy": 0.8, "recall": 0.4})
    assert decide(first, Gate(), challenger="1", champion=None).summary == (
        "promote version 1: accuracy 0.800, there is no champion yet"
    )
    refused = decide(first, Gate(floors={"recall": 0.5}), challenger="1", champion=None)
    assert not refused.promote
    assert refused.summary == (
        "turn down version 1: accuracy 0.800, there is no champion yet; recall 0.400 is below 0.500"
    )


# cost


def test_1400_rows_and_1000_resamples_take_well_under_a_second() -> None:
    y = churn()
    arguments = (y, model(y, 1.5, 1), model(y, 1.6, 2), Gate(metric="roc_auc"), {"part": np.arange(1400) % 3})
    compare(*arguments)
    began = time.perf_counter()
    compare(*arguments)
    assert time.perf_counter() - began < 1.5


MEMORY = """
import resource, numpy as np
from shared.domain.gate import Gate, Predictions, compare
random = np.random.default_rng(0)
y = random.integers(0, 2, 200_000)
def model():
    p = random.random(200_000) * 0.6 + 0.4 * y
    return Predictions((p > 0.5).astype(int), np.c_[1 - p, p], [0, 1])
one, other = model(), model()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
evaluation = compare(y, one, other, Gate(metric="roc_auc"), {}, resamples=40)
assert evaluation.gain_low < evaluation.gain_high
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_stays_bounded_with_200000_rows() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 250_000, "kilobytes; all weights at once would take 64,000 per model and copy"


def test_reading_ledger_entries_does_not_import_numpy() -> None:
    code = "import sys, shared.domain.ledger, shared.domain.drift; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
