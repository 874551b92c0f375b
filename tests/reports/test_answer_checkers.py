r"""Public reports of answer checkers that judge wrongly, hang or crash, each tried on ours beside twins of its answer.

A right answer that was judged wrong: huggingface/Math-Verify#26, #37, #64 and #69,
EleutherAI/lm-evaluation-harness#2552, #3477, #3643 and #4037, EvolvingLMMs-Lab/lmms-eval#1507, #1509 and #1511,
open-compass/opencompass#2647, stanford-crfm/helm#4337, allenai/open-instruct#1530, THUDM/slime#543,
hiyouga/EasyR1#382, verl-project/verl#7274.
A wrong answer that was judged right: huggingface/Math-Verify#14, #41, #47 and #60, Liuziyu77/Visual-RFT#79 and #176,
PrimeIntellect-ai/verifiers#1028.
A gold answer that was read wrongly: EleutherAI/lm-evaluation-harness#1204, rasbt/reasoning-from-scratch#133.
A hang: huggingface/Math-Verify#63 and #65, hkust-nlp/simpleRL-reason#95, areal-project/AReaL#1426.
A crash: huggingface/Math-Verify#40, thinking-machines-lab/tinker-cookbook#643.
"""

from __future__ import annotations

import pytest

from tinylora.answers import check_all, gold_answer, workers
from tinylora.answers.rewards import Outcome, Score
from tinylora.settings.config import Checker, Strict, Template

Y, N = True, False
R, W, NONE, LATE = Outcome.correct, Outcome.wrong, Outcome.no_answer, Outcome.timeout
MATH, NUMERIC = Checker.math, Checker.numeric
BOX, HASH, PLAIN = Template.boxed, Template.hash, Template.plain

