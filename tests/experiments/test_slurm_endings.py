"""Jobs that end badly on a real SLURM: status says why, and what would happen again is not queued again."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.slurm_jobs import SLURM, job_ids, status, submit, wait_for_end, wait_until

FAILS = "module-that-is-not load cuda"

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def reason(outputs: Path, sweep: str) -> str:
    """What status says of a run that has stopped."""
    code, text = status(outputs, sweep)
    assert code == 1 and "1 stopped" in text, text
    return text


def test_a_job_without_memory_is_queued_once(tmp_path: Path) -> None:
    sweep = submit(tmp_path, "u=3 steps=3", SLURM, "launcher.setup=['ulimit -v 500000']")
    wait_for_end(sweep)
    (attempts,) = tmp_path.glob("sweeps/*/1/attempts/0.jsonl")
    assert len(attempts.read_text().splitlines()) == 1
    assert "out of memory: give launcher.memory_gb more" in reason(tmp_path, sweep)


def test_a_line_of_the_setup_that_fails_ends_the_job_and_is_named(tmp_path: Path) -> None:
    sweep = submit(tmp_path, "u=3 steps=3", SLURM, f"launcher.setup=['echo begun','{FAILS}','echo goes on']")
    wait_for_end(sweep)
    assert f"error: launcher.setup: {FAILS} ended with status 127" in reason(tmp_path, sweep)


def test_a_job_that_may_not_be_queued_again_says_so(tmp_path: Path) -> None:
    limits = "launcher.minutes=1 launcher.notice_seconds=50 launcher.max_requeues=0"
    sweep = submit(tmp_path, "u=3 steps=5000", f"{SLURM} {limits}")
    wait_until(lambda: not job_ids(sweep))
    assert "not requeued: launcher.max_requeues=0 is reached" in reason(tmp_path, sweep)
