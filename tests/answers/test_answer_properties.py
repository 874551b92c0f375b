"""What holds of every answer: a number is itself in any spelling, its neighbours are not, and more text helps none."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinylora.answers import check_all, gold_answer
from tinylora.answers.equivalence import equivalent
from tinylora.answers.exact import MOST_BITS, exact
from tinylora.answers.prose import pieces
from tinylora.answers.rewards import Outcome
from tinylora.settings.config import Checker, Strict, Template

NUMBERS = st.integers(-(10**7), 10**7)
PARTS = st.integers(1, 999)
TEXTS = st.text(alphabet="0123456789+-*/^=(){}[]<>|!$#,.:; \\abxfracsqrtpi\n%_&\u2212\u00e9\u4e2d", max_size=60)
PROSE = st.sampled_from(
    [
        "",
        " That is all.",
        "\nI hope this helps!",
        " (as we saw above)",
        "\n\nBy the way, 5 + 6 = 11.",
        " Good night, all.",
    ]
)
SPELLINGS = [
    *("{n}", "{n}.0", "{n}.", "{n:,}", "+{n}", "0{n}", "({n})", r"\text{{{n}}}", "{n} apples", "x = {n}"),
    *(
        r"\frac{{{double}}}{{2}}",
        "{double}/2",
        "${n}$",
        r"\boxed{{{n}}}",
        r"{n} \text{{ cm}}",
        "{n}e0",
        "{less} + 1 = {n}",
    ),
    *(r"{n}\%", r"\left({n}\right)", r"\displaystyle {n}", "**{n}**", r"{n} \times 10^0"),
]


def right(gold: str, answer: str, checker: Checker = Checker.math) -> bool:
    scores = check_all([rf"So it is \boxed{{{answer}}}."], [gold], checker)
    return scores[0].strict is Outcome.correct


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(number=st.integers(0, 10**7))
@pytest.mark.parametrize("checker", list(Checker))
def test_a_number_is_itself_in_every_spelling_and_never_its_neighbour(checker: Checker, number: int) -> None:
    for spelling in SPELLINGS:
        if spelling == r"{n}\%" and number <= 1:  # below 1 a percent sign is a hundredth
            continue
        written = spelling.format(n=number, double=2 * number, less=number - 1)
        assert right(str(number), written, checker), written
        for other in (number + 1, -number - 1, 10 * number + 1, number + 10**8):
            assert not right(str(other), written, checker), (other, written)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(above=NUMBERS, below=PARTS, other=NUMBERS)
def test_fractions_are_equal_exactly_where_they_are(above: int, below: int, other: int) -> None:
    gold = Fraction(above, below)
    assert equivalent(str(gold), rf"\frac{{{3 * above}}}{{{3 * below}}}", None) is True
    assert equivalent(str(gold), f"{other}/{below}", None) is (above == other)
    assert exact(f"{above}/{below}") == gold


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(one=TEXTS, other=TEXTS)
def test_numbers_are_equal_either_way_and_each_text_equals_itself(one: str, other: str) -> None:
    if gold_answer(one, Checker.numeric) and gold_answer(other, Checker.numeric):
        assert equivalent(one, other, None) == equivalent(other, one, None) or "%" in one + other
    if gold_answer(one, Checker.math) is not None:
        assert equivalent(one, one, None) is True


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(text=TEXTS)
def test_no_text_raises_an_error_and_no_number_is_large(text: str) -> None:
    for template in Template:
        check_all([text, f"#### {text}"], ["5", "5"], Checker.numeric, template)
        check_all([rf"\boxed{{{text}}}", text], ["[0,1)", "x = 5"], Checker.math, template)
    value = exact(text)
    assert value is None or max(value.numerator.bit_length(), value.denominator.bit_length()) <= MOST_BITS
    for piece in pieces(text):
        assert piece.text in text[piece.start : piece.end]


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(number=st.integers(0, 10**5), wrong=st.integers(0, 10**5), more=PROSE)
def test_text_behind_a_strict_answer_makes_no_wrong_one_right(number: int, wrong: int, more: str) -> None:
    for strict, template, form in (
        (Strict.verl, Template.hash, "#### {}"),
        (Strict.form, Template.hash, "#### {}"),
        (Strict.form, Template.boxed, r"\boxed{{{}}}"),
        (Strict.form, Template.plain, "The answer is {}."),
    ):
        for answer in (number, wrong):
            before, after = form.format(answer), form.format(answer) + (more if more[:1] == "\n" else "\n" + more)
            found = check_all([before, after], [str(number)] * 2, Checker.numeric, template, strict)
            assert (found[0].strict is Outcome.correct) is (answer == number)
            assert found[1].strict is found[0].strict, after


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    number=st.integers(3, 10**4),
    suffix=st.sampled_from([*"xyn", r"\pi", r"\sqrt{2}", " or 1", "!", "^2", "0", "/7", "i"]),
)
def test_no_beginning_of_an_expression_is_the_answer(number: int, suffix: str) -> None:
    for checker, gold in ((Checker.numeric, str(number)), (Checker.math, str(number))):
        for text in (f"#### {number}{suffix}", f"The answer is {number}{suffix}.", rf"So \boxed{{{number}{suffix}}}"):
            score = check_all([text], [gold], checker, Template.hash)[0]
            assert score.flexible is not Outcome.correct, text
