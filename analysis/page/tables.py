"""The tables of a sweep: frames of text for people, and frames of numbers for the CSV files."""

from __future__ import annotations

import math

import pandas as pd

from analysis.records.apart import ABSENT
from analysis.records.load import DERIVED, DRAWN, SCORES
from analysis.statistics.cells import UNTRAINED, VALIDATION
from analysis.statistics.grid import axes, in_order, ordered, varying_within
from analysis.statistics.measured import GREEDY, TEST
from analysis.statistics.text import GAP, percent, percent_range, show
from tinylora.records.digests import DIGESTS

AT_THE_EDGE = " (at the edge)"
"""Behind a chosen rate that is the smallest or largest of those tried."""
SCORE_COLUMNS = [f"{when} {score}" for when in ("base", "final") for score in SCORES]


def _text(value: object) -> str:
    return show(value) or GAP


def _count(value: float) -> str:
    return GAP if math.isnan(value) else f"{value:,.0f}"


def summary_table(cells: pd.DataFrame, settings: tuple[str, ...]) -> pd.DataFrame:
    """What the sweep found: one row per cell with its chosen learning rate; accuracies in per cent."""
    table = sort_rows(cells[cells["chosen"]], settings)
    shown = [name for name in varying_within(table, settings) if name not in ("precision", "lr")]
    if "u" in shown and (table["u"] == table["trained_values"]).all():
        shown.remove("u")  # everything tied: u is the number of trained values
    known = "degrees_of_freedom" in table and table["degrees_of_freedom"].notna().any()
    freedom = {"degrees of freedom": table["degrees_of_freedom"].map(_count)} if known else {}
    failed = {"failed": table["failed"].map(str)} if table["failed"].any() else {}
    rates = {"rates tried": table["rates"].map(str)} if (table["rates"] > 1).any() else {}
    columns = {
        "method": table["method"],
        "precision": table["precision"],
        **{name: table[name].map(_text) for name in shown},
        "trained": table["trained_values"].map(lambda count: f"{count:,.0f}"),
        **freedom,
        "bytes": table["trained_bytes"].map(lambda count: GAP if math.isnan(count) else f"{count:,.0f}"),
        "lr": [_text(lr) + (AT_THE_EDGE if edge else "") for lr, edge in zip(table["lr"], table["edge"], strict=True)],
        **rates,
        "runs": table["seeds"].map(str),
        "draws": table["draws"].map(str),
        **failed,
        "base sampled %": table["base test/sampled_strict"].map(percent),
        "base greedy %": table["base test/greedy_strict"].map(percent),
        "sampled strict %": table[TEST].map(percent),
        "95% interval": list(map(percent_range, table[f"{TEST} low"], table[f"{TEST} high"])),
        "sampled flexible %": table["final test/sampled_flexible"].map(percent),
        "greedy strict %": table[GREEDY].map(percent),
    }
    return pd.DataFrame(columns).reset_index(drop=True)


def rates_table(cells: pd.DataFrame, settings: tuple[str, ...]) -> pd.DataFrame:
    """Every learning rate of the cells that tried several, with the accuracy that it was judged by."""
    tried = sort_rows(cells[cells["rates"] > 1], settings)
    columns = {
        "line": tried["line"],
        "trained": tried["trained_values"].map(lambda count: f"{count:,.0f}"),
        "lr": [_text(lr) + (AT_THE_EDGE if edge else "") for lr, edge in zip(tried["lr"], tried["edge"], strict=True)],
        "runs": tried["seeds"].map(str),
        "validation sampled strict %": tried[VALIDATION].map(percent),
        "chosen": tried["chosen"].map({True: "yes", False: ""}),
    }
    return pd.DataFrame(columns).reset_index(drop=True)


def missing_table(points: pd.DataFrame) -> pd.DataFrame:
    """The points without a finished run."""
    table = points.copy()
    for name in table.columns[:-1]:
        table[name] = table[name].map(_text)
    table["seed"] = table["seed"].where(table["seed"] != GAP, "all")
    return table


