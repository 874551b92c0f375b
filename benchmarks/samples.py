"""What it costs to record what the model says, on the miniature: steps and evaluations with and without, in pairs.

The two of a pair do the same work: the same step, of the same lanes, from the same noise. With a group at every step,
which is every fifth in training. The last column is the time in the recorder's own code, which no other load on the
machine hides; `a run` puts both together as a run of 60 steps has them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.timing import Timing, timed
from benchmarks.workload import open_lanes
from tinylora.records.folder import RunFolder, Unmirrored
from tinylora.records.progress import Silent
from tinylora.records.samples import SampleFile
from tinylora.settings.config import EvalConfig
from tinylora.train import evaluate, grpo, samples
from tinylora.train.recorder import FolderRecorder

LANES = (1, 8)
STEPS, EVALUATIONS = 60, 2  # of a run with default settings
ITEMS = (
    64  # of each suite: with more, as a run has by default, an evaluation is longer and the share of samples smaller
)
HEADING = ("recording samples", "seconds with", "seconds without", "difference of pairs", "share", "share in own code")


class Recorded:
    """A pack whose steps and evaluations are recorded, with samples or without."""

    def __init__(self, lanes: int, outputs: Path) -> None:
        pack, self.lanes = open_lanes(lanes, "natural", outputs)
        few = EvalConfig(test_items=ITEMS, validation_items=ITEMS)
        self.pack = replace(pack, config=replace(pack.config, eval=few))
        folders = [RunFolder(lane.config) for lane in self.lanes]
        for folder in folders:
            folder.path.mkdir(parents=True)
        self.recorder = FolderRecorder(self.pack, folders, Unmirrored())
        self.recorder.begin()
        self.recorder.drop_after({lane.index: -1 for lane in self.lanes})

    def step(self) -> None:
        """A training step of all lanes, always the next one."""
        self.recorder.step(grpo.grpo_step(self.pack, self.lanes), {})

    def evaluate(self) -> None:
        """An evaluation of all lanes where they stand."""
        found = evaluate.evaluate(self.pack, [lane.index for lane in self.lanes], Silent())
        self.recorder.step({index: evaluation.metrics for index, evaluation in found.items()}, found)

    def go_on(self) -> None:
        """The next step is another one."""
        for lane in self.lanes:
            lane.step, lane.samples = lane.step + 1, ()


def measure(quick: bool = False) -> dict[str, Any]:
    """Seconds of steps and evaluations by lanes, with and without, and those that recording takes of them."""
    found = {}
    for lanes in LANES[:1] if quick else LANES:
        with tempfile.TemporaryDirectory() as folder:
            recorded = Recorded(lanes, Path(folder))
            steps = _pairs(recorded, recorded.step, 8 if quick else 20)
            found[lanes] = {"step": steps, "evaluation": _pairs(recorded, recorded.evaluate, 1 if quick else 3)}
    return {"lanes": found}


def _pairs(recorded: Recorded, call: Callable[[], None], rounds: int) -> dict[str, Any]:
    """Pairs of calls, with samples and without, in turns which is first; the first pair is not counted."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    spent: list[float] = []
    for number in range(rounds + 1):
        for shown in (True, False) if number % 2 else (False, True):
            with _recording(shown) as own:
                taken = timed(call)
            if number:
                seconds[shown].append(taken)
                spent += own if shown else []
        recorded.go_on()
    differences = [a - b for a, b in zip(seconds[True], seconds[False], strict=True)]
    return {
        "with": Timing(tuple(seconds[True])).as_json(),
        "without": Timing(tuple(seconds[False])).as_json(),
        "difference": Timing(tuple(differences)).as_json(),
        "own_s": sum(spent) / rounds,
    }


@contextmanager
def _recording(shown: bool) -> Iterator[list[float]]:
    """Inside, samples are taken at every step and evaluation, or never; the seconds that this takes."""
    own: list[float] = []

    def watched(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **named: Any) -> Any:
            started = time.perf_counter()
            found = real(*words, **named)
            own.append(time.perf_counter() - started)
            return found

        return call

    with ExitStack() as stack:
        stack.enter_context(patch.object(samples, "is_due", lambda *_: shown))
        if not shown:
            stack.enter_context(patch.object(evaluate, "evaluated_rows", lambda lanes, *_: [{}] * lanes))
        stack.enter_context(patch.object(grpo, "of_group", watched(samples.of_group)))
        stack.enter_context(patch.object(evaluate, "of_evaluation", watched(samples.of_evaluation)))
        stack.enter_context(patch.object(SampleFile, "append", watched(SampleFile.append)))
        yield own


def rows(result: dict[str, Any]) -> list[list[str]]:
    """Lines of the table with HEADING."""
    table = []
    for lanes, found in result["lanes"].items():
        parts = {"a step with a group": found["step"], "an evaluation": found["evaluation"]}
        for name, part in parts.items():
            with_, without, more = (part[key]["median_s"] for key in ("with", "without", "difference"))
            table.append(_row(f"{lanes} lanes, {name}", with_, without, more, part["own_s"]))
        counts = {"step": STEPS, "evaluation": EVALUATIONS}
        recorded = {"step": STEPS / samples.EVERY, "evaluation": EVALUATIONS}
        without = sum(counts[key] * found[key]["without"]["median_s"] for key in counts)
        more = sum(recorded[key] * found[key]["difference"]["median_s"] for key in counts)
        own = sum(recorded[key] * found[key]["own_s"] for key in counts)
        table.append(_row(f"{lanes} lanes, a run", without + more, without, more, own))
    return table


def _row(name: str, with_: float, without: float, more: float, own: float) -> list[str]:
    shares = (f"{100 * part / without:.2f}%" for part in (more, own))
    return [name, f"{with_:.3f}", f"{without:.3f}", f"{more:.4f}", *shares]
