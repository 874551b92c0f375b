"""Evaluating many adapters in one batch v one after the other, on the miniature: what `experiments.evaluate` saves.

Both ways evaluate the same adapters on the same problems, twice: in one process that is there already, which loads the
model once or for each adapter; and as commands, which start Python as well. Of the commands for single adapters some
alone are timed, and counted for all. The adapters are of several sizes, and their v is drawn at random, small enough
for the model to go on working sums out.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import Timing, alternate, timed
from benchmarks.workload import MINIATURE, SIZES, open_lanes
from tinylora.adapters.adapter_file import save_adapter
from tinylora.records.evaluations import EVALUATIONS, read_evaluations
from tinylora.records.folder import ADAPTER
from tinylora.records.progress import Silent
from tinylora.settings.config import EvalConfig
from tinylora.train.evaluated import ask, evaluate_pack
from tinylora.train.used import Used, of_file

LANES, ITEMS, COMMANDS = 20, 64, 4
SCALE = 0.02  # of v
HEADING = ("adapters evaluated", "seconds in one batch", "seconds one by one", "ratio")


def measure(quick: bool = False) -> dict[str, Any]:
    """Seconds of both ways, and whether both found the same accuracies."""
    lanes, items = (4, 16) if quick else (LANES, ITEMS)
    with tempfile.TemporaryDirectory() as folder:
        adapters = _made(lanes, Path(folder), items)
        found: dict[str, list[float]] = {}

        def together() -> None:
            _forget(adapters)
            evaluate_pack(ask(adapters, ["test"]), Silent())
            found["together"] = _accuracies(adapters)

        def alone() -> None:
            _forget(adapters)
            for used in adapters:
                evaluate_pack(ask([used], ["test"]), Silent())
            found["alone"] = _accuracies(adapters)

        timings = alternate({"together": together, "alone": alone}, rounds=1 if quick else 3)
        commands = _commands(adapters, items)
    apart = max(abs(one - other) for one, other in zip(found["together"], found["alone"], strict=True))
    in_process = {name: timing.as_json() for name, timing in timings.items()}
    return {"lanes": lanes, "most_apart": apart, "in_process": in_process, "commands": commands}


def _commands(adapters: Sequence[Used], items: int) -> dict[str, Any]:
    """Seconds of one command for all adapters, and of some commands for one each."""

    def seconds(chosen: Sequence[Used]) -> float:
        _forget(adapters)
        settings = [f"model={MINIATURE.model}", "model.device=cpu", "eval.suites=[test]", f"eval.test_items={items}"]
        files = [str(used.folder / ADAPTER) for used in chosen]
        command = [sys.executable, "-m", "experiments.evaluate", *files, *settings]
        return timed(lambda: subprocess.run(command, check=True, capture_output=True))

    together, single = seconds(adapters), [seconds([used]) for used in adapters[:COMMANDS]]
    return {"together": Timing((together,)).as_json(), "single": Timing(tuple(single)).as_json()}


def _made(lanes: int, folder: Path, items: int) -> list[Used]:
    """Adapter files, each in a folder of its own, to be evaluated on `items` problems."""
    pack, opened = open_lanes(lanes, "natural", folder)
    made = []
    for lane, config in zip(opened, MINIATURE.points(lanes, "natural", folder), strict=True):
        generator = torch.Generator().manual_seed(lane.index)
        v = SCALE / SIZES[lane.index % len(SIZES)] ** 0.5 * torch.randn(lane.v.shape, generator=generator)
        lane.adapter.hold(v)
        lane.adapter.round()
        place = folder / str(lane.index) / ADAPTER
        place.parent.mkdir()
        save_adapter(place, pack.engine.adapters, lane.index, fsync=False)
        made.append(of_file(place, replace(config, eval=EvalConfig(test_items=items))))
    return made


def _forget(adapters: Sequence[Used]) -> None:
    for used in adapters:
        (used.folder / EVALUATIONS).unlink(missing_ok=True)


def _accuracies(adapters: Sequence[Used]) -> list[float]:
    return [read_evaluations(used.folder)[0].metrics["eval/test/sampled_strict"] for used in adapters]


def rows(result: dict[str, Any]) -> list[list[str]]:
    """Lines of the table with HEADING."""
    lanes, apart = result["lanes"], result["most_apart"]
    same = "the same accuracies" if not apart else f"accuracies at most {apart:.4f} apart"
    ways = {
        f"{lanes} in one process ({same})": [result["in_process"][name]["median_s"] for name in ("together", "alone")],
        f"{lanes}, by commands ({min(COMMANDS, lanes)} of the single ones timed)": [
            result["commands"]["together"]["median_s"],
            result["commands"]["single"]["median_s"] * lanes,
        ],
    }
    return [[name, f"{one:.1f}", f"{other:.1f}", f"{one / other:.2f}"] for name, (one, other) in ways.items()]
