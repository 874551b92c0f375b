"""From runs to `Cell`s: the scores of a cell's runs, their draws and seeds, and their outcomes by problem."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.records.items import Items, Outcomes
from analysis.statistics.crossed import Array, Cell, crossed

TEST = "final test/sampled_strict"
"""The score that everything is about: the share of sampled completions that are strictly right."""
GREEDY = "final test/greedy_strict"
"""The score that stands beside it: a threshold on the most likely completion."""
WAYS = {TEST: "sampled_strict", GREEDY: "greedy_strict"}
"""Scores whose outcomes by problem are recorded, and their names there."""


def measured(runs: pd.DataFrame, score: str, items: Items) -> Cell:
    """The runs of a cell that have a score; with outcomes by problem where all of them have these, for one test set."""
    used = list(dict.fromkeys(["draw", "seed", "run_key", "stand_in", score]))  # of many columns, to be fast
    runs = runs.loc[runs[score].notna(), used].sort_values(["draw", "seed", "run_key"], kind="stable")
    found = [_outcomes(row, items) for row in runs[["run_key", "stand_in"]].itertuples(index=False)]
    ids = {outcomes.ids for outcomes in found if outcomes is not None}
    table = None
    if score in WAYS and len(ids) == 1 and all(outcomes is not None for outcomes in found):
        table = np.stack([outcomes.shares[WAYS[score]] for outcomes in found if outcomes is not None]).astype(float)
    seeds = tuple(runs["seed"].astype(str))
    return Cell(tuple(runs["draw"]), seeds, runs[score].to_numpy(dtype=float), table, ids.pop() if ids else "")


def _outcomes(row: object, items: Items) -> Outcomes | None:
    """What a run ended with; a failed one with the untrained model of its stand-in."""
    stand_in, key = str(getattr(row, "stand_in", "")), str(getattr(row, "run_key", ""))
    own = items.get(stand_in or key)
    return None if own is None else own.base if stand_in else own.final


def untrained(runs: pd.DataFrame, score: str, value: float, items: Items) -> Cell:
    """The untrained model as a cell without draws: its score, and the mean of its outcomes over the seeds of runs."""
    by_seed = runs[["run_key", "seed"]].sort_values("run_key", kind="stable").drop_duplicates("seed")
    found = [own.base for key in by_seed["run_key"] if (own := items.get(key)) is not None and own.base is not None]
    scores, ids = np.array([value]), {outcomes.ids for outcomes in found}
    if score not in WAYS or len(ids) != 1:
        return Cell((), (), scores)
    table: Array = np.mean([outcomes.shares[WAYS[score]] for outcomes in found], axis=0, dtype=float)
    return Cell((), (), scores, table[None], ids.pop())


def intervals_with_items(runs: pd.DataFrame, items: Items, score: str) -> dict[int, tuple[float, float]]:
    """The interval of the mean of each cell whose runs all have outcomes by problem, within 0 and 1."""
    known = runs["run_key"].isin(items.keys()) | runs["stand_in"].isin(items.keys())
    whole = known.groupby(runs["cell"]).all()
    found = {}
    for cell, own in runs[runs["cell"].map(whole)].groupby("cell", sort=True):
        one = measured(own, score, items)
        if one.items is not None:
            low, high = crossed([one]).contrast([1.0]).interval()
            found[int(cell)] = float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1))
    return found
