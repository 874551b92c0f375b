"""Sweeps in background processes, and what the launchers of jobs need that no SLURM is needed for."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest
from filelock import FileLock, Timeout
from support.packs import point
from support.slurm_jobs import (
    SECONDS,
    SMALL,
    assert_same_results,
    call,
    processes,
    run_here,
    start,
    status,
    steps_done,
    submit,
    wait_until,
)

from experiments.compose.points import compose
from experiments.jobs import ledger, one_pack, snapshot, watch
from experiments.jobs.job import Notice
from experiments.jobs.settings import Kind, LaunchSettings
from experiments.jobs.slurm import QueuedJob, refused
from experiments.jobs.states import LaneState, Progress, State, _state, process_lives
from experiments.jobs.watch import describe
from tinylora.records.folder import BusyError, RunFolder
from tinylora.records.stopping import StopRequest
from tinylora.settings.errors import FailureError, UsageError

LOCAL = "hydra/launcher=local launcher.cpus=1"


def test_a_background_pack_survives_a_signal_with_the_same_results(tmp_path: Path) -> None:
    words, outputs = "u=5,13 steps=40", tmp_path / "outputs"
    sweep = submit(outputs, words, LOCAL)
    wait_until(lambda: steps_done(outputs) >= 2)
    os.kill(processes(outputs, sweep)["0"], signal.SIGUSR2)
    wait_until(lambda: "requeued once" in status(outputs, sweep)[1])
    again = start(outputs, f"{words} {LOCAL} launcher.wait=true")
    assert "runs are queued or running already" in again
    assert "2 finished" in again and (outputs / "mlflow.db").exists(), "it waits for the sweep, and imports it"
    assert_same_results(outputs, run_here(tmp_path / "here", words), 40)


def test_a_run_folder_that_is_still_held_is_waited_for(tmp_path: Path) -> None:
    (config,) = compose([*SMALL.split(), "u=5", "steps=2", f"outputs_dir={tmp_path}"]).points
    with RunFolder(config).locked():
        sweep = submit(tmp_path, "u=5 steps=2", LOCAL)
        logs = tmp_path / "sweeps" / sweep / "1" / "jobs"
        wait_until(lambda: any("waiting for it" in log.read_text() for log in logs.glob("*_log.err")))
        assert status(tmp_path, sweep)[0] == 0
    wait_until(lambda: "1 finished" in status(tmp_path, sweep)[1])


def test_a_run_folder_that_is_held_too_long_has_the_job_requeued(monkeypatch: pytest.MonkeyPatch) -> None:
    slept, requeued = list[float](), list[int]()
    notice = object.__new__(Notice)
    notice.stop, notice.own = StopRequest(), 10

    def requeue(number: int, frame: None) -> None:
        requeued.append(number)
        raise SystemExit(255)

    notice.requeue = requeue
    monkeypatch.setattr(one_pack.time, "sleep", slept.append)
    busy = BusyError("run folder x", "", "")
    notice.wait(cast(ledger.Sweep, None), busy, time.monotonic() + 60)
    assert (slept, requeued) == ([one_pack.SECONDS_BETWEEN_TRIES], [])
    with pytest.raises(SystemExit):
        notice.wait(cast(ledger.Sweep, None), busy, time.monotonic() - 1)
    assert requeued == [10]


@pytest.mark.parametrize(("ignore", "status"), [(True, 0), (False, -signal.SIGUSR2)])
def test_notice_to_a_job_that_is_done_does_not_kill_it_while_python_ends(ignore: bool, status: int) -> None:
    ending = f"""
import os, signal, subprocess, sys
from experiments.jobs.job import Notice
signal.signal(signal.SIGUSR2, lambda *_: None)
notice = object.__new__(Notice)
notice.numbers = {{signal.SIGUSR2}}
if {ignore}:
    notice.ignore()
