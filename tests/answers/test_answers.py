"""Which answers are right: the table, where final answers stand, and that hostile texts neither hang nor crash."""

from __future__ import annotations

import pytest
from support.answer_table import ANSWERS
from support.completion_table import CHECKERS, COMPLETIONS
from support.processes import loaded_by
from support.slow_answers import ENDLESS
from support.work import require_bounded

from tinylora.answers import check, check_all, gold_answer, workers
from tinylora.answers.exact import exact
from tinylora.answers.latex import normal
from tinylora.answers.rewards import Outcome, Score
from tinylora.settings.config import Checker, Template


@pytest.mark.parametrize("family", ANSWERS)
def test_every_family_of_the_table_is_judged_right(family: str) -> None:
    rows = ANSWERS[family]
    scores = check_all([rf"So the answer is \boxed{{{answer}}}." for _, answer, _ in rows], [row[0] for row in rows])
    wrong = [row for row, score in zip(rows, scores, strict=True) if (score.reward == 1.0) is not row[2]]
    assert wrong == []
    assert all(score.strict is score.flexible for score, row in zip(scores, rows, strict=True) if row[1])


def test_the_table_is_large_and_much_of_it_is_wrong_but_near() -> None:
    rows = [row for rows in ANSWERS.values() for row in rows]
    assert len(rows) + len(COMPLETIONS) >= 900
    assert sum(not right for _, _, right in rows) > 0.3 * len(rows)


@pytest.mark.parametrize(
    ("checker", "gold", "completion", "template", "strict", "flexible"),
    [(checker, *row) for checker, rows in CHECKERS for row in rows],
)
def test_final_answers_are_found(
    checker: Checker, gold: str, completion: str, template: Template, strict: Outcome, flexible: Outcome
) -> None:
    assert check_all([completion], [gold], checker, template) == [Score(strict, flexible)]
    assert check(completion, gold, checker, template, strict=True) is strict
    assert check(completion, gold, checker, template) is flexible


def test_a_gold_answer_that_says_nothing_is_none() -> None:
    for text in ("", " ", "$$", "None", r"\frac{1}{2"):
        assert gold_answer(text, Checker.math) is None
    assert gold_answer(" $x=2$ ", Checker.math) == "$x=2$"
    assert gold_answer("1,080", Checker.numeric) == "1080"
    assert gold_answer("5 or 6", Checker.numeric) is None


LARGE = [
    *(r"9^{9^{9^{9}}}", r"10^{10^{10^{10}}}", r"10^{-999999999}", r"((100!)!)!", "1000000!", "9!!!!", r"5^{7^{1000}}"),
    *(r"\binom{1000000000}{500000000}", r"\binom{2^{100}}{2^{50}}", r"\sum_{i=1}^{10^{100}} \frac{1}{i}"),
    *(r"\prod_{i=1}^{10000000} i", r"\lfloor 10^{100000000} \rfloor", r"\sqrt{10^{10^{10}}}", r"e^{10^{10^{10}}}"),
    *(r"\log(10^{10^{10^{10}}})", r"7^{10^{9} x} \mod 13", r"2^{2^{2^{2^{2^{x}}}}}"),
    *(
        "\\sin(" * 12 + "x" + ")" * 12,
        "x^{" * 9 + "2" + "}" * 9,
        "[" * 30 + "x" + "]" * 30,
        "\\sqrt{" * 40 + "x" + "}" * 40,
    ),
]
"""What a short text can name, and nobody can work out."""

