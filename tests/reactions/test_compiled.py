"""What becomes of a version's compiled form, and who is told in which form it answers."""

from __future__ import annotations

from datetime import timedelta

from shared import status
from shared.domain.compiled import Compiled
from tests.reactions.world import World


def test_a_verified_form_is_kept_beside_the_evaluation_and_said_to_serve(world: World) -> None:
    world.services.compiled = Compiled(verified=True, rows=1400, edge_rows=9, max_difference=3e-8)
    world.land()
    world.drain(timedelta(minutes=1))
    assert world.lake.read("models/churn/1/compiled.onnx") == b"a graph"
    said = "served compiled: 1,409 rows answered alike, probabilities or numbers within 3e-08"
    assert said in world.reasons("done")
    champion = status.status(world.loop)["pipelines"][0]["champion"]
    assert champion["serving"] == said


def test_without_a_verified_form_the_model_is_rolled_out_as_trained_and_the_reason_is_shown(world: World) -> None:
    world.services.compiled = Compiled(verified=False, reason="skl2onnx is not installed")
    world.land()
    world.drain(timedelta(minutes=1))
    assert world.state.champion == "1"
    assert world.lake.stat("models/churn/1/compiled.onnx") is None
    assert world.state.serving == "served as trained, not compiled: skl2onnx is not installed"
    assert world.state.serving in world.reasons("done")
