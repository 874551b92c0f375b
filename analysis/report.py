"""The report in memory: one section per model and task, and every file that is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from analysis import figures, grid, notes, stats, style, tables
from analysis.load import CURVES, Records

FILE_NAMES = {"train/reward": "reward", "train/completion_tokens": "length"}
SCALE_SENTENCE = (
    "This is a scale model, a miniature that ships with the package: it shows how the method behaves on it and says "
    "nothing by itself about the paper's models."
)


@dataclass(frozen=True)
class FigureFile:
    """A drawn figure and its numbers."""

    name: str
    caption: str
    svg: bytes
    pdf: bytes
    csv: bytes

    @property
    def inline(self) -> Markup:
        """The SVG for the page: it takes the page's colours, and its ids do not clash with other figures'."""
        text = self.svg.decode()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{self.name}-", text)
        for colour, variable in ((style.INK, "ink"), (style.MUTED, "muted"), (style.PAPER, "paper")):
            text = text.replace(colour, f"var(--{variable})")
        return Markup(text)


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


def make_files(records: Records) -> dict[str, bytes]:
    """Name and content of every file of the report."""
    runs = stats.add_cells(stats.add_scores(records.runs, records.history), records.settings)
    groups = [group for _, group in runs.groupby(["model.name", "task.name"], sort=True) if group["averaged"].any()]
    sections = [_section(group, records, suffixed=len(groups) > 1) for group in groups]
    run_table = tables.run_table(runs, records.settings)
    summary = _summary(sections, records)
    scale = f"{SCALE_SENTENCE}\n\n" if any(section.scale_model for section in sections) else ""
    files = {
        "runs.csv": tables.to_csv(tables.runs_data(runs, records.settings, records.provenance)),
        "runs.md": f"{scale}{tables.to_markdown(run_table)}\n".encode(),
        "summary.md": summary.encode(),
    }
    for figure in (figure for section in sections for figure in section.figures):
        files |= {f"{figure.name}.svg": figure.svg, f"{figure.name}.pdf": figure.pdf, f"{figure.name}.csv": figure.csv}
    return files | {"index.html": _page(sections, run_table, records)}


def _section(runs: pd.DataFrame, records: Records, suffixed: bool) -> Section:
    settings = records.settings
    model, task = runs["model.name"].iloc[0], runs["task.name"].iloc[0]
    cells = stats.choose_rates(stats.summarise(runs, settings), settings)
    cells, axis = stats.name_lines(cells, settings)
    base = stats.base_accuracy(runs)
    averaged = runs[runs["averaged"]]
    scale_model = bool((averaged["scale_model"] == "true").any())
    title = f"{model}, {task}" + (" (scale model)" if scale_model else "")
    suffix = re.sub(r"[^A-Za-z0-9._-]+", "_", f"-{model}-{task}") if suffixed else ""
    drawn = [_accuracy(cells, base, axis, settings, title, suffix)]
    drawn += [_curves(runs, records, cells, metric, title, suffix) for metric in CURVES]
    return Section(
        title=title,
        scale_model=scale_model,
        headline=notes.headline(cells, base),
        notes=notes.section_notes(runs, records.history, cells, records.provenance),
        figures=[figure for figure in drawn if figure],
        summary=tables.summary_table(cells, settings),
        rates=tables.rates_table(cells, settings),
        missing=tables.missing_table(grid.missing(runs, settings)),
        grid=tables.axes_text(runs, settings),
        constants=grid.constant(averaged, grid.ordered(settings)),
        by_method=grid.constant_by_method(averaged, settings),
        provenance=grid.constant(averaged, list(records.provenance)),
    )


def _accuracy(
    cells: pd.DataFrame, base: pd.DataFrame, axis: str, settings: tuple[str, ...], title: str, suffix: str
) -> FigureFile | None:
    chosen = cells[cells["chosen"]]
    shown = chosen.groupby("line").filter(lambda line: line[stats.TEST].notna().any())
    if shown.empty:
        return None
    figure = figures.accuracy_figure(_label_lines(shown), base, axis, title + _alike(shown))
    caption = (
        f"Greedy strict test accuracy against trained parameters. Dashed grey: the untrained model. {_seeds(shown)} "
        f"{_items(settings, cells)}Bars are over seeds alone. A line breaks where a cell is missing."
    )
    data = tables.accuracy_data(cells, base, settings)
    return _file(f"accuracy{suffix}", caption, figure, data)


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
    runs: pd.DataFrame, records: Records, cells: pd.DataFrame, metric: str, title: str, suffix: str
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
    figure = figures.curve_figure(curves, metric, title)
    return _file(f"{FILE_NAMES[metric]}{suffix}", caption, figure, tables.curve_data(curves))


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


def _file(name: str, caption: str, figure: Figure, data: pd.DataFrame) -> FigureFile:
    svg, pdf = figures.render(figure, "svg"), figures.render(figure, "pdf")
    return FigureFile(name, caption, svg, pdf, tables.to_csv(data))


def _summary(sections: list[Section], records: Records) -> str:
    parts = ["# What the sweep found"]
    for section in sections:
        parts += [f"## {section.title}", section.headline, tables.to_markdown(section.summary)]
        lines = [SCALE_SENTENCE] if section.scale_model else []
        lines += section.notes
        if len(section.missing):
            lines.append(f"{len(section.missing)} missing points of the grid {section.grid}: listed in index.html.")
        if lines:
            parts.append("\n".join(f"- {line}" for line in lines))
    counts = records.runs["status"].value_counts().sort_index()
    parts.append("Runs: " + ", ".join(f"{count} {status}" for status, count in counts.items()) + ".")
    parts += list(records.notes)
    return "\n\n".join(parts) + "\n"


def _page(sections: list[Section], run_table: pd.DataFrame, records: Records) -> bytes:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html.j2")
    counts = records.runs["status"].value_counts().sort_index()
    text = template.render(sections=sections, runs=run_table, counts=counts.to_dict(), notes=records.notes,
                           scale_sentence=SCALE_SENTENCE)  # fmt: skip
    return f"{text}\n".encode()