HOSTILE = [
    "",
    "\x00\x01\x02",
    "\ud800",
    "{" * 10_000,
    "}" * 10_000,
    "(" * 10_000,
    "\\boxed{" * 10_000,
    "\\boxed{" + "(" * 1000 + ")" * 1000 + "}",
    "\\boxed{" + "{" * 700 + "7" + "}" * 700 + "}",
    "\\boxed{" + "\\sqrt{" * 200 + "5" + "}" * 200 + "}",
    "\\boxed{" + "1," * 700 + "1}",
    "\\boxed{" + "x+" * 700 + "1}",
    "\\boxed{" + "9" * 1400 + "}",
    r"\boxed{\ud800 5}",
    "\\boxed{\ud800}",
    "\\boxed{7\x00}",
    r"\boxed{1e999}",
    r"\boxed{10^{999999999}}",
    r"\boxed{\begin{pmatrix}}",
    r"\boxed{\frac{}{}}",
    r"\boxed{0^{-1}}",
    r"\boxed{__import__('os').abort()}",
    r"\boxed{\int_0^\infty \sum_{n=0}^\infty}",
    *(rf"\boxed{{{text}}}" for text in LARGE),
    "\\boxed{" + "\\sin" * 300 + "x}",
    "\\boxed{" + "x^" * 600 + "x}",
    "\\boxed{" + "|" * 1000 + "x" + "|" * 400 + "}",
    "\\boxed{" + "x = " * 300 + "7}",
    "\\boxed{" + "x \\approx " * 100 + "5}",
    "(" * 1000 + " = " + "5" + ")" * 1000,
]


@pytest.mark.parametrize("gold", ["5", r"x^2+1", r"\text{Evelyn}", "[0,1)"])
def test_hostile_answers_are_not_correct_and_do_no_harm(gold: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SECONDS", 0.5)  # some have no end, and need not use all the time that they have
    for template in Template:
        for score in check_all(HOSTILE, [gold] * len(HOSTILE), Checker.math, template):
            assert score.strict is not Outcome.correct


@pytest.mark.parametrize(
    "piece",
    [
        *("a", "1", "{", "}", "$", "\\", "#", "#### ", "1,234", "answer is ", "answer ", "answer: . ", "<think>"),
        *("</think>", "\\boxed{", "\\boxed{1}", "\\boxed{{}{}", "\\boxed{\\frac{1}{", "\\("),
        *("\\[", "$x$", "\n", "( ", "\\text{", " ", "\\boxed{1} and ", "x = ", "\\frac1"),
        *("\\begin{pmatrix}", "1 ", "and ", "0.9", "x<"),
    ],
)
@pytest.mark.usefixtures("minute_of_processor_time")
def test_a_hostile_megabyte_takes_no_more_work_than_a_tenth_of_it(piece: str) -> None:
    def judge(text: str) -> None:
        for template in Template:
            check_all([text, f"\\boxed{{{text[:1400]}}}"], ["[0,1)"] * 2, Checker.math, template)
            check_all([text], ["5"], Checker.numeric, template)

    require_bounded(judge, piece, most=500_000)


@pytest.mark.parametrize("text", LARGE)
def test_what_is_too_large_is_not_worked_out(text: str) -> None:
    from tinylora.answers.sizes import manageable
    from tinylora.answers.symbolic import _read

    assert exact(text) is None
    read = _read(normal(text))
    assert read is None or not manageable(read)


def test_large_powers_are_cheap_where_only_their_rest_counts() -> None:
    assert exact(r"7^{1000000007} \mod 13") == 2 and exact(r"(3^{10^{100}} + 1) \bmod 1000") is not None
    assert check(r"\boxed{7^{1000000007} \mod 13}", "2") is Outcome.correct


def test_an_expression_without_end_is_out_of_time_and_others_go_on() -> None:
    endless = rf"\boxed{{{ENDLESS}}}"
    scores = check_all([endless, r"\boxed{2\sqrt{2}}", endless, r"\boxed{3}"], [r"\sqrt{8}"] * 4)
    assert [score.strict for score in scores] == [Outcome.timeout, Outcome.correct, Outcome.timeout, Outcome.wrong]


def test_importing_the_package_loads_no_heavy_package() -> None:
    assert not loaded_by("tinylora.answers") & {"torch", "transformers", "sympy"}
