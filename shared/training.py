"""One training at a time for a model; of those that wait, the newest."""

from __future__ import annotations

from dataclasses import replace

from shared import pipeline_states, runs
from shared.definitions.catalog import PipelineFolder
from shared.domain.ledger import PipelineState, Run
from shared.errors import Rejected
from shared.features import manifests
from shared.loop import Loop
from shared.ports.training_service import CommandJob

COMMAND = (
    "python {script} --data ${{{{inputs.training_data}}}} --test-data ${{{{inputs.test_data}}}} "
    "--model-output ${{{{outputs.model_output}}}}"
)


def job_name(run: Run) -> str:
    """The name of a run's training job."""
    return f"{run.id}-train-{run.attempt}"


def request(loop: Loop, folder: PipelineFolder, run: Run) -> str:
    """Train ``run`` now, or let it wait in place of an older one that waits. Returns what was done, in words.

    A run that comes late is superseded by a newer one that has got as far: that one knows all that it knows.
    """
    name = folder.pipeline.name
    newer = displaced = ""

    def take(state: PipelineState) -> PipelineState:
        nonlocal newer, displaced
        newer = "" if state.training == run.id else _newer(loop, state, run)
        displaced = ""
        if newer or state.training == run.id:
            return state
        displaced = state.waiting if state.waiting != run.id else ""
        if state.training or state.frozen:
            return replace(state, waiting=run.id)
        return replace(state, training=run.id, waiting="")

    state = pipeline_states.update(loop, name, take)
    if newer:
        _supersede(loop, run, newer)
        return f"superseded: {newer} is newer"
    if displaced:
        _supersede(loop, runs.read(loop, name, displaced), run.id)
    if state.training == run.id:
        return submit(loop, folder, run)
    reason = f"{name} is frozen" if state.frozen else f"after the training of {state.training}"
    # Not when it has had its turn meanwhile.
    runs.move(loop, run, "training", "waiting", reason, only_if=lambda r: r.job != job_name(r))
    return f"waits for training: {reason}"


def _newer(loop: Loop, state: PipelineState, run: Run) -> str:
    for run_id in state.active_runs:
        other = loop.ports.ledger.read(Run, run.pipeline, run_id)
        if other and not other.ended and other.stage != "features" and other.created_at > run.created_at:
            return other.id
    return ""


def _supersede(loop: Loop, run: Run, newer: str) -> None:
    reason = f"{newer} is newer and trains in its place"
    runs.end(loop, run, "superseded", reason, only_if=lambda r: r.job != job_name(r))


def submit(loop: Loop, folder: PipelineFolder, run: Run) -> str:
    """Submit the training job of the run whose turn it is, the same however often. Returns what was done, in words.

    While the folder has faults it is not submitted: reconcile goes on with it once they are mended.
    """
    pipeline = folder.pipeline
    if folder.faults:
        reason = f"until the faults of pipeline {pipeline.name} are mended, see landfall check"
        runs.move(loop, run, "training", "waiting", reason, only_if=lambda r: r.job != job_name(r))
        return f"waits for training: {reason}"
    try:
        manifest = manifests.read(loop.ports.lake, manifests.place(run.features))
        job = CommandJob(
            name=job_name(run),
            experiment=pipeline.name,
            code=folder.folder,
            command=COMMAND.format(script=pipeline.training.script),
            timeout=pipeline.training.timeout,
            environment=pipeline.training.environment,
            image=pipeline.training.image,
            compute=pipeline.training.compute,
            inputs={"training_data": manifest.train, "test_data": manifest.test},
            outputs={"model_output": "mlflow_model"},
            tags={
                "landfall.pipeline": pipeline.name,
                "landfall.run": run.id,
                "landfall.step": "train",
                "landfall.data_version": str(manifest.table_version),
            },
        )
        # Entered first: the job may end, and say so, before this process has come any further.
        run = runs.move(
            loop,
            run,
            "training",
            "running",
            f"job {job.name}",
            only_if=lambda r: r.stage == "training",
            job=job.name,
        )
        if run.ended or run.stage != "training":
            release(loop, folder, run.id)
            return f"the run is already {run.status} in stage {run.stage}"
        loop.ports.training.submit(job)
    except Rejected as error:
        reason = f"training cannot begin: {error}"
        runs.end(loop, run, "failed", reason)
        release(loop, folder, run.id)
        return reason
    return f"training job {job.name} submitted on {manifest.train_rows:,} rows"


def release(loop: Loop, folder: PipelineFolder, run_id: str) -> None:
    """The run trains no more: the one that waits has its turn, unless the pipeline is frozen."""
    name = folder.pipeline.name

    def hand_over(state: PipelineState) -> PipelineState:
        if state.training not in ("", run_id):
            return state
        if state.frozen:
            return replace(state, training="")
        return replace(state, training=state.waiting, waiting="")

    state = pipeline_states.update(loop, name, hand_over)
    if state.training and state.training != run_id:
        submit(loop, folder, runs.read(loop, name, state.training))


def resume(loop: Loop, folder: PipelineFolder) -> None:
    """After a freeze: let the run that waits train."""
    state = pipeline_states.read(loop, folder.pipeline.name)
    if state.waiting and not state.training:
        request(loop, folder, runs.read(loop, folder.pipeline.name, state.waiting))
