"""The table of cases: what a fair reader says of answers of many kinds, and of a twin of each that is nearly it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tinylora.answers import check_all
from tinylora.answers.rewards import Outcome, Score
from tinylora.settings.config import Checker, Template

CASES: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parent / "cases.jsonl").read_text(encoding="utf-8").splitlines()
]
KINDS = sorted({case["kind"] for case in CASES})


def scores(cases: list[dict[str, Any]], how: str) -> list[Score]:
    """In a box, as a whole text, or as the line after ####: by the checker that `how` names."""
    boxed = how == "box"
    texts = [rf"\boxed{{{case['answer']}}}" if boxed else case["answer"] for case in cases]
    checker = Checker.numeric if how.startswith("number") else Checker.math
    return check_all(
        texts, [case["gold"] for case in cases], checker, Template.hash if "number" in how else Template.boxed
    )


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_judged_as_a_fair_reader_would(kind: str) -> None:
    wrong = []
    for how in ("box", "math text", "number text", "number form"):
        cases = [case for case in CASES if (case["kind"], case["how"]) == (kind, how)]
        for case, score in zip(cases, scores(cases, how), strict=True):
            found = score.flexible if how.endswith("text") else score.strict
            if (found is Outcome.correct) is not case["right"]:
                wrong.append((case["gold"], case["answer"], case["reason"], found))
    assert wrong == []


def test_every_kind_has_right_and_wrong_answers() -> None:
    found = Counter((case["kind"], case["right"]) for case in CASES)
    assert len(CASES) > 240
    assert not [kind for kind in KINDS if not found[kind, False]]
    assert [kind for kind in KINDS if not found[kind, True]] == ["unreadable line"]