telling, nothing = f"while kill -USR2 {{os.getpid()}}; do :; done", subprocess.DEVNULL
teller = subprocess.Popen(["sh", "-c", telling], stdout=nothing, stderr=nothing)
"""
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", ending], cwd=snapshot.ROOT, capture_output=True)
    assert ended.returncode == status, ended.stderr


def test_a_job_that_slurm_clears_up_after_is_neither_running_nor_gone(tmp_path: Path) -> None:
    start(tmp_path, f"u=5 {LOCAL} launcher.dry_run=true")
    (sweep,) = ledger.all_sweeps(tmp_path)
    (submission,), (key,) = sweep.submissions, sweep.runs
    states = {
        queued: _state(sweep, submission, 0, QueuedJob("7", queued), key, "u=5").state
        for queued in ("PENDING", "RUNNING", "COMPLETING")
    }
    assert states == {"PENDING": State.queued, "RUNNING": State.running, "COMPLETING": State.ending}
    assert State.ending.active and not State.ending.bad


def test_a_record_has_what_is_new_only_where_it_is_used() -> None:
    """So that jobs of sources before it, which still wait, can read the record."""
    one = ledger.Submission(1, 0.0, Kind.local, [], {"packs_per_job": 1}, {}, [["a"], ["b"], ["c"]], shares=2)
    assert one.packs_of_jobs == [(0, 2), (1,)] and not {"shares", "array_size"} & one.as_plain().keys()
    several = replace(one, kind=Kind.slurm, settings={"packs_per_job": 2}, array_size=1)
    plain = several.as_plain()
    assert (plain["shares"], plain["array_size"]) == (2, 1)
    assert ledger.Submission(**plain) == several
    assert [several.place_of(pack) for pack in range(3)] == [(0, 0), (1, 0), (0, 0)]


def test_a_command_is_run_once_all_jobs_have_ended(tmp_path: Path) -> None:
    said = tmp_path / "said"
    at_end = f"launcher.at_end='cat - > {said}.part; echo $TINYLORA_SAID >> {said}.part; mv {said}.part {said}'"
    sweep = submit(tmp_path / "outputs", "u=5 steps=2", LOCAL, at_end)
    wait_until(said.exists)
    lines = said.read_text().splitlines()
    assert lines[0] == lines[-1] == f"sweep {sweep}: 1 finished"
    assert lines[-2].split()[0] == "u=5" and lines[-2].endswith("finished")


def test_a_cancelled_background_sweep_is_gone(tmp_path: Path) -> None:
    sweep = submit(tmp_path, "u=5 steps=2000", LOCAL)
    wait_until(lambda: steps_done(tmp_path) >= 1)
    assert status(tmp_path, sweep)[0] == 0
    assert call("cancel", f"{sweep} --outputs-dir {tmp_path}").returncode == 0
    wait_until(lambda: "1 cancelled" in status(tmp_path, sweep)[1])
    assert status(tmp_path, sweep)[0] == 1
    assert "no job of this sweep" in call("cancel", f"{sweep} --outputs-dir {tmp_path}").stdout


def test_runs_that_another_sweep_has_submitted_stand_as_there(tmp_path: Path) -> None:
    first = submit(tmp_path, "u=5 seed=0 steps=2000", LOCAL)
    wider = submit(tmp_path, "u=5 seed=0,1,2 steps=2000", LOCAL)
    wait_until(lambda: steps_done(tmp_path) >= 1)
    code, text = status(tmp_path, wider)
    assert code == 0 and "not submitted" not in text and text.count("seed=") == 3, text
    (pack,) = json.loads((tmp_path / "sweeps" / wider / "sweep.json").read_text())["submissions"][0]["packs"]
    assert len(pack) == 2
    assert call("cancel", f"{first} --outputs-dir {tmp_path}").returncode == 0
    wait_until(lambda: "1 cancelled" in status(tmp_path, wider)[1])
    assert call("cancel", f"{wider} --outputs-dir {tmp_path}").returncode == 0
    wait_until(lambda: "3 cancelled" in status(tmp_path, wider)[1])


@pytest.mark.slow
def test_waiting_ends_with_the_sweep_and_fails_with_a_run(tmp_path: Path) -> None:
    words = f"-m u=3 precision=fp32,fp16 lr=1e6 steps=2 {SMALL} {LOCAL} launcher.wait=true outputs_dir={tmp_path}"
    ended = call("run", words)
    assert ended.returncode == 1 and "1 finished, 1 failed" in ended.stdout, ended.stdout + ended.stderr
    assert "error: 1 of 2 runs" in ended.stderr


def test_one_look_that_was_held_up_does_not_put_off_the_next_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is stopped for half a minute in the middle of a look waited half an hour for the next one."""
    clock, slept, active = [0.0], list[float](), iter([True, True, False])

    def slow_states(*given: object) -> list[SimpleNamespace]:
        clock[0] += 30.0
        return [SimpleNamespace(state=SimpleNamespace(active=next(active)))]

    monkeypatch.setattr(watch.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(watch.time, "sleep", slept.append)
    monkeypatch.setattr(watch, "Active", lambda chosen: None)
    monkeypatch.setattr(watch, "states_of", slow_states)
    monkeypatch.setattr(watch, "describe", lambda sweep, lanes, brief: "")
    watch.look([cast(ledger.Sweep, object())], watch=True)
    assert slept == [60.0, 60.0]


def test_many_runs_are_watched_in_brief() -> None:
    running = [LaneState(str(n), f"u={n}", State.running, "7", 0, Progress(3, 9)) for n in range(50)]
    failed = LaneState("x", "u=99", State.failed, "8", 0, note="loss is not finite")
    sweep = cast(ledger.Sweep, SimpleNamespace(id="ab", cancelled=False))
    lines = describe(sweep, [*running, failed], brief=True).splitlines()
    assert lines[:2] == ["sweep ab: 50 running, 1 failed", "  job 7: step 3/9"]
    assert len(lines) == 3 and "u=99" in lines[2] and "loss is not finite" in lines[2]


def test_a_snapshot_is_the_sources_and_says_what_of(tmp_path: Path) -> None:
    source = snapshot.take(tmp_path)
    assert json.loads((tmp_path / "source.json").read_text()) == source
    for path in (
        "tinylora/train/loop.py",
        "conf/config.yaml",
        "tinylora/models/miniatures/miniature-qwen2/model.safetensors",
    ):
        assert (tmp_path / path).read_bytes() == (snapshot.ROOT / path).read_bytes()
    assert not list(tmp_path.rglob("__pycache__"))


@pytest.mark.parametrize(
    "settings",
    [
        {"minutes": 0},
        {"nodes": 0},
        {"gpus": -1},
        {"cpus": 1.5},
        {"memory_gb": 0},
        {"partition": ""},
        {"setup": "x"},
        {"wait": 1},
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"launcher.{next(iter(settings))}="):
        LaunchSettings(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "part"), [({"tasks": 0}, "at least 1"), ({"tasks": 3, "gpus": 2}, "at most launcher.gpus=2")]
)
def test_tasks_that_cannot_be_are_refused(settings: dict[str, int], part: str) -> None:
    with pytest.raises(UsageError, match=part):
        LaunchSettings(**settings)  # type: ignore[arg-type]
    assert [LaunchSettings(tasks=2).ranks, LaunchSettings(gpus=4).ranks, LaunchSettings().ranks] == [2, 4, 1]


@pytest.mark.parametrize(
    ("settings", "given", "rule"),
    [
        ({"packs_per_job": 0}, "packs_per_job=0", "a number of packs"),
        ({"packs_per_job": "all"}, "packs_per_job=all", "or auto"),
        ({"packs_per_job": True}, "packs_per_job=True", "a number of packs"),
        ({"packs_per_job": 9, "gpus": "h100:8"}, "packs_per_job=9", "at most launcher.gpus=h100:8"),
        ({"packs_per_job": 2, "tasks": 2}, "tasks=2", "trained by one process"),
        ({"packs_per_job": 2, "nodes": 2}, "nodes=2", "such a job is on one node"),
        ({"packs_per_job": "auto"}, "packs_per_job=auto", "only with launcher.gpus"),
    ],
)
def test_packs_of_a_job_that_cannot_be_are_refused(settings: dict[str, Any], given: str, rule: str) -> None:
    with pytest.raises(UsageError, match=f"launcher.{given}") as error:
        assert LaunchSettings(**settings).places
    assert rule in str(error.value)
    whole = LaunchSettings(packs_per_job="auto", gpus="h100:8", cpus=6)
    assert (whole.places, whole.ranks, whole.job_cpus) == (8, 1, 48)


def test_sources_that_cannot_be_copied_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(target: Path) -> None:
        (target / "tinylora").mkdir(parents=True)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(snapshot, "take", full)
    with pytest.raises(AssertionError):  # of `start`: its exit status
        start(tmp_path / "outputs", f"u=5 steps=2 {LOCAL}")
    said = capsys.readouterr().err
    assert "No space left" in said and "make room" in said
    assert not (tmp_path / "outputs").exists()


def test_background_processes_are_on_one_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError):  # of `start`: its exit status
        start(tmp_path / "outputs", f"u=5 steps=2 {LOCAL} launcher.nodes=2")
    assert "launcher.nodes=2 with hydra/launcher=local" in capsys.readouterr().err
    assert LaunchSettings(nodes=2, gpus=4).ranks == 8