# report: gold answer, answer in a box, whether it is right; those of the report first, then twins
# fmt: off
RIGHT_JUDGED_WRONG: dict[str, list[tuple[str, str, bool]]] = {
    "huggingface/Math-Verify#26": [
        ("2x+4y-3=0", "y = -1/2*x + 3/4", Y), ("2x+4y-3=0", r"y = -\frac{1}{2}x + \frac{3}{4}", Y),
        ("2x+4y-3=0", "y = -1/2*x - 3/4", N), ("2x+4y-3=0", "y = 1/2*x + 3/4", N), ("2x+4y-3=0", "-1/2*x + 3/4", N),
    ],
    "huggingface/Math-Verify#37": [
        (r"\text{13}", "13", Y), ("13", r"\text{13}", Y), (r"\text{13}", "31", N), (r"\text{13}", "1", N),
    ],
    "huggingface/Math-Verify#64": [
        (r"\sqrt{1/n}", r"\frac{1}{\sqrt{n}}", Y), (r"\sqrt{1/n}", "n^{-1/2}", Y), (r"\sqrt{1/n}", r"\sqrt{n}", N),
        ("f(x) = 0", r"\forall x>0, f(x) = 0", N), ("f(x) = 0", "f(x)=0", Y),
    ],
    "huggingface/Math-Verify#69": [
        ("e^{16} - 1", "-1 + exp(16)", Y), ("e^{16} - 1", "1 - exp(16)", N), ("e^{16} - 1", "exp(16)", N),
        (r"\dfrac{\pi}{2}", "pi/2", Y), (r"\dfrac{\pi}{2}", "pi/3", N), ("14 - i", "14.0 + -1.0i", Y),
        ("14 - i", "14.0 + 1.0i", N), (r"-2\pi", "-2*pi", Y), (r"-2\pi", "2*pi", N),
    ],
    "EleutherAI/lm-evaluation-harness#4037": [
        ("2", r"\sqrt[3]{8}", Y), (r"\sqrt[3]{2}", r"\sqrt[3]2", Y), ("2", r"\sqrt{8}", N), ("3", r"\sqrt[3]{8}", N),
        (r"\sqrt[3]{2}", r"\sqrt[4]2", N), (r"\sqrt[3]{2}", r"3\sqrt2", N),
    ],
    "EvolvingLMMs-Lab/lmms-eval#1507": [
        (r"\frac{1}{2}", r"\frac12", Y), (r"\frac{1}{2}", r"\frac1{2}", Y), (r"\frac34", r"\frac{3}{4}", Y),
        (r"\frac{1}{2}", r"\frac13", N), (r"\frac{1}{2}", "12", N), (r"\frac34", r"\frac43", N),
    ],
    "EvolvingLMMs-Lab/lmms-eval#1509": [
        ("Sunday", r"\text{Sunday}", Y), ("Sunday", r"\mbox{Sunday}", Y), ("8", "{8}", Y),
        (r"\frac12", r"{\frac{1}{2}}", Y), ("Sunday", r"\text{Monday}", N), ("8", "{9}", N),
    ],
    "open-compass/opencompass#2647": [
        ("9500", "$9{,}500", Y), ("8000", "8,000", Y), ("10000", "10,000", Y), ("500", "$9{,}500", N),
        ("0", "8,000", N), ("8", "8,000", N), ("9500", "$9{,}501", N),
    ],
}
WRONG_JUDGED_RIGHT: dict[str, list[tuple[str, str, bool]]] = {
    "huggingface/Math-Verify#14": [
        (r"\frac{1}{2004!}", r"\frac{1}{2006!}", N), (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}", N),
        (r"\frac{1}{2^{99}}", "2^{-99}", Y), ("n=2, 3, 4", "n=1, 2, 3", N), ("n=2, 3, 4", "n=4, 3, 2", Y),
        ("D = (0, 1)", "D = (0, 1.5)", N), ("D = (0, 1)", "D = (0, 1.0)", Y),
        (r"F_n = \sum_{k=0}^{n-1} F_k F_{n-k-1}", r"F_n = \sum_{k=0}^{n-2} F_k F_{n-k-2}", N),
        (r"19, 46, \text{ and } 82", "21, 36, and 82", N), (r"19, 46, \text{ and } 82", "82, 19 and 46", Y),
        (r"\frac{2^{2005}+1}{3 \cdot 2^{2006}}", r"\frac{1}{3 \cdot 2^{2006}}", N),
        (r"1 - \frac{1}{\mathrm{e}}", r"1 + \frac{1}{\mathrm{e}}", N), (r"1 - \frac{1}{\mathrm{e}}", "1 - e^{-1}", Y),
        (r"\pm 2021", "2021", N), (r"\pm 2021", "-2021, 2021", Y), ("12:00", "1:00", N), ("12:00", "12:00", Y),
        (r"1, 2, \ldots, n", r"1, 3, 5, \ldots, 2n-1", N), (r"1:2:3:\ldots", r"1:4:9:\ldots", N),
    ],
    "huggingface/Math-Verify#41": [
        ("4", r"4\sqrt(2)", N), ("4", r"4\sqrt{2}", N), (r"4\sqrt{2}", r"4\sqrt(2)", Y),
        (r"4\sqrt{2}", r"\sqrt{32}", Y), (r"4\sqrt{2}", "4", N), (r"4\sqrt{2}", r"2\sqrt{4}", N),
    ],
    "huggingface/Math-Verify#47": [
        ("1331 and 1728", "1728", N), ("1331 and 1728", "1331", N), ("1331 and 1728", "1331, 1728, 2197", N),
        ("1331 and 1728", "1728, 1331", Y), ("1331 and 1728", r"1331 \text{ and } 1728", Y), ("1728", "1331, 1728", N),
    ],
    "huggingface/Math-Verify#60": [
        ("3*x-1*y+13=0", "3x + 4y + 14=0", N), ("3*x-1*y+13=0", "3x - y - 13 = 0", N), ("3*x-1*y+13=0", "0", N),
        ("3*x-1*y+13=0", "y = 3x + 13", Y), ("3*x-1*y+13=0", "6x - 2y + 26 = 0", Y),
    ],
    "Liuziyu77/Visual-RFT#79": [
        ("B", "A or B or C", N), ("B", "A, B, C", N), ("B", "B", Y), ("B", r"\text{(B)}", Y),
    ],
    "Liuziyu77/Visual-RFT#176": [
        ("12", "", N), (r"\text{north}", "", N), (r"\text{north}", "n", N), (r"\text{north}", "northeast", N),
        (r"\text{northeast}", "north", N), (r"\text{north}", "North", Y), ("12", "1", N), ("12", "12", Y),
    ],
}
CRASHES: dict[str, list[tuple[str, str, bool]]] = {
    "huggingface/Math-Verify#40": [
        (r"\frac{x^2}{4}+\frac{y^2}{3}=1", r"\frac{x^2}{16}+\frac{y^2}{12}=1", N),
        (r"\frac{x^2}{4}+\frac{y^2}{3}=1", r"\frac{x^2}{3}+\frac{y^2}{4}=1", N),
        (r"\frac{x^2}{4}+\frac{y^2}{3}=1", "3x^2+4y^2=12", Y),
    ],
    "thinking-machines-lab/tinker-cookbook#643": [
        ("5", r"5\sqrt", N), ("5", r"\sqrt", N), (r"\sqrt{5}", r"\sqrt", N), ("5", r"5\frac", N),
        ("5", r"\sqrt{25}", Y), (r"\sqrt{5}", r"\sqrt5", Y),
    ],
}
ANSWERS = RIGHT_JUDGED_WRONG | WRONG_JUDGED_RIGHT | CRASHES

