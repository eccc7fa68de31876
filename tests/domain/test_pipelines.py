"""The little languages of pipeline.yaml."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.domain.pipelines import Drift, Features, Landing, Pipeline, Retraining, Rollout


def pipeline(name: str = "customer-churn", rollout: Rollout | None = None) -> Pipeline:
    return Pipeline(
        name=name,
        landing=Landing(path="landing/x"),
        features=Features(key="id", label="y"),
        rollout=rollout or Rollout(),
    )


@pytest.mark.parametrize(("text", "expected"), [("2 of 3", (2, 3)), ("1 of 1", (1, 1)), ("  3  of 10 ", (3, 10))])
def test_sustained_is_k_of_n(text: str, expected: tuple[int, int]) -> None:
    assert Drift(sustained=text).k_of_n == expected


@pytest.mark.parametrize("text", ["", "2", "2/3", "2 of", "two of three", "-1 of 3", "2 of 3 of 4", "4 of 3", "0 of 3"])
def test_sustained_of_another_form_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="2 of 3"):
        Drift(sustained=text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5 a week", (5, timedelta(weeks=1))),
        ("1 an hour", (1, timedelta(hours=1))),
        ("0 a day", (0, timedelta(days=1))),
        (" 12  a  month ", (12, timedelta(days=30))),
    ],
)
def test_a_budget_is_runs_in_a_period(text: str, expected: tuple[int, timedelta]) -> None:
    assert Retraining(budget=text).allowance == expected


@pytest.mark.parametrize("text", ["", "five a week", "5 per week", "5 a fortnight", "-1 a day", "5 a weeks"])
def test_a_budget_of_another_form_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="5 a week"):
        Retraining(budget=text)


@pytest.mark.parametrize("steps", [(100,), (10, 50, 100), (1, 100)])
def test_steps_rise_to_a_hundred(steps: tuple[int, ...]) -> None:
    assert Rollout(steps=steps).steps == steps


@pytest.mark.parametrize("steps", [(), (10, 50), (50, 10, 100), (0, 100), (10, 10, 100), (10, 110), (-5, 100)])
def test_steps_that_do_not_rise_to_a_hundred_are_refused(steps: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must rise"):
        Rollout(steps=steps)


@pytest.mark.parametrize("name", ["abc", "customer-churn", "a" * 32, "a1-"])
def test_a_name_fits_an_endpoint(name: str) -> None:
    assert pipeline(name).name == name


@pytest.mark.parametrize("name", ["", "ab", "a" * 33, "Churn", "1abc", "-abc", "cust_omer", "abc\n", "../abc"])
def test_a_name_that_no_endpoint_takes_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name: must be 3 to 32"):
        pipeline(name)


def test_the_endpoint_has_the_pipelines_name_unless_another_is_given() -> None:
    assert pipeline().endpoint == "customer-churn"
    assert pipeline(rollout=Rollout(endpoint="shared-endpoint")).endpoint == "shared-endpoint"
