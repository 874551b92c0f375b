"""What a terminal is told of a report: at most 40 lines, the whole of which is in summary.md and on the page."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.page.card import Card
from analysis.page.formats import to_markdown
from analysis.page.report import Report

MOST_LINES = 40
SHOWN = ("method", "precision", "trained")
NUMBERS = ("untrained %", "trained, sampled %", "95% interval", "runs")
NOT_SHOWN = ("greedy %", "lr")


def lines_of(report: Report) -> list[str]:
    """What was found, and a table of each sweep as far as there is room."""
    lines = [*(each.sentence for each in report.first_findings), ""] if report.first_findings else []
    lines += [line for card in report.cards for line in _of_card(card)]
    counts = report.records.runs["status"].value_counts().sort_index()
    last = ["Runs: " + ", ".join(f"{count} {status}" for status, count in counts.items()) + "."]
    last += [f"Drawn: {', '.join(entry.item.name for entry in report.drawn)}."] if report.drawn else []
    last += report.records.notes
    room = max(1, MOST_LINES - 1 - len(last))
    if len(lines) > room:
        lines = [*lines[: room - 1], f"[... {len(lines) - room + 1} more lines in summary.md]"]
    return [*lines, *last]


def _columns(table: pd.DataFrame) -> list[str]:
    """Those that are always shown, and of the settings those that tell rows apart which are alike in all before."""
    names = [name for name in SHOWN if name in table]
    for name in table.columns:
        apart = table.groupby(names, sort=False)[name].nunique().max() > 1
        if name not in (*names, *NUMBERS, *NOT_SHOWN) and apart:
            names.append(name)
    return names + [name for name in NUMBERS if name in table]


def _of_card(card: Card) -> Iterator[str]:
    yield f"{card.title}: " + ", ".join(f"{score} {what}" for score, what in card.steps)
    yield from to_markdown(card.table[_columns(card.table)]).splitlines()
    yield ""
