"""The training job has ended: register its model, or say why there is none."""

from __future__ import annotations

from shared import runs, training
from shared.decisions import Outcome
from shared.domain.ledger import Run
from shared.domain.signals import TrainingFinished
from shared.errors import Rejected, Transient
from shared.loop import Loop

MODEL_OUTPUT = "model_output"


def react(signal: TrainingFinished, loop: Loop) -> Outcome:
    """Ask the training service what became of the job, and register the model of a completed one."""
    folder = loop.catalog.get(signal.pipeline)
    run = loop.ports.ledger.read(Run, signal.pipeline, signal.run)
    if run is None:
        return _outcome(signal, "nothing", f"a training job ended for {signal.run}, which is no run of this app")
    if run.stage != "training" or run.ended:
        training.release(loop, folder, run.id)
        return _outcome(signal, "nothing", f"the run is already {run.status} in stage {run.stage}")
    status = loop.ports.training.status(training.job_name(run))
    if status is None:
        again = training.request(loop, folder, run)
        return _outcome(signal, "nothing", f"the training service does not know its job: {again}")
    if not status.ended:
        raise Transient(f"job {status.name} is still {status.state}, though an event says {signal.status}")
    if status.state != "completed":
        reason = _why(status.reason, status.state, status.last_lines)
        runs.end(loop, run, "failed", reason)
        outcome = _outcome(signal, "failed", reason)
    else:
        outcome = _register(signal, loop, run, status.last_lines)
    training.release(loop, folder, run.id)
    return outcome


def _register(signal: TrainingFinished, loop: Loop, run: Run, last_lines: str) -> Outcome:
    job = training.job_name(run)
    try:
        version = loop.ports.registry.register(
            signal.pipeline,
            job=job,
            output=MODEL_OUTPUT,
            tags={
                "landfall.pipeline": signal.pipeline,
                "landfall.run": run.id,
                "landfall.job": job,
                "landfall.cause": run.cause,
                "landfall.data_version": str(run.features_version),
            },
        )
    except Rejected as error:
        reason = _why(str(error), "registered nothing", last_lines)
        runs.end(loop, run, "failed", reason)
        return _outcome(signal, "failed", reason)
    # The registry has told of the version already: its evaluation may have begun.
    runs.move(
        loop,
        run,
        "evaluation",
        "waiting",
        f"registered as version {version.version}",
        only_if=lambda r: r.stage == "training",
        version=version.version,
    )
    return _outcome(signal, "done", f"registered as version {version.version}", f"{signal.pipeline}:{version.version}")


def _why(reason: str, state: str, last_lines: str) -> str:
    return f"training {state}: {reason or 'no reason was given'}{last_lines}"


def _outcome(signal: TrainingFinished, outcome: str, reason: str, *subjects: str) -> Outcome:
    return Outcome(
        pipeline=signal.pipeline, what="training", outcome=outcome, reason=reason, subjects=(signal.run, *subjects)
    )
