"""The evaluation job: challenger and champion measured on the same held-out rows.

``python -m shared.jobs.evaluate --challenger DIR [--champion DIR] --test DIR --pipeline FILE --output DIR``
runs in the pipeline's own training environment: beside shared.domain it needs MLflow, pandas and what
the models need, nothing of the app. A model that cannot be measured is a problem in the evaluation, so
that the verdict says why; only unreadable rows make the job fail.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.domain.categories import encode, positive_class, text_of
from shared.domain.compiled import GRAPH
from shared.domain.drift import Profile, profile_of
from shared.domain.gate import Evaluation, Predictions, compare
from shared.domain.metrics import REGRESSION
from shared.domain.performance import Calibration, calibrate
from shared.domain.pipelines import Gate, Pipeline
from shared.domain.records import from_record, to_record
from shared.models import openmp
from shared.models.compile_model import compile_model
from shared.models.compiled_model import load
from shared.models.served_model import ServedModel

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

SMOKE_ROWS = 5
LATENCY_CALLS = 30
LATENCY_SECONDS = 1.5


@dataclass(frozen=True)
class Measured:
    """What one model did with the held-out rows: ``frame`` as it was asked, median latency in milliseconds."""

    frame: pd.DataFrame
    predictions: Predictions
    latency_ms: float


def main(arguments: list[str] | None = None) -> None:
    """Write evaluation.json (an Evaluation), predictions.json (the challenger's Profile) and smoke.json; compiled.onnx,
    too, if the challenger could be compiled and answers the held-out rows alike in that form.

    smoke.json holds columns, rows and predictions of a few held-out rows, to ask a deployment whether it
    answers like the model that was evaluated.
    """
    parser = argparse.ArgumentParser(description="Measure a challenger and the champion on the same held-out rows.")
    parser.add_argument("--challenger", type=Path, required=True, help="folder of an MLflow model")
    parser.add_argument("--champion", type=Path, help="folder of an MLflow model; none: there is no champion yet")
    parser.add_argument("--test", type=Path, required=True, help="folder of parquet with the held-out rows")
    parser.add_argument("--pipeline", type=Path, required=True, help="the pipeline as JSON")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    args = parser.parse_args(arguments)

    pipeline = from_record(Pipeline, json.loads(args.pipeline.read_text()))
    evaluation, challenger = evaluate(args.challenger, args.champion, args.test, pipeline)
    args.output.mkdir(parents=True, exist_ok=True)
    if challenger is not None:
        compiled, graph = compile_model(args.challenger, challenger.frame)
        evaluation = replace(evaluation, compiled=compiled)
        if graph is not None:
            (args.output / GRAPH).write_bytes(graph)
            served = load(args.challenger, args.output / GRAPH)
            evaluation = replace(evaluation, latency_ms=_latency(served.predict_frame, challenger.frame))
        print(compiled.sentence())
    profile = _profile(challenger, pipeline.gate)
    for name, record in (
        ("evaluation.json", to_record(evaluation)),
        ("predictions.json", to_record(profile)),
        ("smoke.json", _smoke(challenger)),
    ):
        (args.output / name).write_text(json.dumps(record, allow_nan=False))
    print(f"{evaluation.rows} held-out rows: challenger {_listed(evaluation.challenger)}")
    if args.champion:
        print(f"champion {_listed(evaluation.champion)}")
    for problem in evaluation.problems:
        print(f"problem: {problem}")


def evaluate(
    challenger: Path, champion: Path | None, test: Path, pipeline: Pipeline
) -> tuple[Evaluation, Measured | None]:
    """The comparison on the rows of ``test``, and what the challenger did, None when it could not be asked."""
    import pandas as pd

    rows = pd.read_parquet(test)
    gate, features = pipeline.gate, pipeline.features
    if features.label not in rows:
        sys.exit(f"the held-out rows have no label column {features.label}, only {', '.join(rows.columns)}")
    y = rows[features.label].to_numpy()
    inputs = rows.drop(columns=[features.key, features.label], errors="ignore")
    problems: list[str] = []
    asked = _ask("challenger", challenger, inputs, problems)
    opponent = _ask("champion", champion, inputs, problems) if champion else None
    absent = [column for column in gate.slices if column not in rows]
    problems += [f"gate.slices names {column}, which the held-out rows do not have" for column in absent]
    size_mb = sum(file.stat().st_size for file in challenger.rglob("*") if file.is_file()) / 1e6
    if asked is None:
        return Evaluation(rows=len(rows), challenger={}, size_mb=size_mb, problems=tuple(problems)), None
    slices = {column: rows[column].to_numpy() for column in gate.slices if column in rows}
    evaluation = compare(y, asked.predictions, opponent.predictions if opponent else None, gate, slices)
    return replace(
        evaluation,
        calibration=_calibration(y, asked.predictions, gate),
        latency_ms=asked.latency_ms,
        champion_latency_ms=opponent.latency_ms if opponent else None,
        size_mb=size_mb,
        problems=(*problems, *evaluation.problems),
    ), asked


def _ask(name: str, folder: Path, inputs: pd.DataFrame, problems: list[str]) -> Measured | None:
    """Load a model and let it predict; what goes wrong is added to ``problems``, with its traceback in the log."""
    try:
        model = ServedModel(folder)
        # As a deployment answers: the latency would be another one with a team of threads.
        openmp.alone()
        missing = [column for column in model.columns if column not in inputs]
        if missing:
            problems.append(f"{name}: needs columns that the held-out rows do not have: {', '.join(missing)}")
            return None
        frame = model.typed(inputs)
        predictions = Predictions(*model.answer_frame(frame), model.classes)
        return Measured(frame, predictions, _latency(model.answer_frame, frame))
    except Exception as error:  # noqa: BLE001 - a model runs code of its own, which may raise anything
        traceback.print_exc()
        problems.append(f"{name}: could not be loaded or asked: {type(error).__name__}: {error}")
        return None


def _latency(predict: Callable[[pd.DataFrame], object], frame: pd.DataFrame) -> float:
    """Median milliseconds of one-row calls after the first few, on different rows; 0 without rows."""
    taken: list[float] = []
    until = time.perf_counter() + LATENCY_SECONDS
    for call in range(LATENCY_CALLS if len(frame) else 0):
        row = call % len(frame)
        one = frame.iloc[row : row + 1]
        start = time.perf_counter()
        predict(one)
        end = time.perf_counter()
        taken.append((end - start) * 1000)
        if end > until:
            break
    return statistics.median(taken[3:] or taken) if taken else 0.0


def _profile(measured: Measured | None, gate: Gate) -> Profile:
    """How the challenger's predictions are spread: ``prediction``, and ``probability`` as the prediction log has it."""
    import numpy as np

    if measured is None:
        return Profile(rows=0, columns={})
    predictions = measured.predictions
    kinds = {"prediction": "numeric" if gate.metric in REGRESSION else "categorical", "probability": "numeric"}
    columns = {"prediction": np.asarray(predictions.labels)}
    if predictions.probabilities is not None and predictions.classes is not None:
        index = positive_class(predictions.classes, gate.positive)
        columns["probability"] = (
            predictions.probabilities.max(axis=1) if index is None else predictions.probabilities[:, index]
        )
    return profile_of(columns, kinds)


def _calibration(y: np.ndarray, predictions: Predictions, gate: Gate) -> Calibration | None:
    """How often the probability that the prediction log has is right; None but for two classes, one positive."""
    import numpy as np

    probabilities, classes = predictions.probabilities, predictions.classes
    if gate.metric in REGRESSION or probabilities is None or classes is None or len(classes) != 2:
        return None
    index = positive_class(classes, gate.positive)
    if index is None or np.shape(probabilities) != (len(y), 2):
        return None
    codes, texts = encode(y)
    said, answers = encode(np.asarray(predictions.labels))
    name = text_of(classes[index])
    known = codes >= 0
    positive, predicted = (
        c == (names.index(name) if name in names else -2) for c, names in ((codes, texts), (said, answers))
    )
    return calibrate(positive[known], predicted[known], np.asarray(probabilities)[known, index])


def _smoke(measured: Measured | None) -> dict[str, Any]:
    if measured is None:
        return {"columns": [], "rows": [], "predictions": []}
    rows = measured.frame.head(SMOKE_ROWS)
    return {
        "columns": list(rows.columns),
        "rows": [[_json(value) for value in row] for row in rows.astype("object").to_numpy().tolist()],
        "predictions": [_json(value) for value in measured.predictions.labels[:SMOKE_ROWS].tolist()],
    }


def _json(value: Any) -> Any:
    """A value as a scoring request has it: nulls and NaN as None, times as ISO 8601 text."""
    if value is None or value != value:
        return None
    return value.isoformat() if hasattr(value, "isoformat") else value


def _listed(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()) or "not measured"


if __name__ == "__main__":
    main()