# report: gold answer, completion, template, strict, flexible; both checkers say so
COMPLETIONS: dict[str, list[tuple[str, str, Template, Outcome, Outcome]]] = {
    "EleutherAI/lm-evaluation-harness#2552": [
        ("42", r"Thus the answer is \[ \boxed{42} \]", BOX, R, R), ("42", r"Thus it is \[ \boxed{24} \]", BOX, W, W),
        ("42", r"Thus the answer is \[ 42 \]", BOX, NONE, R), ("42", r"Thus the answer is \[ 42 \]", PLAIN, R, R),
        ("42", r"Thus the answer is \[ 24 \]", PLAIN, W, W),
    ],
    "EleutherAI/lm-evaluation-harness#3477": [
        ("4", r"Mark your solution with \boxed . So it is \boxed{4}.", BOX, R, R),
        ("4", r"Mark your solution with \boxed . So it is \boxed{5}.", BOX, W, W),
        ("4", r"It is \boxed{4}. I marked it with \boxed ", BOX, R, R),
        ("4", r"Mark your solution with \boxed . So it is 4.", BOX, NONE, R),
    ],
    "EleutherAI/lm-evaluation-harness#3643": [
        ("4", "The roots are $8$ and $4$. Their difference is $8-4$.\n\n**Answer:** 4.", PLAIN, R, R),
        ("8", "The roots are $8$ and $4$. Their difference is $8-4$.\n\n**Answer:** 4.", PLAIN, W, W),
        ("4", "**Answer:** 4.", BOX, NONE, R), ("4", "**Answer:** 4.5", PLAIN, W, W),
    ],
    "EvolvingLMMs-Lab/lmms-eval#1511": [
        ("3", r"the answer is \boxed{2}. wait, actually \boxed{3}", BOX, R, R),
        ("2", r"the answer is \boxed{2}. wait, actually \boxed{3}", BOX, W, W),
    ],
    "hiyouga/EasyR1#382": [
        ("13", "Answer: `$13$`", PLAIN, R, R), ("13", "Answer: $13$", PLAIN, R, R),
        ("13", "Answer: `$31$`", PLAIN, W, W), ("13", "Answer: $31$", PLAIN, W, W),
    ],
    "stanford-crfm/helm#4337": [
        ("72", "The answer is 72, in total, so the farmer earns that much.", PLAIN, R, R),
        ("72", "The answer is 72, which is the total.", PLAIN, R, R), ("72", "#### 72, in total,", HASH, R, R),
        ("72", "The answer is 27, in total, so the farmer earns that much.", PLAIN, W, W),
        ("72", "It makes 72, in total, so the farmer earns that much.", PLAIN, NONE, R),
    ],
    "PrimeIntellect-ai/verifiers#1028": [
        ("42", "42", BOX, NONE, R), ("42", "It could be 42.", HASH, NONE, R), ("42", r"\boxed{42}", BOX, R, R),
        ("42", r"42 is too much, so it is \boxed{41}", BOX, W, W), ("42", "It could be 41.", BOX, NONE, W),
    ],
    "allenai/open-instruct#1530": [
        ("-5", "#### -5", HASH, R, R), ("-5", "#### 5", HASH, W, W), ("5", "#### -5", HASH, W, W),
        ("5", "#### +5", HASH, R, R), ("-2.5", r"So it is \boxed{-2.5}.", BOX, R, R),
        ("2.5", r"So it is \boxed{-2.5}.", BOX, W, W), ("-7", "The change is -7", PLAIN, NONE, R),
        ("7", "The change is -7", PLAIN, NONE, W),
    ],
}
# fmt: on

