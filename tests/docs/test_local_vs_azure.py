from __future__ import annotations

from shared.settings import ROOT
from tests.contracts.gaps import BACKENDS, gaps, page


def test_the_page_says_what_the_suites_say() -> None:
    assert (ROOT / "docs/local-vs-azure.md").read_text(encoding="utf-8") == page(), (
        "python -m tests.contracts.gaps > docs/local-vs-azure.md"
    )


def test_each_gap_names_a_backend_and_whether_it_will_ever_close() -> None:
    found = list(gaps())
    assert found
    assert {gap.backend for gap in found} <= set(BACKENDS)
    assert [gap for gap in found if gap.reason.split(":")[0] not in ("never", "not yet")] == []
