"""Somebody who has set everything, and is not signed in to Azure."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from shared.settings import ROOT

SETTINGS = {
    "LANDFALL_BACKEND": "azure",
    "LANDFALL_FUNCTION_APP": "app",
    "LANDFALL_SUBSCRIPTION": "00000000-0000-0000-0000-000000000000",
    "LANDFALL_RESOURCE_GROUP": "group",
    "LANDFALL_WORKSPACE": "workspace",
    "LANDFALL_LAKE_ACCOUNT": "lakeaccount",
    "AzureWebJobsStorage__accountName": "appaccount",
    "LANDFALL_SYNAPSE": "synapse",
    "LANDFALL_SPARK_POOL": "pool",
    "LANDFALL_EVENTS_TOPIC": "https://topic.example/api/events",
    # Nothing is to be found outside, and at once.
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential",
}


@pytest.mark.parametrize("command", ["setup", "doctor"])
def test_to_sign_in_is_asked_for_once(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "landfall.cli", command],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **SETTINGS},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 1, said
    assert said.count("az login") == 1
    assert said.count("EnvironmentCredential authentication unavailable") == 1
