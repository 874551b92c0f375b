"""Sweeps on a real SLURM of two nodes (tests/support/slurm_node.sh): results are those of local packs."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from submitit.core.utils import FailedSubmissionError
from support.slurm_jobs import (
    SLURM,
    SMALL,
    assert_same_results,
    call,
    job_ids,
    jobs_below,
    process_of_task,
    processes,
    run_here,
    start,
    status,
    steps_done,
    submit,
    sweep_of,
    wait_for_end,
    wait_until,
)

from analysis import build
from experiments import run
from experiments.jobs import ledger, slurm, snapshot
from experiments.jobs import submit as submit_module
from tinylora.records.folder import CONFIG, lines_of, read_yaml, run_folders
from tinylora.records.import_runs import sync
from tinylora.settings.files import CACHE_VARIABLE

pytestmark = pytest.mark.slurm  # one test of them is fast, and shows the whole way there and back

SHORT, LONG = "u=1,13 precision=fp32,bf16 steps=3", "u=5,13 seed=0,1 steps=60"


@pytest.fixture(scope="module")
def short_here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_here(tmp_path_factory.mktemp("short"), SHORT)


@pytest.fixture(scope="module")
def long_here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_here(tmp_path_factory.mktemp("long"), LONG)


def test_an_array_of_packs_gives_what_local_packs_give(short_here: Path, tmp_path: Path) -> None:
    sweep = submit(tmp_path, SHORT)
    assert len(job_ids(sweep)) == 2
    wait_for_end(sweep)
    assert not (tmp_path / "mlflow.db").exists(), "jobs write no store"
    code, text = status(tmp_path, sweep)
    assert code == 0 and text.startswith(f"sweep {sweep}: 4 finished")
    assert_same_results(tmp_path, short_here, 3)

    assert "4 of 4 runs have ended before" in start(tmp_path, f"{SHORT} {SLURM}") and job_ids(sweep) == []
    assert metrics_in_store(tmp_path) == metrics_in_store(tmp_path) == {key: 4 for key in run_keys(short_here)}
    assert figures_of(tmp_path) == figures_of(short_here)


def figures_of(outputs: Path) -> dict[str, bytes]:
    """The figures of the report and the numbers behind them; not the list of runs, in which each has its id."""
    out = outputs / "reports"
    assert build.main([f"--outputs-dir={outputs}", f"--out={out}", "--format=svg"]) == 0
    files = {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in (".svg", ".csv")}
    del files["runs.csv"]
    assert len(files) >= 4
    return files


def run_keys(outputs: Path) -> list[str]:
    return [path.parent.name for path in outputs.glob("*/metrics.jsonl")]


def metrics_in_store(outputs: Path) -> dict[str, int]:
    """After a sync: the lines of each run, by run key."""
    from mlflow import MlflowClient

    from tinylora.records.mirror import MARKER

    assert sync(outputs).problems == []
    client = MlflowClient(f"sqlite:///{outputs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tinylora")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    return {run.data.tags["run_key"]: len(client.get_metric_history(run.info.run_id, MARKER)) for run in runs}


@pytest.mark.parametrize("events", [int(os.environ.get("SLURM_PREEMPTIONS", "3"))])
@pytest.mark.slow
def test_preempted_jobs_end_finished_with_the_same_results(events: int, long_here: Path, tmp_path: Path) -> None:
    """A notice, a requeue by SLURM and a kill, at random moments; more of them with SLURM_PREEMPTIONS=10."""
    chance = random.Random(events)
    sweep = submit(tmp_path, LONG, f"{SLURM} launcher.max_requeues=40")
    for event in range(events):
        before = steps_done(tmp_path)
        wait_until(lambda before=before: steps_done(tmp_path) > max(before, 1) or not job_ids(sweep))  # type: ignore[misc]
        time.sleep(chance.uniform(0, 0.4))
        disturb(tmp_path, sweep, event % 3, chance)
    wait_for_end(sweep)
    code, text = status(tmp_path, sweep)
    assert code == 0 and f"sweep {sweep}: 4 finished" in text and "requeued" in text
    assert_same_results(tmp_path, long_here, 60)
    assert metrics_in_store(tmp_path) == {key: 61 for key in run_keys(long_here)}


def disturb(outputs: Path, sweep: str, manner: int, chance: random.Random) -> None:
    jobs = job_ids(sweep)
    if not jobs:
        return
    if manner == 0:
        subprocess.run(["scancel", f"--signal={chance.choice(['USR1', 'USR2', 'TERM'])}", chance.choice(jobs)])
    elif manner == 1:
        subprocess.run(["scontrol", "requeue", chance.choice(jobs)], check=False)  # one that waits is refused
    elif manner == 2:
        there = [process for process in processes(outputs, sweep).values() if Path(f"/proc/{process}").exists()]
        if there:
            os.kill(chance.choice(there), signal.SIGKILL)
    elif manner == 3:
        subprocess.run(["pkill", "-x", "slurmctld"], check=True)
        while subprocess.run(["pgrep", "-x", "slurmctld"], stdout=subprocess.DEVNULL, check=False).returncode == 0:
            time.sleep(0.2)
        subprocess.run(["slurmctld"], check=True)
    else:
        node = f"nodename={socket.gethostname().partition('.')[0]}{chance.choice(['', '2'])}"
        subprocess.run(["scontrol", "update", node, "state=down", "reason=test"], check=True)
        time.sleep(2)
        subprocess.run(["scontrol", "update", node, "state=resume"], check=True)


@pytest.mark.parametrize("events", [int(os.environ.get("SLURM_PREEMPTIONS", "3"))])
@pytest.mark.slow
def test_jobs_of_two_packs_each_end_finished_with_the_same_results(events: int, tmp_path: Path) -> None:
    """The same for jobs that train two packs side by side.

    With SLURM_PACKS=16 there are more packs, and events that meet other tests, too: the controller is restarted, and
    a node goes down.
    """
    packs = int(os.environ.get("SLURM_PACKS", "4"))
    manners = 3 if packs == 4 else 5
    points = f"u=5,13 seed={','.join(map(str, range(packs // 2)))} steps=60 pack.max_lanes=1"
    here = run_here(tmp_path / "here", points)
    chance, outputs = random.Random(events), tmp_path / "outputs"
    at_end = f"launcher.at_end='cat - > {tmp_path}/said; echo $TINYLORA_SWEEP >> {tmp_path}/said'"
    sweep = submit(outputs, points, f"{SLURM} launcher.packs_per_job=2 launcher.max_requeues=40", at_end)
    assert len(job_ids(sweep)) == packs // 2 + 1, "and the one that runs the command"
    for event in range(events):
        before = steps_done(outputs)
        wait_until(lambda before=before: steps_done(outputs) > before or not job_ids(sweep))  # type: ignore[misc]
        time.sleep(chance.uniform(0, 0.4))
        disturb(outputs, sweep, event % manners, chance)
    wait_for_end(sweep)
    code, text = status(outputs, sweep)
    assert code == 0 and f"sweep {sweep}: {packs} finished" in text and "requeued" in text
    said = (tmp_path / "said").read_text().splitlines()
    assert (said[0], said[-1]) == (f"sweep {sweep}: {packs} finished", sweep)
    assert_same_results(outputs, here, 60)


TWO_RANKS = "u=5,13 steps=60"


@pytest.fixture(scope="module")
def two_ranks_here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two background processes to which nothing happens."""
    here = tmp_path_factory.mktemp("two")
    local = "hydra/launcher=local launcher.cpus=1 launcher.tasks=2 launcher.wait=true"
    ended = call("run", f"-m {SMALL} {TWO_RANKS} {local} outputs_dir={here}")
    assert ended.returncode == 0 and "2 finished" in ended.stdout, ended.stderr
    return here


