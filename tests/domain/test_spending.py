"""What runs cost, and when a pipeline may not spend more."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.domain.pipelines import Features, Landing, Pipeline, Retraining, Training
from shared.domain.spending import Spending, added, over_budget, spending

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CHURN = Pipeline(
    name="churn",
    landing=Landing(path="landing/churn"),
    features=Features(key="id", label="churn", price=3.0),
    training=Training(price=0.5),
    retraining=Retraining(cost="10 a week"),
)


def at(hours: float) -> datetime:
    return NOON + timedelta(hours=hours)


def used(run: str, *, spark: float = 0, training: float = 0, days_ago: float = 0) -> Spending:
    return Spending(run=run, at=NOON - timedelta(days=days_ago), spark_hours=spark, training_hours=training)


def test_a_run_uses_compute_from_each_submission_to_the_next_step() -> None:
    steps = [
        ("features", "waiting", at(0)),
        ("features", "running", at(1)),
        ("training", "waiting", at(1.5)),
        ("training", "running", at(3)),
        ("evaluation", "running", at(5)),
        ("rollout", "running", at(5.25)),
    ]
    assert spending("b1", steps, at(30)) == Spending(run="b1", at=at(30), spark_hours=0.5, training_hours=2.25)


def test_a_run_that_ended_in_its_job_used_it_to_the_end() -> None:
    assert spending("b1", [("training", "running", at(0))], at(2)).training_hours == 2


def test_the_budget_counts_what_ended_in_its_period_at_the_pipelines_prices() -> None:
    known = [used("a", spark=2, training=4), used("b", spark=1, days_ago=6.9), used("old", spark=99, days_ago=7.1)]
    reason = over_budget(CHURN, known, NOON)
    assert reason == (
        "the cost budget of 10 a week is used up: 2 runs took 3.00 h of Spark and 4.00 h of training compute, "
        "together 11.00"
    )
    assert over_budget(CHURN, known[:1], NOON) == ""


def test_without_a_cost_budget_nothing_is_over_it() -> None:
    free = replace(CHURN, retraining=Retraining())
    assert over_budget(free, [used("a", spark=10_000)], NOON) == ""


def test_a_run_counts_once_and_old_ones_are_forgotten() -> None:
    known = added((used("old", spark=1, days_ago=32), used("a", spark=1)), used("a", spark=2))
    assert known == (used("a", spark=2),)


@pytest.mark.parametrize("text", ["", "ten a week", "10", "10 a year", "-1 a week"])
def test_a_budget_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"cost: .* is not of the form 20\.50 a week"):
        Retraining(cost=text)
