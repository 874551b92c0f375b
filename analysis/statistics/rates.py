"""The choice of learning rates: by validation accuracy on some draws of P; reported on others where there are such."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.records.items import Items
from analysis.statistics.cells import NONE, VALIDATION, summarise


def choose_rates(runs: pd.DataFrame, cells: pd.DataFrame, settings: tuple[str, ...]) -> pd.DataFrame:
    """Mark as `chosen`, among cells that differ in lr alone, the best mean validation accuracy.

    Where some draws ran at several rates, these alone judge: a draw that ran at one rate says nothing of the others.
    `judges` counts their runs in each cell. `rates` says how many there are, and `edge` whether the chosen one is the
    smallest or largest of several. Never by a test score. Equal accuracies: the smaller rate, and `tied` counts the
    others. Several rates and no validation accuracy: none is chosen.
    """
    cells = cells.copy()
    others = [name for name in settings if name != "lr"]
    cells["choice"] = cells.groupby(others, dropna=False, sort=True).ngroup()
    cells = _judged(runs, cells)
    choices = cells.groupby("choice")
    cells["rates"] = choices["cell"].transform("size")
    best = choices[VALIDATION].transform("max")
    equal = np.isclose(cells[VALIDATION], best, rtol=0, atol=1e-12)  # means of the same numbers in another order
    cells["tied"] = pd.Series(equal, index=cells.index).groupby(cells["choice"]).transform("sum") - 1
    cells["tied"] = cells["tied"].clip(lower=0)
    smallest = cells[equal].sort_values("lr", kind="stable").drop_duplicates("choice")["cell"]
    cells["chosen"] = (cells["rates"] == 1) | cells["cell"].isin(smallest)
    ends = cells["lr"].eq(choices["lr"].transform("min")) | cells["lr"].eq(choices["lr"].transform("max"))
    return cells.assign(edge=cells["chosen"] & (cells["rates"] > 1) & ends)


def _judged(runs: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The cells with the mean validation accuracy of the runs that judge, and their number."""
    counted, choice, chose = _choosing(runs, cells)
    judging = counted[chose | ~chose.groupby(choice).transform("any")].groupby("cell")[VALIDATION]
    judges = cells["cell"].map(judging.size()).fillna(0).astype(int)
    return cells.assign(**{VALIDATION: cells["cell"].map(judging.mean()), "judges": judges})


def _choosing(runs: pd.DataFrame, cells: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """The counted runs of these cells, the choice that each belongs to, and whether its draw ran at several rates."""
    counted = runs[runs["counted"] & runs["cell"].isin(cells["cell"])]
    choice = counted["cell"].map(cells.set_index("cell")["choice"])
    return counted, choice, counted.groupby([choice, "draw"])["cell"].transform("nunique") > 1


def report_on_others(
    runs: pd.DataFrame, cells: pd.DataFrame, settings: tuple[str, ...], items: Items = NONE
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Runs without those whose draw chose a rate, and the cells with the scores of the rest.

    A draw chose where it ran at several rates. A cell whose draws all did keeps them, and `fresh` says that it did not.
    The validation accuracy stays that of the choice.
    """
    counted, _, chose = _choosing(runs, cells)
    of_cell = cells.set_index("cell")
    several = counted["cell"].map(of_cell["chosen"] & (of_cell["rates"] > 1))
    others = (~chose).groupby(counted["cell"]).transform("any") & several
    left_out = counted.index[others & chose]
    fresh = sorted(counted.loc[others, "cell"].unique())
    cells = cells.assign(fresh=cells["cell"].isin(fresh) | (cells["rates"] == 1))
    if not fresh:
        return runs, cells
    runs = runs.assign(counted=runs["counted"] & ~runs.index.isin(left_out), chose=runs.index.isin(left_out))
    again = summarise(runs[runs["cell"].isin(fresh)], settings, items).set_index("cell")
    kept = cells.set_index("cell")
    measured = [name for name in again if name not in settings and name != VALIDATION and name in kept]
    kept.loc[fresh, measured] = again.loc[fresh, measured].astype(kept.dtypes[measured])
    return runs, kept.reset_index()