TOWER = r"\dfrac{5^{\left(5^{\left(5^{\left(5^5\right)}\right)} - 4\right)} - 5}{16}"
"""The number of huggingface/Math-Verify#65."""
LOGARITHMS = r"\log_{2^5}(\log_{2^4}(\log_{2^3}(\log_{2^2}(\log_{2^1}x))))"
"""The expression of huggingface/Math-Verify#63."""


@pytest.mark.parametrize("report", ANSWERS)
def test_answers_of_a_report_are_judged_as_a_fair_reader_would(report: str) -> None:
    rows = ANSWERS[report]
    scores = check_all([rf"So it is \boxed{{{answer}}}." for _, answer, _ in rows], [gold for gold, _, _ in rows])
    wrong = [
        (gold, answer, score)
        for (gold, answer, right), score in zip(rows, scores, strict=True)
        if [score.strict is R, score.flexible is R] != [right, right]
        or (answer and {score.strict, score.flexible} - {R, W})
    ]
    assert wrong == []


@pytest.mark.parametrize("checker", [MATH, NUMERIC])
@pytest.mark.parametrize("report", COMPLETIONS)
def test_the_final_answer_of_a_report_is_found(report: str, checker: Checker) -> None:
    rows = COMPLETIONS[report]
    for gold, completion, template, strict, flexible in rows:
        compared = gold_answer(gold, checker)
        assert compared is not None
        assert check_all([completion], [compared], checker, template) == [Score(strict, flexible)], completion


def test_every_report_has_a_right_and_a_wrong_twin() -> None:
    found = {report: {right for _, _, right in rows} for report, rows in ANSWERS.items()}
    found |= {report: {row[4] is R for row in rows} for report, rows in COMPLETIONS.items()}
    assert [report for report, verdicts in found.items() if verdicts != {Y, N}] == []


@pytest.mark.parametrize(("answer", "verdict"), [("5", R), ("5.0", R), ("15", W), ("-5", W)])
def test_a_box_is_opened_once_by_every_rule(answer: str, verdict: Outcome) -> None:
    r"""THUDM/slime#543: the box was taken off, then looked for again, so that no answer was right."""
    completion = rf"Answer: \boxed{{{answer}}}"
    for checker in (MATH, NUMERIC):
        assert check_all([completion], ["5"], checker, BOX) == [Score(verdict, verdict)]
    assert check_all([completion], ["5"], MATH, BOX, Strict.simplerl) == [Score(verdict, verdict)]
    assert check_all([answer], ["5"], MATH, BOX, Strict.simplerl) == [Score(NONE, verdict)]


