"""`experiments.records compare`: up to where two records of the same run agree, bit for bit."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from experiments import records
from tinylora.records.folder import METRICS, RunFolder
from tinylora.settings.config import RunConfig


def make_run(outputs: Path, *rewards: float, seed: int = 0, device: str = "cpu") -> RunFolder:
    folder = RunFolder(RunConfig(lr=0.01, seed=seed, outputs_dir=str(outputs)))
    folder.path.mkdir(parents=True)
    folder.describe({"scale_model": True, "device": device})
    for step, reward in enumerate(rewards):
        folder.append(step, {"train/reward": reward, "time/step_s": step + len(outputs.name) / 10})
    return folder


def compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = records.main(["compare", str(tmp_path / "a"), str(tmp_path / "bb")])
    printed = capsys.readouterr()
    return status, printed.out + printed.err


def test_a_longer_record_is_compared_as_far_as_the_shorter_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "a", 0.1, math.nan, 0.3, 0.4)
    make_run(tmp_path / "bb", 0.1, math.nan, 0.3)
    make_run(tmp_path / "bb", 0.1, seed=1)
    said = f"{run.config.run_key}  3 of 3 lines are the same  the same bit for bit\n"
    assert compared(tmp_path, capsys) == (0, said)


def test_one_bit_is_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "a", 0.1, 0.3, 0.5)
    make_run(tmp_path / "bb", 0.1, math.nextafter(0.3, 1), 0.5, device="cuda")
    status, said = compared(tmp_path, capsys)
    assert status == 1
    assert "1 of 3 lines are the same  differs: step 1: train/reward is 0.3 and 0.30000000000000004" in said
    assert "made with another device" in said


def test_metrics_that_one_record_left_out_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "a", 0.1, 0.3)
    path = make_run(tmp_path / "bb", 0.1, 0.3).path / METRICS
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1]["metrics"] = {"train/loss": 7.0}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert compared(tmp_path, capsys)[0] == 0


def test_nothing_in_common_and_damaged_settings_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "a", 0.1)
    make_run(tmp_path / "bb", 0.1, seed=1)
    assert compared(tmp_path, capsys)[0] == 2
    shutil.copytree(make_run(tmp_path / "a", 0.1, seed=2).path, tmp_path / "bb" / RunConfig(lr=0.01, seed=2).run_key)
    damaged = tmp_path / "bb" / RunConfig(lr=0.01, seed=2).run_key / "config.yaml"
    damaged.write_text("{")
    status, said = compared(tmp_path, capsys)
    assert status == 2
    assert str(damaged) in said and "Traceback" not in said
