"""Figures of interleaved runs: medians, ratios, and what they were measured on."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Figure:
    """One line of a table: ``median`` and ``worst`` in ``unit``; ``ratio`` to the baseline of its table."""

    benchmark: str
    what: str
    unit: str
    median: float
    worst: float
    runs: int
    ratio: float


def interleaved(
    benchmark: str, unit: str, contenders: Mapping[str, Callable[[], float]], *, runs: int, more_is_better: bool = False
) -> list[Figure]:
    """Measure all contenders in turn, ``runs`` times round after one round that does not count.

    The first contender is the baseline. The ratio is the median of the ratios round by round, so that a
    machine whose speed drifts does not favour one of them.
    """
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for round_number in range(runs + 1):
        for name, measure in contenders.items():
            value = measure()
            if round_number:
                taken[name].append(value)
    return compared(benchmark, unit, taken, more_is_better=more_is_better)


def seconds_and_memory(
    what: str,
    contenders: Mapping[str, Callable[[], tuple[float, float, T]]],
    prove: Callable[[Mapping[str, T]], None],
    *,
    rounds: int,
) -> list[Figure]:
    """Measure whole processes in turn, each giving (seconds, MB at the most, answer); the first is the baseline.

    ``prove`` gets the answers of each round by contender, and raises when they are not what they should be.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    memory: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        answers = {}
        for name, measure in contenders.items():
            took, megabytes, answers[name] = measure()
            seconds[name].append(took)
            memory[name].append(megabytes)
        prove(answers)
    return [*compared(what, "s", seconds), *compared(f"{what}, memory", "MB", memory)]


def compared(
    benchmark: str, unit: str, taken: Mapping[str, Sequence[float]], *, more_is_better: bool = False
) -> list[Figure]:
    """The figures of values that were taken in turn, by contender; the first one is the baseline."""
    baseline = next(iter(taken.values()))
    worst = min if more_is_better else max
    return [
        Figure(
            benchmark,
            name,
            unit,
            statistics.median(values),
            worst(values),
            len(values),
            statistics.median(v / b for v, b in zip(values, baseline, strict=True)),
        )
        for name, values in taken.items()
    ]


def table(figures: list[Figure]) -> str:
    """The figures as a Markdown table."""
    lines = ["| benchmark | what | median | worst | ratio |", "|---|---|---|---|---|"]
    for f in figures:
        lines.append(
            f"| {f.benchmark} | {f.what} | {_number(f.median)} {f.unit} | {_number(f.worst)} {f.unit} | {f.ratio:.2f} |"
        )
    return "\n".join(lines)


def write(figures: list[Figure], place: Path) -> None:
    """All figures with the machine and the versions that they were measured with, as JSON.

    Those of benchmarks that did not run this time stay, with the machine and versions of now. ``load`` is how many
    processes wanted a processor in the minutes before: more than there are cores, and others disturbed.
    """
    packages = ("azure-functions", "duckdb", "mlflow", "numpy", "onnxruntime", "scikit-learn", "uvloop")
    measured = {figure.benchmark for figure in figures}
    before = json.loads(place.read_text())["figures"] if place.exists() else []
    record = {
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "system": platform.system(),
            "load": os.getloadavg()[1],
        },
        "versions": {"python": sys.version.split()[0], **{name: version(name) for name in packages}},
        "figures": [old for old in before if old["benchmark"] not in measured] + [asdict(f) for f in figures],
    }
    place.write_text(json.dumps(record, indent=2) + "\n")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
