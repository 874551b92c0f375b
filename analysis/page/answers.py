"""What models have said, before and after: the answers of some runs to the same problems, side by side.

A sheet has a column for each of some cells, which is the run of the smallest seed of that cell, and a row for each
problem and way of decoding. Problems whose answers have become right come first. Below are completions of training,
with their rewards: the best and the worst of a group, at a few steps of each run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.records.said import Said
from analysis.statistics.cells import UNTRAINED, VALIDATION
from tinylora.records.samples import BEST, EVALUATED, WORST, Place, Sample, ends_of, place_of

MOST_COLUMNS = 8
VALIDATION_SUITE = VALIDATION.removeprefix("final ").partition("/")[0]
EXAMPLES = 2
GROUPS = 3  # of a run
LONGEST = 1200  # characters of a text that the page shows; samples.jsonl.gz has all of it


@dataclass(frozen=True)
class Column:
    """A run whose answers are shown."""

    cell: int
    key: str
    label: str


@dataclass(frozen=True)
class Row:
    """A problem, and what was said to it."""

    place: Place
    before: Sample
    """Of the untrained model."""
    after: list[Sample | None]
    """Of each column; None where that run has not recorded it."""

    @property
    def gained(self) -> int:
        """How many columns have become right, less those that have become wrong."""
        return sum(sample.right - self.before.right for sample in self.after if sample is not None)


@dataclass(frozen=True)
class Group:
    """Two completions of one training group."""

    label: str
    """Of its column."""
    best: Sample
    worst: Sample


@dataclass(frozen=True)
class Sheet:
    """The answers of one model and task."""

    title: str
    anchor: str
    columns: list[Column]
    rows: list[Row]
    groups: list[Group]

    def examples(self, cell: int) -> list[tuple[Sample, Sample]]:
        """Before and after, of this cell's column: answers that have become right first, short ones first."""
        places = [place for place, column in enumerate(self.columns) if column.cell == cell]
        pairs = [(row.before, after) for place in places for row in self.rows if (after := row.after[place])]
        pairs.sort(key=lambda pair: (pair[0].right - pair[1].right, len(pair[1].completion)))
        return pairs[:EXAMPLES]


def make_sheet(
    title: str, anchor: str, cells: pd.DataFrame, runs: pd.DataFrame, said: Said, first: int
) -> Sheet | None:
    """The answers of the chosen cells, which have a `line`; the cell `first` has a column in any case.

    None where no run of these has recorded any.
    """
    columns = _columns(cells, runs, first)
    samples = said.of([column.key for column in columns])
    columns = [column for column in columns if column.key in samples]
    if not columns:
        return None
    ends = {key: _ends(own) for key, own in samples.items()}
    rows = _rows([ends[column.key] for column in columns])
    groups = [group for column in columns for group in _groups(column.label, samples[column.key])]
    return Sheet(title, anchor, columns, rows, groups) if rows else None


def _columns(cells: pd.DataFrame, runs: pd.DataFrame, first: int) -> list[Column]:
    """Some cells from the smallest to the largest, each with its run of the smallest seed."""
    chosen = cells[cells["chosen"] & (cells["method"] != UNTRAINED)]
    chosen = chosen.sort_values(["trained_values", "line"], kind="stable")
    places = {round(i * (len(chosen) - 1) / (MOST_COLUMNS - 1)) for i in range(MOST_COLUMNS)}
    kept = [cell for place, cell in enumerate(chosen["cell"]) if place in places or cell == first]
    labels = chosen.set_index("cell")
    own = runs[runs["counted"] & runs["averaged"]].sort_values(["seed", "run_key"], kind="stable")
    keys = own.drop_duplicates("cell").set_index("cell")["run_key"]
    return [
        Column(cell, keys[cell], f"{labels['line'][cell]}, {labels['trained_values'][cell]:,.0f} trained")
        for cell in kept
        if cell in keys
    ]


Answers = Mapping[Place, Sample]


def _ends(samples: Sequence[Sample]) -> tuple[Answers, Answers]:
    """What was said before training and at the last evaluation, by problem and way of decoding."""
    first, last = ends_of(samples) or (-1, -1)
    shown = [sample for sample in samples if sample.kind in EVALUATED and sample.suite != VALIDATION_SUITE]
    before, after = (
        {place_of(sample): sample.shortened(LONGEST) for sample in shown if sample.step == step}
        for step in (first, last)
    )
    return (before, after) if first < last else ({}, {})


def _rows(ends: Sequence[tuple[Answers, Answers]]) -> list[Row]:
    """A row for each place that any column knows from before; those with the greatest gain first."""
    before: dict[Place, Sample] = {}
    for first, _ in ends:
        before = {**first, **before}
    rows = [Row(place, sample, [after.get(place) for _, after in ends]) for place, sample in before.items()]
    return sorted(rows, key=lambda row: (-row.gained, row.place))


def _groups(label: str, samples: Sequence[Sample]) -> list[Group]:
    """Training groups of a run: the first and the last that are recorded, and one between."""
    best, worst = ({sample.step: sample for sample in samples if sample.kind == kind} for kind in (BEST, WORST))
    steps = sorted(best.keys() & worst.keys())
    chosen = sorted({steps[round(i * (len(steps) - 1) / (GROUPS - 1))] for i in range(GROUPS)}) if steps else []
    return [Group(label, best[step].shortened(LONGEST), worst[step].shortened(LONGEST)) for step in chosen]
