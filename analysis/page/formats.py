"""Files of the report in memory: figures in their formats, tables in theirs."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from analysis.drawing import panels as drawing
from analysis.drawing import style
from analysis.page import tables

FORMATS = ("pdf", "svg", "png")


@dataclass(frozen=True)
class FigureFile:
    """A drawn figure and its numbers."""

    name: str
    caption: str
    drawn: dict[str, bytes]
    """Its bytes by format; `svg` is always there, for the page."""
    csv: bytes
    formats: tuple[str, ...]
    """The formats that become files."""

    @property
    def inline(self) -> Markup:
        """The SVG for the page: it takes the page's colours, and its ids do not clash with other figures'."""
        text = self.drawn["svg"].decode()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{self.name}-", text)
        for colour, variable in ((style.INK, "ink"), (style.MUTED, "muted"), (style.PAPER, "paper")):
            text = text.replace(colour, f"var(--{variable})")
        return Markup(text)

    @property
    def files(self) -> dict[str, bytes]:
        """Name and content of its files."""
        return {f"{self.name}.{kind}": self.drawn[kind] for kind in self.formats} | {f"{self.name}.csv": self.csv}

    @property
    def listed(self) -> str:
        """Its files, for the caption."""
        return ", ".join(f"{self.name}.{kind}" for kind in (*self.formats, "csv"))


def figure_file(
    name: str, figure: Figure, data: pd.DataFrame, formats: tuple[str, ...], caption: str = ""
) -> FigureFile:
    """Draw a figure in the formats asked for."""
    drawn = {kind: drawing.render(figure, kind) for kind in dict.fromkeys(("svg", *formats))}
    return FigureFile(name, caption, drawn, tables.to_csv(data), formats)


def table_files(name: str, table: pd.DataFrame, caption: str, data: pd.DataFrame | None = None) -> dict[str, bytes]:
    """A table of text as CSV, Markdown and LaTeX; with `data`, the CSV holds these numbers."""
    return {
        f"{name}.csv": tables.to_csv(table if data is None else data),
        f"{name}.md": f"{tables.to_markdown(table)}\n".encode(),
        f"{name}.tex": tables.to_latex(table, caption).encode(),
    }
