"""One training at a time for a model; of those that wait, the newest."""

from __future__ import annotations

from dataclasses import replace

from shared import preparation, runs
from shared.catalog import PipelineFolder
from shared.domain.ledger import PipelineState, Run
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
    """Train ``run`` now, or let it wait in place of an older one that waits. Returns what was done, in words."""
    name = folder.pipeline.name

    def take(state: PipelineState | None) -> PipelineState:
        state = state or PipelineState(pipeline=name)
        if state.training == run.id:
            return state
        if state.training or state.frozen:
            return replace(state, waiting=run.id)
        return replace(state, training=run.id, waiting="" if state.waiting == run.id else state.waiting)

    before = runs.state_of(loop, name).waiting
    state = loop.ports.ledger.update(PipelineState, name, "state", take)
    if state.training == run.id:
        return submit(loop, folder, run)
    if before and before != run.id:
        runs.end(
            loop, runs.read(loop, name, before), "superseded", f"{run.id} is newer and waits for training in its place"
        )
    reason = f"{name} is frozen" if state.frozen else f"after the training of {state.training}"
    runs.move(loop, run, "training", "waiting", reason)
    return f"waits for training: {reason}"


def submit(loop: Loop, folder: PipelineFolder, run: Run) -> str:
    """Submit the training job of the run whose turn it is. The same run and attempt submit the same job."""
    pipeline = folder.pipeline
    manifest = preparation.read_manifest(loop, run.features)
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
    loop.ports.training.submit(job)
    runs.move(loop, run, "training", "running", f"job {job.name}", job=job.name)
    return f"training job {job.name} submitted on {manifest.train_rows:,} rows"


def release(loop: Loop, folder: PipelineFolder, run_id: str) -> None:
    """The run trains no more: the one that waits has its turn, unless the pipeline is frozen."""
    name = folder.pipeline.name

    def hand_over(state: PipelineState | None) -> PipelineState:
        state = state or PipelineState(pipeline=name)
        if state.training not in ("", run_id):
            return state
        if state.frozen:
            return replace(state, training="")
        return replace(state, training=state.waiting, waiting="")

    state = loop.ports.ledger.update(PipelineState, name, "state", hand_over)
    if state.training and state.training != run_id:
        submit(loop, folder, runs.read(loop, name, state.training))


def resume(loop: Loop, folder: PipelineFolder) -> None:
    """After a freeze: let the run that waits train."""
    state = runs.state_of(loop, folder.pipeline.name)
    if state.waiting and not state.training:
        request(loop, folder, runs.read(loop, folder.pipeline.name, state.waiting))
