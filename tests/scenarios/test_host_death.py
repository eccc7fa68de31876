"""The host is killed in the middle of a run; another one goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from landfall.host import running
from shared.domain.ledger import Run
from shared.settings import ROOT
from tests.scenarios.living_loop import TINY_SQL, TINY_TRAIN, TINY_YAML, LivingLoop, eventually, tiny_rows


def up(living: LivingLoop) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "landfall.cli", "up"],
        cwd=ROOT,
        env=living.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    eventually(lambda: running(living.home))
    return process


def test_a_run_survives_the_death_of_its_host_and_what_landed_meanwhile_is_found(tmp_path: Path) -> None:
    from shared import bootstrap

    living = LivingLoop(tmp_path)
    living.add_pipeline("tiny", TINY_YAML, TINY_SQL, TINY_TRAIN)
    living.loop = loop = bootstrap.build(living.settings)
    first = up(living)
    try:
        living.land("landing/tiny/a.csv", tiny_rows(400))
        job = eventually(lambda: loop.ports.training.status("tiny-b000001-train-1"), 60)
        assert not job.ended
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    eventually(lambda: running(living.home) is None)
    eventually(lambda: (s := loop.ports.training.status("tiny-b000001-train-1")) and s.ended, 60)
    living.land("landing/tiny/b.csv", tiny_rows(400, start=1000))
    second = up(living)
    try:
        champion = eventually(lambda: living.state("tiny").champion, 90)
        assert champion == "1"
        eventually(
            lambda: len(found := list(loop.ports.ledger.list(Run, "tiny"))) == 2 and all(r.ended for r in found), 90
        )
    finally:
        second.terminate()
        second.wait(30)
    runs = list(loop.ports.ledger.list(Run, "tiny"))
    assert [run.id for run in runs] == ["tiny-b000001", "tiny-b000002"]
    assert runs[0].status == "succeeded"
    assert runs[1].status in ("succeeded", "kept")
    versions = [version.version for version in loop.ports.registry.versions("tiny")]
    assert versions == ["1", "2"], "each run registered one version"
    loop.predictions.close()
