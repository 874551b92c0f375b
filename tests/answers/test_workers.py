"""Worker processes: order, time limit, death and replacement, no orphans, reasoning-gym's scorers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.slow_answers import ENDLESS

from tinylora.answers import EntryJob, score_entries, workers
from tinylora.answers.rewards import Outcome
from tinylora.answers.workers import Job, judge_all, worker_limit, worker_pids
from tinylora.settings.errors import UsageError


def math(gold: str, answer: str) -> Job:
    return {"kind": "math", "gold": gold, "answer": answer}


def wait_until_gone(pid: int, seconds: float) -> bool:
    """Whether a process, of whatever parent, has ended in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def test_verdicts_come_in_the_order_of_the_jobs() -> None:
    jobs = [math(rf"{n}\sqrt{{8}}", rf"{2 * m}\sqrt{{2}}") for n in range(2, 8) for m in range(2, 8)]
    assert judge_all(jobs) == [n == m for n in range(2, 8) for m in range(2, 8)]
    assert judge_all([]) == []


def test_workers_are_reused_and_no_more_than_the_cores() -> None:
    judge_all([math("x", f"y+{n}") for n in range(20)])
    before = worker_pids()
    judge_all([math("x", f"z+{n}") for n in range(20)])
    assert worker_pids() == before
    assert 1 <= len(before) <= worker_limit() <= 8


def test_a_job_that_takes_too_long_is_ended_and_its_worker_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SECONDS", 1.0)
    assert judge_all([math("x", ENDLESS), math("2x", "x+x"), math("3x", "x+x")]) == [Outcome.timeout, True, False]
    assert judge_all([math("2x", "x+x")] * 3) == [True] * 3


def test_a_call_ends_in_its_own_time_however_many_jobs_are_endless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SECONDS", 1e9)  # so that only the time of the call ends it
    monkeypatch.setattr(workers, "CALL_SECONDS", 2.0)
    monkeypatch.setattr(workers, "CALL_SECONDS_PER_JOB", 0.01)
    assert judge_all([math(f"{n}x", ENDLESS) for n in range(50)]) == [Outcome.timeout] * 50


def test_a_worker_that_dies_at_a_job_is_an_error_of_that_job_alone() -> None:
    def kill_all() -> None:
        time.sleep(1.0)
        for pid in worker_pids():
            os.kill(pid, signal.SIGKILL)

    judge_all([math("x", "y")])
    killer = threading.Thread(target=kill_all)
    killer.start()
    verdict = judge_all([math("x", ENDLESS)])
    killer.join()
    assert verdict == [Outcome.checker_error]
    assert judge_all([math("2x", "x+x")]) == [True]


def test_a_worker_that_died_while_idle_costs_no_job() -> None:
    judge_all([math("x", f"y+{n}") for n in range(10)])
    for pid in worker_pids():
        os.kill(pid, signal.SIGKILL)
        wait_until_gone(pid, 5)
    assert judge_all([math("2x", "x+x"), math("3x", "x+x")]) == [True, False]


def test_a_fork_has_workers_of_its_own() -> None:
    judge_all([math("x", "y")])
    pid = os.fork()
    if pid == 0:
        os._exit(0 if judge_all([math("2x", "x+x")]) == [True] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert judge_all([math("2x", "x+x")]) == [True]


@pytest.mark.parametrize("busy", [False, True])
def test_workers_end_with_their_parent_even_when_it_is_killed(busy: bool, tmp_path: Path) -> None:
    # No main guard, and a module in the current folder that must not shadow a package.
    script = (
        "import sys, threading, time; from tinylora.answers.workers import judge_all, worker_pids\n"
        "judge_all([{'kind': 'math', 'gold': 'x', 'answer': 'y'}])\n"
        "print(*worker_pids(), flush=True)\n"
        f"judge_all([{{'kind': 'math', 'gold': 'x', 'answer': {(ENDLESS if busy else 'z')!r}}}])\n"
        "time.sleep(60)\n"
    )
    (tmp_path / "sympy.py").write_text("raise SystemExit")
    (tmp_path / "script.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "script.py"], stdout=subprocess.PIPE, cwd=tmp_path, env=environment, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert pids
    assert all(wait_until_gone(pid, workers.SECONDS + 7) for pid in pids)


def entry_job(generator: str, index: int, answer: str, **options: object) -> EntryJob:
    return EntryJob(generator, options, seed=3, index=index, size=10, answer=answer)


def test_the_scorers_of_reasoning_gym_judge_their_entries() -> None:
    reasoning_gym = pytest.importorskip("reasoning_gym")
    for generator, options in (("chain_sum", {"min_terms": 2, "max_terms": 3}), ("gsm_symbolic", {})):
        dataset = reasoning_gym.create_dataset(generator, seed=3, size=10, **options)
        answers = [dataset[index]["answer"] for index in range(10)]
        right = [entry_job(generator, index, answer, **options) for index, answer in enumerate(answers)]
        assert score_entries(right) == [1.0] * 10
        wrong = [entry_job(generator, index, f"{answer}1", **options) for index, answer in enumerate(answers)]
        assert all(isinstance(score, float) and 0.0 <= score < 1.0 for score in score_entries(wrong))


def test_a_scorer_that_fails_is_a_checker_error() -> None:
    pytest.importorskip("reasoning_gym")
    bad = [entry_job("no such generator", 0, "5"), entry_job("chain_sum", 0, "5", odd=1)]
    assert score_entries(bad) == [Outcome.checker_error] * 2
    with pytest.raises(AssertionError):
        entry_job("chain_sum", 10, "5")
    hostile = [entry_job("chain_sum", 0, text) for text in ("", "\ud800", "\x00", "9" * 1_000_000)]
    assert all(isinstance(score, (float, Outcome)) for score in score_entries(hostile))


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "reasoning_gym.py").write_text("import a_package_that_nobody_has")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(workers, "_current", workers._Pool())
    with pytest.raises(UsageError, match="a_package_that_nobody_has"):
        score_entries([entry_job("chain_sum", 0, "5")])
