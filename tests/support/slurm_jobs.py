"""Sweeps of the tests in jobs: the commands, what waits for jobs, and what compares results."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from unittest.mock import patch

import torch
from safetensors.torch import load_file

from experiments import run
from experiments.compose.points import compose
from experiments.sweep import run_sweep
from tinylora.records.folder import METRICS, STATE, lines_of

ROOT = Path(__file__).parents[2]
SMALL = (
    "pack.max_lanes=2 eval.test_items=4 eval.validation_items=4 algorithm.prompts=4 algorithm.samples=4 "
    "rollout.max_new_tokens=32 model.device=cpu"
)
SLURM = "hydra/launcher=slurm launcher.cpus=1 launcher.memory_gb=2 launcher.minutes=30"
SECONDS = 180.0


def call(module: str, words: str, sources: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m experiments.<module>` of some sources."""
    variables = os.environ | {"PYTHONPATH": str(sources)} | environment
    command = [sys.executable, "-P", "-m", f"experiments.{module}", *words.split()]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False, cwd=sources)


def asked(outputs: Path, words: str) -> list[str]:
    """The settings of a sweep: of one that these tests have a value for, the value that is asked for."""
    settings = [*SMALL.split(), *words.split(), f"outputs_dir={outputs}"]
    return list({word.partition("=")[0]: word for word in settings}.values())


def start(outputs: Path, words: str, *more: str) -> str:
    """What `experiments.run` says of a sweep, in this process, which has imported everything already.

    Words are separated by spaces; `more` are words that have spaces in them.
    """
    said, command = io.StringIO(), ["run.py", "-m", *asked(outputs, words), *more]
    with patch.object(sys, "argv", command), redirect_stdout(said):
        assert run.main() == 0, said.getvalue()
    return said.getvalue()


def submit(outputs: Path, words: str, launcher: str = SLURM, *more: str) -> str:
    """Submit a sweep; returns its id."""
    return sweep_of(start(outputs, f"{words} {launcher}", *more))


def sweep_of(said: str) -> str:
    """The id of the sweep that a command says it has submitted."""
    return said.split("sweep ")[1].split(":")[0]


def run_here(outputs: Path, words: str) -> Path:
    """The same sweep in packs of this process."""
    run_sweep(compose(asked(outputs, words)).points)
    return outputs


def status(outputs: Path, sweep: str = "", options: str = "--no-sync") -> tuple[int, str]:
    """Exit status and text of `experiments.status`."""
    ended = call("status", f"{sweep} {options} --outputs-dir {outputs}")
    assert ended.returncode in (0, 1) and "Traceback" not in ended.stderr, ended.stderr
    return ended.returncode, ended.stdout


def wait_until(what: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait for something that jobs do."""
    until = time.monotonic() + seconds
    while not what():
        if time.monotonic() > until:  # else the test would hang
            raise TimeoutError(f"not within {seconds:.0f} s; queue:\n{queue()}")
        time.sleep(0.3)


def queue() -> str:
    """What squeue shows; nothing where there is no SLURM."""
    if shutil.which("squeue") is None:
        return "(no SLURM)"
    return subprocess.run(["squeue", "--array"], capture_output=True, text=True, check=True).stdout


def jobs_below(folder: Path) -> list[str]:
    """The jobs that run from a folder: whatever others submit meanwhile is not ours."""
    asked = ["squeue", "--noheader", "--format=%Z"]
    lines = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if line.startswith(str(folder))]


def job_ids(sweep: str) -> list[str]:
    """The jobs of a sweep that wait or run."""
    asked = ["squeue", "--noheader", "--array", "--format=%j|%i"]
    lines = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted(line.split("|")[1] for line in lines if line.startswith(f"tinylora-{sweep}-"))


def wait_for_end(sweep: str) -> None:
    """Wait until no job of a sweep is left."""
    wait_until(lambda: not job_ids(sweep))


def steps_done(outputs: Path) -> int:
    """The furthest step that any run has recorded."""
    return max((line.step for path in outputs.glob(f"*/{METRICS}") for line in lines_of(path.parent)), default=-1)


def processes(outputs: Path, sweep: str) -> dict[str, int]:
    """The process of every job of a sweep, as its last attempt noted it, by pack."""
    found = {}
    for path in (outputs / "sweeps" / sweep).glob("*/attempts/*.jsonl"):
        found[path.stem] = int(json.loads(path.read_text().splitlines()[-1])["process"])
    return found


def process_of_task(outputs: Path, task: int) -> int:
    """The process of one task of the job that runs from `outputs`."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command, variables = (path / "cmdline").read_bytes(), (path / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if os.fsencode(outputs) in command and f"SLURM_PROCID={task}".encode() in variables:
            return int(path.name)
    raise AssertionError(f"no task {task} of {outputs} runs")


def assert_same_results(outputs: Path, wanted: Path, steps: int) -> None:
    """v bit for bit, and every step recorded once."""
    expected = {path.parent.name: load_file(path) for path in wanted.glob(f"*/{STATE}")}
    found = {path.parent.name: load_file(path) for path in outputs.glob(f"*/{STATE}")}
    assert found.keys() == expected.keys() and found
    for key, state in found.items():
        assert all(torch.equal(tensor, expected[key][name]) for name, tensor in state.items())
        assert [line.step for line in lines_of(outputs / key)] == list(range(steps + 1))
