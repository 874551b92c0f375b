"""GSM8K's answers in the forms that models give them: what a fair reader, the form and verl's rule say of each."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from support.gsm8k_forms import FORMS, completions, verl_takes

from tinylora.answers import check_all, gold_answer
from tinylora.answers.rewards import Outcome
from tinylora.settings.config import Checker, Strict, Template

ROWS = [
    json.loads(line)
    for line in (Path(__file__).parent / "gsm8k_excerpt.jsonl").read_text(encoding="utf-8").splitlines()
]
MADE = [
    (row["answer"], *made)
    for place, row in enumerate(ROWS)
    for made in completions(row["solution"], row["answer"], place)
]


def verdicts(strict: Strict, checker: Checker = Checker.numeric) -> list[tuple[bool, bool]]:
    golds = [gold_answer(answer, checker, strict) or "" for answer, *_ in MADE]
    scores = check_all([text for _, text, *_ in MADE], golds, checker, Template.hash, strict)
    return [(score.strict is Outcome.correct, score.flexible is Outcome.correct) for score in scores]


def test_the_forms_are_many_and_half_of_them_are_wrong() -> None:
    assert len(FORMS) > 140 and len(MADE) > 6000
    assert 0.3 < sum(right for _, _, right, _, _ in MADE) / len(MADE) < 0.5


def test_flexible_and_form_say_what_a_fair_reader_would() -> None:
    differ = Counter(
        form if found[1] is not right else f"{form} (after ####)"
        for (_, _, right, in_form, form), found in zip(MADE, verdicts(Strict.form), strict=True)
        if found != (in_form, right)
    )
    assert not differ, f"forms that are judged wrongly, and how often: {differ}"


def test_strict_is_verls_rule_under_its_protocol() -> None:
    for (answer, text, *_), (strict, _) in zip(MADE, verdicts(Strict.verl), strict=True):
        assert strict is verl_takes(text, answer), text[-80:]


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        *(("#### 18", True), ("####18", False), ("#### 18.", False), ("#### $18", False), ("#### 18.00", False)),
        *(("#### 18 dollars", True), ("#### 18 or 20", True), ("#### 1,8", True), ("#### **18**", False)),
        *(
            ("#### 18" + " " * 300, False),
            ("x" * 300 + "#### 18", True),
            ("#### 20\n#### 18", True),
            ("### # 18", False),
        ),
        *(("#### 18\n#### 20", False), ("#### 18\n#### $20", True), ("#### -18", False), (r"\boxed{18}", False)),
        *(
            ("#### 18-20", True),
            ("#### 18x", True),
            ("<think>#### 18", True),
            ("#### .18", False),
            ("#####  18", False),
        ),
    ],
)
def test_verls_rule_by_example(completion: str, right: bool) -> None:
    score = check_all([completion], ["18"], Checker.numeric, Template.hash, Strict.verl)[0]
    assert (score.strict is Outcome.correct) is right
    assert verl_takes(completion, "18") is right


def test_the_documentation_says_what_each_rule_takes() -> None:
    table = (Path(__file__).parents[2] / "docs" / "paper.md").read_text(encoding="utf-8")
    assert f"{len(ROWS)} problems" in table and f"{len(FORMS)} forms" in table
    by_rule = {strict: verdicts(strict) for strict in (Strict.verl, Strict.form)}
    rows = {f"strict, `task.strict={strict.value}`": [found for found, _ in by_rule[strict]] for strict in by_rule}
    rows["flexible"] = [found for _, found in by_rule[Strict.form]]
    right = [is_right for _, _, is_right, _, _ in MADE]
    assert f"| score | of {sum(right):,} right answers | of {len(MADE) - sum(right):,} wrong answers |" in table
    for name, taken in rows.items():
        counts = [
            sum(found and is_right is wanted for found, is_right in zip(taken, right, strict=True))
            for wanted in (True, False)
        ]
        assert f"| {name} | {counts[0]:,} taken | {counts[1]:,} taken |" in table
