"""What a reader must know about the numbers: gaps, single seeds, choices made, runs that are not quite alike."""

from __future__ import annotations

import math
import re

import pandas as pd

from analysis.page.tables import SCORE_COLUMNS
from analysis.paper.effect import FEWEST_DRAWS
from analysis.records.items import Items
from analysis.records.load import CURVES
from analysis.statistics.cells import VALIDATION
from analysis.statistics.grid import in_order
from analysis.statistics.measured import GREEDY, TEST
from analysis.statistics.text import percent, show
from tinylora.records.digests import DIGESTS
from tinylora.records.measured import WARNINGS

WITHIN_CELLS = ("basis_digest", "data_digest", "data_commits", "data_notes")
"""Provenance that may differ between cells (another rank, other demonstrations), but not between seeds."""

OF_MODELS = ("model_digest", "tokenizer_digest", "form_digest", "layout", "model.parameters")
"""Provenance in which models differ by nature: it must not differ between runs of one model."""

CHECKER = "checker_version"
"""Of the checker that judged a run's answers; records from before it was written down lack it."""

MOST_NAMED = 4
EVALUATION_SIZES = ("eval.test_items", "eval.validation_items", "eval.samples")

NARROW = "Intervals from few draws"
RATE_SENTENCE = (
    "Where several learning rates ran, the one with the best mean sampled accuracy on validation problems is shown; "
    "the test set had no part in the choice."
)


def notes_on(runs: pd.DataFrame, history: pd.DataFrame, cells: pd.DataFrame, provenance: tuple[str, ...]) -> list[str]:
    """All notes on the runs and cells of one drawing; the cells are those of all rates, and have a `line`."""
    averaged = runs[runs["averaged"]]
    return [
        *_seed_notes(cells),
        *size_notes(averaged),
        *_failed_notes(runs),
        *_warning_notes(runs),
        *_rate_notes(cells),
        *_score_gaps(averaged),
        *_curve_gaps(averaged, history),
        *_unlike_runs(averaged, provenance),
        *_checker_notes(averaged),
        *_judging_notes(averaged),
    ]


def _seed_notes(cells: pd.DataFrame) -> list[str]:
    chosen = cells[cells["chosen"]]
    notes = []
    single = int((chosen["seeds"] == 1).sum())
    if single:
        notes.append(f"{single} of {len(chosen)} cells rest on a single run: no interval can be given for them.")
    if len(chosen) > single:
        fewest = int(chosen.loc[chosen["seeds"] > 1, "draws"].min())
        if fewest < FEWEST_DRAWS:
            notes.append(f"{NARROW} (here from {fewest}) can be too narrow: a claim needs {FEWEST_DRAWS}.")
    return notes


def size_notes(runs: pd.DataFrame) -> list[str]:
    """Whether runs were evaluated on different numbers of problems or samples: those are never averaged together."""
    notes = []
    for name in (name for name in EVALUATION_SIZES if name in runs and runs[name].nunique(dropna=False) > 1):
        sizes = ", ".join(show(value) or "not recorded" for value in in_order(runs[name].unique()))
        notes.append(f"Evaluated with several {name} ({sizes}): these runs are kept apart, and not compared.")
    return notes


def items_notes(runs: pd.DataFrame, items: Items) -> list[str]:
    """Whether averaged runs lack outcomes by problem: those of earlier versions do."""
    lacking = int((~runs["run_key"].isin(items.keys())).sum())
    if not lacking:
        return []
    return [
        f"The records of {lacking} of {len(runs)} runs have no outcomes by problem: where they enter, intervals are "
        "the bootstrap's over seeds, too narrow and without the noise of problems, and no claim is decided."
    ]


def _failed_notes(runs: pd.DataFrame) -> list[str]:
    failed = int((runs["stand_in"] != "").sum())
    return [f"{failed} run(s) failed: they count with the score of the untrained model."] if failed else []


def _warning_notes(runs: pd.DataFrame) -> list[str]:
    """What was said of the training of runs, by kind: how many, and the words of the first."""
    said: dict[str, dict[str, str]] = {}
    for key, text in zip(runs["run_key"], runs[WARNINGS].fillna(""), strict=True):
        for warning in re.split(r"\n(?=\S)", text):
            if warning:
                parts = [" ".join(line.split()) for line in warning.splitlines()]
                said.setdefault(warning.partition(" since step ")[0], {})[key] = "; ".join(parts)
    return [
        f"Warning in {_list(pd.Series(list(of)))} ({len(of)} of {len(runs)}). Of {min(of)}: {of[min(of)]}."
        for _, of in sorted(said.items())
    ]


def _rate_notes(cells: pd.DataFrame) -> list[str]:
    several = cells[cells["rates"] > 1]
    if several.empty:
        return []
    unjudged, uneven, edge, tied, same = [], [], [], [], []
    for _, choice in several.groupby("choice", sort=True):
        first, chosen = choice.iloc[0], choice[choice["chosen"]]
        name = f"{first['line']} with {first['trained_values']:,.0f} trained"
        if chosen.empty:
            unjudged.append(name)
            continue
        if choice["judges"].nunique() > 1 or choice[VALIDATION].isna().any():
            uneven.append(name)
        if chosen["tied"].iloc[0]:
            tied.append(name)
        if not chosen["fresh"].iloc[0]:
            same.append(name)
        if chosen["edge"].iloc[0]:
            edge.append(f"{name} ({show(chosen['lr'].iloc[0])})")
    kinds = {
        "Learning rates without a validation accuracy, so none is shown": unjudged,
        "Learning rates that were not judged on equally many seeds": uneven,
        "Several learning rates were equally good on validation, the smallest is shown": tied,
        "Chosen learning rate at the edge of those tried": edge,
        "Rates chosen on the same draws that are reported, which flatters them": same,
    }
    return [RATE_SENTENCE, *(f"{kind}: {_some(names)}." for kind, names in kinds.items() if names)]


