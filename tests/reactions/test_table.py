from __future__ import annotations

from pathlib import Path

from shared import reactions
from shared.domain.signals import SIGNALS
from shared.settings import ROOT


def test_every_signal_has_one_reaction() -> None:
    assert set(reactions.REACTIONS) == set(SIGNALS.values())


def test_every_reaction_is_a_file_named_like_its_signal() -> None:
    for signal, reaction in reactions.REACTIONS.items():
        snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in signal.__name__).lstrip("_")
        assert reaction.__module__ == f"shared.reactions.{snake}"
    files = {path.stem for path in Path(ROOT, "shared", "reactions").glob("*.py")} - {"__init__"}
    assert len(files) == len(reactions.REACTIONS)