def test_what_sbatch_says_is_handed_on() -> None:
    said = "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified"
    assert "Invalid account" in str(refused(said))
    with pytest.raises(FailureError, match="does not answer"):
        refused("sbatch: error: Unable to contact slurm controller (connect failure)")


def test_a_sweep_is_found_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    sweep = ledger.sweep_of([point(tmp_path)], ["a"])
    sweep.save()
    assert ledger.find(tmp_path, sweep.id[:3]) == sweep == ledger.sweep_of([point(tmp_path)], ["a"])
    with pytest.raises(UsageError, match=sweep.id):
        ledger.find(tmp_path, "nope")
    (sweep.folder / ledger.SWEEP).write_text("{")
    with pytest.raises(FailureError, match="damaged"):
        ledger.all_sweeps(tmp_path)


def test_submissions_take_turns_and_a_killed_one_is_in_nobodys_way(tmp_path: Path) -> None:
    holding = "import pathlib, sys, time; from experiments.jobs import ledger\n"
    holding += "with ledger.locked(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", holding, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=snapshot.ROOT) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        lock = FileLock(tmp_path / ledger.SWEEPS / ledger.LOCK)
        with pytest.raises(Timeout):
            lock.acquire(timeout=0)
        other.kill()
    with ledger.locked(tmp_path):
        assert (tmp_path / ledger.SWEEPS / ledger.LOCK).exists()


