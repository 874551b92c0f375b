"""The report in memory: what each item shows, and every file that is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from analysis.options import CLAIMS_TABLE, FORMATS, NAMES, TABLE_1
from analysis.page import tables
from analysis.page.card import Card, make_cards
from analysis.page.entries import Entry, make_entries
from analysis.page.escaping import markdown
from analysis.page.findings import Finding, findings
from analysis.page.formats import table_files, to_csv, to_markdown
from analysis.page.rendering import ANSWERS, ONLY, PAGE, rendered
from analysis.paper import verdicts
from analysis.paper.conf_files import shape_of
from analysis.paper.items import ITEMS
from analysis.paper.parameter_counts import parameter_formulas
from analysis.records.load import Records
from analysis.statistics import cells as stats
from analysis.statistics import grid, selection
from analysis.statistics.rates import choose_rates, report_on_others
from tinylora.settings.errors import UsageError

EVALUATED, EVALUATED_CAPTION = "evaluated", "Accuracies of adapters that were evaluated after their training"
MOST_RUNS = 400  # runs that the page lists one by one; beyond, only those that are not averaged
SCALE_SENTENCE = (
    "This is a scale model, a miniature that ships with the package: it shows how the method behaves on it and says "
    "nothing by itself about the paper's models."
)


@dataclass(frozen=True)
class Report:
    """Everything that the page shows."""

    cards: list[Card]
    """Of each model and task; none where single items were asked for."""
    entries: list[Entry]
    formulas: pd.DataFrame | None
    checked: verdicts.Checked | None
    """The paper's claims, with our verdicts."""
    digests: pd.DataFrame
    """Of the model, its tokenizer, data and prompts that runs were made with."""
    runs: pd.DataFrame
    """The table of runs, as text."""
    records: Records
    scored: pd.DataFrame
    """The runs with their scores and cells."""
    cells: pd.DataFrame
    whole: bool
    """Whether it is everything, and not single items that were asked for."""
    evaluated: pd.DataFrame
    """What adapters were found to be worth after their training."""

    @property
    def scale_model(self) -> bool:
        """Whether any of its numbers are of a scale model."""
        drawn = [drawing.part.scale_model for entry in self.entries for drawing in entry.drawings]
        return any([*drawn, *(card.scale_model for card in self.cards)])

    @property
    def drawn(self) -> list[Entry]:
        """What is shown."""
        return [entry for entry in self.entries if entry.drawings]

    @property
    def waiting(self) -> list[Entry]:
        """What is not, for want of runs. That other items show all runs is worth a word only where it was asked for."""
        return [entry for entry in self.entries if not entry.drawings and not (self.whole and entry.item.rest)]

    @property
    def claims(self) -> pd.DataFrame | None:
        """The claims as people read them."""
        return verdicts.claims_table(self.checked) if self.checked is not None else None

    @property
    def claims_with_data(self) -> pd.DataFrame:
        """Those that runs say something of."""
        checked = [(claim, found) for claim, found in self.checked or [] if found]
        return verdicts.claims_table(checked)

    @property
    def claims_without_data(self) -> list[str]:
        """The others, in words."""
        return [claim.text for claim, found in self.checked or [] if not found]

    @property
    def findings(self) -> list[Finding]:
        """Three sentences on what was found."""
        return findings(self.checked, self.scale_model) if self.checked is not None else []

    @property
    def first_findings(self) -> list[Finding]:
        """The same, for the first screen: nothing where nothing is decided, since there is no news in that."""
        words = {each.word for _, found in self.checked or [] for each in found}
        return self.findings if words & set(verdicts.DECIDED) else []

    @property
    def chance(self) -> str:
        """How many verdicts chance would decide."""
        return "{} effects were judged: chance alone would decide {:.1f}.".format(
            *verdicts.by_chance(self.checked or [])
        )


def make_report(
    records: Records,
    only: tuple[str, ...] = NAMES,
    formats: tuple[str, ...] = FORMATS[:2],
    x: str = "trained_values",
    tell: Callable[[str, float], None] = lambda what, done: None,
) -> Report:
    """What each item shows; with `only`, these items and nothing else.

    `x` is drawn as the size of an update. UsageError where no run records it. `tell` hears what is made next, and which
    share of all is done.
    """
    settings, whole = records.settings, set(only) == set(NAMES)
    tell("averages", 0.0)
    runs, cells = cells_of(records)
    _require_sizes(cells, x)
    table = selection.as_table(cells, runs, records, x)
    items = [item for item in ITEMS if item.name in only]
    entries = make_entries(items, table, records.provenance, formats, lambda what, done: tell(what, 0.2 + 0.6 * done))
    tell("claims", 0.8)
    return Report(
        make_cards(runs, cells, records) if whole else [],
        entries,
        _formulas(cells) if TABLE_1 in only else None,
        verdicts.check(table) if CLAIMS_TABLE in only else None,
        tables.digests_table(runs),
        tables.run_table(runs, settings),
        records,
        runs,
        cells,
        whole,
        tables.evaluated_table(records.evaluated if whole else records.evaluated[:0]),
    )


