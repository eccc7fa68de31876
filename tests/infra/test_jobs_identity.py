"""What jobs on the cluster do as its identity, behind a door that asks for the roles that they are given."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from landfall.setup.role import GRANTS, ROLES
from shared.adapters.azure.credential import AppCredential
from shared.adapters.azure.lake import BlobLake
from shared.adapters.local.model_registry import MlflowRegistry
from shared.domain.records import to_record
from shared.errors import LandfallError
from shared.jobs import score_lake
from shared.ports.batch_service import BatchScoringJob
from shared.settings import ROOT
from tests.azurite import Azurite, Unavailable
from tests.scoring.models import customers, register
from tests.standin.resource_manager import HOME
from tests.standin.storage_gate import READER
from tests.standin.subscription import Subscription

JOBS_ID = "00000000-0000-0000-0000-0000000000d1"
JOBS_CLIENT = "00000000-0000-0000-0000-0000000000d2"
LAKE = f"{HOME}/Microsoft.Storage/storageAccounts/landfall/blobServices/default/containers/lake"
JOB = BatchScoringJob(
    name="spend-score-1", pipeline="spend", model="spend", version="1", input="in/", output="out/scored.parquet",
    key="customer_id", label="spent",
)  # fmt: skip


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Subscription]:
    """A subscription in which the caller is the cluster's identity, which has no role yet."""
    emulator = Azurite(tmp_path / "azurite")
    try:
        storage = emulator.start()
    except Unavailable as error:
        pytest.skip(str(error))
    made = Subscription(tmp_path / "subscription", storage)
    made.start()
    made.blobs.ensure("lake")
    made.identity.object_id, made.identity.client_id = JOBS_ID, JOBS_CLIENT
    for name, value in {**made.environment(), "DEFAULT_IDENTITY_CLIENT_ID": JOBS_CLIENT}.items():
        monkeypatch.setenv(name, value)
    yield made
    found = [*made.crashes, *made.refused]
    made.stop()
    emulator.stop()
    assert not found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A regression: twelve times the monthly amount."""
    from sklearn.linear_model import LinearRegression

    home = tmp_path_factory.mktemp("models")
    numbers = customers()[["tenure", "monthly"]].astype("float64")
    fitted = LinearRegression().fit(numbers, numbers["monthly"] * 12)
    return register(MlflowRegistry(home), home, "spend", fitted, numbers)


def test_batch_scoring_on_the_cluster_is_let_in_by_the_roles_that_jobs_get(
    azure: Subscription, model: Path, tmp_path: Path
) -> None:
    for grant in GRANTS:
        if (grant.who, grant.where) == ("jobs", "lake"):
            give(azure, ROLES[grant.role])
    assert run(azure, model, tmp_path) == 0
    azure_lake = BlobLake("https://landfall.blob.core.windows.net", "landfall", "lake", AppCredential(JOBS_CLIENT))
    azure_lake.download(JOB.output, tmp_path / "scored.parquet")
    assert pq.read_table(tmp_path / "scored.parquet").column("prediction").to_pylist() == pytest.approx([120.0])
    assert json.loads(azure_lake.read("batch/jobs/spend-score-1/progress.json"))["state"] == "completed"
    assert {call.status for call in azure.made("landfall.blob.core.windows.net/lake")}.isdisjoint({401, 403})


def test_a_cluster_that_may_only_read_the_lake_is_not_let_in(azure: Subscription, model: Path, tmp_path: Path) -> None:
    give(azure, READER)
    with pytest.raises(LandfallError, match="AuthorizationPermissionMismatch"):
        run(azure, model, tmp_path)


def test_no_other_job_opens_a_service_as_the_cluster() -> None:
    """A new one has to be run above."""
    opened = {
        path.stem
        for folder in ("jobs", "models", "spark")
        for path in (ROOT / "shared" / folder).glob("*.py")
        if re.search(r"cluster_identity|AppCredential|DefaultAzureCredential", path.read_text(encoding="utf-8"))
    }
    assert opened == {"score_lake"}


def give(azure: Subscription, role: str) -> None:
    """Let the cluster's identity have a role on the lake's container."""
    place = f"{LAKE}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}"
    azure.arm.put(place, {"principalId": JOBS_ID, "roleDefinitionId": f"/roleDefinitions/{role}", "scope": LAKE})


def run(azure: Subscription, model: Path, home: Path) -> int:
    """The job, as the cluster starts it, on one row."""
    data = home / "data"
    data.mkdir()
    (data / "rows.csv").write_text("customer_id,tenure,monthly\na,3,10\n")
    azure.blobs.write("lake", "in/rows.csv", (data / "rows.csv").read_bytes())
    order = home / "job.json"
    scoring = score_lake.LakeScoring(job=JOB, account="landfall", container="lake", folder=f"batch/jobs/{JOB.name}")
    order.write_text(json.dumps(to_record(scoring)))
    return score_lake.main([str(order), str(data), str(model)])
