"""One Spark for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from landfall.spark import local_spark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes up to a minute")
    config.addinivalue_line("markers", "without_pool: of the contract suite, which runs these without a pool here")


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    with local_spark() as session:
        yield session
