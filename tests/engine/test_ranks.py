"""One pack in two processes: the results are those of one, and a process that dies does not keep the other waiting."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.packs import point
from support.rank_packs import long_pack, packs
from support.slurm_jobs import ROOT, assert_same_results, steps_done, wait_until

from experiments.jobs.settings import Kind, LaunchSettings
from experiments.jobs.submit import submit_sweep
from tinylora.engine.ranks import Ranks, device_of, ranks_of_process, require_work
from tinylora.engine.sampling import Rollout, joined
from tinylora.records.folder import STATE, RunFolder, Status, Unmirrored
from tinylora.records.progress import Silent
from tinylora.settings.errors import UsageError
from tinylora.train.loop import run_pack

LONG = (
    "-m u=5,13 steps=20 lr=0.05 algorithm.prompts=3 algorithm.samples=4 rollout.max_new_tokens=32 eval.test_items=4 "
    "eval.validation_items=4 model.device=cpu"
)


def two_ranks(*words: str) -> list[subprocess.Popen[str]]:
    """Two processes that find each other as torchrun's do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    return [
        subprocess.Popen(
            [sys.executable, *words],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packs of `rank_packs`, by two ranks, one of which fails in the end: then both have, with its error."""
    outputs = tmp_path_factory.mktemp("two")
    processes = two_ranks("-c", f"from support.rank_packs import train_all; train_all({str(outputs)!r})")
    leader, other = (process.communicate(timeout=600)[1] for process in processes)
    assert "ValueError: no luck" in other and "rank 1 of 2 has failed: ValueError: no luck" in leader, leader + other
    assert [process.returncode for process in processes] == [1, 1]
    return outputs


@pytest.mark.parametrize("name", ["grpo", "sft", "lora", "full", "kl", "random search"])
def test_two_ranks_find_what_one_process_finds(name: str, trained: Path, tmp_path: Path) -> None:
    configs = packs(tmp_path)[name]
    records = run_pack(configs, [config.run_key for config in configs], Silent(), Unmirrored())
    for record, config in zip(records, packs(trained)[name], strict=True):
        other = RunFolder(config)
        assert other.status() is record.status and other.reason() == record.reason
        one, two = (load_file(folder / STATE)["v"] for folder in (record.config.folder, config.folder))
        assert record.status is Status.failed or one.abs().max() > 1e-4
        assert (one - two).abs().max() <= 1e-5
        assert_same_lines(RunFolder(record.config), other)
    assert name != "grpo" or [record.status for record in records][2] is Status.failed


def assert_same_lines(one: RunFolder, two: RunFolder) -> None:
    """The same metrics at the same steps, each once."""
    assert [line.step for line in one.lines()] == [line.step for line in two.lines()]
    for line, other in zip(one.lines(), two.lines(), strict=True):
        assert line.metrics.keys() == other.metrics.keys()
        for metric, value in line.metrics.items():
            assert metric.startswith("time/") or value == pytest.approx(other.metrics[metric], rel=1e-3, abs=1e-5)


@pytest.mark.slow
def test_a_killed_rank_ends_the_pack_which_goes_on_under_torchrun(outputs: Path) -> None:
    whole = outputs / "whole"
    assert [each.wait() for each in two_ranks("-m", "experiments.run", *LONG.split(), f"outputs_dir={whole}")] == [0, 0]
    leader, other = two_ranks("-m", "experiments.run", *LONG.split(), f"outputs_dir={outputs}")
    wait_until(lambda: steps_done(outputs) >= 4 or leader.poll() is not None)
    os.kill(other.pid, signal.SIGKILL)
    _, said = leader.communicate(timeout=60)
    assert other.wait() == -signal.SIGKILL and leader.returncode == 1
    message = f"rank 0: error: rank 1 of 2 is gone: process {other.pid} was killed"
    assert message in said and "Traceback" not in said
    folders = [RunFolder(config) for config in long_pack(outputs)]
    assert [folder.status() for folder in folders] == [Status.cut_short] * 2
    assert all("rank 1 of 2 is gone" in (folder.reason() or "") for folder in folders)
    assert 0 <= steps_done(outputs) < 20, (
        "lines beyond the saved states, which are not saved at every step, are dropped"
    )

    words = ["--nproc-per-node=2", "--standalone", "-m", "experiments.run", *LONG.split(), f"outputs_dir={outputs}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "torch.distributed.run", *words]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("folders of the runs: ") == 1, "one process prints the summary"
    assert_same_results(outputs, whole, 20)


def test_one_process_does_everything_itself() -> None:
    alone = Ranks()
    assert alone.leads and alone.own([1, 2, 3]) == [1, 2, 3] and alone.first(lambda: 7) == 7
    assert alone.share([1, 2, 3], lambda items: [item * 2 for item in items]) == [2, 4, 6]
    assert alone.any(None) is None and alone.any("x") == "x"


def test_parts_of_a_rollout_are_put_back_in_order() -> None:
    whole = Rollout(torch.arange(40).view(10, 4), torch.arange(10), torch.rand(10, 4), torch.rand(10) > 0.5)
    parts = []
    for rank in range(3):  # of 5 prompts with 2 samples
        rows = torch.tensor([2 * prompt + sample for prompt in range(rank, 5, 3) for sample in range(2)])
        parts.append(Rollout(whole.tokens[rows], whole.lengths[rows], whole.logp[rows], whole.truncated[rows]))
    again = joined(parts, 2, 0)
    for name, values in vars(whole).items():
        assert torch.equal(getattr(again, name), values), name


def test_ranks_without_work_or_device_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_work([point(tmp_path)] * 2, 8)
    with pytest.raises(UsageError, match="9 ranks for a pack of 2 lanes"):
        require_work([point(tmp_path)] * 2, 9)
    assert device_of(3, 4) == 3 and device_of(3, 1) == 0
    with pytest.raises(UsageError, match="2 GPUs"):
        device_of(2, 2)
    with pytest.raises(UsageError, match="5 ranks for a pack of 1 lanes"):
        submit_sweep([point(tmp_path)], Kind.local, LaunchSettings(tasks=5))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="is submitted once"):
        submit_sweep([point(tmp_path)], Kind.local, LaunchSettings())
    assert not list(tmp_path.glob("sweeps/*/sweep.json"))
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    ranks_of_process.cache_clear()
    with pytest.raises(UsageError, match="WORLD_SIZE=2 without"):
        ranks_of_process()
