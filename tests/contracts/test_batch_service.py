"""What every BatchService does, whatever the backend."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.adapters.local.batch_service import ProcessBatchService
from shared.adapters.local.lake import FolderLake
from shared.adapters.local.model_registry import MlflowRegistry
from shared.domain.records import to_record
from shared.errors import Missing, Rejected
from shared.jobs.score_batch import ScoringSpec
from shared.models.served_model import ServedModel
from shared.ports.batch_service import BatchScoringJob, BatchService
from shared.ports.feature_engine import Manifest
from shared.ports.jobs import JobStatus
from shared.ports.lake import Lake
from shared.settings import ROOT
from tests.contracts.scoring_azure import QUERY, scoring_azure
from tests.scoring.models import LANDED, SQL, customers, landed, make_registry, tenure_in_thousands
from tests.standin.pipelines import Pipelines

PATIENCE = 90
HOPELESS = "none of the first 1 rows can be scored: tenure: x is no double"
same_code = pytest.mark.same_code


class Harness:
    """A backend's batch service with its lake, and the registry that has the models' files on this machine.

    ``at_once`` is how many seconds a submit may take, ``pool`` has the SQL pool.
    """

    def __init__(
        self,
        service: BatchService,
        lake: Lake,
        registry: MlflowRegistry,
        *,
        at_once: float = 1,
        pool: Pipelines | None = None,
    ) -> None:
        self.service = service
        self.lake = lake
        self.registry = registry
        self.at_once = at_once
        self.pool = pool
        self._jobs = 0

    def job(self, input: str, **changes: Any) -> BatchScoringJob:
        self._jobs += 1
        job = BatchScoringJob(
            name=f"score-{self._jobs}-{time.monotonic_ns()}",
            pipeline="customer-churn",
            model="customer-churn",
            version="1",
            input=input,
            output=f"scored/{self._jobs}.parquet",
            key="customer_id",
            label="churn",
            features="features/customer-churn/run1",
        )
        return replace(job, **changes)

    def ended(self, job: BatchScoringJob) -> JobStatus:
        end, pause = time.monotonic() + PATIENCE, 0.02
        while time.monotonic() < end:
            status = self.service.status(job.name)
            assert status is not None
            if status.ended:
                return status
            # A look costs a stand-in's Azure as much as it costs this side.
            pause = min(2 * pause, 0.5)
            time.sleep(pause)
        raise AssertionError(f"{job.name} has not ended")

    def run(self, job: BatchScoringJob) -> JobStatus:
        self.service.submit(job)
        return self.ended(job)

    def completed(self, job: BatchScoringJob) -> pd.DataFrame:
        status = self.run(job)
        assert status.state == "completed", status
        return pq.read_table(BytesIO(self.lake.read(job.output))).to_pandas()

    def expected(self, frame: pd.DataFrame) -> tuple[list[str], list[float]]:
        answer = ServedModel(self.registry.model_folder("customer-churn", "1")).predict_frame(frame)
        assert answer.probabilities is not None
        return answer.values, [row[1] for row in answer.probabilities]


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> MlflowRegistry:
    return make_registry(tmp_path_factory.mktemp("models"))


@pytest.fixture(params=["local", "azure"], scope="module")
def harness(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, registry: MlflowRegistry
) -> Iterator[Harness]:
    home = tmp_path_factory.mktemp("home")
    with ExitStack() as ends:
        if request.param == "local":
            folder = FolderLake(home / "lake", "landfall", "lake")
            made = Harness(ProcessBatchService(home, folder, registry), folder, registry)
        else:
            azure = ends.enter_context(scoring_azure(home, request.getfixturevalue("azurite"), registry))
            # The first job of a version makes its deployment, and imports the client for that.
            made = Harness(azure.service, azure.lake, registry, at_once=30, pool=azure.standin.pipelines)
        manifest = Manifest(
            run="run1", pipeline="customer-churn", status="ready", fingerprint="f", sql=SQL, row_wise=True,
            created_at=datetime(2026, 1, 1, tzinfo=UTC), landed_columns=LANDED,
        )  # fmt: skip
        made.lake.write("features/customer-churn/run1/manifest.json", json.dumps(to_record(manifest)).encode())
        yield made


def test_a_job_that_was_never_submitted_has_no_state(harness: Harness) -> None:
    assert harness.service.status("never") is None


def test_a_version_with_a_compiled_form_is_scored_in_it(harness: Harness, tmp_path: Path) -> None:
    """The form here is that of another model, to tell who answered."""
    harness.lake.write("models/spend/1/compiled.onnx", tenure_in_thousands(tmp_path / "model"))
    frame = customers(50, seed=9)[["tenure", "monthly"]].astype("float64")
    harness.lake.write("in/spend.parquet", _parquet(frame))
    scored = harness.completed(harness.job("in/spend.parquet", model="spend", features=""))
    harness.lake.delete("models/spend/1/compiled.onnx")
    assert scored["prediction"].to_list() == pytest.approx((frame["tenure"] * 1000).to_list(), abs=1e-6)


def test_features_are_scored_with_their_keys_in_the_input_s_order(harness: Harness) -> None:
    frame = customers(60_000, seed=5)
    harness.lake.write("in/features.parquet", _parquet(frame.assign(customer_id=[f"c{i}" for i in range(len(frame))])))
    scored = harness.completed(harness.job("in/features.parquet"))
    values, probability = harness.expected(frame)
    assert list(scored.columns) == ["customer_id", "prediction", "probability", "version", "problem"]
    assert scored["customer_id"].tolist() == [f"c{i}" for i in range(len(frame))]
    assert scored["prediction"].tolist() == values
    np.testing.assert_allclose(scored["probability"], probability, rtol=1e-12)
    assert set(scored["version"]) == {"1"}
    assert scored["problem"].isna().all()


@pytest.mark.parametrize(
    "format", ["csv", pytest.param("jsonl", marks=same_code), pytest.param("parquet", marks=same_code)]
)
def test_landed_columns_go_through_features_sql(harness: Harness, format: str) -> None:
    frame = customers(200, seed=8)
    raw = landed(frame)
    data = {
        "csv": lambda: raw.to_csv(index=False).encode(),
        "jsonl": lambda: raw.to_json(orient="records", lines=True, date_format="iso").encode(),
        "parquet": lambda: _parquet(raw),
    }[format]()
    harness.lake.write(f"in/raw.{format}", data)
    scored = harness.completed(harness.job(f"in/raw.{format}"))
    values, probability = harness.expected(frame)
    assert scored["customer_id"].tolist() == raw["customer_id"].tolist()
    assert scored["prediction"].tolist() == values
    np.testing.assert_allclose(scored["probability"], probability, rtol=1e-9)


@same_code
def test_a_row_that_cannot_be_scored_says_why_and_the_others_are_scored(harness: Harness) -> None:
    rows = [
        "customer_id,months,cents,contract,senior,since",
        "a,3,7050,month,true,2021-02-03",
        "b,three,7050,month,true,2021-02-03",
        "c,3,,month,true,2021-02-03",
        "d,200,7050,month,true,2021-02-03",
        "e,3,1.5,month,true,2021-02-03",
        "f,30,2000,,false,2021-02-03",
    ]
    harness.lake.write("in/bad.csv", "\n".join(rows).encode())
    scored = harness.completed(harness.job("in/bad.csv")).set_index("customer_id")
    assert scored["prediction"].notna().to_dict() == {
        "a": True,
        "b": False,
        "c": False,
        "d": False,
        "e": False,
        "f": True,
    }
    problems = scored["problem"].to_dict()
    assert "months: three is no int" in problems["b"]
    assert "monthly: a value is required" in problems["c"]
    assert "keeps only rows where months <= 120" in problems["d"]
    assert "cents: 1.5 is no int" in problems["e"]


def test_a_folder_is_scored_as_one_and_rows_without_a_key_are_counted(harness: Harness) -> None:
    frame = customers(30)
    for i in range(3):
        harness.lake.write(f"in/folder/part-{i}.parquet", _parquet(frame.iloc[i * 10 : i * 10 + 10]))
    harness.lake.write("in/folder/_SUCCESS", b"")
    scored = harness.completed(harness.job("in/folder/"))
    assert scored["row"].tolist() == list(range(1, 31))
    assert scored["prediction"].tolist() == harness.expected(frame)[0]


@same_code
def test_a_regression_has_no_probability(harness: Harness) -> None:
    harness.lake.write("in/spend.csv", b"tenure,monthly\n3,10\n4,20\n")
    scored = harness.completed(harness.job("in/spend.csv", model="spend", features=""))
    np.testing.assert_allclose(scored["prediction"], [120, 240])
    assert scored["probability"].isna().all()


def test_a_second_submit_meets_the_first_job(harness: Harness) -> None:
    harness.lake.write("in/once.csv", b"tenure,monthly\n3,10\n")
    job = harness.job("in/once.csv", model="spend", features="")
    first = harness.completed(job)
    etag = harness.lake.stat(job.output)
    harness.service.submit(job)
    assert harness.ended(job).state == "completed"
    assert harness.lake.stat(job.output) == etag
    assert len(first) == 1


def test_submitting_returns_at_once(harness: Harness) -> None:
    harness.lake.write("in/quick.csv", b"tenure,monthly\n3,10\n")
    job = harness.job("in/quick.csv", model="spend", features="")
    start = time.monotonic()
    harness.service.submit(job)
    assert time.monotonic() - start < harness.at_once
    assert harness.service.status(job.name).state in ("queued", "running")  # type: ignore[union-attr]
    harness.ended(job)


def test_an_unknown_model_version_is_missing(harness: Harness) -> None:
    with pytest.raises(Missing, match="99"):
        harness.service.submit(harness.job("in/any.csv", version="99"))


@pytest.mark.parametrize("path", ["../out.parquet", "/etc/out.parquet"])
def test_paths_outside_of_the_lake_are_rejected(harness: Harness, path: str) -> None:
    with pytest.raises(Rejected):
        harness.service.submit(harness.job("in/any.csv", output=path))
    with pytest.raises(Rejected):
        harness.service.submit(harness.job(path))


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("gone.csv", None, "cannot be read"),
        pytest.param("corrupt.parquet", b"PAR1 and nothing more", "cannot be read", marks=same_code),
        ("other.csv", b"colour\nred\n", "lacks"),
        pytest.param("notes.txt", b"tenure\n1\n", "neither .parquet nor .csv nor .jsonl", marks=same_code),
        pytest.param("hopeless.csv", b"tenure,monthly\nx,y\n", HOPELESS, marks=same_code),
        pytest.param("empty.csv", b"tenure,monthly\n", "has no rows", marks=same_code),
    ],
)
def test_input_that_cannot_be_scored_fails_with_its_reason_and_leaves_no_output(
    harness: Harness, name: str, data: bytes | None, reason: str
) -> None:
    harness.lake.write("in/another.csv", b"tenure,monthly\n3,10\n")
    if data is not None:
        harness.lake.write(f"in/{name}", data)
    job = harness.job(f"in/{name}", model="spend", features="")
    status = harness.run(job)
    assert status.state == "failed"
    assert reason in " ".join([status.reason, *status.log_tail])
    assert harness.lake.stat(job.output) is None


@pytest.mark.gap("local", "never: a laptop has no SQL pool; a job that asks for one is rejected")
def test_rows_come_from_a_sql_pool_and_predictions_go_into_its_table(harness: Harness) -> None:
    if harness.pool is not None:
        harness.pool.rows[QUERY] = [{"customer_id": c, "tenure": 3.0, "monthly": m} for c, m in (("a", 10), ("b", 20))]
        harness.pool.tables["dbo.spend"] = [{"customer_id": "z", "landfall_job": "another"}]
    job = harness.job("in/queried/", model="spend", features="", query=QUERY, table="dbo.spend")
    harness.service.submit(job)
    assert harness.pool and harness.completed(job)["customer_id"].tolist() == ["a", "b"]
    loaded = harness.pool.tables["dbo.spend"]
    assert [(row["customer_id"], row["landfall_job"]) for row in loaded] == [
        ("z", "another"), ("a", job.name), ("b", job.name),
    ]  # fmt: skip
    np.testing.assert_allclose([row["prediction"] for row in loaded[1:]], [120, 240])


# What is true of the process on a laptop.


def test_a_million_rows_stream_through_bounded_memory(tmp_path: Path, registry: MlflowRegistry) -> None:
    rows, input = 1_000_000, tmp_path / "in.parquet"
    with pq.ParquetWriter(input, pa.schema([("tenure", pa.float64()), ("monthly", pa.float64())])) as writer:
        for start in range(0, rows, 100_000):
            numbers = np.arange(start, start + 100_000, dtype="float64")
            writer.write_table(pa.table({"tenure": numbers % 72, "monthly": numbers % 100}))
    spec = ScoringSpec(
        files=(str(input),), output=str(tmp_path / "out.parquet"), version="1", key="customer_id", label="churn",
        model=str(registry.model_folder("spend", "1")),
    )  # fmt: skip
    (tmp_path / "scoring.json").write_text(json.dumps(to_record(spec)))
    code = (
        # Not ru_maxrss: that begins with what the parent had.
        "import sys; from pathlib import Path; from shared.jobs.score_batch import main; code = main(sys.argv[1:]);"
        "peak = next(line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith('VmHWM'));"
        "print('peak', int(peak.split()[1]) // 1024); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "scoring.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    *_, progress, peak = done.stdout.splitlines()
    assert json.loads(progress)["rows"] == rows
    # Measured: 390 MB, nearly all of it the libraries'.
    assert int(peak.split()[1]) < 600, peak
    assert pq.ParquetFile(tmp_path / "out.parquet").metadata.num_rows == rows
