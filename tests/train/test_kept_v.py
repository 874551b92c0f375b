"""v at every evaluation is the lane's own, whatever its type, and is made again by a run that resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.packs import At, interrupt, open_pack, point

from tinylora.adapters.adapter_file import read_adapter
from tinylora.records.folder import ADAPTER, Unmirrored
from tinylora.records.kept import KEPT, read_kept
from tinylora.records.progress import Silent
from tinylora.settings.config import Adapter, AdapterConfig, EvalConfig, Precision, Rounding, RunConfig
from tinylora.train.kept import hold_kept
from tinylora.train.loop import PackRun, run_pack
from tinylora.train.pack import LaneRun

STEPS = 3
EVAL = EvalConfig(every=1, test_items=2, validation_items=2, samples=1)
LANES: tuple[dict[str, Any], ...] = (
    {"precision": Precision.fp32, "u": 13},
    {"precision": Precision.bf16, "u": 5, "n_tie": 7},
    {"precision": Precision.int4, "u": 6, "rounding": Rounding.master},
)


def points(outputs: Path) -> list[RunConfig]:
    return [point(outputs, steps=STEPS, eval=EVAL, **changes) for changes in LANES]


def test_what_is_kept_is_v_at_each_step_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = points(tmp_path)
    seen: dict[tuple[int, int], torch.Tensor] = {}
    step = PackRun._step

    def watched(self: PackRun, active: list[LaneRun]) -> None:
        step(self, active)
        seen.update({(lane.index, lane.step): lane.v.detach().clone() for lane in active})

    monkeypatch.setattr(PackRun, "_step", watched)
    run_pack(configs, ["a", "b", "c"], Silent(), Unmirrored())
    _, lanes = open_pack(configs)
    for lane, config in zip(lanes, configs, strict=True):
        kept = read_kept(config.folder)
        assert [each.step for each in kept] == list(range(STEPS + 1))
        for each in kept[1:]:
            hold_kept(lane.adapter, each)
            assert torch.equal(lane.v, seen[lane.index, each.step])
        assert torch.equal(lane.v.detach(), read_adapter(config.folder / ADAPTER)[2])


def test_a_run_that_resumes_keeps_the_same(tmp_path: Path) -> None:
    whole, stopped = points(tmp_path / "a")[:2], points(tmp_path / "b")[:2]
    run_pack(whole, ["a", "b"], Silent(), Unmirrored())
    with pytest.raises(KeyboardInterrupt):
        run_pack(stopped, ["a", "b"], At(2, interrupt), Unmirrored())
    run_pack(stopped, ["a", "b"], Silent(), Unmirrored())
    for one, other in zip(whole, stopped, strict=True):
        assert (one.folder / KEPT).read_bytes() == (other.folder / KEPT).read_bytes()


def test_what_is_large_or_nothing_is_not_kept(tmp_path: Path) -> None:
    for kind in (Adapter.lora, Adapter.none):
        config = point(tmp_path, steps=1, eval=EVAL, adapter=AdapterConfig(kind))
        run_pack([config], ["a"], Silent(), Unmirrored())
        assert not (config.folder / KEPT).exists()
