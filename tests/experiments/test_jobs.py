"""Sweeps in background processes, and what the launchers of jobs need that no SLURM is needed for."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from filelock import FileLock, Timeout
from support.packs import point, steps_in_mlflow
from support.slurm_jobs import (
    SMALL,
    assert_same_results,
    call,
    processes,
    run_here,
    status,
    steps_done,
    submit,
    wait_until,
)

from experiments.jobs import ledger, snapshot
from experiments.jobs.settings import LaunchSettings
from experiments.jobs.slurm import refused
from experiments.jobs.states import LaneState, State
from experiments.jobs.watch import describe
from tinylora.records.folder import PREVIOUS, RunFolder, Status, Unmirrored
from tinylora.records.import_runs import saved_step, sync
from tinylora.records.progress import Silent
from tinylora.records.stopping import Stopped, StopRequest
from tinylora.settings.config import Adapter, AdapterConfig, Precision, RunConfig, SftConfig, as_plain
from tinylora.settings.errors import FailureError, UsageError
from tinylora.settings.recorded import from_plain
from tinylora.train.loop import run_pack

LOCAL = "hydra/launcher=local launcher.cpus=1"


class AskAfter(Silent):
    """Asks the pack to stop when it shows its lanes for the n-th time."""

    def __init__(self, stop: StopRequest, count: int) -> None:
        self.stop, self.count = stop, count

    def lanes(self, lanes, seconds_left) -> None:  # type: ignore[no-untyped-def]
        self.count -= 1
        if self.count == 0:
            self.stop.ask("a test wants it")


def test_background_packs_survive_signals_with_the_same_results(tmp_path: Path) -> None:
    words = "u=5,13 seed=0,1 steps=60"
    wanted = run_here(tmp_path / "here", words)
    outputs = tmp_path / "outputs"
    sweep = submit(outputs, words, LOCAL)
    again = call("run", f"-m {SMALL} {words} {LOCAL} outputs_dir={outputs}")
    assert "runs are queued or running already" in again.stdout, again.stderr
    wait_until(lambda: steps_done(outputs) >= 2)
    os.kill(max(processes(outputs, sweep).values()), signal.SIGUSR2)
    wait_until(lambda: "requeued once" in status(outputs, sweep)[1])
    wait_until(lambda: "4 finished" in status(outputs, sweep)[1])
    assert_same_results(outputs, wanted, 60)


def test_a_cancelled_background_sweep_is_gone(tmp_path: Path) -> None:
    sweep = submit(tmp_path, "u=5 steps=2000", LOCAL)
    wait_until(lambda: steps_done(tmp_path) >= 1)
    assert status(tmp_path, sweep)[0] == 0
    assert call("cancel", f"{sweep} --outputs-dir {tmp_path}").returncode == 0
    wait_until(lambda: "1 cancelled" in status(tmp_path, sweep)[1])
    assert status(tmp_path, sweep)[0] == 1
    assert "no job of this sweep" in call("cancel", f"{sweep} --outputs-dir {tmp_path}").stdout


def test_waiting_ends_with_the_sweep(tmp_path: Path) -> None:
    ended = call("run", f"-m u=1,2 steps=2 {SMALL} {LOCAL} launcher.wait=true outputs_dir={tmp_path}")
    assert ended.returncode == 0 and "2 finished" in ended.stdout, ended.stderr
    assert (tmp_path / "mlflow.db").exists()
    bad = f"-m u=3 precision=fp16 lr=1e6 steps=3 {SMALL} {LOCAL} launcher.wait=true outputs_dir={tmp_path}"
    ended = call("run", bad)
    assert ended.returncode == 1 and "1 failed" in ended.stdout and "error: 1 of 1 runs" in ended.stderr


def test_many_runs_are_watched_in_brief() -> None:
    running = [LaneState(str(n), f"u={n}", State.running, "7", 0, "step 3/9") for n in range(50)]
    failed = LaneState("x", "u=99", State.failed, "8", 0, note="loss is not finite")
    sweep = cast(ledger.Sweep, SimpleNamespace(id="ab", cancelled=False))
    lines = describe(sweep, [*running, failed], brief=True).splitlines()
    assert lines[:2] == ["sweep ab: 50 running, 1 failed", "  job 7: step 3/9"]
    assert len(lines) == 3 and "u=99" in lines[2] and "loss is not finite" in lines[2]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"algorithm": SftConfig(), "precision": Precision.bf16, "n_tie": 3},
        {"adapter": AdapterConfig(name=Adapter.lora), "lr": 1},
    ],
)
def test_configs_come_back_from_plain_values(changes: dict[str, object], tmp_path: Path) -> None:
    config = point(tmp_path, **changes)
    again = from_plain(json.loads(json.dumps(as_plain(config))))
    assert again == config and isinstance(again, RunConfig)
    with pytest.raises(UsageError, match="no setting nope"):
        from_plain(as_plain(config) | {"nope": 1})


def test_asked_to_stop_is_stopped_at_a_step_with_its_state(outputs: Path) -> None:
    config, stop = point(outputs, steps=5), StopRequest()
    with pytest.raises(Stopped, match="a test wants it"):
        run_pack([config], ["a"], AskAfter(stop, 2), Unmirrored(), stop)
    folder = RunFolder(config)
    assert folder.status() is Status.cut_short and folder.reason() == "a test wants it"
    assert folder.lines()[-1].step == 2 and saved_step(folder.path / PREVIOUS) == 1
    assert run_pack([config], ["a"], Silent(), Unmirrored())[0].status is Status.finished
    assert [line.step for line in folder.lines()] == [0, 1, 2, 3, 4, 5]


def test_sync_takes_what_stays_and_only_once(outputs: Path) -> None:
    config, stop = point(outputs, steps=4), StopRequest()
    with pytest.raises(Stopped):
        run_pack([config], ["a"], AskAfter(stop, 2), Unmirrored(), stop)
    assert sync(outputs).runs == 1
    assert steps_in_mlflow(config) == [0, 1]
    run_pack([config], ["a"], Silent(), Unmirrored())
    for _ in range(2):
        assert sync(outputs).problems == []
        assert steps_in_mlflow(config) == [0, 1, 2, 3, 4]
    (outputs / "damaged").mkdir()
    (outputs / "damaged" / "config.yaml").write_text("{")
    assert len(sync(outputs).problems) == 1
    assert call("sync", f"--outputs-dir {outputs}").returncode == 1
    assert call("sync", f"--outputs-dir {outputs}/nope").returncode == 2


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
    [{"minutes": 0}, {"gpus": -1}, {"cpus": 1.5}, {"memory_gb": 0}, {"partition": ""}, {"setup": "x"}, {"wait": 1}],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"launcher.{next(iter(settings))}="):
        LaunchSettings(**settings)  # type: ignore[arg-type]


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


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_folder_without_locks_is_refused(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(FailureError, match="file lock"), ledger.locked(tmp_path):
        raise AssertionError("nothing is done without the lock")


def test_two_writers_of_one_sqlite_file_take_turns(outputs: Path) -> None:
    from tinylora.records import mirror as tracking

    uri = f"sqlite:///{outputs / 'mlflow.db'}"
    tracking_seconds = tracking.SECONDS_FOR_THE_LOCK
    tracking.SECONDS_FOR_THE_LOCK = 0.2
    try:
        with (
            tracking._only_writer(uri),
            pytest.raises(tracking.MlflowException, match="another process"),
            tracking._only_writer(uri),
        ):
            time.sleep(0)
    finally:
        tracking.SECONDS_FOR_THE_LOCK = tracking_seconds
