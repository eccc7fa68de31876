"""landfall score against Azure: the file goes into the lake there, and its predictions come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import landfall.scoring
from landfall.scoring import score_table
from shared.adapters.local.run_ledger import SqliteLedger
from shared.definitions.catalog import Catalog
from shared.domain.ledger import PipelineState
from shared.errors import Rejected
from shared.loop import Loop
from shared.ports import Ports
from shared.predictions.prediction_log import PredictionLog
from shared.settings import Settings
from tests.contracts.scoring_azure import ScoringAzure, scoring_azure
from tests.moving_clock import MovingClock
from tests.scoring.models import make_registry
from tests.standin import Storage


def loop_on(azure: ScoringAzure, home: Path) -> Loop:
    """A loop of which scoring needs the lake, the batch service and a ledger in which version 1 is the champion."""
    folder = home / "pipelines" / "spend"
    folder.mkdir(parents=True)
    (folder / "pipeline.yaml").write_text(
        "name: spend\nlanding: {path: landing/spend}\nfeatures: {key: customer_id, label: spent}\n"
    )
    (folder / "features.sql").write_text("SELECT customer_id, tenure, monthly, spent FROM landed")
    for name in ("train.py", "environment.yml"):
        (folder / name).touch()
    clock, unused, ledger = MovingClock(), None, SqliteLedger(home / "ledger.db")
    others: dict[str, Any] = dict.fromkeys(("queue", "features", "training", "registry", "endpoints", "events"), unused)
    ports = Ports(lake=azure.lake, ledger=ledger, batch=azure.service, clock=clock, **others)
    ledger.insert(PipelineState(pipeline="spend", champion="1"))
    settings = Settings(
        backend="azure", home=home, port=0, pipelines=home / "pipelines", account="landfall", container="lake"
    )
    return Loop(settings, Catalog(settings.pipelines), ports, PredictionLog(azure.lake, clock))


def test_a_table_is_scored_on_azure_by_the_same_command(
    azurite: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landfall.scoring, "PAUSE_SECONDS", 0.05)
    table = tmp_path / "rows.csv"
    table.write_text("customer_id,tenure,monthly\na,3,10\nb,4,20\nc,five,20\n")
    with scoring_azure(tmp_path, azurite, make_registry(tmp_path / "models")) as azure:
        loop = loop_on(azure, tmp_path)
        monkeypatch.setattr(landfall.scoring, "open_loop", lambda: loop)
        # The first answer to the job is lost, and found by the second try.
        azure.standin.faults.add("POST .*/createRun", after=True, status=503)
        said = score_table("spend", table, None, quiet=True)
        again = score_table("spend", table, tmp_path / "again.parquet", quiet=True)
        assert len(azure.standin.pipelines.runs) == 1
        with pytest.raises(Rejected, match=r"hopeless\.csv was not scored: none of the first 1 rows"):
            (tmp_path / "hopeless.csv").write_text("customer_id,tenure,monthly\na,x,y\n")
            score_table("spend", tmp_path / "hopeless.csv", None, quiet=True)
    assert (said["rows"], said["problems"], said["version"]) == (3, 1, "1")
    assert said["predictions"] == str(tmp_path / "rows.predictions.parquet")
    scored = pq.read_table(said["predictions"]).to_pylist()
    assert [row["customer_id"] for row in scored] == ["a", "b", "c"]
    assert [row["prediction"] for row in scored] == pytest.approx([120, 240, None])
    assert pq.read_table(again["predictions"]).to_pylist() == scored
