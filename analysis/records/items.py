"""Outcomes by problem at step 0 and at the last step of a run, from its items.jsonl (`tinylora.records.items`).

Runs from before this file was written lack it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinylora.records.items import ItemLine, parse_items

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
        run = run_items(content, last)
        if run is None:
            unreadable.append(key)
        else:
            found[key] = run
    return found, unreadable


def run_items(content: bytes, last: int) -> RunItems | None:
    """The outcomes in a file whose run has ended at step `last`; None where it is not as it was written."""
    lines, wrong = parse_items(content)
    of = {line.step: _outcomes(line) for line in lines if line.suite == SUITE and line.step in (0, last)}
    return RunItems(of.get(0), of.get(last)) if wrong is None else None


def _outcomes(line: ItemLine) -> Outcomes:
    greedy, sampled = line.greedy_strict, line.sampled_strict.mean(axis=1)
    return Outcomes(
        line.ids, {"greedy_strict": greedy.astype(np.float32), "sampled_strict": sampled.astype(np.float32)}
    )
