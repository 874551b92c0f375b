"""Where the final number of a text is, what number it is, and that no text takes long."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from support.work import require_bounded

from tinylora.answers import check_all, gold_answer
from tinylora.answers.extraction import anywhere, asked, spoken
from tinylora.answers.numeric import number
from tinylora.answers.quantities import quantity
from tinylora.answers.rewards import Outcome
from tinylora.settings.config import Checker, Strict, Template

STRICT = [
    # the asked-for format
    ("She has 18 left.\n#### 18", "18"),
    ("####18", "18"),
    ("#### 5\nno, wait\n#### 6", "6"),
    ("#### 6 and then 99 more", None),
    ("#### 6\n####", "6"),
    # the whole line, or no answer
    ("#### 15 + 3 = 18", "18"),
    ("#### 15 + 3", "18"),
    ("#### 9 * 2", "18"),
    ("#### 3^2", "9"),
    ("#### 1.5e3", "1500"),
    ("#### 1.08 \\times 10^3", "1080"),
    ("#### 40 x 10^3", "40000"),
    ("#### 5 thousand", "5000"),
    ("#### 1.2 million people", "1200000"),
    ("#### 3 1/2", "7/2"),
    ("#### |-5|", "5"),
    ("#### \\sqrt{16}", "4"),
    ("#### \\sqrt{2}", None),
    ("#### 2x", None),
    ("#### 2\\pi", None),
    ("#### x + 3 = 5", None),
    ("#### 18 or 20", None),
    ("#### 18 to 20", None),
    ("#### 18, 20", None),
    ("#### at least 18", None),
    ("#### 2 and a half", None),
    ("#### 3 of 4", None),
    ("#### 7!", "5040"),
    ("#### 5 = 6", "6"),
    # decorations that do not count
    ("#### the answer is 18", "18"),
    ("#### Answer: 18", "18"),
    ("#### x = 18", "18"),
    ("#### about 18", "18"),
    ("#### **18**", "18"),
    ("**#### 18**", "18"),
    ("#### \\(18\\)", "18"),
    ("#### $18$", "18"),
    ("#### \\boxed{18}", "18"),
    ("####\n18", "18"),
    ("#### Final answer:\n18 apples", "18"),
    ("#### \uff11\uff18", "18"),
    ("#### - 5", "-5"),
    ("#### 1{,}080", "1080"),
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
    ("#### 1,2", None),
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
    ("### 18", None),
    ("#### \u0663", None),  # an Arabic-Indic three
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
    ("x-5", None),
    ("48/2 = 24", "24"),
    ("between 1,000 and 2,500 dollars", None),
    ("1, 2, 3", None),
    ("12345,678", None),
    ("v1.5.2", None),
    ("no number at all", None),
    ("giving \\frac{5}{12}.", "5/12"),
    ("Hence x = \\sqrt{3}", None),
    ("So x = - 12", "-12"),
    ("- 5 apples\n- 6 pears", "6"),
    ("The answer is $7! = 5040$.", "5040"),
    ("So the answer is 7! ways.", "5040"),
    ("She has 18 pens.\n#### unknown", None),
    ("She has 18 pens.\n#### $x$", None),
    ("It costs $18.50 a day", "37/2"),
    ("\u6240\u4ee5\u670999\u9897\u3002", "99"),
    ("\u7b54\u6848\u662f99\u3002", "99"),
    ("#### Step 1: add\nThe total is 18.", "18"),
    ("So \\boxed{3}. The answer is 4.", "4"),
    ("So \\boxed{3}. The answer is reasonable.", "3"),
    ("<answer>18</answer>", "18"),
    ('{"answer": 18}', "18"),
    ("", None),
]


def value(readings: Sequence[str]) -> str | None:
    """The number that an answer is."""
    found = next(filter(None, map(number, readings)), None)
    return None if found is None else str(quantity(found)[0])


@pytest.mark.parametrize(("text", "wanted"), STRICT)
def test_answers_in_the_form_that_was_asked_for(text: str, wanted: str | None) -> None:
    readings = asked(text, Template.hash) or asked(text, Template.boxed)
    assert value(readings) == wanted


@pytest.mark.parametrize(("text", "wanted"), FLEXIBLE)
def test_answers_wherever_they_stand(text: str, wanted: str | None) -> None:
    assert value(anywhere(spoken(text))) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        *(("18", "18"), (" 1,080 ", "1080"), ("-3", "-3"), ("$5", "5"), ("2.50", "5/2"), ("5 million", "5000000")),
        *(("3 1/2", "7/2"), ("1.5e3", "1500"), (r"\sqrt{16}", "4"), ("|-5|", "5"), ("18 apples", "18"), ("x = 5", "5")),
        *(("", None), ("5 or 6", None), ("2x", None), (r"2\pi", None), (r"\sqrt{2}", None), ("eighteen", None)),
        *(("x + 3 = 5", None), ("5-", None), ("1/0", None), ("10^{999999}", None), ("1,2", None), ("5 to 6", None)),
    ],
)
def test_gold_answers_are_one_number_as_a_whole(text: str, wanted: str | None) -> None:
    assert gold_answer(text, Checker.numeric) == wanted


@pytest.mark.parametrize("text", ["18.0", "025", "3/4", "18 apples", "x", "", "-", "1e3", "00", "1."])
def test_gold_answers_that_verls_rule_could_not_find_are_none(text: str) -> None:
    assert gold_answer(text, Checker.numeric, Strict.verl) is None
    assert gold_answer("-1,080", Checker.numeric, Strict.verl) == "-1080"


def test_a_rounded_gold_answer_is_met_within_its_tolerance() -> None:
    for checker in Checker:
        for answer, right in (("0.33333", True), ("1/3", True), ("0.3333", True), ("0.3334", False), ("0.33", False)):
            score = check_all([f"#### {answer}"], ["0.33333"], checker, Template.hash, tolerances=[1e-4])[0]
            assert (score.strict is Outcome.correct) is right, answer
    score = check_all([r"\boxed{\frac{\sqrt{2}}{2}}"], ["0.70711"], tolerances=[1e-4])[0]
    assert score.strict is Outcome.correct


def test_only_the_end_of_a_text_is_searched() -> None:
    assert anywhere(spoken("#### 18" + " and so on" * 1000)) == []
    assert anywhere(spoken("and so on " * 1000 + "#### 18")) == ["18"]


@pytest.mark.parametrize(
    "piece",
    [
        *("{", "}", "1", "1,234", ",123", ".", "-", "#", "#### ", "1/", "\\$", "0.9", "1/0 ", "\u2212", "\U0001f9ee"),
        *("\\boxed{", "\\boxed{{", "\\boxed{1}", "\\boxed{{}{}", "\\boxed{\\frac{1}{"),
    ],
)
@pytest.mark.usefixtures("minute_of_processor_time")
def test_a_hostile_megabyte_takes_no_more_work_than_a_tenth_of_it(piece: str) -> None:
    def judge(text: str) -> None:
        check_all([text], ["5"], Checker.numeric, Template.hash, Strict.verl)
        for template in Template:
            check_all([text], ["5"], Checker.numeric, template)
        number(text)

    require_bounded(judge, piece, most=500_000)
