"""A folder that gets a fault refuses new runs; what is live goes on as it was last defined."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from shared import history, status
from shared.definitions.catalog import Catalog
from shared.definitions.last_valid import LastValid
from shared.domain.ledger import DriftCheck
from shared.domain.signals import (
    ApprovalGiven,
    DriftCheckDue,
    FreezeRequested,
    PinRequested,
    ReconcileDue,
    RetrainingDue,
    RollbackRequested,
)
from shared.errors import ConfigurationError, Missing
from tests.reactions.world import PIPELINE, World

Break = Callable[[Path], object]


def with_a_typo(folder: Path) -> None:
    file = folder / "pipeline.yaml"
    file.write_text(file.read_text().replace("max_wait", "max_wiat"))


BREAKS: dict[str, Break] = {
    "a typo": with_a_typo,
    "half saved": lambda folder: (folder / "pipeline.yaml").write_text(""),
    "no pipeline.yaml": lambda folder: (folder / "pipeline.yaml").unlink(),
    "no train.py": lambda folder: (folder / "train.py").unlink(),
}


@pytest.fixture(params=BREAKS)
def broken(request: pytest.FixtureRequest) -> Break:
    return BREAKS[request.param]


def folder_of(world: World) -> Path:
    return world.folder / "pipelines" / "churn"


def restart(world: World) -> None:
    """A new process: what only the last one knew is gone."""
    catalog = Catalog(world.folder / "pipelines", last_valid=LastValid(world.ledger, world.clock))
    object.__setattr__(world.loop, "catalog", catalog)


def ask(world: World, kind: type, **fields: object) -> None:
    world.queue.send(kind(pipeline="churn", request=f"r{world.clock.now().isoformat()}", **fields))
    world.drain(timedelta(seconds=10))


def two_versions(world: World) -> None:
    world.to_champion()
    world.to_champion("landing/churn/b.csv")
    assert (world.state.champion, world.state.previous) == ("2", "1")


def test_a_rollout_under_way_goes_on(world: World, broken: Break) -> None:
    world.to_champion()
    world.land("landing/churn/b.csv")
    world.drain(timedelta(minutes=1))
    assert world.services.split == {"v2": 10, "v1": 90}
    broken(folder_of(world))
    restart(world)
    world.drain(timedelta(hours=2))
    assert world.services.split == {"v2": 100}
    assert world.state.champion == "2"


def test_a_rollout_whose_wake_up_was_lost_is_found(world: World, broken: Break) -> None:
    world.to_champion()
    world.land("landing/churn/b.csv")
    world.drain(timedelta(minutes=1))
    world.queue.messages.clear()
    broken(folder_of(world))
    for _ in range(4):
        world.drain(timedelta(hours=1))
        world.queue.send(ReconcileDue(slot=world.clock.now()))
        world.drain()
    world.drain(timedelta(hours=2))
    assert world.state.champion == "2"


def test_rollback_pin_and_freeze_are_done(world: World, broken: Break) -> None:
    two_versions(world)
    broken(folder_of(world))
    restart(world)
    ask(world, RollbackRequested)
    assert world.services.split == {"v1": 100}
    ask(world, PinRequested, version="1")
    assert world.state.pinned == "1"
    ask(world, FreezeRequested)
    assert world.state.frozen
    ask(world, FreezeRequested, frozen=False)
    assert not world.state.frozen


def test_an_approved_version_rolls_out(tmp_path: Path, broken: Break) -> None:
    world = World(tmp_path / "world", PIPELINE + "gate: {approval: manual}\n")
    world.to_champion()
    broken(folder_of(world))
    ask(world, ApprovalGiven, version="1")
    world.drain(timedelta(hours=1))
    assert world.services.split == {"v1": 100}
    world.close()


def test_drift_is_looked_for(world: World, broken: Break) -> None:
    world.to_champion()
    world.lake.write(f"{world.versions['1'].features}/profile.json", b'{"rows": 0, "columns": {}}')
    broken(folder_of(world))
    world.queue.send(DriftCheckDue(pipeline="churn", slot=world.clock.now()))
    world.drain()
    assert len(list(world.ledger.list(DriftCheck, "churn"))) == 1


def test_new_runs_are_refused_with_the_faults_and_begin_when_they_are_mended(world: World) -> None:
    world.to_champion()
    before = (folder_of(world) / "pipeline.yaml").read_text()
    with_a_typo(folder_of(world))
    with pytest.raises(ConfigurationError, match="max_wiat"):
        world.loop.catalog.whole("churn")
    world.queue.send(RetrainingDue(pipeline="churn", cause="hand", slot="again", reason="by hand"))
    with pytest.raises(ConfigurationError, match="max_wiat"):
        world.drain()
    world.queue.messages.clear()
    assert len(world.runs) == 1
    (folder_of(world) / "pipeline.yaml").write_text(before)
    world.queue.send(RetrainingDue(pipeline="churn", cause="hand", slot="after", reason="by hand"))
    world.drain(timedelta(hours=2))
    assert [run.id for run in world.runs] == ["churn-b000001", "churn-mafter"]


def test_a_run_under_way_starts_no_job_from_a_broken_folder_and_goes_on_when_it_is_mended(world: World) -> None:
    world.services.hold_training = True
    world.land()
    world.drain(timedelta(minutes=1))
    train = (folder_of(world) / "train.py").read_text()
    (folder_of(world) / "train.py").unlink()
    world.services.finish("churn-b000001-train-1")
    world.drain(timedelta(minutes=1))
    assert list(world.services.jobs) == ["churn-b000001-train-1"]
    assert world.runs[0].status == "waiting"
    assert "until the faults of pipeline churn are mended" in world.runs[0].reason
    (folder_of(world) / "train.py").write_text(train)
    world.drain(timedelta(minutes=5))
    world.queue.send(ReconcileDue(slot=world.clock.now()))
    world.drain(timedelta(hours=1))
    assert world.state.champion == "1"


def test_status_says_since_when_what_goes_on_was_defined_and_what_is_wrong(world: World, broken: Break) -> None:
    world.to_champion()
    assert status.status(world.loop)["pipelines"][0]["as_of"] is None
    broken(folder_of(world))
    restart(world)
    found = status.status(world.loop)
    assert found["pipelines"][0]["champion"]["version"] == "1"
    assert found["pipelines"][0]["as_of"].startswith("2026-03-02T08:00")
    assert found["faults"]["churn"]
    assert history.find_run(world.loop, world.runs[0].id) == "churn"


def test_an_empty_folder_that_never_was_a_pipeline_is_none(world: World) -> None:
    (folder_of(world).parent / "notes").mkdir()
    found = status.status(world.loop)
    assert [pipeline["name"] for pipeline in found["pipelines"]] == ["churn"]
    assert found["faults"] == {}


def test_the_last_definition_that_was_seen_to_be_valid_counts(world: World) -> None:
    world.to_champion()
    file = folder_of(world) / "pipeline.yaml"
    for psi in ("0.3", "0.4"):
        file.write_text(PIPELINE.replace("min_rows: 10", f"min_rows: 10, psi: {psi}"))
        world.queue.send(ReconcileDue(slot=world.clock.now()))
        world.drain()
        file.write_text("")
        assert world.loop.catalog.get("churn").pipeline.drift.psi == float(psi)


def test_a_folder_that_was_never_valid_has_only_faults(world: World) -> None:
    with_a_typo(folder_of(world))
    with pytest.raises(ConfigurationError):
        world.loop.catalog.get("churn")
    assert status.status(world.loop)["pipelines"] == []


def test_a_folder_that_was_removed_is_no_pipeline(world: World) -> None:
    world.to_champion()
    for file in folder_of(world).iterdir():
        file.unlink()
    folder_of(world).rmdir()
    with pytest.raises(Missing):
        world.loop.catalog.get("churn")
