"""The report card of one model and task: what training has changed, in a sentence, a picture, two answers, a table."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.page.answers import Sheet, make_sheet
from analysis.page.charts import accuracy_chart, training_chart
from analysis.records.load import Records
from analysis.statistics.cells import UNTRAINED, VALIDATION, base_accuracy, is_biased, name_lines
from analysis.statistics.grid import varying_within
from analysis.statistics.measured import GREEDY, TEST
from analysis.statistics.text import GAP, percent, percent_range, rounded_percent, show
from tinylora.records.samples import Sample

BASE = TEST.replace("final ", "base ", 1)
MOST_STEPS = 5  # sizes that are named
THIRTEEN = 13  # the size that the paper is about: it is named where it was run


@dataclass(frozen=True)
class Card:
    """Everything about one model and task that comes first."""

    title: str
    anchor: str
    scale_model: bool
    steps: list[tuple[str, str]]
    """Accuracies on the way from untrained to the largest update, and what was trained: (65.2%, 13 values)."""
    sentence: str
    accuracy: dict[str, Any] | None
    """A chart, see `charts`."""
    training: dict[str, Any] | None
    table: pd.DataFrame
    sheet: Sheet | None
    examples: list[tuple[Sample, Sample]]


def make_cards(runs: pd.DataFrame, cells: pd.DataFrame, records: Records) -> list[Card]:
    """A card for each model and task with a finished run."""
    groups = [group for _, group in runs.groupby(["model.name", "task.name"], sort=True) if group["averaged"].any()]
    return [_card(group, cells[cells["cell"].isin(group["cell"])], records) for group in groups]


def _card(runs: pd.DataFrame, cells: pd.DataFrame, records: Records) -> Card:
    cells, _ = name_lines(cells, records.settings)
    base = base_accuracy(runs[~is_biased(runs)])
    title = f"{runs['model.name'].iloc[0]}, {runs['task.name'].iloc[0]}"
    anchor = re.sub(r"[^A-Za-z0-9._-]+", "_", title)
    named = _named_cells(cells)
    middle = _middle(named)
    sheet = make_sheet(title, anchor, cells, runs, records.said, -1 if middle is None else int(middle["cell"]))
    return Card(
        title=title,
        anchor=anchor,
        scale_model=bool((runs[runs["averaged"]]["scale_model"] == "true").any()),
        steps=_steps(base, named),
        sentence=_sentence(runs, named) + (_answers_of(middle) if sheet is not None and middle is not None else ""),
        accuracy=accuracy_chart(cells, runs, base),
        training=training_chart(cells, runs, records.history),
        table=_table(cells, records.settings),
        sheet=sheet,
        examples=sheet.examples(int(middle["cell"])) if sheet is not None and middle is not None else [],
    )


def _named_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """A few sizes, of each the cell that is best on validation problems: so no test accuracy is the best of many.

    Where anything was trained, random search is left out: it has chosen its v on some of these problems.
    """
    judged = cells[cells["chosen"] & cells[VALIDATION].notna() & cells[TEST].notna() & (cells["method"] != UNTRAINED)]
    trained = judged[judged["algorithm.name"] != "random_search"]
    judged = judged if trained.empty else trained
    judged = judged.sort_values([VALIDATION, "line"], ascending=[False, True], kind="stable")
    sizes = judged.drop_duplicates("trained_values").sort_values("trained_values", kind="stable")
    last = min(MOST_STEPS, len(sizes)) - 1
    places = {round(i * (len(sizes) - 1) / max(1, last)) for i in range(last + 1)}
    return sizes.iloc[sorted(_with_thirteen(list(sizes["trained_values"]), places))]


def _with_thirteen(sizes: list[float], places: set[int]) -> set[int]:
    """The places with that of 13 values among them, for which the nearest one between first and last makes room."""
    if THIRTEEN not in sizes:
        return places
    place = sizes.index(THIRTEEN)
    between = places - {0, len(sizes) - 1}
    near = {min(between, key=lambda each: abs(each - place))} if between and place not in places else set()
    return places - near | {place}


def _steps(base: pd.DataFrame, named: pd.DataFrame) -> list[tuple[str, str]]:
    """The accuracies, in as many digits as are known."""
    steps = [(f"{percent(value)}%", "untrained") for value in base["sampled"].dropna()[:1]]
    for row in named.to_dict("records"):
        score = rounded_percent(row[TEST], row[f"{TEST} low"], row[f"{TEST} high"])
        steps.append((f"{score}%", _values(row["trained_values"])))
    return steps


def _middle(named: pd.DataFrame) -> pd.Series | None:
    """The cell whose answers are shown: that of 13 values, or of a middle size."""
    if named.empty:
        return None
    thirteen = named[named["trained_values"] == THIRTEEN]
    return named.iloc[(len(named) - 1) // 2] if thirteen.empty else thirteen.iloc[0]


def _answers_of(middle: pd.Series) -> str:
    size = "" if math.isnan(middle["trained_bytes"]) else f" ({middle['trained_bytes']:,.0f} bytes)"
    return f" The answers shown are of {_values(middle['trained_values'])}{size}: {middle['line']}."


def _sentence(runs: pd.DataFrame, named: pd.DataFrame) -> str:
    if named.empty:
        return "Nothing that was trained has a score on validation and test problems yet."
    seeds = named["seeds"]
    each = (
        f"{seeds.min()} to {seeds.max()} runs each"
        if seeds.nunique() > 1
        else "one run each"
        if seeds.iloc[0] == 1
        else f"{seeds.iloc[0]} runs each"
    )
    return (
        "Right answers to test problems, sampled, by what was trained: of each size the settings that are best on "
        f"validation problems, {each}. Training took {_seconds(runs, named)}."
    )


def _values(count: float) -> str:
    return f"{count:,.0f} value" + ("s" if count != 1 else "")


def _seconds(runs: pd.DataFrame, named: pd.DataFrame) -> str:
    """From the first evaluation of these runs to the last: 109 s, 40 to 109 s. Runs of a pack share it."""
    own = runs[runs["counted"] & runs["cell"].isin(named["cell"])]
    spans = pd.to_datetime(own["ended"], errors="coerce") - pd.to_datetime(own["started"], errors="coerce")
    seconds = spans.dt.total_seconds().dropna().round()
    if seconds.empty:
        return "a time that is not recorded"
    low, high = int(seconds.min()), int(seconds.max())
    return f"{low:,} s" if low == high else f"{low:,} to {high:,} s"


def _table(cells: pd.DataFrame, settings: tuple[str, ...]) -> pd.DataFrame:
    """A row for each cell at its chosen rate; only the settings that vary; no digit that the interval does not know."""
    chosen = cells[cells["chosen"] & (cells["method"] != UNTRAINED)]
    table = chosen.sort_values(["method", "trained_values", "line"], kind="stable")
    shown = [name for name in varying_within(table, settings) if name not in ("precision", "lr")]
    if "u" in shown and (table["u"] == table["trained_values"]).all():
        shown.remove("u")  # everything tied: u is the number of trained values
    ends = list(zip(table[f"{TEST} low"], table[f"{TEST} high"], strict=True))

    def rounded(values: pd.Series) -> list[str]:
        return [rounded_percent(value, low, high) for value, (low, high) in zip(values, ends, strict=True)]

    columns = {
        "method": table["method"],
        "precision": table["precision"],
        **{name: [show(value) or GAP for value in table[name]] for name in shown},
        "trained": table["trained_values"].map("{:,.0f}".format),
        "untrained %": rounded(table[BASE]),
        "trained, sampled %": rounded(table[TEST]),
        "95% interval": [percent_range(low, high) for low, high in ends],
        "greedy %": rounded(table[GREEDY]),
        "lr": table["lr"].map(show),
        "runs": table["seeds"].map(str),
    }
    return pd.DataFrame(columns).reset_index(drop=True)
