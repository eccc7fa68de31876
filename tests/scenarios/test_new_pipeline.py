"""A table that the project has never seen, from `new` over `land` to a live model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.living_loop import LivingLoop

ROWS = 1500


def awkward_table(place: Path, *, effect: float) -> None:
    """Mixed types, nulls, text categories, awkward names; the label follows two columns by ``effect``."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(7)
    usage = random.gamma(2, 50, ROWS)
    region = random.choice(["Nord", "Süd", "Öst", None], ROWS)
    logit = effect * ((usage - 100) / 40 + 1.5 * (region == "Süd"))
    label = np.where(random.random(ROWS) < 1 / (1 + np.exp(-logit)), "left", "stayed")
    pd.DataFrame(
        {
            "Customer No": [f"C{n:05d}" for n in range(ROWS)],
            "usage (GB)": np.where(random.random(ROWS) < 0.1, np.nan, usage.round(2)),
            "Región": region,
            "select": random.integers(0, 5, ROWS),
            "vip": random.random(ROWS) < 0.2,
            "since": pd.Timestamp("2022-01-01") + pd.to_timedelta(random.integers(0, 900, ROWS), "D"),
            "remark": [f"remark {n} {random.integers(10**6)}" for n in range(ROWS)],
            "outcome": label,
        }
    ).to_csv(place, index=False)


@pytest.fixture
def living(tmp_path: Path) -> LivingLoop:
    return LivingLoop(tmp_path)


def test_a_learnable_table_ends_with_a_live_champion_of_honest_metric(living: LivingLoop, tmp_path: Path) -> None:
    table = tmp_path / "customers.csv"
    awkward_table(table, effect=2.0)
    made = living.command("new", "leavers", "--data", str(table), "--label", "outcome")
    assert made.returncode == 0, made.stderr
    assert "Customer No" in made.stdout
    assert living.command("check", "leavers").returncode == 0
    landed = living.command_json("land", "leavers", str(table))
    assert landed["status"] == "succeeded", landed
    (row,) = living.command_json("status")["pipelines"]
    assert row["champion"]["version"] == "1"
    # What the generator allows: a tenth of the usage is hidden, the rest is noise of the label.
    assert 0.85 < row["champion"]["metrics"]["roc_auc"] < 0.97
    again = living.command_json("land", "leavers", str(table))
    assert again["run"] == landed["run"], "the same file is landed once"


def test_a_table_whose_label_is_chance_is_not_made_to_look_learnable(living: LivingLoop, tmp_path: Path) -> None:
    table = tmp_path / "noise.csv"
    awkward_table(table, effect=0.0)
    assert living.command("new", "noise", "--data", str(table), "--label", "outcome").returncode == 0
    landed = living.command_json("land", "noise", str(table))
    version = living.command_json("run", landed["run"])["model"]
    assert abs(version["evaluation"]["challenger"]["roc_auc"] - 0.5) < 0.1


def test_what_cannot_become_a_pipeline_is_refused_with_all_reasons(living: LivingLoop, tmp_path: Path) -> None:
    table = tmp_path / "customers.csv"
    awkward_table(table, effect=2.0)
    done = living.command("new", "Not A Name", "--data", str(table), "--label", "outcom")
    assert done.returncode == 2
    assert "outcome" in done.stderr
    assert "Not A Name" in done.stderr
    assert list(living.pipelines.iterdir()) == []
