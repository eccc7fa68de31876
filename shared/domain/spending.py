"""What a pipeline's runs cost: hours of compute by the ledger's own clock, at the prices that the pipeline names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.domain.pipelines import Pipeline

KEPT = timedelta(days=31)
"""For so long a pipeline's state knows what its runs used; no budget has a longer period."""


@dataclass(frozen=True, kw_only=True)
class Spending:
    """Hours that ``run``, which ended at ``at``, had jobs on Spark and on the training compute."""

    run: str
    at: datetime
    spark_hours: float
    training_hours: float


def spending(run: str, steps: Sequence[tuple[str, str, datetime]], at: datetime) -> Spending:
    """What a run used, from its (stage, status, time) steps: from each job's submission to the step after it.

    Time in which a job waits for its machine counts as well, so it is rather too much than too little.
    """
    ends = [*(moment for _, _, moment in steps[1:]), at]
    used = {"features": 0.0, "training": 0.0, "evaluation": 0.0}
    for (stage, status, began), end in zip(steps, ends, strict=True):
        if status == "running" and stage in used:
            used[stage] += (end - began) / timedelta(hours=1)
    return Spending(run=run, at=at, spark_hours=used["features"], training_hours=used["training"] + used["evaluation"])


def added(known: Sequence[Spending], new: Spending) -> tuple[Spending, ...]:
    """The spendings with one more, each run once, without what is too old to matter."""
    return (*(s for s in known if s.run != new.run and s.at > new.at - KEPT), new)


def over_budget(pipeline: Pipeline, known: Iterable[Spending], now: datetime) -> str:
    """Why the pipeline may not spend more now, in words and numbers; empty when it may, or has no such budget."""
    if pipeline.retraining.cost is None:
        return ""
    most, period = pipeline.retraining.cost_allowance
    recent = [spending for spending in known if abs(now - spending.at) < period]
    spark, training = sum(s.spark_hours for s in recent), sum(s.training_hours for s in recent)
    cost = spark * pipeline.features.price + training * pipeline.training.price
    if cost < most:
        return ""
    return (
        f"the cost budget of {pipeline.retraining.cost} is used up: {len(recent)} runs took {spark:.2f} h of Spark and "
        f"{training:.2f} h of training compute, together {cost:.2f}"
    )
