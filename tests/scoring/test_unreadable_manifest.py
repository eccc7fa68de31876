from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shared.adapters.local.lake import FolderLake
from shared.errors import Rejected
from shared.loop import Loop
from shared.scoring import answering, model_input


@pytest.fixture
def overwritten(loop: Loop, tmp_path: Path) -> Iterator[Loop]:
    """The loop with a lake where somebody wrote over the manifest of the champion's features."""
    home = tmp_path / "lake"
    shutil.copytree(loop.ports.lake.uri("features/customer-churn"), home / "features" / "customer-churn")
    lake = FolderLake(home, "landfall", "lake")
    lake.write("features/customer-churn/run1/manifest.json", b"PAR1")
    model_input._known.clear()
    yield replace(loop, ports=replace(loop.ports, lake=lake))
    model_input._known.clear()


def test_a_raw_row_is_refused_in_words_when_the_manifest_is_none(overwritten: Loop) -> None:
    with pytest.raises(Rejected, match="is no manifest"):
        answering.score(overwritten, "customer-churn", {"dataframe_records": [{"contract": "x"}]}, request_id="r1")
