"""The report in memory: one section per model and task, and every file that is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd

from analysis.drawing import style
from analysis.numbers import cells as stats
from analysis.numbers import grid, selection
from analysis.page import notes, tables
from analysis.page import sweep_figures as figures
from analysis.page.entries import Entry, make_entry
from analysis.page.formats import FORMATS, FigureFile, figure_file, table_files
from analysis.paper import claims
from analysis.paper import tables as paper_tables
from analysis.paper.items import ITEMS
from analysis.records.load import Records

FILE_NAMES = {"train/reward": "reward", "train/completion_tokens": "length"}
TABLE_1, CLAIMS_TABLE = "table1", "claims"
NAMES = (*(item.name for item in ITEMS), TABLE_1, CLAIMS_TABLE)
"""Everything that can be asked for by name."""
MOST_PANELS = 8  # of a figure against the step: what a reader can still compare
MOST_RUNS = 400  # runs that the page lists one by one; beyond, only those that are not averaged
SCALE_SENTENCE = (
    "This is a scale model, a miniature that ships with the package: it shows how the method behaves on it and says "
    "nothing by itself about the paper's models."
)


@dataclass(frozen=True)
class Section:
    """Everything about one model and task; never mixed with another."""

    title: str
    scale_model: bool
    headline: str
    notes: list[str]
    figures: list[FigureFile]
    summary: pd.DataFrame
    rates: pd.DataFrame
    missing: pd.DataFrame
    grid: str
    constants: dict[str, str]
    by_method: dict[str, dict[str, str]]
    provenance: dict[str, str]


@dataclass(frozen=True)
class Report:
    """Everything that the page shows."""

    entries: list[Entry]
    formulas: pd.DataFrame | None
    claims: pd.DataFrame | None
    by_model: pd.DataFrame | None
    """The claims in short."""
    sections: list[Section]
    runs: pd.DataFrame
    records: Records

    @property
    def scale_model(self) -> bool:
        """Whether any of its numbers are of a scale model."""
        drawn = [drawing.part.scale_model for entry in self.entries for drawing in entry.drawings]
        return any([*drawn, *(section.scale_model for section in self.sections)])


def make_files(
    records: Records, only: tuple[str, ...] = NAMES, formats: tuple[str, ...] = FORMATS[:2]
) -> dict[str, bytes]:
    """Name and content of every file of the report; with `only`, of these items and nothing else."""
    settings = records.settings
    runs = stats.add_cells(stats.add_scores(records.runs, records.history), settings)
    cells = stats.choose_rates(stats.summarise(runs, settings), settings)
    table = selection.as_table(cells, runs, records.history, settings)
    entries = [make_entry(item, table, records.provenance, formats) for item in ITEMS if item.name in only]
    choices = {choice for entry in entries for choice in entry.choices}
    shown = set(cells.loc[cells["choice"].isin(choices), "cell"])
    sections = _sections(runs, cells, records, shown, formats) if set(only) == set(NAMES) else []
    checked = claims.check(table) if CLAIMS_TABLE in only else None
    report = Report(
        entries,
        _formulas(cells) if TABLE_1 in only else None,
        claims.claims_table(checked) if checked else None,
        claims.claims_by_model(checked) if checked else None,
        sections,
        tables.run_table(runs, settings),
        records,
    )
    return _files(report, runs)


def _files(report: Report, runs: pd.DataFrame) -> dict[str, bytes]:
    settings, provenance = report.records.settings, report.records.provenance
    scale = f"{SCALE_SENTENCE}\n\n" if report.scale_model else ""
    files = {
        "runs.csv": tables.to_csv(tables.runs_data(runs, settings, provenance)),
        "runs.md": f"{scale}{tables.to_markdown(report.runs)}\n".encode(),
        "summary.md": _summary(report).encode(),
    }
    for entry in report.entries:
        for drawing in entry.drawings:
            caption, name = f"{entry.item.title}. {drawing.part.title}", drawing.part.name
            if drawing.figure:
                files |= table_files(f"{name}-table", drawing.table, caption) | drawing.figure.files
            else:
                files |= table_files(name, drawing.table, caption, drawing.data)
    for name, table, caption in (
        (TABLE_1, report.formulas, "Trained parameters by method"),
        (CLAIMS_TABLE, report.claims, "Claims of the paper"),
        (f"{CLAIMS_TABLE}-by-model", report.by_model, "Claims in short"),
    ):
        files |= table_files(name, table, caption) if table is not None else {}
    for figure in (figure for section in report.sections for figure in section.figures):
        files |= figure.files
    return files | {"index.html": _page(report)}


def _formulas(cells: pd.DataFrame) -> pd.DataFrame | None:
    """Table 1 for the models of the store whose sizes are known."""
    models = grid.in_order(cells["model.name"].unique())
    shapes = [(model, shape) for model in models if (shape := paper_tables.shape_of(model))]
    frames = [paper_tables.parameter_formulas(model, shape) for model, shape in shapes]
    return pd.concat(frames, ignore_index=True) if frames else None


def _sections(
    runs: pd.DataFrame, cells: pd.DataFrame, records: Records, shown: set[int], formats: tuple[str, ...]
) -> list[Section]:
    """The runs that no item shows, by model and task."""
    left = runs[~runs["cell"].isin(shown)]
    groups = [group for _, group in left.groupby(["model.name", "task.name"], sort=True) if group["averaged"].any()]
    return [_section(group, cells, records, len(groups) > 1, formats) for group in groups]


def _section(
    runs: pd.DataFrame, cells: pd.DataFrame, records: Records, suffixed: bool, formats: tuple[str, ...]
) -> Section:
    settings = records.settings
    model, task = runs["model.name"].iloc[0], runs["task.name"].iloc[0]
    trained = runs[runs["method"] != stats.UNTRAINED]
    cells, axis = stats.name_lines(cells[cells["cell"].isin(runs["cell"])], settings)
    base = stats.base_accuracy(runs)
    averaged = runs[runs["averaged"]]
    scale_model = bool((averaged["scale_model"] == "true").any())
    title = f"{model}, {task}" + (" (scale model)" if scale_model else "")
    suffix = re.sub(r"[^A-Za-z0-9._-]+", "_", f"-{model}-{task}") if suffixed else ""
    drawn = [_accuracy(cells, base, axis, settings, title, suffix, formats)]
    drawn += [_curves(runs, records, cells, metric, title, suffix, formats) for metric in FILE_NAMES]
    return Section(
        title=title,
        scale_model=scale_model,
        headline=notes.headline(cells, base),
        notes=notes.section_notes(runs, records.history, cells, records.provenance),
        figures=[figure for figure in drawn if figure],
        summary=tables.summary_table(cells, settings),
        rates=tables.rates_table(cells, settings),
        missing=tables.missing_table(grid.missing(trained, settings)),
        grid=tables.axes_text(trained, settings),
        constants=grid.constant(averaged, grid.ordered(settings)),
        by_method=grid.constant_by_method(averaged, settings),
        provenance=grid.constant(averaged, list(records.provenance)),
    )


def _accuracy(
    cells: pd.DataFrame,
    base: pd.DataFrame,
    axis: str,
    settings: tuple[str, ...],
    title: str,
    suffix: str,
    formats: tuple[str, ...],
) -> FigureFile | None:
    chosen = cells[cells["chosen"] & (cells["method"] != stats.UNTRAINED)]
    shown = chosen.groupby("line").filter(lambda line: line[stats.TEST].notna().any())
    if shown.empty:
        return None
    figure = figures.accuracy_figure(_label_lines(shown), base, axis, title + _alike(shown))
    caption = (
        f"Greedy strict test accuracy against trained parameters. Dashed grey: the untrained model. {_seeds(shown)} "
        f"{_items(settings, cells)}Bars are over seeds alone. A line breaks where a cell is missing."
    )
    data = tables.accuracy_data(cells, base, settings)
    return figure_file(f"accuracy{suffix}", figure, data, formats, caption)


def _label_lines(cells: pd.DataFrame) -> pd.DataFrame:
    """Add colour and label; lines of one method and precision get shades and are named by what differs."""
    label = "extra" if _alike(cells) else "line"
    shades: dict[tuple[str, str], str] = {}
    for method, group in cells.groupby("method"):
        extras = grid.in_order(group["extra"].unique())
        shades |= {(method, e): style.lighten(method, i / max(1, len(extras) - 1)) for i, e in enumerate(extras)}
    colours = [shades[key] for key in zip(cells["method"], cells["extra"], strict=True)]
    return cells.assign(colour=colours, line_label=cells[label])


def _alike(cells: pd.DataFrame) -> str:
    """For the title: the method and precision of all lines, where they differ in neither but in something else."""
    pairs = cells[["method", "precision"]].drop_duplicates()
    return f", {pairs.iloc[0, 0]} {pairs.iloc[0, 1]}" if len(pairs) == 1 and cells["extra"].any() else ""


def _curves(
    runs: pd.DataFrame,
    records: Records,
    cells: pd.DataFrame,
    metric: str,
    title: str,
    suffix: str,
    formats: tuple[str, ...],
) -> FigureFile | None:
    chosen = cells[cells["chosen"] & (cells["algorithm.name"] == "grpo")]
    curves = stats.curve(runs[runs["cell"].isin(chosen["cell"])], records.history, metric)
    if curves["mean"].isna().all():
        return None
    sizes = chosen["trained_values"]
    chosen = chosen.assign(
        colour=[
            style.shade_of_size(m, s, sizes.min(), sizes.max()) for m, s in zip(chosen["method"], sizes, strict=True)
        ],
        curve_label=[f"{size:,.0f}" for size in sizes],
    )
    columns = ["cell", "line", "method", "precision", "trained_values", "colour", "curve_label"]
    curves = curves.merge(tables.sort_rows(chosen, records.settings)[columns], on="cell", how="right")
    what = "Training reward" if metric == "train/reward" else "Length of the sampled training responses"
    caption = f"{what} at each step (GRPO). Labels: trained parameters; a darker line has more. {_seeds(chosen)}"
    lines = chosen.groupby("line")[stats.VALIDATION].max().sort_values(ascending=False, kind="stable").index
    if len(lines) > MOST_PANELS:
        caption += f" Drawn: the {MOST_PANELS} of {len(lines)} lines that are best on validation; the CSV has all."
    figure = figures.curve_figure(curves[curves["line"].isin(lines[:MOST_PANELS])], metric, title)
    return figure_file(f"{FILE_NAMES[metric]}{suffix}", figure, tables.curve_data(curves), formats, caption)


def _seeds(cells: pd.DataFrame) -> str:
    fewest, most = int(cells["seeds"].min()), int(cells["seeds"].max())
    if most == 1:
        return "One seed per cell, so no intervals."
    count = f"{most}" if fewest == most else f"{fewest} to {most}"
    single = "; a single seed has none" if fewest == 1 else ""
    return f"Mean over {count} seeds with its bootstrap 95% interval{single}."


def _items(settings: tuple[str, ...], cells: pd.DataFrame) -> str:
    if "eval.test_items" not in settings or cells["eval.test_items"].nunique() != 1:
        return ""
    items = int(cells["eval.test_items"].iloc[0])
    return f"{items} test problems: their choice alone gives a standard error of up to {50 / items**0.5:.1f} points. "


def _summary(report: Report) -> str:
    """The report as text: what was drawn and found, in Markdown."""
    parts = ["# What the sweep found", *([SCALE_SENTENCE] if report.scale_model else [])]
    for entry in report.entries:
        for drawing in entry.drawings:
            said = "\n".join(f"- {line}" for line in drawing.notes)
            heading = f"## {entry.item.title}: {drawing.part.title}"
            parts += [heading, drawing.runs, tables.to_markdown(drawing.table), *([said] if said else [])]
    if report.claims is not None and any(entry.drawings for entry in report.entries):
        columns = ["claim", "measured on", "effect", "95% interval", "runs", "verdict"]
        parts += ["## Claims of the paper", tables.to_markdown(report.claims[columns])]
    for section in report.sections:
        parts += [f"## {section.title}", section.headline, tables.to_markdown(section.summary)]
        lines = list(section.notes)
        if len(section.missing):
            lines.append(f"{len(section.missing)} missing points of the grid {section.grid}: listed in index.html.")
        if lines:
            parts.append("\n".join(f"- {line}" for line in lines))
    waiting = [entry.item for entry in report.entries if not entry.drawings]
    if waiting:
        parts.append("Not drawn, for want of runs: " + ", ".join(item.name for item in waiting) + " (see index.html).")
    counts = report.records.runs["status"].value_counts().sort_index()
    parts.append("Runs: " + ", ".join(f"{count} {status}" for status, count in counts.items()) + ".")
    return "\n\n".join([*parts, *report.records.notes]) + "\n"


def _page(report: Report) -> bytes:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html.j2")
    counts = report.records.runs["status"].value_counts().sort_index()
    listed = report.runs if len(report.runs) <= MOST_RUNS else report.runs[report.runs["averaged"] == "no"]
    text = template.render(report=report, listed=listed, counts=counts.to_dict(), scale_sentence=SCALE_SENTENCE)
    return f"{text}\n".encode()
