from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.conftest import azurite, standin
from tests.worker.python313 import Unavailable, worker_python

__all__ = ["azurite", "python", "standin"]


@pytest.fixture(scope="session")
def python() -> Path:
    """Python 3.13 with what is deployed and Microsoft's worker."""
    try:
        return worker_python()
    except Unavailable as error:
        pytest.skip(str(error))
