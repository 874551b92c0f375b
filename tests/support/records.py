"""Run folders for the tests of records: written as training writes them, without training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinylora.records.evaluations import Evaluated
from tinylora.records.folder import ADAPTER, PREVIOUS, STATE, Metrics, RunFolder, Status
from tinylora.records.items import GREEDY, SAMPLED, ItemLine
from tinylora.records.kept import KeptV
from tinylora.records.samples import EVALUATED, Sample, SampleFile
from tinylora.records.samples import GREEDY as GREEDY_KIND
from tinylora.settings.config import Precision, RunConfig

DIGESTS = {"model_digest": "aaaa", "data_digest": "bbbb", "prompt_digest": "cccc"}


def make_folder(
    outputs: Path,
    values: Sequence[float] = (0.3, 0.4),
    status: Status | None = Status.finished,
    provenance: dict[str, Any] | None = None,
    **settings: Any,
) -> RunFolder:
    """A run folder with a line for each value; its run ended with `status`, or has not ended."""
    config = RunConfig(**({"lr": 0.01, "steps": max(1, len(values) - 1), "outputs_dir": str(outputs)} | settings))
    folder = RunFolder(config)
    folder.path.mkdir(parents=True)
    folder.describe({"scale_model": True, "trained_values": 13, "trained_bytes": 52, **DIGESTS, **(provenance or {})})
    for step, value in enumerate(values):
        folder.append(step, {"eval/test/greedy_strict": value, "train/loss": value / 3})
    for name in (ADAPTER, STATE, PREVIOUS):
        (folder.path / name).write_bytes(b"v")
    if status is not None:
        folder.conclude(status, None if status is Status.finished else "why", {"trained_values": 13})
    return folder


def make_items(step: int, suites: Sequence[str] = ("test",), items: int = 11, samples: int = 3) -> list[ItemLine]:
    """The outcomes of an evaluation, by chance, always the same ones."""
    random = np.random.default_rng(step)
    made = []
    for suite in suites:
        greedy, sampled = random.random((2, items)) < 0.5, random.random((2, items, samples)) < 0.5
        made.append(ItemLine(step, suite, "0123456789abcdef", greedy[0], greedy[1], sampled[0], sampled[1]))
    return made


def metrics_of(item: ItemLine) -> Metrics:
    """What the metrics of an evaluation say of these outcomes."""
    return {f"eval/{item.suite}/{name}": float(getattr(item, name).mean()) for name in (*GREEDY, *SAMPLED)}


def append_evaluation(folder: RunFolder, step: int, score: float, suite: str = "validation") -> None:
    """The line of a step with an evaluation of 1,000 problems, of which this share is right in every way."""
    right = np.arange(1000) < round(1000 * score)
    item = ItemLine(step, suite, "0123456789abcdef", right, right, right[:, None], right[:, None])
    folder.append_items([item])
    folder.append(step, metrics_of(item))


def make_kept(step: int, values: int = 13) -> KeptV:
    """What is kept of a v at a step, always the same."""
    v = np.arange(values, dtype="<f4") + step
    return KeptV(step, Precision.fp32, (1, values), v.tobytes(), None)


def make_evaluated(step: int, suite: str = "gsm8k", key: str = "0123456789ab") -> Evaluated:
    """What an adapter was found to be worth after its training, always the same."""
    (item,) = make_items(step, (suite,))
    settings, made_with = {"model.name": "miniature-qwen2", "eval.samples": 3}, {"model_digest": "aaaa"}
    return Evaluated(1e9 + step, step, None, key, settings, made_with, metrics_of(item), item)


def make_samples(step: int, suite: str = "test", problems: int = 2, text: str = "1+2=3;#3") -> list[Sample]:
    """What an evaluation would keep, always the same: the greedy answers are right from step 1 on."""
    return [
        Sample(
            step=step,
            kind=kind,
            suite=suite,
            problem=f"sums/{number}",
            prompt=f"{number}+2=",
            completion=f"{text}{number}",
            answer="3",
            gold="3",
            strict="correct" if step and kind == GREEDY_KIND else "wrong",
            flexible="correct",
            reward=1.0,
            tokens=len(text) + 2,
            logp_mean=-0.25,
            logp_least=-1.5,
        )
        for number in range(problems)
        for kind in EVALUATED
    ]


def append_samples(folder: RunFolder, step: int, samples: Sequence[Sample], metrics: Metrics | None = None) -> None:
    """The line of a step with an evaluation of which these samples are kept."""
    writer = SampleFile(folder.path, fsync=False)
    writer.resume(folder.lines())
    folder.append(step, (metrics or {"train/loss": 0.5}) | writer.append([], samples, edge=True, durable=False))
