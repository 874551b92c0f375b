"""Files of the report in memory: figures in their formats, tables in theirs."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from pandas.api.types import is_numeric_dtype

from analysis.drawing import style
from analysis.drawing.panels import render
from analysis.page.escaping import csv_cell, markdown, one_line
from analysis.statistics.text import GAP


@dataclass(frozen=True)
class FigureFile:
    """A drawn figure and its numbers."""

    name: str
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


def figure_file(name: str, figure: Figure, data: pd.DataFrame, formats: tuple[str, ...]) -> FigureFile:
    """Draw a figure in the formats asked for."""
    drawn = {kind: render(figure, kind) for kind in dict.fromkeys(("svg", *formats))}
    return FigureFile(name, drawn, to_csv(data), formats)


def table_files(name: str, table: pd.DataFrame, caption: str, data: pd.DataFrame | None = None) -> dict[str, bytes]:
    """A table of text as CSV, Markdown and LaTeX; with `data`, the CSV holds these numbers."""
    return {
        f"{name}.csv": to_csv(table if data is None else data),
        f"{name}.md": f"{to_markdown(table)}\n".encode(),
        f"{name}.tex": to_latex(table, caption).encode(),
    }


def to_csv(table: pd.DataFrame) -> bytes:
    """CSV with six significant digits, counts with all of theirs; a gap is an empty field."""
    floats = table.select_dtypes("float")
    words = [name for name, column in table.items() if column.dtype == object or not is_numeric_dtype(column)]
    table = table.assign(**{name: table[name].map(csv_cell) for name in words}).rename(columns=csv_cell)
    whole = [name for name, column in floats.items() if _whole(column.dropna())]
    text: str = table.astype(dict.fromkeys(whole, "Int64")).to_csv(
        index=False, float_format="%.6g", lineterminator="\n"
    )
    return text.encode()


def _whole(values: pd.Series) -> bool:
    return bool(np.isfinite(values).all() and (values % 1 == 0).all() and values.abs().max() < 2**53)


def to_markdown(table: pd.DataFrame) -> str:
    """A Markdown table, padded so that it also reads as plain text."""
    cells = table.map(markdown).rename(columns=markdown)
    text: str = cells.to_markdown(index=False, disable_numparse=True)  # numbers stay as they are written
    return text


LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", GAP: "--"}
)
"""What pandas escapes, and more; it does not escape captions."""


def to_latex(table: pd.DataFrame, caption: str) -> str:
    """A LaTeX table (booktabs); numbers to the right."""
    columns = "".join("r" if table[name].map(_numberlike).all() else "l" for name in table.columns)
    cells = table.map(lambda value: one_line(value).translate(LATEX)).rename(columns=lambda name: name.translate(LATEX))
    text: str = cells.to_latex(index=False, caption=caption.translate(LATEX), column_format=columns)
    return f"% needs \\usepackage{{booktabs}}\n{text}"


def _numberlike(value: object) -> bool:
    text = str(value).replace(",", "").replace("%", "")
    try:
        float(text)
    except ValueError:
        return text in ("", GAP)
    return True
