from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from shared.definitions.catalog import Catalog
from shared.definitions.last_valid import LastValid
from shared.errors import ConfigurationError
from shared.loop import Loop
from shared.scoring.answering import score


def test_a_live_model_answers_while_its_folder_has_faults(loop: Loop, tmp_path: Path) -> None:
    root = shutil.copytree(loop.catalog.root, tmp_path / "pipelines")

    def started() -> Loop:
        return replace(loop, catalog=Catalog(root, last_valid=LastValid(loop.ports.ledger, loop.ports.clock)))

    before = started()
    before.catalog.keep(before.catalog.get("spend"))
    rows = {"data": [[24, 56.3]]}
    wanted = score(before, "spend", rows, request_id="r1")["predictions"]
    (root / "spend" / "train.py").unlink()
    (root / "spend" / "pipeline.yaml").write_text("name: spe")
    with pytest.raises(ConfigurationError):
        score(replace(loop, catalog=Catalog(root)), "spend", rows, request_id="r2")
    assert score(before, "spend", rows, request_id="r3")["predictions"] == wanted
    assert score(started(), "spend", rows, request_id="r4")["predictions"] == wanted
