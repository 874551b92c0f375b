"""Gold answers as data sets have them: each is itself, in several spellings, and none is another of its set."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from tinylora.answers import check_all, gold_answer
from tinylora.answers.rewards import Outcome
from tinylora.settings.config import Checker, Template

GOLDS: dict[str, list[str]] = {}
for _line in (Path(__file__).parent / "golds.jsonl").read_text(encoding="utf-8").splitlines():
    _row = json.loads(_line)
    GOLDS.setdefault(_row["set"], []).append(_row["answer"])

SPELLINGS = [r"\boxed{{{gold}}}", r"So $\boxed{{{gold}}}$.", r"\fbox{{ {gold} }}", r"\boxed{{\text{{}}{gold}.}}"]
SAME_VALUE = {  # pairs of one set, in either order, that are written differently
    frozenset(pair) for pair in [(r"$\frac94$", r"$\frac{9}{4}$"), (r"10\sqrt{3}", r"10\sqrt3")]
}


def judged(pairs: list[tuple[str, str]], checker: Checker = Checker.math) -> list[bool]:
    scores = check_all([rf"\boxed{{{answer}}}" for _, answer in pairs], [gold for gold, _ in pairs], checker)
    return [score.strict is Outcome.correct for score in scores]


@pytest.mark.parametrize("name", GOLDS)
def test_each_gold_answer_is_itself(name: str) -> None:
    golds = GOLDS[name]
    checkers = [Checker.math, Checker.numeric] if name.startswith("gsm8k") else [Checker.math]
    for checker, spelling in itertools.product(checkers, SPELLINGS):
        assert None not in [gold_answer(gold, checker) for gold in golds]
        scores = check_all([spelling.format(gold=gold) for gold in golds], golds, checker, Template.boxed)
        assert [g for g, score in zip(golds, scores, strict=True) if score.strict is not Outcome.correct] == []


@pytest.mark.parametrize("name", GOLDS)
def test_no_gold_answer_is_another_of_its_set(name: str) -> None:
    pairs = list(itertools.permutations(GOLDS[name], 2))[::3]
    equal = [pair for pair, same in zip(pairs, judged(pairs), strict=True) if same]
    assert [pair for pair in equal if frozenset(pair) not in SAME_VALUE] == []