@pytest.mark.parametrize(("said", "verdict"), [("42", R), ("43", W)])
def test_an_answer_that_much_text_follows_is_not_lost(said: str, verdict: Outcome) -> None:
    """verl-project/verl#7274: its rule reads the last 300 characters alone; of ours, only the one of that name does."""
    answer, tail = f"2+40=42\n#### {said}\n", " and the reasoning above confirms this result is consistent." * 8
    for checker in (MATH, NUMERIC):
        assert check_all([answer + tail, answer], ["42"] * 2, checker, HASH) == [Score(verdict, verdict)] * 2
    scores = check_all([answer + tail, answer + tail[:100]], ["42"] * 2, NUMERIC, HASH, Strict.verl)
    assert scores == [Score(NONE, verdict), Score(verdict, verdict)]


def test_a_gold_answer_is_one_answer_or_none() -> None:
    """EleutherAI/lm-evaluation-harness#1204: a whole solution, with calculations in it, stood as the gold answer.

    rasbt/reasoning-from-scratch#133: 52_8 became 528, and a large number with separators a tuple.
    """
    solution = "He made a profit of 200,000-130,000=$<<200000-130000=70000>>70,000\n#### 70000"
    for strict in (Strict.form, Strict.verl):
        assert gold_answer(solution, NUMERIC, strict) is None
        assert gold_answer("70000", NUMERIC, strict) == gold_answer("70,000", NUMERIC, strict) == "70000"
    assert gold_answer(r"11,\! 111,\! 111,\! 100", NUMERIC) == "11111111100"
    assert gold_answer("11, 111, 100", NUMERIC) is None
    answers = ["52_8", "52_{8}", "528", "52_9"]
    scores = check_all([rf"\boxed{{{answer}}}" for answer in answers], ["52_8"] * 4)
    assert [score.strict for score in scores] == [R, R, W, W]


@pytest.mark.usefixtures("minute_of_processor_time")
def test_a_number_that_nobody_can_work_out_hangs_nothing() -> None:
    """huggingface/Math-Verify#63 and #65: their own time limits did not end them."""
    rows = [
        *[("7", TOWER, W), (TOWER, "7", W), (TOWER, TOWER, R), (TOWER, TOWER.replace(r"\dfrac", r"\frac"), R)],
        *[("7", LOGARITHMS, W), (LOGARITHMS, "7", W), (LOGARITHMS, LOGARITHMS, R), ("7", "7", R)],
        ("92.5857658508735", "1276915 ник {1,1-3-10 鼓励} _HEADERS1", W),
        ("92.5857658508735", "92.5857658508735", R),
    ]
    scores = check_all([rf"\boxed{{{answer}}}" for _, answer, _ in rows], [gold for gold, _, _ in rows])
    assert scores == [Score(verdict, verdict) for *_, verdict in rows]


def test_an_answer_that_hangs_math_verify_costs_its_own_verdict_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """hkust-nlp/simpleRL-reason#95: the run ended. areal-project/AReaL#1426: each such answer kept a worker."""
    monkeypatch.setattr(workers, "SECONDS", 1.2)
    rows = [("7", TOWER, LATE), (r"\sqrt{8}", r"2\sqrt{2}", R), ("5^5", TOWER, LATE), (r"\sqrt{8}", "3", W)]
    completions = [rf"\boxed{{{answer}}}" for _, answer, _ in rows]
    scores = check_all(completions, [gold for gold, _, _ in rows], MATH, BOX, Strict.simplerl)
    assert [score.strict for score in scores] == [verdict for *_, verdict in rows]
    assert [score.flexible for score in scores] == [W, R, W, W]
    assert [score.reward for score in scores] == [0.0, 1.0, 0.0, 0.0]
