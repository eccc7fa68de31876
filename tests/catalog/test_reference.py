"""docs/pipeline-yaml.md is what the dataclasses say."""

from __future__ import annotations

import re
from pathlib import Path

from landfall.reference import HEAD, reference
from shared.definitions.pipeline_rules import RANGES
from shared.definitions.typed_yaml import Faults, read
from shared.domain.pipelines import Pipeline

PAGE = Path(__file__).resolve().parents[2] / "docs" / "pipeline-yaml.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run: python -m landfall.reference > docs/pipeline-yaml.md"


def test_the_pages_example_is_a_valid_file() -> None:
    example = re.search(r"```yaml\n(.*?)```", HEAD, re.DOTALL)
    assert example is not None
    faults = Faults("example")
    assert read(example[1], Pipeline, faults) is not None
    assert faults.all() == []


def test_every_bound_is_of_a_field_and_holds_for_its_default() -> None:
    faults = Faults("example")
    pipeline = read("{name: abc, landing: {path: a}, features: {key: k, label: l}}", Pipeline, faults)
    for field, (_, holds) in RANGES.items():
        value: object = pipeline
        for step in field.split("."):
            value = getattr(value, step)
        assert value is None or holds(value), field
