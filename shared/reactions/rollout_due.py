"""A rollout wants its next move."""

from __future__ import annotations

from shared import pipeline_states, rollouts
from shared.decisions import Outcome
from shared.domain.ledger import RolloutState
from shared.domain.rollout import ENDED
from shared.domain.signals import RolloutDue
from shared.errors import Transient
from shared.loop import Loop


def react(signal: RolloutDue, loop: Loop) -> Outcome:
    """Make the moves that can be made now."""
    folder = loop.catalog.get(signal.pipeline)
    state = loop.ports.ledger.read(RolloutState, signal.pipeline, signal.rollout)
    if state is None:
        raise Transient(f"rollout {signal.rollout} is not in the ledger yet")
    if state.phase in ENDED:
        return _outcome(signal, state, "nothing", f"the rollout is already {state.phase}")
    if signal.wake != state.wake:
        return _outcome(signal, state, "nothing", f"stale: the rollout has made move {state.wake - 1} since")
    if rollouts.held(pipeline_states.read(loop, signal.pipeline), state):
        return _outcome(
            signal, state, "nothing", f"{signal.pipeline} is frozen: the rollout holds in phase {state.phase}"
        )
    state, said = rollouts.advance(loop, folder, state)
    return _outcome(signal, state, "done", "; ".join(said) or f"waits in phase {state.phase}")


def _outcome(signal: RolloutDue, state: RolloutState, outcome: str, reason: str) -> Outcome:
    subjects = (state.id, f"{state.pipeline}:{state.challenger}", *([state.run] if state.run else []))
    return Outcome(pipeline=signal.pipeline, what="rollout", outcome=outcome, reason=reason, subjects=subjects)
