"""The features job has ended: turn the batch down, wait for more rows, or train."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from shared import preparation, runs, training
from shared.decisions import Outcome
from shared.domain.ledger import Batch, Landed, Run, path_key
from shared.domain.signals import FeaturesReady
from shared.errors import Missing, Rejected, Transient
from shared.features import manifests
from shared.loop import Loop
from shared.ports.feature_engine import Manifest
from shared.reactions import data_landed

SHOWN = 3
"""Rows of a broken rule that a reason names; the manifest has more."""


def react(signal: FeaturesReady, loop: Loop) -> Outcome:
    """Settle the run's batches by what the manifest says, and go on."""
    folder = loop.catalog.get(signal.pipeline)
    run = loop.ports.ledger.read(Run, signal.pipeline, signal.run)
    if run is None:
        return _outcome(signal, "nothing", f"a manifest arrived for {signal.run}, which is no run of this app")
    if run.stage != "features" or run.ended:
        preparation.release(loop, folder, run.id)
        return _outcome(signal, "nothing", f"the run is already {run.status} in stage {run.stage}")
    manifest = _manifest(loop, run)
    if isinstance(manifest, str):
        preparation.fail(loop, run, manifest)
        outcome = _outcome(signal, "failed", f"{manifest}; the batch is prepared again with the next run")
    elif manifest.status == "rejected":
        outcome = _reject(signal, loop, run, manifest)
    elif manifest.status == "short":
        outcome = _carry(signal, loop, run, manifest)
    else:
        preparation.settle_batches(loop, run, "accepted")
        run = runs.move(
            loop,
            run,
            "training",
            "waiting",
            f"{manifest.train_rows:,} train and {manifest.test_rows:,} held-out rows, "
            f"table version {manifest.table_version}" + (manifest.prepared and f"; {manifest.prepared}"),
            features_version=manifest.table_version,
        )
        said = (manifest.prepared, training.request(loop, folder, run))
        outcome = _outcome(signal, "done", "; ".join(filter(None, said)), *run.batches)
    preparation.release(loop, folder, run.id)
    return outcome


def _manifest(loop: Loop, run: Run) -> Manifest | str:
    """The run's manifest, or why there will be none."""
    try:
        manifest = manifests.read(loop.ports.lake, manifests.place(run.features))
        return manifest if manifest.run == run.id else f"the manifest in {run.features} is of run {manifest.run}"
    except Missing:
        status = loop.ports.features.status(run.job)
    except Rejected as error:
        return str(error)
    if status is None or not status.ended:
        raise Transient(f"the features job of {run.id} has not ended yet")
    return f"features job {status.name} {status.state}: {status.reason or 'it wrote no manifest'}{status.last_lines}"


def _reject(signal: FeaturesReady, loop: Loop, run: Run, manifest: Manifest) -> Outcome:
    """Turn down the batches whose files break a rule; those that only came along are prepared without them."""
    reason = "; ".join(words(fault) for fault in manifest.faults)
    named = {row.get("file") for fault in manifest.faults for row in fault.get("rows") or ()}
    batches = [b for b in (loop.ports.ledger.read(Batch, run.pipeline, batch) for batch in run.batches) if b]
    broken = [b.id for b in batches if named.intersection(file.path for file in b.files)] or list(run.batches)
    others = [b.id for b in batches if b.id not in broken]
    preparation.settle_batches(loop, run, "rejected", reason, batches=broken)
    preparation.settle_batches(loop, run, "failed", f"prepared with rejected batch {broken[0]}", batches=others)
    if others:
        again = runs.begin(
            loop, run.pipeline, f"{run.pipeline}-after-{broken[0]}", "landing", others, f"without batch {broken[0]}"
        )
        preparation.request(loop, loop.catalog.get(run.pipeline), again)
    runs.end(loop, run, "rejected", reason)
    return _outcome(signal, "rejected", reason, *broken)


def words(fault: dict[str, Any]) -> str:
    """A broken rule with where to look: "x is outside 0 to 1 in 2 of 60 rows (a.csv row 7: 3.2, …)"."""
    rows = fault.get("rows") or []
    # Where a whole file is at fault there is no row, and the text names the file.
    told = [row for row in rows if row.get("row") is not None]
    named = [f"{PurePosixPath(str(r.get('file'))).name} row {r['row']}: {r.get('value')}" for r in told[:SHOWN]]
    more = ", …" if len(told) > SHOWN else ""
    return fault["text"].rstrip(".") + (f" ({', '.join(named)}{more})" if named else "")


def _carry(signal: FeaturesReady, loop: Loop, run: Run, manifest: Manifest) -> Outcome:
    folder = loop.catalog.get(signal.pipeline)
    wanted = folder.pipeline.landing.complete.min_rows
    onward: dict[str, None] = {}
    for batch_id in run.batches:
        batch = loop.ports.ledger.read(Batch, run.pipeline, batch_id)
        for file in batch.files if batch else ():
            known = loop.ports.ledger.read(Landed, run.pipeline, path_key(file.path))
            if known and known.batch not in run.batches:
                # It went on before a crash, or was written again since.
                onward[known.batch] = None
            else:
                onward[data_landed.join(loop, folder, file, carried_from=batch).id] = None
    named = ", ".join(onward)
    reason = f"{manifest.landed_rows:,} rows are fewer than min_rows {wanted:,}: they wait for more in batch {named}"
    preparation.settle_batches(loop, run, "carried", reason)
    runs.end(loop, run, "superseded", reason)
    return _outcome(signal, "nothing", reason, *run.batches, *onward)


def _outcome(signal: FeaturesReady, outcome: str, reason: str, *subjects: str) -> Outcome:
    return Outcome(
        pipeline=signal.pipeline, what="features", outcome=outcome, reason=reason, subjects=(signal.run, *subjects)
    )
