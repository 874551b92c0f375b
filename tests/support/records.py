"""Run folders for the tests of records: written as training writes them, without training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinylora.records.folder import ADAPTER, PREVIOUS, STATE, RunFolder, Status
from tinylora.settings.config import RunConfig

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