@pytest.mark.parametrize("two", ["launcher.tasks=2", "launcher.nodes=2"])
@pytest.mark.slow
def test_a_job_of_two_tasks_survives_the_death_of_one(two: str, two_ranks_here: Path, outputs: Path) -> None:
    """On one node, and on two."""
    sweep = submit(outputs, TWO_RANKS, f"{SLURM} {two}")
    wait_until(lambda: steps_done(outputs) >= 3)
    os.kill(process_of_task(outputs, 1), signal.SIGKILL)
    wait_for_end(sweep)
    code, text = status(outputs, sweep)
    assert code == 0 and "2 finished" in text and "requeued once" in text
    (log,) = outputs.glob("sweeps/*/1/jobs/*_0_log.err")
    assert "error: rank 1 of 2 is gone" in log.read_text()
    assert_same_results(outputs, two_ranks_here, 60)
    assert len(list(outputs.glob("sweeps/*/1/jobs/*_meeting*"))) == 2, "they have met anew"


@pytest.mark.slow
def test_editing_the_sources_changes_nothing_that_is_queued(short_here: Path, tmp_path: Path) -> None:
    sources, outputs = tmp_path / "checkout", tmp_path / "outputs"
    snapshot.take(sources)
    held = f"{SLURM} launcher.sbatch={{hold:true}}"
    sweep = sweep_of(call("run", f"-m {SMALL} {SHORT} {held} outputs_dir={outputs}", sources).stdout)
    code, text = status(outputs, sweep)
    assert code == 0 and text.startswith(f"sweep {sweep}: 4 queued") and "JobHeldUser" in text

    again = call("run", f"-m {SMALL} {SHORT} {SLURM} outputs_dir={outputs}", sources)
    assert again.returncode == 0 and "4 of 4 runs are queued or running already" in again.stdout
    assert len(job_ids(sweep)) == 2

    for path in sources.rglob("tinylora/**/*.py"):
        path.write_text("raise SystemExit('edited')\n")
    for job in job_ids(sweep):
        subprocess.run(["scontrol", "release", job], check=True)
    wait_for_end(sweep)
    assert_same_results(outputs, short_here, 3)


