"""Full garbage collections of the host: short, although it holds a lot for as long as it lives."""

from __future__ import annotations

import gc
import weakref

import pytest

from landfall.host import long_lived
from landfall.host.long_lived import LongLived


class Ring:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.me = self


def test_what_survives_a_long_collection_is_set_aside_until_the_host_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    before = gc.get_freeze_count()
    monkeypatch.setattr(long_lived, "LONG_SECONDS", 60.0)
    with LongLived():
        gc.collect()
        assert gc.get_freeze_count() == before
        monkeypatch.setattr(long_lived, "LONG_SECONDS", -1.0)
        gc.collect()
        assert gc.get_freeze_count() > before + 1000
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert gc.get_freeze_count() == 0


def test_what_was_set_aside_and_became_garbage_is_found_when_all_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(long_lived, "LONG_SECONDS", -1.0)
    with LongLived():
        ring = Ring()
        seen = weakref.ref(ring)
        gc.collect()
        del ring
        gc.collect()
        assert seen() is not None
        monkeypatch.setattr(long_lived, "WHOLE_SECONDS", 0.0)
        gc.collect()
        assert seen() is None
