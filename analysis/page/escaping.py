"""Words of users (names, labels, reasons) in CSV and Markdown: shown as they are, and never read as more than text.

HTML is escaped by jinja2 and LaTeX in `formats`; in figures no text is read as mathematics.
"""

from __future__ import annotations

import re

_FORMULA = re.compile("'*[=+\\-@\t\n\uff1d\uff0b\uff0d\uff20]")  # the last four are the wide forms of the first
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_SIGNS = re.compile(
    r"""[\\`*\[\]<|~]       # code, emphasis, links, tags, columns, strokes
    | (?<![^\W_])_          # emphasis, but where it stands between letters or digits: train_loss
    | _(?![^\W_])
    | &(?=\#?\w+;)          # what would be another character
    | ^>                    # and at the beginning: quotations, headings, lists, lines
    | ^\#(?=\#{0,5}(\s|$))
    | ^[-+](?=\s|$)
    | ^[-=](?=[-=\s]*$)
    """,
    re.VERBOSE,
)
_NUMBERED = re.compile(r"^(\d+)([.)])(?=\s|$)")


def csv_cell(value: object) -> object:
    """A cell of a CSV file: text that a spreadsheet would take for a formula gets an apostrophe, numbers stay.

    Lines end with a line feed: a carriage return is not quoted when it is written, and begins a new row when read.
    """
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def one_line(value: object) -> str:
    """A value as one line of text."""
    return " ".join(str(value).split())


def markdown(value: object) -> str:
    """Text that Markdown shows as it is, in one line: a heading, an item of a list, a cell of a table."""
    return _NUMBERED.sub(r"\1\\\2", _SIGNS.sub(lambda found: f"\\{found[0]}", one_line(value)))