@pytest.mark.slow
def test_a_cancelled_sweep_goes_on_where_it_stopped(long_here: Path, tmp_path: Path) -> None:
    sweep = submit(tmp_path, LONG)
    wait_until(lambda: steps_done(tmp_path) >= 3)
    code, text = status(tmp_path, sweep)
    assert code == 0 and "running" in text and "/60" in text and "s a step" in text
    assert call("cancel", f"{sweep} --outputs-dir {tmp_path}").returncode == 0
    wait_for_end(sweep)
    reached = steps_done(tmp_path)
    code, text = status(tmp_path, sweep)
    assert code == 1 and "cancelled" in text and reached < 60
    assert submit(tmp_path, LONG) == sweep
    wait_for_end(sweep)
    assert status(tmp_path, sweep)[0] == 0
    assert_same_results(tmp_path, long_here, 60)


@pytest.mark.slow
def test_status_tells_failed_and_lost_runs(tmp_path: Path) -> None:
    failing = submit(tmp_path, "u=3 precision=fp16 lr=1e6 steps=3")
    lost = submit(tmp_path, "u=3 seed=7 steps=500", f"{SLURM} launcher.max_requeues=0")
    wait_until(lambda: bool(processes(tmp_path, lost)) and steps_done(tmp_path) > 3)
    os.kill(processes(tmp_path, lost)["0"], signal.SIGKILL)
    wait_for_end(failing)
    wait_for_end(lost)
    code, text = status(tmp_path, failing)
    assert code == 1 and "1 failed" in text and "fp16" in text and "log.err" in text
    code, text = status(tmp_path, lost)
    assert code == 1 and "1 stopped" in text and "log.err" in text and "/500" in text


@pytest.mark.slow
def test_a_time_limit_requeues_with_all_states_saved(tmp_path: Path) -> None:
    """The notice comes 50 s before the end of the shortest time limit that there is."""
    sweep = submit(tmp_path, "u=3 steps=2000", f"{SLURM} launcher.minutes=1 launcher.notice_seconds=50")
    wait_until(lambda: "requeued" in status(tmp_path, sweep)[1])
    assert call("cancel", f"{sweep} --outputs-dir {tmp_path}").returncode == 0
    wait_for_end(sweep)


@pytest.mark.slow
def test_eight_jobs_write_to_a_server_that_goes_away_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    outputs = tmp_path / "outputs"
    with server(tmp_path, port):
        sweep = submit(outputs, "u=range(1,9) steps=25 tracking=server pack.max_lanes=1")
        assert len(job_ids(sweep)) == 8
        wait_until(lambda: steps_done(outputs) >= 3)
    time.sleep(20)
    with server(tmp_path, port):
        wait_until(lambda: not job_ids(sweep), 400)
        assert status(outputs, sweep)[0] == 0 and not (outputs / "mlflow.db").exists()
        for path in outputs.glob("*/metrics.jsonl"):
            assert_all_metrics_arrived(path.parent)


@contextmanager
def server(folder: Path, port: int) -> Iterator[None]:
    store = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "files")]
    words = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1", *store]
    with (folder / "server.log").open("a") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def assert_all_metrics_arrived(folder: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("tinylora")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], f"tags.run_key = '{folder.name}'")
    expected = Counter(name for line in lines_of(folder) for name in line.metrics)
    assert run.data.tags["status"] == "finished" and expected
    for name, count in expected.items():
        assert len(client.get_metric_history(run.info.run_id, name)) == count, name


BAD = {
    "launcher.partition=nope": (2, "partition"),
    "launcher.memory_gb=100000": (2, "memory"),
    "launcher.minutes=0": (2, "launcher.minutes=0"),
    "launcher.constraint=nope": (2, "feature"),
    "outputs_dir=/dev/null/outputs": (1, "/dev/null"),
    "tracking.uri=sqlite:///one.db": (2, "many writers"),
}


