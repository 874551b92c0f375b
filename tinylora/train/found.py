"""What an evaluation has found so far: one that was stopped in its middle goes on with the suite that it had come to.

What is finished lies in a file in the folder of the first of its runs until all of it is. It is taken up again by the
same lanes with the same v, in the same company, where all else that an evaluation depends on is the same, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from tinylora.records.items import parse_items
from tinylora.records.samples import parse_sample
from tinylora.settings.remembered import recall_file, remember_file
from tinylora.train.evaluate import Evaluation
from tinylora.train.evaluation_key import key_of
from tinylora.train.pack import LaneRun, Pack

FILE = "evaluating.json"


class FoundSuites:
    """The suites that an evaluation of some lanes has finished; each rank has all of them, and rank 0 writes."""

    def __init__(self, pack: Pack, lanes: Sequence[int]) -> None:
        self.ranks, self.lanes = pack.engine.ranks, lanes
        runs = [pack.lanes[lane] for lane in lanes]
        self.folder = runs[0].config.folder
        self.key = hashlib.sha256("".join([key_of(pack), *map(_state_of, runs)]).encode()).hexdigest()[:16]
        self.known: dict[str, Any] = self.ranks.first(self._read)

    def get(self, suite: str) -> dict[int, Evaluation] | None:
        """What was found in a suite, by lane; None where it is not finished."""
        stored = self.known.get(suite)
        found = [from_plain(evaluation) for evaluation in stored] if isinstance(stored, list) else []
        whole = [evaluation for evaluation in found if evaluation is not None]
        return dict(zip(self.lanes, whole, strict=True)) if len(whole) == len(self.lanes) else None

    def add(self, suite: str, found: Mapping[int, Evaluation]) -> None:
        """Note what a suite has shown; only where the run has a folder."""
        self.known[suite] = [plain(found[lane]) for lane in self.lanes]
        if self.ranks.leads and self.folder.is_dir():
            remember_file(self.folder / FILE, {"key": self.key, "suites": self.known})

    def forget(self) -> None:
        """All of it is found, and recorded now."""
        if self.ranks.leads:
            (self.folder / FILE).unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        found = recall_file(self.folder / FILE)
        suites = found.get("suites")
        return suites if found.get("key") == self.key and isinstance(suites, dict) else {}


def _state_of(run: LaneRun) -> str:
    """The run, its step, and a digest of its v."""
    values = run.adapter.unrounded.detach().cpu().contiguous().flatten().view(torch.uint8)
    return f"{run.config.run_key} {run.step} {hashlib.sha256(values.numpy().tobytes()).hexdigest()}"


def plain(found: Evaluation) -> dict[str, Any]:
    """An evaluation as JSON values."""
    samples = [asdict(sample) for sample in found.samples]
    items = [line.text() for line in found.items]
    return {"metrics": found.metrics, "items": items, "samples": samples, "unsure": found.unsure}


def from_plain(given: Any) -> Evaluation | None:
    """The evaluation that JSON values stand for; None where they are damaged."""
    try:
        items, wrong = parse_items("".join(given["items"]).encode())
        samples = [parse_sample(sample) for sample in given["samples"]]
        metrics = {str(name): float(value) for name, value in given["metrics"].items()}
        unsure = [str(name) for name in given["unsure"]]
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return None if wrong else Evaluation(metrics, items, samples, unsure)
