"""Where the final number of a text is, what number it is, and that no text takes long."""

from __future__ import annotations

import pytest

from tinylora.answers.numeric import flexible_answer, gold_answer, strict_answer

STRICT = [
    # the asked-for format
    ("She has 18 left.\n#### 18", "18"),
    ("####18", "18"),
    ("#### 5\nno, wait\n#### 6", "6"),
    ("#### 6 and then 99 more", "6"),
    ("#### 6\n####", "6"),
    # decorations that do not count
    ("#### $18", "18"),
    (r"#### \$18", "18"),
    ("#### 18.", "18"),
    ("#### 18.00", "18"),
    ("#### 18.50", "37/2"),
    ("#### 018", "18"),
    ("#### 25%", "25"),
    ("#### 12 apples", "12"),
    ("#### 1,234,567", "1234567"),
    ("#### 1,234.50", "2469/2"),
    ("#### 1,2", "1"),
    ("#### .5", "1/2"),
    ("#### 3/4", "3/4"),
    ("#### 6/8", "3/4"),
    ("#### 1/0", None),
    # signs
    ("#### -3", "-3"),
    ("#### \u22123", "-3"),
    ("#### -$3", "-3"),
    ("#### $-3", "-3"),
    ("#### -0", "0"),
    # LaTeX boxes, where the asked-for format is missing
    (r"so \boxed{18}", "18"),
    (r"\boxed{5} no, \boxed{6}.", "6"),
    (r"\boxed{\$1,234}", "1234"),
    (r"\boxed{1{,}234}", "1234"),
    (r"\boxed{10\,000}", "10000"),
    (r"\boxed{18 \text{ dollars}}", "18"),
    (r"\boxed{x = 18}", "18"),
    (r"\boxed{-\frac{3}{4}}", "-3/4"),
    (r"\boxed{\dfrac{3}{4}}", "3/4"),
    (r"\boxed{3x+2}", None),
    (r"\boxed{}", None),
    (r"\boxed{18", None),
    (r"\boxed{5} but #### 6", "6"),
    # no answer in the format
    ("", None),
    ("The answer is 18", None),
    ("#### eighteen", None),
    ("#### the answer is 18", None),
    ("### 18", None),
    ("#### \u0663", None),  # an Arabic-Indic three
    ("#### \uff13", None),  # a full-width three
]

FLEXIBLE = [
    ("#### 18 is the answer, out of 20", "18"),
    ("The answer is 18", "18"),
    ("The answer is 18.", "18"),
    ("The answer is 18...", "18"),
    ("it is ...5", "5"),
    ("10-5", "5"),
    ("10 - 5", "5"),
    ("= -5", "-5"),
    ("(-5)", "-5"),
    ("x-5", "5"),
    ("48/2 = 24", "24"),
    ("between 1,000 and 2,500 dollars", "2500"),
    ("1, 2, 3", "3"),
    ("12345,678", "678"),
    ("v1.5.2", "2"),
    ("no number at all", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "number"), STRICT)
def test_strict_answers(text: str, number: str | None) -> None:
    assert strict_answer(text) == number


@pytest.mark.parametrize(("text", "number"), FLEXIBLE)
def test_flexible_answers(text: str, number: str | None) -> None:
    assert flexible_answer(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [("18", "18"), (" 1,080 ", "1080"), ("-3", "-3"), ("$5", "5"), ("2.50", "5/2"), ("", None), ("5 or 6", None)],
)
def test_gold_answers_are_one_number(text: str, number: str | None) -> None:
    assert gold_answer(text) == number


def test_only_the_end_of_a_text_is_searched() -> None:
    assert flexible_answer("#### 18" + " and so on" * 1000) is None
    assert flexible_answer("and so on " * 1000 + "#### 18") == "18"


@pytest.mark.parametrize(
    "piece",
    [
        *("{", "}", "1", "1,234", ",123", ".", "-", "#", "#### ", "1/", "\\$", "0.9", "1/0 ", "\u2212", "\U0001f9ee"),
        *("\\boxed{", "\\boxed{{", "\\boxed{1}", "\\boxed{{}{}", "\\boxed{\\frac{1}{"),
    ],
)
@pytest.mark.usefixtures("minute_of_processor_time")
def test_a_hostile_megabyte_is_searched(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    strict_answer(text)
    flexible_answer(text)
    gold_answer(text)
