"""The one loop that the stories of a worker share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.scenarios.living_loop import LivingLoop


# Not for the whole session: the app knows one loop a process, and other folders' tests bring their own.
@pytest.fixture(scope="package")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivingLoop]:
    """The loop at work. Each story has pipelines of its own in it, so that they do not disturb each other."""
    loop = LivingLoop(tmp_path_factory.mktemp("living"))
    with loop.alive():
        yield loop