def make_files(
    records: Records,
    only: tuple[str, ...] = NAMES,
    formats: tuple[str, ...] = FORMATS[:2],
    x: str = "trained_values",
) -> dict[str, bytes]:
    """Name and content of every file of the report; see `make_report`."""
    return files_of(make_report(records, only, formats, x))


def cells_of(records: Records) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Runs with their scores and cells, and the cells with their rates chosen."""
    settings = records.settings
    runs = stats.add_cells(stats.add_scores(records.runs, records.history), settings)
    cells = choose_rates(runs, stats.summarise(runs, settings, records.items), settings)
    return report_on_others(runs, cells, settings, records.items)


def _require_sizes(cells: pd.DataFrame, x: str) -> None:
    if x not in cells or cells.loc[cells["method"] != stats.UNTRAINED, x].isna().any():
        raise UsageError(
            f"--x {x}: some runs do not record it",
            "what is drawn as the size of an update is recorded by every run",
            "give --x trained_values, or report on runs of this version alone",
        )


def files_of(report: Report) -> dict[str, bytes]:
    """Name and content of every file. What is of all runs is left as it lies where single items were asked for."""
    files = _of_all(report) if report.whole else {}
    for entry in report.entries:
        for drawing in entry.drawings:
            caption, name = f"{entry.item.title}. {drawing.part.title}", drawing.part.name
            if drawing.figure:
                files |= table_files(f"{name}-table", drawing.table, caption) | drawing.figure.files
            else:
                files |= table_files(name, drawing.table, caption, drawing.data)
    if report.formulas is not None:
        files |= table_files(TABLE_1, report.formulas, "Trained parameters by method")
    if report.checked is not None:
        numbers, short = verdicts.claims_data(report.checked), verdicts.claims_by_model(report.checked)
        files |= table_files(CLAIMS_TABLE, verdicts.claims_table(report.checked), "Claims of the paper", numbers)
        files |= table_files(f"{CLAIMS_TABLE}-by-model", short, "Claims in short")
    if len(report.evaluated):
        files |= table_files(EVALUATED, report.evaluated, EVALUATED_CAPTION, report.records.evaluated)
    return files | _pages(report, PAGE if report.whole else ONLY)


def _of_all(report: Report) -> dict[str, bytes]:
    settings, provenance = report.records.settings, report.records.provenance
    scale = f"{SCALE_SENTENCE}\n\n" if report.scale_model else ""
    return {
        "runs.csv": to_csv(tables.runs_data(report.scored, settings, provenance)),
        "runs.md": f"{scale}{to_markdown(report.runs)}\n".encode(),
        "draws.csv": to_csv(tables.draws_data(report.scored, report.cells, settings)),
        "summary.md": _summary(report).encode(),
    }


def _pages(report: Report, name: str) -> dict[str, bytes]:
    """The page, and that of the answers, where any are recorded."""
    counts = report.records.runs["status"].value_counts().sort_index()
    listed = report.runs if len(report.runs) <= MOST_RUNS else report.runs[report.runs["averaged"] == "no"]
    sheets = [card.sheet for card in report.cards if card.sheet is not None]
    links = {column.key: f"{ANSWERS}#{column.key}" for sheet in sheets for column in sheet.columns}
    words = {"report": report, "listed": listed, "links": links, "counts": counts.to_dict()}
    words |= {"scale_sentence": SCALE_SENTENCE}
    pages = {name: rendered("page.html.j2", **words)}
    return pages | ({ANSWERS: rendered("answers.html.j2", sheets=sheets)} if sheets else {})


def _formulas(cells: pd.DataFrame) -> pd.DataFrame | None:
    """Table 1 for the models of the store whose sizes are known."""
    models = grid.in_order(cells["model.name"].unique())
    shapes = [(model, shape) for model in models if (shape := shape_of(model))]
    frames = [parameter_formulas(model, shape) for model, shape in shapes]
    return pd.concat(frames, ignore_index=True) if frames else None


def _summary(report: Report) -> str:
    """The report as text: what was drawn and found, in Markdown."""
    parts = ["# What the sweep found", *(markdown(each.sentence) for each in report.findings)]
    parts += [SCALE_SENTENCE] if report.scale_model else []
    for entry in report.entries:
        for drawing in entry.drawings:
            heading = f"## {entry.item.title}: {markdown(drawing.part.title)}"
            found = [markdown(line) for line in (drawing.details.headlines if drawing.details else [])]
            said = "\n".join(f"- {markdown(line)}" for line in drawing.notes)
            parts += [heading, *found, drawing.runs, to_markdown(drawing.table), *([said] if said else [])]
    if report.claims is not None and report.drawn:
        columns = ["claim", "measured on", "effect", "95% interval", "p", "Holm's p", "draws", "verdict", "note"]
        parts += ["## Claims of the paper", to_markdown(report.claims[columns]), report.chance]
    if len(report.evaluated):
        parts += ["## Evaluated after training", to_markdown(report.evaluated)]
    if report.waiting:
        names = ", ".join(entry.item.name for entry in report.waiting)
        parts.append(f"Not drawn, for want of runs: {names} (see index.html).")
    counts = report.records.runs["status"].value_counts().sort_index()
    parts.append("Runs: " + ", ".join(f"{count} {status}" for status, count in counts.items()) + ".")
    return "\n\n".join([*parts, *map(markdown, report.records.notes)]) + "\n"