@pytest.mark.parametrize("words", BAD)
@pytest.mark.slow
def test_what_slurm_would_refuse_is_one_message_and_leaves_nothing(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, part = BAD[words]
    outputs = "" if words.startswith("outputs_dir") else f"outputs_dir={tmp_path}/o"
    given = {word.partition("=")[0]: word for word in f"u=1,2 {SMALL} {SLURM} {outputs} {words}".split()}
    monkeypatch.setattr(sys, "argv", ["run.py", "-m", *given.values()])
    assert run.main() == code
    said = capsys.readouterr().err
    message = said[said.index("error: ") :]
    assert part in message.lower() and len(message.splitlines()) == 3, said
    assert jobs_below(tmp_path) == []
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_jobs_on_two_nodes_that_need_a_new_basis_agree_on_its_digest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    half = SLURM.replace("launcher.cpus=1", "launcher.cpus=4")  # of a node: two jobs on each
    sweep = submit(tmp_path / "o", "u=1,2,3,4 rank=4 pack.max_lanes=1 steps=1", f"{half} launcher.sbatch={{hold:true}}")
    for job in job_ids(sweep):  # all at once
        subprocess.run(["scontrol", "release", job], check=True)
    nodes: set[str] = set()

    def all_seen() -> bool:
        nodes.update(nodes_of(sweep))
        return not job_ids(sweep)

    wait_until(all_seen)
    assert status(tmp_path / "o", sweep)[1].startswith(f"sweep {sweep}: 4 finished")
    assert len(nodes) == 2, nodes
    written = [read_yaml(folder / CONFIG)["provenance"] for folder in run_folders(tmp_path / "o")]
    assert len(written) == 4 and len({each["basis_digest"] for each in written}) == 1
    assert len(list((tmp_path / "cache/basis").glob("*.safetensors"))) == 1


def nodes_of(sweep: str) -> list[str]:
    """The nodes on which jobs of a sweep run now."""
    asked = ["squeue", "--noheader", "--states=RUNNING", "--format=%j|%N"]
    lines = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line.split("|")[1] for line in lines if line.startswith(f"tinylora-{sweep}-")]


@pytest.mark.slow
def test_packs_that_one_array_cannot_have_are_several_arrays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert slurm.largest_array() == 1001, "what SLURM allows where its configuration does not say"
    monkeypatch.setattr(slurm, "largest_array", lambda: 2)
    words = "u=1,2,3 pack.max_lanes=1 steps=1"
    with pytest.raises(AssertionError):  # the exit status is not 0
        start(tmp_path / "o", f"{words} {SLURM} launcher.array_parallelism=1")
    assert "give launcher.array_parallelism=2 or more" in capsys.readouterr().err and not (tmp_path / "o").exists()
    sweep = submit(tmp_path, words)
    assert len(job_ids(sweep)) == 3
    code, text = status(tmp_path, sweep)
    assert code == 0 and "not submitted" not in text
    wait_for_end(sweep)
    assert status(tmp_path, sweep)[1].startswith(f"sweep {sweep}: 3 finished")
    (submission,) = ledger.find(tmp_path, sweep).submissions
    assert [job.split("_")[1:] for job in submission.jobs] == [["0"], ["1"], []]
    assert [submission.place_of(pack) for pack in range(3)] == [(0, 0), (0, 1), (1, 0)]


@pytest.mark.slow
def test_arrays_that_came_before_a_refused_one_are_cancelled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    takes, asked = submit_module.SlurmExecutor.submit_array, []

    def submit_array(executor: Any, jobs: Any) -> Any:
        asked.append(len(jobs))
        if len(asked) == 2:
            raise FailedSubmissionError("sbatch: error: QOSMaxSubmitJobPerUserLimit")
        return takes(executor, jobs)

    monkeypatch.setattr(slurm, "largest_array", lambda: 2)
    monkeypatch.setattr(submit_module.SlurmExecutor, "submit_array", submit_array)
    with pytest.raises(AssertionError):  # the exit status is not 0
        submit(tmp_path / "o", "u=1,2,3 pack.max_lanes=1 steps=200")
    assert asked == [2, 1]
    wait_until(lambda: jobs_below(tmp_path) == [])
    assert not list(tmp_path.glob("o/sweeps/*"))


@pytest.mark.slow
def test_a_dry_run_writes_everything_and_submits_nothing(tmp_path: Path) -> None:
    assert "dry run: 3 runs in 2 packs" in start(tmp_path, f"u=1,2,3 {SLURM} launcher.dry_run=true")
    (script,) = tmp_path.glob("sweeps/*/1/jobs/submission.sh")
    assert "#SBATCH --array=0-1" in script.read_text() and "wckey" not in script.read_text()
    assert jobs_below(tmp_path) == []
    code, text = status(tmp_path)
    assert code == 0 and "3 not submitted" in text
