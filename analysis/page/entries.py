"""Items as entries of the report: what was drawn of each, from which runs, what is missing, what must be said of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.page import notes, tables
from analysis.page.details import Details, make_details
from analysis.page.formats import FigureFile, figure_file
from analysis.paper import missing
from analysis.paper import published as paper
from analysis.paper.items import ITEMS, Item
from analysis.statistics.cells import name_lines
from analysis.statistics.grid import ends
from analysis.statistics.measured import TEST
from analysis.statistics.selection import Part, Table, matching, parts, without
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
    details: Details | None
    """Folded away; None where another item shows the same runs and has them."""


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


def make_entries(
    items: Sequence[Item],
    table: Table,
    provenance: tuple[str, ...],
    formats: tuple[str, ...],
    tell: Callable[[str, float], None],
) -> list[Entry]:
    """Draw these items from whatever runs there are; `tell` hears which comes next, and the share that is done."""
    entries: list[Entry] = []
    rest = any(item.rest for item in items)  # then it matters what all others show, whether they were asked for or not
    own = [item for item in (ITEMS if rest else items) if not item.rest]
    found = {item.name: parts(table, item.name, item.selection) for item in own}
    left = without(table, _shown(own, found)) if rest else table
    for place, item in enumerate(items):
        tell(item.name, place / len(items))
        if item.rest:
            entries.append(make_entry(item, parts(left, item.name, item.selection), left, provenance, formats))
        else:
            entries.append(make_entry(item, found[item.name], table, provenance, formats))
    return entries


def _shown(items: Sequence[Item], found: dict[str, list[Part]]) -> set[int]:
    """The choices whose cells these items show, but for those that show again what others do."""
    own = [item for item in items if not item.beside]
    drawn = [part for item in own for part in found[item.name] if not _lacking(item, part)]
    return {int(choice) for part in drawn for frame in (part.cells, part.untrained) for choice in frame["choice"]}


def _lacking(item: Item, part: Part) -> str:
    """Why there is nothing to compare; "" where there is. What no other item shows is shown in any case."""
    return "" if item.rest else item.too_little(part.cells[part.cells[TEST].notna()])


def make_entry(
    item: Item, found: list[Part], table: Table, provenance: tuple[str, ...], formats: tuple[str, ...]
) -> Entry:
    """Draw the parts of an item that were found in the table."""
    drawings, waiting = [], []
    for part in found:
        if reason := _lacking(item, part):
            count = f"{len(part.runs)} run{' belongs' if len(part.runs) == 1 else 's belong'} here"
            said = f"{count}, but with {reason} there is nothing to compare."
            waiting.append(f"{part.title}: {said}")
        elif drawing := _draw(item, part, table, provenance, formats):
            drawings.append(drawing)
    if item.rest and not drawings:
        waiting.append("No run has what it shows." if found else "Every run is shown by another item.")
    unfinished = _unfinished(table.runs[matching(table.runs_text, item.selection.where) & ~table.runs["averaged"]])
    return Entry(item, drawings, waiting, unfinished, paper.contradictions(item.name))


def _draw(
    item: Item, part: Part, table: Table, provenance: tuple[str, ...], formats: tuple[str, ...]
) -> Drawing | None:
    """None where nothing is recorded that the item could show; then its runs are shown by the item beside it."""
    made = item.make(part)
    if item.beside and made.figure is None and made.table is None:
        return None
    figure = figure_file(part.name, made.figure, made.data, formats) if made.figure is not None else None
    cells = pd.concat([part.cells, part.untrained]) if item.rest else part.cells
    text = made.table if made.table is not None else tables.summary_table(cells, table.settings)
    runs = _runs_of(item, part, table)
    tried, _ = name_lines(part.tried, table.settings)
    published = _published(item, part)
    said = [*made.notes, *_beside_paper(item, part, published), *_of_item(item, part, table)]
    said += [*notes.items_notes(runs[runs["averaged"]], table.items), *_missing(item, part)]
    said += [
        note
        for note in notes.notes_on(runs, part.history, tried, provenance)
        if note != notes.RATE_SENTENCE and not note.startswith(notes.NARROW)
    ]
    details = None if item.beside else make_details(part, tried, runs, provenance, with_grid=item.rest)
    if details is not None and details.gaps:
        said.append(details.gaps)
    return Drawing(part, _runs(part), figure, text, made.data, published, said, details)


def _runs_of(item: Item, part: Part, table: Table) -> pd.DataFrame:
    """The counted runs of a part; of the rest all, whatever became of them."""
    if not item.rest:
        return part.runs
    own = table.runs["model.name"].isin(part.models) & (table.runs["task.name"] == part.task)
    return table.runs[own & matching(table.runs_text, item.selection.where)]


def _beside_paper(item: Item, part: Part, published: pd.DataFrame) -> list[str]:
    if len(published) or not item.paper:
        return []
    return [NO_PAPER_MODEL if part.scale_model else OTHER_MODEL]


def _of_item(item: Item, part: Part, table: Table) -> list[str]:
    """What is said of the rates of a part, and of what stands in other parts of its item."""
    if item.rest:
        return []
    same = ["Rates chosen on the same draws."] if not part.cells["fresh"].all() else []
    own = table.runs[table.runs["averaged"] & matching(table.runs_text, item.selection.where)]
    return same + notes.size_notes(own)


def _published(item: Item, part: Part) -> pd.DataFrame:
    """The paper's values as text, without columns that say nothing."""
    table = paper.values_of(item.name, part.models, part.task).drop(columns="item")
    text = table.astype(object).map(show)
    return text[[name for name in text.columns if (text[name] != "").any()]]


def _runs(part: Part) -> str:
    if part.cells.empty:
        alone = "Nothing that was trained is shown" if part.untrained.empty else "The untrained model alone"
        return f"{alone}: {len(part.tried)} trained cells, none of which has a chosen rate."
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
