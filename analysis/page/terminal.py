"""What a terminal is told of a report: at most 40 lines, the whole of which is in summary.md and on the page."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.page.card import Card
from analysis.page.formats import to_markdown
from analysis.page.report import Report

MOST_LINES = 40
SHOWN = ("method", "precision", "trained", "untrained %", "trained, sampled %", "95% interval", "runs")


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


def _of_card(card: Card) -> Iterator[str]:
    yield f"{card.title}: " + ", ".join(f"{score} {what}" for score, what in card.steps)
    table = card.table[[name for name in SHOWN if name in card.table]]
    yield from to_markdown(table).splitlines()
    yield ""