def _score_gaps(averaged: pd.DataFrame) -> list[str]:
    notes = []
    for score in SCORE_COLUMNS:
        without = averaged.loc[averaged[score].isna(), "run_key"]
        if len(without):
            when, name = score.split(" ", 1)
            step = "step 0" if when == "base" else "the last step"
            notes.append(
                f"No number for eval/{name} at {step} (absent or NaN) in {_list(without)}: left out of that mean."
            )
    return notes


def _curve_gaps(averaged: pd.DataFrame, history: pd.DataFrame) -> list[str]:
    notes = []
    bad = history[history["value"].isna() & history["metric"].isin(CURVES)]
    for metric, points in bad[bad["run_key"].isin(averaged["run_key"])].groupby("metric", sort=True):
        notes.append(f"{metric} is NaN at {len(points)} step(s) of {_list(points['run_key'])}: gaps in that curve.")
    return notes


def _unlike_runs(averaged: pd.DataFrame, provenance: tuple[str, ...]) -> list[str]:
    """Averaged or compared runs that were made from different code, versions, weights or data."""
    notes = []
    for name in provenance:
        known = averaged[averaged[name] != ""] if name in DIGESTS else averaged  # who lacks a digest is in a note
        if name in WITHIN_CELLS:
            differing = int((known.groupby("cell")[name].nunique(dropna=False) > 1).sum())
            if differing:
                notes.append(f"In {differing} cell(s) the averaged seeds differ in {name}.")
        elif name not in ("git_dirty", CHECKER) and _differs(known, name):
            counts = known[name].map(lambda value: show(value) or "none").value_counts()
            parts = ", ".join(f"{value} ({counts[value]} runs)" for value in in_order(counts.index))
            notes.append(f"The averaged runs differ in {name}: {parts}.")
    if "git_dirty" in averaged:
        dirty = int((averaged["git_dirty"].str.lower() == "true").sum())
        if dirty:
            notes.append(f"{dirty} of {len(averaged)} runs were made with uncommitted changes in the code.")
    return notes


def _differs(runs: pd.DataFrame, name: str) -> bool:
    """Whether runs differ in some provenance in which they should not."""
    if name in OF_MODELS and "model.name" in runs:
        return bool((runs.groupby("model.name", dropna=False)[name].nunique(dropna=False) > 1).any())
    return bool(runs[name].nunique(dropna=False) > 1)


def _checker_notes(averaged: pd.DataFrame) -> list[str]:
    """Whether the answers of all averaged runs were judged by the same rules."""
    if CHECKER not in averaged:
        return []
    versions = averaged[CHECKER].map(lambda value: show(value) or "not recorded").value_counts()
    if len(versions) < 2:
        return []
    parts = ", ".join(f"{version} ({versions[version]} runs)" for version in in_order(versions.index))
    return [
        f"Answers were judged by several versions of the checker: {parts}. The same completion may have another score."
    ]


def _judging_notes(averaged: pd.DataFrame) -> list[str]:
    unjudged = averaged[averaged["unjudged"] > 0]
    if unjudged.empty:
        return []
    share = percent(unjudged["unjudged"].max())
    return [
        f"In {len(unjudged)} run(s) up to {share}% of the last greedy test answers were not judged (timeout, error)."
    ]


def headline(cells: pd.DataFrame, base: pd.DataFrame) -> str:
    """The finding in two sentences; the cell is picked on validation, so its test accuracy is not the best of many."""
    parts = []
    for row in base.to_dict("records"):
        extra = f" ({row['extra']})" if row["extra"] else ""
        parts.append(
            f"Untrained{extra}: {percent(row['sampled'])}% of the sampled test completions right, "
            f"{percent(row['greedy'])}% with greedy decoding."
        )
    judged = cells[cells["chosen"] & cells[VALIDATION].notna() & cells[TEST].notna()]
    if judged.empty:
        return " ".join(parts)
    best = judged.sort_values([VALIDATION, "trained_values"], ascending=[False, True], kind="stable").iloc[0]
    seeds = f"{best['seeds']} runs" if best["seeds"] > 1 else "1 run"
    low, high = best[f"{TEST} low"], best[f"{TEST} high"]
    band = f" (95% interval {percent(low)} to {percent(high)})" if not math.isnan(low) else ""
    size = "" if math.isnan(best["trained_bytes"]) else f" ({best['trained_bytes']:,.0f} bytes)"
    parts.append(
        f"Best on validation: {best['line']} with {best['trained_values']:,.0f} trained parameters{size}: "
        f"{percent(best[TEST])}% sampled{band}, {percent(best[GREEDY])}% greedy; {seeds}."
    )
    return " ".join(parts)


def _list(keys: pd.Series) -> str:
    names = sorted(set(keys))
    return ("runs " if len(names) > 1 else "run ") + ", ".join(names[:6]) + (" and others" if len(names) > 6 else "")


def _some(names: list[str]) -> str:
    return "; ".join(names[:MOST_NAMED]) + (f"; and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
