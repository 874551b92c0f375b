"""Jobs that train several packs at once: their results, the place of each pack, and what becomes of one that ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.slurm_jobs import (
    assert_same_results,
    processes,
    run_here,
    start,
    status,
    steps_done,
    submit,
    wait_until,
)

from experiments.jobs import ledger, side_by_side
from experiments.jobs.logs import jobs_of
from experiments.jobs.one_pack import AGAIN
from experiments.jobs.settings import Kind
from experiments.jobs.side_by_side import KILLED, VISIBLE, Places, starter, train_side_by_side
from experiments.jobs.states import cancel
from tinylora.models.find import MINIATURES
from tinylora.records.folder import lines_of
from tinylora.records.stopping import StopRequest
from tinylora.settings.groups import PACKS_AT_ONCE

TWO = "hydra/launcher=local launcher.cpus=1 launcher.packs_per_job=2"
WORDS = "u=1,5,13 pack.max_lanes=1 steps=40"  # three packs


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_here(tmp_path_factory.mktemp("here"), WORDS)


def job_process(outputs: Path, sweep: str) -> int:
    """The process of a job: it has started that of its first pack."""
    return int(Path(f"/proc/{processes(outputs, sweep)['0']}/stat").read_text().rpartition(")")[2].split()[1])


def log_of(outputs: Path, sweep: str, pack: int) -> str:
    (path,) = (outputs / "sweeps" / sweep / "1" / "jobs").glob(f"*_pack{pack}_log.err")
    return path.read_text()


def test_a_killed_pack_takes_no_other_with_it_and_its_place_is_the_next_ones(here: Path, tmp_path: Path) -> None:
    sweep = submit(tmp_path, WORDS, TWO)
    found = ledger.find(tmp_path, sweep)
    wait_until(lambda: steps(tmp_path, found, 0) >= 1)
    assert "1 queued" in status(tmp_path, sweep)[1] and len(processes(tmp_path, sweep)) == 2
    os.kill(processes(tmp_path, sweep)["0"], signal.SIGKILL)
    wait_until(lambda: "2 finished" in status(tmp_path, sweep)[1] and "1 stopped" in status(tmp_path, sweep)[1])
    for pack in range(3):
        assert f"pack {pack} of sweep {sweep}" in log_of(tmp_path, sweep, pack)
    (job,) = jobs_of(found.submissions[0].packs[2], [found])
    name = found.submissions[0].jobs[0]
    assert [path.name for path in job.logs() if path.suffix == ".err"] == [f"{name}_0_log.err", f"{name}_pack2_log.err"]
    assert "3 finished" in start(tmp_path, f"{WORDS} {TWO} launcher.wait=true")
    assert_same_results(tmp_path, here, 40)


def test_notice_stops_all_packs_and_the_job_goes_on_with_them(here: Path, tmp_path: Path) -> None:
    sweep = submit(tmp_path, WORDS, TWO)
    found = ledger.find(tmp_path, sweep)
    wait_until(lambda: all(steps(tmp_path, found, pack) >= 1 for pack in (0, 1)))
    os.kill(job_process(tmp_path, sweep), signal.SIGUSR2)
    wait_until(lambda: "3 finished" in status(tmp_path, sweep)[1])
    assert "stopped with all states saved: its job was told to end (SIGTERM)" in log_of(tmp_path, sweep, 1)
    assert "requeued once" in status(tmp_path, sweep)[1]
    assert_same_results(tmp_path, here, 40)


def test_a_pack_whose_job_is_killed_stops_too(tmp_path: Path) -> None:
    sweep = submit(tmp_path, WORDS.replace("40", "4000"), TWO)
    wait_until(lambda: len(processes(tmp_path, sweep)) == 2)
    wait_until(lambda: steps_done(tmp_path) >= 1)
    os.kill(job_process(tmp_path, sweep), signal.SIGKILL)
    wait_until(lambda: "stopped with all states saved: the process of its job is gone" in log_of(tmp_path, sweep, 0))


def test_a_pack_that_fails_is_said_while_the_others_go_on(tmp_path: Path) -> None:
    model, outputs = tmp_path / "miniature-qwen2", tmp_path / "outputs"
    shutil.copytree(MINIATURES / "miniature-qwen2", model)
    sweep = submit(outputs, f"u=1,5,13 pack.max_lanes=1 steps=400 model.path={model}", TWO)
    found = ledger.find(outputs, sweep)
    wait_until(lambda: len(processes(outputs, sweep)) == 2 and all(steps(outputs, found, pack) for pack in (0, 1)))
    shutil.rmtree(model)
    os.kill(processes(outputs, sweep)["0"], signal.SIGKILL)  # makes room for the third
    wait_until(lambda: found.ended(found.submissions[0], 2) is not None)
    text = status(outputs, sweep)[1]
    assert f"error: model.path={model}" in text and "running" in text, text
    cancel(found)
    wait_until(lambda: "running" not in status(outputs, sweep)[1])


def steps(outputs: Path, sweep: ledger.Sweep, pack: int) -> int:
    """How many steps a pack has recorded."""
    (key,) = sweep.submissions[0].packs[pack]
    return max((line.step for line in lines_of(outputs / key)), default=0)


class Ending:
    """A process that has ended."""

    def __init__(self, code: int) -> None:
        self.code, self.stdin = code, open(os.devnull, "wb")  # noqa: SIM115 - closed by whoever collects it

    def poll(self) -> int:
        return self.code


@pytest.mark.parametrize(
    ("codes", "job", "failed"),
    [
        ([0, 0, 0], 0, []),
        ([0, 1, 0], 1, [1]),
        ([2, 1, 0], 2, [0, 1]),
        ([0, -9, 2], KILLED, [2]),  # the job is queued again, and the pack that has failed is not trained then
        ([AGAIN, 0, 0], KILLED, []),
        ([3, 0, 0], 3, []),
    ],
)
def test_what_a_job_ends_with(codes: list[int], job: int, failed: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "SECONDS_BETWEEN_LOOKS", 0)
    said = list[int]()

    def begin(pack: int, place: int) -> Any:
        return Ending(codes[pack])

    places = Places(range(3), 2, begin, lambda pack, status: said.append(pack))
    assert train_side_by_side(places, StopRequest()) and places.status == job and said == failed


def test_notice_after_the_last_pack_changes_nothing() -> None:
    stop = StopRequest()

    def begin(pack: int, place: int) -> Any:
        stop.ask("told")
        return Ending(0)

    places = Places([0], 1, begin, lambda pack, status: None)
    assert train_side_by_side(places, stop) and places.status == 0


def test_after_notice_nothing_is_begun() -> None:
    stop = StopRequest()
    stop.ask("told")
    places = Places([0, 1], 2, lambda pack, place: pytest.fail("begun"), lambda pack, status: None)
    assert not train_side_by_side(places, stop) and places.waiting == [0, 1]


@pytest.mark.parametrize(("visible", "wanted"), [("3,5", "5"), ("", None)])
def test_each_place_has_a_gpu_of_its_own(
    visible: str, wanted: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[dict[str, str]]()
    real: Callable[..., Any] = subprocess.Popen

    def popen(command: list[str], env: dict[str, str], **more: Any) -> Any:
        asked.append(env)
        return real([sys.executable, "-c", ""], env=env, **more)

    monkeypatch.setenv(VISIBLE, visible)
    monkeypatch.setattr(side_by_side.subprocess, "Popen", popen)
    submission: Any = ledger.Submission(1, 0.0, Kind.local, [], {"packs_per_job": 2}, {}, [["a"], ["b"]])
    sweep = ledger.Sweep(tmp_path, {}, [submission])
    (tmp_path / "1" / "jobs").mkdir(parents=True)
    process = starter(sweep, submission, "7")(1, 1)
    assert process.wait() == 0 and process.stdin is not None
    process.stdin.close()
    assert asked[0][PACKS_AT_ONCE] == "2"
    assert asked[0].get(VISIBLE) == (wanted if wanted is not None else visible)
    assert sorted(path.name for path in (tmp_path / "1" / "jobs").iterdir()) == ["7_pack1_log.err", "7_pack1_log.out"]
