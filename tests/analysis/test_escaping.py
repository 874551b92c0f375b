"""What users can put into names reaches spreadsheets, Markdown, HTML and LaTeX as text, and comes back as it was."""

from __future__ import annotations

import csv
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from support.analysis_store import Store, create_store

from analysis import build
from analysis.page import formats
from analysis.page.escaping import csv_cell, markdown
from analysis.page.rendering import LIBRARY

EXAMPLES = settings(max_examples=150, derandomize=True, deadline=None, database=None)
SIGNS = "=+-@\t\r\n'|*_`<>[]()#&;~!\\.:/ \"$%{}^0123aZé\uff1d"
TEXTS = st.text(st.sampled_from(SIGNS), max_size=30) | st.text(max_size=30)
WORDS = TEXTS.filter(lambda text: text.strip() and all(sign.isprintable() for sign in text))


def uncsv(cell: str) -> str:
    """The text of a cell without the apostrophe that was put before it."""
    return cell[1:] if cell.startswith("'") and csv_cell(cell[1:]) != cell[1:] else cell


@EXAMPLES
@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_csv_comes_back_and_nothing_in_it_is_a_formula(texts: list[str]) -> None:
    table = pd.DataFrame({"name": texts, "=x": [-1.5] * len(texts)})
    rows = list(csv.reader(io.StringIO(formats.to_csv(table).decode(), newline="")))
    assert rows[0] == ["name", "'=x"]
    for (cell, number), text in zip(rows[1:], texts, strict=True):
        assert number == "-1.5"
        assert uncsv(cell) == text.replace("\r\n", "\n").replace("\r", "\n")
        assert not re.match(r"[=+\-@\t\r\n]", cell) or re.fullmatch(r"[+-]?[\d.]+([eE][+-]?\d+)?", cell)


def test_numbers_stay_numbers_in_csv() -> None:
    values = ["-1", "+2.5e-3", "-.5", "-1+1", "-cmd|' /C calc'!A0", "@SUM(1)", "'=1", "=1", "a=1", ""]
    assert [csv_cell(value) for value in values] == [*values[:3], *(f"'{value}" for value in values[3:8]), *values[8:]]
    table = pd.DataFrame({"a": [-1.0, np.nan], "b": [-3, 4], "c": pd.Series([-1.5, "=x"], dtype=object)})
    assert formats.to_csv(table) == b"a,b,c\n-1,-3,-1.5\n,4,'=x\n"


def text_of(html: str) -> str:
    """What a browser shows of HTML that has only the elements that Markdown's blocks make."""
    for sign, entity in (("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("&", "&amp;")):
        html = html.replace(entity, sign)
    return html


@EXAMPLES
@given(WORDS)
def test_markdown_shows_text_as_it_is(text: str) -> None:
    reader, words = MarkdownIt("gfm-like", {"linkify": False}), " ".join(text.split())
    assert text_of(reader.render(markdown(text))) == f"<p>{words}</p>\n"
    assert text_of(reader.render(f"- {markdown(text)}")) == f"<ul>\n<li>{words}</li>\n</ul>\n"
    assert text_of(reader.render(f"## {markdown(text)} ends")) == f"<h2>{words} ends</h2>\n"


@EXAMPLES
@given(st.lists(WORDS, min_size=2, max_size=4))
def test_a_markdown_table_has_its_rows_and_columns(texts: list[str]) -> None:
    table = formats.to_markdown(pd.DataFrame({"a": texts, "b": texts[::-1]}))
    html = text_of(MarkdownIt("gfm-like", {"linkify": False}).render(table))
    shown = [" ".join(text.split()) for text in texts]
    wanted = [
        f"<tr>\n<td{{}}>{one}</td>\n<td{{}}>{other}</td>\n</tr>" for one, other in zip(shown, shown[::-1], strict=True)
    ]
    plain = re.sub(r"<td style=\"[^\"]*\">", "<td>", html)
    for row in wanted:
        assert row.replace("{}", "") in plain


NASTY = {
    "model": "=cmd|' /C calc'!A0 <img src=x onerror=alert(1)> *bold* _x_ `code` [a](http://b)",
    "reason": "<script>alert(1)</script>\n| a | b |\n# title & \\input{/etc/passwd} $x^2$ %",
}


OWN_SCRIPT = re.compile(
    r'<script>$|<script src="vega-lite-[\d.]+js"></script>$'
    r'|<script type="application/json" class="spec" data-place="chart-[a-z]+-\d+">[^<>]*</script>$'
)
"""The scripts of the page itself; what a chart is made of holds no sign of HTML."""


@pytest.fixture
def store(tmp_path: Path, empty_store: Path) -> Store:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    create_store(tmp_path / "mlflow.db")
    return Store(tmp_path / "mlflow.db")


def test_names_of_users_are_text_in_every_file(store: Store, tmp_path: Path) -> None:
    for seed in (0, 1):
        store.add({"model.name": NASTY["model"], "seed": seed, "u": 13})
        store.add({"model.name": NASTY["model"], "seed": seed, "u": 1})
    store.add({"model.name": NASTY["model"], "seed": 2}, status="failed", reason=NASTY["reason"])
    assert build.main(["--outputs-dir", str(tmp_path), "--out", str(tmp_path / "r"), "--format", "svg"]) == 0
    made = [path for path in (tmp_path / "r").iterdir() if path.name != LIBRARY]
    files = {path.name: path.read_text(encoding="utf-8") for path in made}
    assert len(files) > 5
    for name, text in files.items():
        if name.endswith((".html", ".svg")):
            assert "<img" not in text and "&lt;" in text
            assert [tag for tag in re.findall(r"<script[^\n]*", text) if not OWN_SCRIPT.match(tag)] == []
        elif name.endswith(".md"):
            html = MarkdownIt("gfm-like", {"linkify": False}).render(text)
            assert not re.search("<(img|script|code|em|strong|a)[ >]", html), name
        elif name.endswith(".csv"):
            cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
            assert not any(cell.startswith(("=", "+", "@")) for cell in cells)
        else:
            assert not re.search(r"(?<!\\)[$#&_%](?!.*needs)", text.replace(" & ", " ").split("\n", 1)[1]), name
