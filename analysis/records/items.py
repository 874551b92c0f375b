"""Outcomes by problem: the bits of `items.jsonl`, at step 0 and at the last step of a run.

A line is one evaluation of one suite: the digest of its ordered problems, and the outcomes as bits, which
`numpy.packbits` packed and base64 wrote: greedy (problems,), sampled (problems * samples,) with the samples of a
problem together. Runs from before this file was written lack it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ITEMS = "items.jsonl"
"""Name of the file in the run folder, and of the run's artifact."""
SUITE = "test"
WAYS = ("sampled_strict", "greedy_strict")


@dataclass(frozen=True)
class Outcomes:
    """One evaluation of a run on the test problems."""

    ids: str
    """Digest of the ordered problems."""
    shares: Mapping[str, NDArray[np.float32]]
    """By the ways of `WAYS`, (problems,): the share of a problem's completions that are right."""


@dataclass(frozen=True)
class RunItems:
    """What the test problems said of a run, before and after."""

    base: Outcomes | None
    final: Outcomes | None


Items = Mapping[str, RunItems]
"""By run_key; runs without outcomes are not there."""


def read_items(
    contents: Iterable[tuple[str, int, bytes | None]],
) -> tuple[dict[str, RunItems], list[str]]:
    """The outcomes of runs given as key, last step and file; and the keys whose file cannot be read."""
    found, unreadable = {}, []
    for key, last, content in contents:
        if content is None:
            continue
        try:
            found[key] = run_items(content, last)
        except (ValueError, KeyError, TypeError, RecursionError):
            unreadable.append(key)
    return found, unreadable


def run_items(content: bytes, last: int) -> RunItems:
    """Of several lines for one step the last counts. ValueError, KeyError or TypeError where a line is not one."""
    by_step: dict[int, dict[str, Any]] = {}
    for line in content.splitlines():
        entry = json.loads(line)
        if entry["suite"] == SUITE and entry["step"] in (0, last):
            by_step[entry["step"]] = entry
    base, final = (None if step not in by_step else _outcomes(by_step[step]) for step in (0, last))
    return RunItems(base, final)


def _outcomes(entry: dict[str, Any]) -> Outcomes:
    count, samples = int(entry["items"]), int(entry["samples"])
    shares = {
        "greedy_strict": _bits(entry["greedy_strict"], count).astype(np.float32),
        "sampled_strict": _bits(entry["sampled_strict"], count * samples).reshape(count, samples).mean(axis=1),
    }
    return Outcomes(str(entry["ids"]), {way: share.astype(np.float32) for way, share in shares.items()})


def _bits(text: str, count: int) -> NDArray[np.uint8]:
    bits = np.unpackbits(np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8))
    if count < 1 or not count <= len(bits) < count + 8:
        raise ValueError(f"{len(bits)} bits for {count} outcomes")
    return bits[:count]
