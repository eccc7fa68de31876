"""How the run is laid out: folders in memory, and files in an order in which all processes end together."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

MEMORY = Path("/dev/shm")
ROOM = 8 << 30
"""Bytes; the whole run leaves a quarter of it."""
TOGETHER = ("tests/spark",)
"""Folders whose files one process runs, because each further process would start another Java."""
LONG = (
    "spark",
    "reactions/test_crashes.py",
    "worker/test_azure.py",
    "contracts/test_batch_service.py",
    "scenarios/test_customer_churn.py",
    "scenarios/test_one_model.py",
    "scenarios/test_new_pipeline.py",
    "contracts/test_feature_engine.py",
    "docs/test_readme.py",
    "scenarios/test_host_death.py",
    "scenarios/test_bad_days.py",
    "contracts/test_model_registry.py",
    "contracts/test_endpoint_service.py",
    "worker/test_laptop.py",
    "wire/test_loop.py",
    "wire/test_score_command.py",
    "wire/test_inference_server.py",
    "scaffold/test_scaffold.py",
)
"""Below tests/, each of 20 seconds and more."""


def pytest_configure(config: pytest.Config) -> None:
    """Folders of tests lie in memory where that has room.

    What the tests stop are processes, never the machine, so that nothing is seen of a disk but waiting for it.
    """
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick files first, then the long ones, the longest before."""
    order = {f"tests/{name}": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(scope(item.nodeid), -1))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """Files are run whole, and what belongs together by one process."""
    return ByScope(config, log)


class ByScope(LoadFileScheduling):
    """Gives a process one scope after the other."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)


def scope(nodeid: str) -> str:
    """The file of a test, or the folder that is run as one."""
    file = nodeid.partition("::")[0]
    return next((folder for folder in TOGETHER if file.startswith(f"{folder}/")), file)
