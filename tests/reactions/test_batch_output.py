"""Batch scoring writes nowhere but where nothing else is."""

from __future__ import annotations

import pytest

from shared.domain.signals import BatchScoringRequested
from tests.reactions.world import World


def ask(world: World, output: str, partition: str = "") -> None:
    world.queue.send(
        BatchScoringRequested(
            pipeline="churn",
            input="in/a.csv",
            output=output,
            partition=partition,
            request=world.clock.now().isoformat(),
        )
    )
    world.drain()


@pytest.fixture(autouse=True)
def scored(world: World) -> None:
    world.to_champion()
    world.lake.write("in/a.csv", b"x")


@pytest.mark.parametrize(
    "output",
    [
        "landing/churn/predictions.csv",
        "landing/churn",
        "features/churn/churn-b000001/manifest.json",
        "models/churn/1/smoke.json",
        "batch/jobs/x/job.json",
        "spark/code.zip",
        "predictions/churn/x.jsonl",
        "scoring/other/x.parquet",
        "scoring",
        "in/a.csv",
        "out/../landing/churn/a.csv",
        "",
    ],
)
def test_a_place_that_is_not_its_own_is_refused(world: World, output: str) -> None:
    before = {info.path: info.etag for info in world.lake.list("")}
    ask(world, output)
    assert world.decisions()[-1].outcome == "rejected"
    assert not world.services.batch_jobs
    assert {info.path: info.etag for info in world.lake.list("")} == before


def test_its_own_output_may_be_written_again(world: World) -> None:
    ask(world, "out/a.parquet", "monday")
    world.lake.write("out/a.parquet", b"predictions")
    ask(world, "out/a.parquet", "tuesday")
    assert len(world.services.batch_jobs) == 2
