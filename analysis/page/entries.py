"""Items as entries of the report: what was drawn of each, from which runs, what is missing, what must be said of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pandas as pd

from analysis.drawing.style import ADAPTER_NAMES
from analysis.page import notes, tables
from analysis.page.formats import FigureFile, figure_file
from analysis.paper import missing
from analysis.paper import published as paper
from analysis.paper.items import Item
from analysis.statistics.grid import ends
from analysis.statistics.measured import TEST
from analysis.statistics.selection import Part, Table, matching, parts
from analysis.statistics.text import show

MOST_NAMED = 12
NO_PAPER_MODEL = "A scale model is not one of the paper's: its numbers are not drawn beside these."
OTHER_MODEL = "The paper has no values for this model and task here."


@dataclass(frozen=True)
class Drawing:
    """One part of an item, as drawn."""

    part: Part
    runs: str
    figure: FigureFile | None
    table: pd.DataFrame
    data: pd.DataFrame
    """The numbers behind figure or table."""
    published: pd.DataFrame
    """The paper's values for these models and this task."""
    notes: list[str]


@dataclass(frozen=True)
class Entry:
    """An item in the report."""

    item: Item
    drawings: list[Drawing]
    waiting: list[str]
    """Why parts of it, or all of it, are not drawn."""
    unfinished: str
    """Its runs that failed or were cut short: listed, not averaged."""
    contradictions: list[str]

    @property
    def choices(self) -> set[int]:
        """The cells that it shows, with all learning rates that were tried for them."""
        frames = [frame for drawing in self.drawings for frame in (drawing.part.cells, drawing.part.untrained)]
        return {int(choice) for frame in frames for choice in frame["choice"]}


def make_entry(item: Item, table: Table, provenance: tuple[str, ...], formats: tuple[str, ...]) -> Entry:
    """Draw an item from whatever runs there are."""
    drawings, waiting = [], []
    for part in parts(table, item.name, item.selection):
        if reason := item.too_little(part.cells[part.cells[TEST].notna()]):
            said = f"{len(part.runs)} runs belong here, but with {reason} there is nothing to compare."
            waiting.append(f"{part.title}: {said}")
        else:
            drawings.append(_draw(item, part, table, provenance, formats))
    unfinished = _unfinished(table.runs[matching(table.runs_text, item.selection.where) & ~table.runs["averaged"]])
    return Entry(item, drawings, waiting, unfinished, paper.contradictions(item.name))


def _draw(item: Item, part: Part, table: Table, provenance: tuple[str, ...], formats: tuple[str, ...]) -> Drawing:
    made = item.make(part)
    figure = figure_file(part.name, made.figure, made.data, formats) if made.figure is not None else None
    text = made.table if made.table is not None else tables.summary_table(_labelled(part.cells), table.settings)
    published = _published(item, part)
    beside = [] if len(published) else [NO_PAPER_MODEL if part.scale_model else OTHER_MODEL]
    tried = table.cells[table.cells["choice"].isin(part.cells["choice"])]
    said = [
        note
        for note in notes.section_notes(part.runs, part.history, _labelled(tried), provenance)
        if note != notes.RATE_SENTENCE and not note.startswith(notes.NARROW)
    ]
    same = ["Rates chosen on the same draws."] if not part.cells["fresh"].all() else []
    others = notes.size_notes(table.runs[table.runs["averaged"] & matching(table.runs_text, item.selection.where)])
    said = [
        *made.notes,
        *same,
        *beside,
        *others,
        *notes.items_notes(part.runs[part.runs["averaged"]], table.items),
        *_missing(item, part),
        *said,
    ]
    return Drawing(part, _runs(part), figure, text, made.data, published, said)


def _published(item: Item, part: Part) -> pd.DataFrame:
    """The paper's values as text, without columns that say nothing."""
    table = paper.values_of(item.name, part.models, part.task).drop(columns="item")
    text = table.astype(object).map(show)
    return text[[name for name in text.columns if (text[name] != "").any()]]


def _labelled(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells with a `line` that names their settings."""
    names = ["u", "n_tie", "sharing", "rank", "precision"]
    labels = []
    for row in cells.to_dict("records"):
        words = [f"{name}={text}" for name in names if (text := show(row.get(name)))]
        labels.append(" ".join([row["algorithm.name"].upper(), ADAPTER_NAMES.get(row["adapter.name"], ""), *words]))
    return cells.assign(line=labels)


def _runs(part: Part) -> str:
    seeds = part.cells["draws"]
    fewest, most = int(seeds.min()), int(seeds.max())
    count = f"{most}" if fewest == most else f"{fewest} to {most}"
    trained = part.runs["cell"].isin(part.cells["cell"]).sum()
    untrained = "" if part.untrained.empty else ", and the untrained model"
    return f"{trained} runs in {len(part.cells)} cells{untrained}; {count} draw{'s' if most > 1 else ''} a cell" + (
        ", so no intervals." if most == 1 else "; bars are 95% intervals of the mean over draws, seeds and problems."
    )


def _missing(item: Item, part: Part) -> list[str]:
    lines = []
    for model in part.models:
        lacking = missing.missing_points(item.name, part.cells, model)
        if lacking:
            more = f" and {len(lacking) - MOST_NAMED} others" if len(lacking) > MOST_NAMED else ""
            of = f" of {model}" if len(part.models) > 1 else ""
            lines.append(f"Missing{of}: {', '.join(lacking[:MOST_NAMED])}{more}.")
    return lines


def _unfinished(runs: pd.DataFrame) -> str:
    said = []
    counted = runs["counted"] | runs.get("chose", False)
    for words, own in (("Counted with the untrained score", runs[counted]), ("Not averaged", runs[~counted])):
        counts = sorted(Counter(ends(own)).items())
        said += [f"{words}: " + "; ".join(f"{count} {word}" for word, count in counts) + "."] if counts else []
    return " ".join(said)
