"""The answer checker beside Math-Verify, and on the gold answers of whole data sets.

    python -m benchmarks.answers                     completions judged a second, on one core
    python -m benchmarks.answers --folder data       and of each set there: is every gold answer equal to itself, and
                                                     are 20,000 pairs of different ones different?

The completions are those of the tests: answers of every family in a box, and GSM8K's in many forms. Both judge half of
them, one after the other, after they have judged the other half. Pairs that are found equal are printed, to be looked
at: many are one value in two spellings.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.timing import markdown
from tinylora.answers import check_all, gold_answer, workers
from tinylora.answers.equivalence import equivalent
from tinylora.answers.rewards import Outcome
from tinylora.settings.config import Checker, Template
from tinylora.tasks.reading import read_set
from tinylora.tasks.sources import SOURCES

ROOT = Path(__file__).parents[1]
PAIRS = 20_000
SHOWN = 20

Cases = list[tuple[str, str]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.answers", description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="folder of data sets, as task.folder")
    parser.add_argument("--sets", help="of its sets, with commas between (default: all of them)")
    given = parser.parse_args(arguments)
    print(markdown(("checker", "completions", "a second"), _speeds()))
    if given.folder:
        names = given.sets.split(",") if given.sets else [name for name in SOURCES if _lies_in(given.folder, name)]
        for name in names:
            _judge_golds(name, given.folder)
    return 0


def _lies_in(folder: str, name: str) -> bool:
    return any((Path(folder) / f"{name}.jsonl{end}").exists() for end in ("", ".gz"))


def completions() -> Cases:
    """Gold answer and completion, of the tables of the tests."""
    sys.path.insert(0, str(ROOT / "tests"))
    table, forms = import_module("support.answer_table"), import_module("support.gsm8k_forms")
    cases = [(gold, rf"So it is \boxed{{{answer}}}.") for rows in table.ANSWERS.values() for gold, answer, _ in rows]
    lines = (ROOT / "tests" / "answers" / "gsm8k_excerpt.jsonl").read_text(encoding="utf-8").splitlines()
    for number, row in enumerate(map(json.loads, lines[:3])):
        cases += [(row["answer"], text) for text, *_ in forms.completions(row["solution"], row["answer"], number)]
    return cases


def _speeds() -> list[list[str]]:
    cases = completions()
    workers.MOST_WORKERS = 1
    rows = []
    for name, judge in (("ours", _ours), ("Math-Verify", _math_verify)):
        judge(cases[::2])  # imports, and what parsers learn
        started = time.perf_counter()
        judge(cases[1::2])
        rows.append([name, f"{len(cases) // 2}", f"{len(cases) // 2 / (time.perf_counter() - started):.0f}"])
    return rows


def _ours(cases: Cases) -> None:
    check_all([text for _, text in cases], [gold for gold, _ in cases], Checker.math, Template.boxed)


def _math_verify(cases: Cases) -> None:
    from math_verify import parse, verify

    for gold, text in cases:
        wanted = parse(f"\\boxed{{{gold}}}", parsing_timeout=5)
        verify(wanted, parse(text, parsing_timeout=5), timeout_seconds=5)


def _judge_golds(name: str, folder: str) -> None:
    """Say of a set which gold answers are not equal to themselves, and which pairs of different ones are equal."""
    started = time.perf_counter()
    rows = read_set(name, folder, "main").rows
    golds = sorted({row.answer.strip() for row in rows if row.answer and gold_answer(row.answer, Checker.math)})
    scores = check_all([rf"\boxed{{{gold}}}" for gold in golds], golds)
    lost = [gold for gold, score in zip(golds, scores, strict=True) if score.strict is not Outcome.correct]
    stream = random.Random(0)
    pairs = sorted({(stream.choice(golds), stream.choice(golds)) for _ in range(PAIRS)})
    pairs = [pair for pair in pairs if pair[0] != pair[1]]
    settled = [equivalent(gold, other, None) for gold, other in pairs]
    left_open = [pair for pair, verdict in zip(pairs, settled, strict=True) if verdict is None]
    judged = workers.judge_all([{"kind": "math", "gold": gold, "answer": other} for gold, other in left_open])
    equal = [pair for pair, verdict in zip(pairs, settled, strict=True) if verdict]
    equal += [pair for pair, verdict in zip(left_open, judged, strict=True) if verdict is True]
    late = sum(isinstance(verdict, Outcome) for verdict in judged)
    print(
        f"\n{name}: {len(golds)} gold answers, {len(lost)} not equal to themselves; of {len(pairs)} pairs {len(equal)} "
        f"are equal, {late} not judged ({time.perf_counter() - started:.0f} s)"
    )
    for shown in [*lost[:SHOWN], *equal[:SHOWN]]:
        print(f"  {shown!r}")


if __name__ == "__main__":
    sys.exit(main())
