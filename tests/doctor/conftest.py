"""A subscription in which everything is as it should be, with a storage account behind it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from landfall.cli import app
from landfall.session import fresh_app
from landfall.setup.plan import apply
from landfall.setup.table import resources
from shared.settings import ROOT, load
from tests.azurite import Azurite, Unavailable
from tests.setup.conftest import APP, APP_CLIENT, ENVIRONMENT, deploy
from tests.standin.subscription import Subscription


@dataclass(frozen=True)
class Installation:
    """An app with its settings; ``examined`` is what doctor says of it."""

    azure: Subscription
    pipelines: Path

    def examined(self) -> tuple[int, list[dict[str, Any]]]:
        """Exit code and findings."""
        ran = CliRunner().invoke(app, ["doctor", "--json"])
        assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
        return ran.exit_code, json.loads(ran.stdout)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One for a file of tests, made by setup."""
    emulator = Azurite(tmp_path_factory.mktemp("azurite"))
    try:
        storage = emulator.start()
    except Unavailable as error:
        pytest.skip(str(error))
    azure = Subscription(tmp_path_factory.mktemp("subscription"), storage)
    azure.start()
    pipelines = tmp_path_factory.mktemp("app") / "pipelines"
    shutil.copytree(ROOT / "pipelines", pipelines, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {
        **azure.environment(),
        **ENVIRONMENT,
        "AzureWebJobsStorage__accountName": storage.account,
        "AZURE_CLIENT_ID": APP_CLIENT,
        "LANDFALL_PIPELINES": str(pipelines),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        deploy(azure)
        azure.identity.client_id = APP_CLIENT
        azure.arm.app_settings = {key: value for key, value in environment.items() if key in {*ENVIRONMENT}}
        azure.arm.app_settings["AZURE_CLIENT_ID"] = APP_CLIENT
        for function in fresh_app().get_functions():
            azure.arm.put(f"{APP}/functions/{function.get_function_name()}", {"isDisabled": False})
        azure.blobs.ensure("lake")
        problems = [outcome for outcome in apply(resources(load())) if outcome.problem]
        assert problems == []
        yield Installation(azure, pipelines)
        found = [*azure.crashes, *azure.refused]
    azure.stop()
    emulator.stop()
    assert not found
