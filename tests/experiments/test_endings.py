"""Why a job ended is read from its log: our own words and those of SLURM and Python, not srun's last ones."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from experiments.jobs import ledger, watch
from experiments.jobs.endings import LONGEST, why_ended
from experiments.jobs.states import LaneState, State
from tinylora.settings.errors import FailureError

SRUN = "srun: error: node7: task 0: Exited with exit code 1\n"
BEGUN = "pack 0 of sweep 69a61e66\nloading miniature-qwen2\n"
MEMORY = "out of memory: give launcher.memory_gb more, or fewer lanes"

LOGS = {
    BEGUN
    + "error: model.path=x; a model is a folder; give one\n"
    + SRUN: "error: model.path=x; a model is a folder; give one",
    BEGUN
    + "SIGUSR2: stopping before the next step\nnot requeued: launcher.max_requeues=0 is reached\n"
    + "submitit ERROR (2026-01-01) - Submitted job triggered an exception\nTraceback (most recent call last):\n"
    + "submitit.core.utils.UncompletedJobError: Job not requeued because: timed-out too many times.\n"
    + SRUN: "not requeued: launcher.max_requeues=0 is reached",
    BEGUN + "Traceback (most recent call last):\n  File x\nMemoryError\n" + SRUN: MEMORY,
    BEGUN + "RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.\n" + SRUN: MEMORY,
    BEGUN
    + "terminate called after throwing an instance of 'std::bad_alloc'\nsrun: error: n: task 0: Aborted\n": MEMORY,
    BEGUN
    + "slurmstepd-n7: error: Detected 1 oom_kill event in StepId=5.0. Some of the step tasks have been OOM Killed.\n"
    + "srun: error: n7: task 0: Out Of Memory\nnot requeued: out of memory\n": f"{MEMORY}; not requeued: out of memory",
    BEGUN + "step 1\nslurmstepd-n7: error: *** JOB 5 ON n7 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***\n": (
        "its time limit was over (launcher.minutes)"
    ),
    BEGUN + "step 1\nslurmstepd: error: *** JOB 5 ON n7 CANCELLED AT 2026-01-01 DUE TO NODE FAILURE, SEE ... ***\n": (
        "its node failed"
    ),
    "error: launcher.setup: module load cuda ended with status 1\n": (
        "error: launcher.setup: module load cuda ended with status 1"
    ),
    BEGUN + "MemoryError\n" + SRUN + BEGUN + "Traceback\nZeroDivisionError: division by zero\n" + SRUN: (
        "ZeroDivisionError: division by zero"
    ),
    SRUN: SRUN.strip(),
    "": "",
}


@pytest.mark.parametrize("text", LOGS)
def test_the_reason_is_found_behind_the_last_line_of_srun(text: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(text)
    assert why_ended(tmp_path / "log") == LOGS[text]


def test_an_endless_line_is_cut_and_no_log_says_nothing(tmp_path: Path) -> None:
    assert why_ended(tmp_path / "absent") == ""
    (tmp_path / "log").write_text("x" * 10_000_000)
    assert len(why_ended(tmp_path / "log")) == LONGEST


def test_who_watches_waits_for_slurm_and_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter([FailureError("SLURM does not answer: busy", "", "")] * 3)
    finished = LaneState("k", "u=3", State.finished, "7", 0)

    def active(chosen: object) -> None:
        if (error := next(answers, None)) is not None:
            raise error

    slept: list[float] = []
    monkeypatch.setattr(watch.time, "sleep", slept.append)
    monkeypatch.setattr(watch, "Active", active)
    monkeypatch.setattr(watch, "states_of", lambda *given: [finished])
    monkeypatch.setattr(watch, "describe", lambda sweep, lanes, brief: "done")
    sweeps = [cast(ledger.Sweep, object())]
    assert watch.look(sweeps, watch=True) == [[finished]]
    assert slept == [watch.SECONDS_WITHOUT_ANSWER] * 3
    assert capsys.readouterr().err.count("SLURM does not answer: busy; asking again") == 1
    answers = iter([FailureError("SLURM does not answer: busy", "", "")])
    with pytest.raises(FailureError):
        watch.look(sweeps, watch=False)
