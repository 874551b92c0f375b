"""Runs that were stopped are packed with their states, and go on bit for bit where they are unpacked."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.packs import At, interrupt, point

from experiments import records
from tinylora.records.folder import STATE, RunFolder, Status, Unmirrored
from tinylora.records.measured import MetricLine
from tinylora.records.progress import Silent
from tinylora.settings.config import RunConfig
from tinylora.train.loop import run_pack


def points(outputs: Path) -> list[RunConfig]:
    return [point(outputs, u=13, steps=4), point(outputs, u=5, n_tie=3, seed=1, steps=4)]


def stopped(outputs: Path) -> list[RunConfig]:
    with pytest.raises(KeyboardInterrupt):
        run_pack(points(outputs), ["a", "b"], At(2, interrupt), Unmirrored())
    return points(outputs)


def pack(outputs: Path, *options: str) -> int:
    return records.main(["pack", str(outputs), str(outputs.parent / "r.tar.xz"), *options])


def unpack(outputs: Path) -> int:
    return records.main(["unpack", str(outputs.parent / "r.tar.xz"), str(outputs)])


def timeless(lines: list[MetricLine]) -> list[tuple[int, dict[str, float]]]:
    return [(line.step, {n: v for n, v in line.metrics.items() if not n.startswith("time/")}) for line in lines]


@pytest.mark.parametrize("options", [(), ("--compact",)])
def test_a_run_that_was_stopped_goes_on_where_it_is_unpacked(options: tuple[str, ...], tmp_path: Path) -> None:
    run_pack(points(tmp_path / "whole"), ["a", "b"], Silent(), Unmirrored())
    stopped(tmp_path / "here")
    assert pack(tmp_path / "here", "--unfinished", *options) == 0
    assert unpack(tmp_path / "there") == 0
    moved = points(tmp_path / "there")
    assert [RunFolder(config).status() for config in moved] == [Status.cut_short] * 2
    run_pack(moved, ["a", "b"], Silent(), Unmirrored())
    for whole, config in zip(points(tmp_path / "whole"), moved, strict=True):
        assert timeless(RunFolder(config).lines()) == timeless(RunFolder(whole).lines())
        assert torch.equal(load_file(config.folder / STATE)["v"], load_file(whole.folder / STATE)["v"])


def test_runs_that_were_killed_are_moved_and_those_that_are_trained_now_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed, trained = stopped(tmp_path / "here")
    (killed.folder / "summary.json").unlink()
    with RunFolder(trained).locked():
        assert pack(tmp_path / "here", "--unfinished") == 0
    assert f"{trained.run_key}: run folder" in (said := capsys.readouterr().err)
    assert killed.run_key not in said
    assert unpack(tmp_path / "there") == 0
    assert RunFolder(points(tmp_path / "there")[0]).status() is Status.running
    assert not points(tmp_path / "there")[1].folder.exists()


def test_a_damaged_state_is_named_and_nothing_without_one_is_moved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged, stateless = stopped(tmp_path / "here")
    for state in damaged.folder.glob("state*"):
        state.write_bytes(state.read_bytes()[:40])
    for state in stateless.folder.glob("state*"):
        state.unlink()
    assert pack(tmp_path / "here", "--unfinished") == 2
    assert f"{damaged.folder / STATE}" in capsys.readouterr().err
    assert not (tmp_path / "r.tar.xz").exists()
    assert pack(tmp_path / "here") == 2
    assert "has not ended" in capsys.readouterr().err