def run_table(runs: pd.DataFrame, settings: tuple[str, ...]) -> pd.DataFrame:
    """One row per run, whatever became of it: the settings that vary, status, reason and greedy accuracy."""
    shown = varying_within(runs, settings)
    table = sort_rows(runs, settings)
    columns = {
        "run": table["run_key"],
        "label": table["label"],
        "method": table["method"].map(_text),
        **{name: table[name].map(_text) for name in shown},
        "trained": table["trained_values"].map(_text),
        "seed": table["seed"].map(_text),
        **{name: table[name].map(_text) for name in DRAWN[1:] if name in table},
        "status": table["status"],
        "reason": table["reason"],
        "averaged": table["averaged"].map({True: "yes", False: "no"}),
        "base sampled %": table["base test/sampled_strict"].map(percent),
        "sampled strict %": table[TEST].map(percent),
    }
    return pd.DataFrame(columns).reset_index(drop=True)


def draws_data(runs: pd.DataFrame, cells: pd.DataFrame, settings: tuple[str, ...]) -> pd.DataFrame:
    """The accuracy of each draw of the chosen cells, as `analysis.statistics.coverage` reads it."""
    chosen = cells[cells["chosen"] & (cells["method"] != UNTRAINED)]
    shown = ["method", *(name for name in varying_within(chosen, settings) if name != "lr")]
    names = {row["cell"]: " ".join(show(row[name]) for name in shown) for row in chosen.to_dict("records")}
    own = runs[runs["counted"] & runs["cell"].isin(chosen["cell"]) & runs[TEST].notna()]
    columns = {"cell": own["cell"].map(names), "draw": own["draw"], "seed": own["seed"]}
    table = pd.DataFrame({**columns, "accuracy": own[TEST], "greedy": own[GREEDY]})
    return table.sort_values(["cell", "draw", "seed"], kind="stable")


def digests_table(runs: pd.DataFrame) -> pd.DataFrame:
    """What the averaged runs were made with: each digest that is recorded, of each model and task, and of how many."""
    averaged = runs[runs["averaged"]]
    rows = []
    for (model, task), group in averaged.groupby(["model.name", "task.name"], sort=True):
        for name in (name for name in DIGESTS if name in group):
            counts = group[name].replace("", ABSENT).value_counts().sort_index()
            rows += [(model, task, name, value, str(count)) for value, count in counts.items()]
    return pd.DataFrame(rows, columns=["model", "task", "digest of", "digest", "runs"]).assign(
        **{"digest of": lambda table: table["digest of"].str.removesuffix("_digest")}
    )


def evaluated_table(evaluated: pd.DataFrame) -> pd.DataFrame:
    """What adapters were found to be worth after their training: accuracies in per cent, as people read them."""
    shares = [name for name in evaluated if name.endswith(("_strict", "_flexible"))]
    shown = evaluated.assign(**{name: [f"{100 * share:.1f}" for share in evaluated[name]] for name in shares})
    names = {"run_key": "run", "suite": "set"} | {name: name.replace("_", ", ") for name in shares}
    return shown.rename(columns=names).astype(str)


def runs_data(runs: pd.DataFrame, settings: tuple[str, ...], provenance: tuple[str, ...]) -> pd.DataFrame:
    """One row per run with everything that the report knows about it."""
    names = ["run_key", "run_id", "label", "status", "reason", "averaged", "scale_model", "method", "seed"]
    derived = [name for name in DERIVED if name in runs]
    names += [
        *(name for name in DRAWN[1:] if name in runs),
        *ordered(settings),
        *derived,
        *SCORE_COLUMNS,
        "started",
        "ended",
        *provenance,
    ]
    return sort_rows(runs, settings)[names]


def sort_rows(table: pd.DataFrame, settings: tuple[str, ...]) -> pd.DataFrame:
    """Runs or cells by model, task, method, then all settings in natural order (8 before 28 before `all`)."""
    names = ["model.name", "task.name", "method", *ordered(settings), "seed", "run_key", "ended", "run_id"]
    by = [name for name in dict.fromkeys(names) if name in table and table[name].nunique(dropna=False) > 1]
    if not by:
        return table

    def position(column: pd.Series) -> pd.Series:
        return column.map({value: i for i, value in enumerate(in_order(column.unique()))})

    return table.sort_values(by, key=position, kind="stable")


def axes_text(runs: pd.DataFrame, settings: tuple[str, ...]) -> str:
    """The axes of the grid that was swept, in words."""
    return " x ".join(["method", *axes(runs, settings), "seed"])