def test_who_waits_for_a_submission_that_leaves_nothing_has_its_turn(tmp_path: Path) -> None:
    sweeps, turns = tmp_path / ledger.SWEEPS, list[str]()
    held, told = Event(), Event()

    def first() -> None:
        with ledger.locked(tmp_path):
            held.set()
            told.wait(SECONDS)
            turns.append("first")

    def second() -> None:
        with ledger.locked(tmp_path):
            turns.append("second")
            (sweeps / "kept").touch()

    with ThreadPoolExecutor() as pool:
        one = pool.submit(first)
        assert held.wait(SECONDS)
        other = pool.submit(second)
        time.sleep(0.3)  # it waits by now; if not, the test shows less
        told.set()
        one.result()
        other.result()
    assert turns == ["first", "second"] and sorted(path.name for path in sweeps.iterdir()) == [ledger.LOCK, "kept"]
    (sweeps / "kept").unlink()
    with ledger.locked(tmp_path):
        pass
    assert tmp_path.is_dir() and not sweeps.exists()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_folder_without_locks_is_refused(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(FailureError, match="file lock"), ledger.locked(tmp_path):
        raise AssertionError("nothing is done without the lock")


def test_a_local_process_lives_from_its_start_to_its_end(tmp_path: Path) -> None:
    """As long as nobody has asked how it ended it still has a number, but it is gone."""
    place = tmp_path / "1"
    with subprocess.Popen(
        [sys.executable, "-c", "input()", str(place / ledger.JOBS)], stdin=subprocess.PIPE
    ) as process:
        assert process_lives(str(process.pid), place)
        assert not process_lives(str(process.pid), tmp_path / "2"), "it is another submission's"
        assert process.stdin is not None
        process.stdin.close()
        wait_until(lambda: not process_lives(str(process.pid), place))
        assert process.returncode is None, "nobody has asked"
