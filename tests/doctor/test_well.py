"""An installation that is well, and one that nobody can examine."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from landfall.cli import app
from shared.settings import load
from tests.doctor.conftest import Installation
from tests.setup.conftest import APP


def test_an_installation_that_setup_made_is_well(installation: Installation) -> None:
    code, found = installation.examined()
    assert [finding for finding in found if finding["state"] != "ok"] == []
    assert code == 0
    examined = {finding["check"] for finding in found}
    assert examined >= {
        *("clock", "token", "app identity", "app settings", "functions", "lake", "queue", "ledger", "Azure ML"),
        *("Spark pool", "compute", "quota", "endpoint", "role assignment", "event subscription", "landing"),
    }


def test_a_probe_leaves_nothing_behind(installation: Installation) -> None:
    from azure.storage.blob import ContainerClient
    from azure.storage.queue import QueueServiceClient

    from shared.adapters.azure.credential import AppCredential

    installation.examined()
    credential, account = AppCredential(load().client_id), "https://landfall.{}.core.windows.net"
    with ContainerClient(account.format("blob"), "lake", credential=credential) as lake:
        assert [name for name in lake.list_blob_names() if name.startswith("doctor/")] == []
    with QueueServiceClient(account.format("queue"), credential=credential) as queues:
        assert [queue.name for queue in queues.list_queues() if queue.name.startswith("doctor-")] == []


@pytest.mark.parametrize("client", ["", "00000000-0000-0000-0000-0000000000ff"], ids=["missing", "wrong"])
def test_a_missing_or_wrong_client_id_is_said_of_each_token_and_hides_nothing(
    installation: Installation, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_CLIENT_ID", client)
    code, found = installation.examined()
    assert code == 1
    tokens = [finding for finding in found if finding["check"] == "token"]
    assert [token["state"] for token in tokens] == ["wrong"] * 5
    assert all("set AZURE_CLIENT_ID to the client id" in token["cure"] for token in tokens)
    assert all((client or "not set now") in token["cure"] for token in tokens)
    rest = [finding for finding in found if finding["check"] in ("lake", "Azure ML", "Spark pool", "role assignment")]
    assert {finding["state"] for finding in rest} == {"unknown"}
    assert {finding["state"] for finding in found if finding["check"] in ("clock", "pipelines")} == {"ok"}


def test_settings_that_are_missing_are_findings_with_their_cures(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LANDFALL_SYNAPSE")
    monkeypatch.delenv("LANDFALL_WORKSPACE")
    code, found = installation.examined()
    assert code == 1
    settings = {finding["subject"]: finding["cure"] for finding in found if finding["check"] == "settings"}
    assert settings == {
        "LANDFALL_SYNAPSE": "Name the Synapse workspace.",
        "LANDFALL_WORKSPACE": "Name the Azure ML workspace.",
    }
    monkeypatch.setenv("LANDFALL_SYNAPSE", "s")
    monkeypatch.setenv("LANDFALL_WORKSPACE", "w")
    monkeypatch.delenv("LANDFALL_FUNCTION_APP")
    said = CliRunner().invoke(app, ["doctor"])
    assert said.exit_code == 1
    assert "LANDFALL_FUNCTION_APP: is not set" in said.output


def test_who_runs_doctor_needs_no_role_of_the_app_s(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = "00000000-0000-0000-0000-0000000000aa"
    monkeypatch.setattr(installation.azure.identity, "object_id", operator)
    code, found = installation.examined()
    assert {finding["check"] for finding in found if finding["state"] == "skipped"} == {
        *("lake", "queue", "ledger", "Azure ML", "Spark pool")
    }
    assert [finding for finding in found if finding["state"] in ("wrong", "unknown")] == []
    assert code == 0
    assert any(operator in finding["what"] for finding in found if finding["check"] == "token")


def test_of_several_identities_the_one_that_the_app_names_is_examined(installation: Installation) -> None:
    identities = installation.azure.arm.of(APP)["identity"]["userAssignedIdentities"]
    other = {"principalId": "00000000-0000-0000-0000-0000000000dd", "clientId": "00000000-0000-0000-0000-0000000000d1"}
    present = dict(identities)
    identities.clear()
    identities.update({"another": other, **present})
    code, found = installation.examined()
    identities.clear()
    identities.update(present)
    assert [finding for finding in found if finding["state"] != "ok"] == []
    assert code == 0
