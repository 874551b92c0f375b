r"""Where final answers stand: whole completions, with the strict and the flexible outcome, for each checker."""

from __future__ import annotations

from tinylora.answers.rewards import Outcome
from tinylora.settings.config import Checker, Template

R, W, NONE, ERROR = Outcome.correct, Outcome.wrong, Outcome.no_answer, Outcome.checker_error
BOX, HASH, PLAIN = Template.boxed, Template.hash, Template.plain

# gold, completion, template, strict, flexible; by the checker for mathematics
# fmt: off
COMPLETIONS: list[tuple[str, str, Template, Outcome, Outcome]] = [
    ("5", r"So \boxed{5}.", BOX, R, R), ("5", r"So \fbox{5}.", BOX, R, R), ("5", r"So \boxed 5.", BOX, R, R),
    ("5", r"\boxed{6}, no: \boxed{5}", BOX, R, R),
    ("5", r"\boxed{5}. No, it is \boxed{6}", BOX, W, W), ("5", r"\boxed{5} and \boxed{}", BOX, R, R),
    ("5", "#### 5", BOX, NONE, R), ("5", "#### 5", HASH, R, R),
    ("5", r"\boxed{5}", HASH, NONE, R), ("5", r"\boxed{5} #### 6", HASH, W, W), ("5", "#### 5\n#### 6", HASH, W, W),
    ("5", r"\boxed{5", BOX, NONE, R),
    ("5", r"\boxed{}", BOX, NONE, NONE), ("5", "The answer is 5.", BOX, NONE, R),
    ("5", "The answer is 5.", PLAIN, R, R), ("5", "Answer: 5", PLAIN, R, R),
    ("5", "**Answer:** 5", PLAIN, R, R), ("5", "**Final Answer**: $5$", PLAIN, R, R),
    ("5", "The final answer is: $x = 5$.", PLAIN, R, R),
    ("5", "The answer is 6.", PLAIN, W, W), ("5", "The answer is 5 because 2 + 3 = 5.", PLAIN, R, R),
    ("5", "It is 5 I think", PLAIN, NONE, R),
    ("5", "It is $5$", BOX, NONE, R), ("5", "so $2 + 3 = 5$", BOX, NONE, R), ("5", "5 is less than 6", BOX, NONE, NONE),
    ("5", "", BOX, NONE, NONE),
    ("5", "I do not know", BOX, NONE, NONE), ("5", r"<think>\boxed{5}</think> It is \boxed{6}", BOX, W, W),
    ("5", r"<think>\boxed{6}</think> \boxed{5}", BOX, R, R),
    ("5", r"<think> so \boxed{5}", BOX, NONE, NONE), ("5", r"<think>\boxed{5}</think>", BOX, NONE, NONE),
    ("5", r"thinking \boxed{6}</think> \boxed{5}", BOX, R, R),
    ("5", r"\boxed{6} </think> hm <think> \boxed{5}", BOX, NONE, NONE),
    ("$-2,0,2$", r"They are \boxed{-2}, \boxed{0} and \boxed{2}.", BOX, R, R),
    ("$-2,0,2$", r"They are \boxed{-2} and \boxed{2}.", BOX, W, W),
    ("$-2,0,2$", r"\boxed{-2}. Also \boxed{0}. And \boxed{2}", BOX, W, W),
    ("2", r"They are \boxed{-2}, \boxed{0} and \boxed{2}.", BOX, W, W), ("(B)", "The answer is (B).", PLAIN, R, R),
    ("B", "The correct answer is option B.", PLAIN, R, R),
    ("B", "The correct answer is (C) 5.", PLAIN, W, W),
    (r"\frac{1}{2}", r"The answer is $\frac{1}{2}$ of a cake.", PLAIN, R, R), (r"\frac{1}{2}", "so 1/2", BOX, NONE, R),
    ("3.5", "The answer is 3.5. That is all.", PLAIN, R, R), ("3.5", "The answer is 3. That is 5.", PLAIN, W, W),
    ("", r"\boxed{5}", BOX, ERROR, ERROR),
    ("None", r"\boxed{None}", BOX, ERROR, ERROR), (r"\frac{1}{2", r"\boxed{5}", BOX, ERROR, ERROR),
    ("-5", "so x = -5", BOX, NONE, R), ("5", "so x = -5", BOX, NONE, W),
    ("1,234", "so it is 1,234 dollars", BOX, NONE, R), (r"50\%", r"that is 50\%", BOX, NONE, R),
    ("5", r"\boxed{\boxed{5}}", BOX, R, R), ("5", r"$$\boxed{5}$$", BOX, R, R),
    (r"\frac{1}{2}", r"\boxed{\frac{1}{2}}", BOX, R, R), (r"\text{Evelyn}", "The answer is Evelyn.", PLAIN, R, R),
    ("10", "The answer is not 10.", PLAIN, W, W),
    ("(1,2)", r"so the point is $(1,2)$.", BOX, NONE, R), ("x^2+1", r"hence \[ f(x) = x^2 + 1 \]", BOX, NONE, R),
    ("5", "#### The answer is 5", HASH, R, R),
    ("18", "#### $18.00", HASH, R, R), ("18", "#### 18 dollars", HASH, R, R), ("18", "#### 19", HASH, W, W),
    ("18", "####", HASH, NONE, NONE),
]
# fmt: on

# gold, completion, template, strict, flexible; by the numeric checker
NUMBERS: list[tuple[str, str, Template, Outcome, Outcome]] = [
    ("18", "#### 18", HASH, R, R),
    ("1,080", "#### $1080.00", HASH, R, R),
    ("18", r"\boxed{18}", HASH, NONE, R),
    ("18", r"\boxed{18}", BOX, R, R),
    ("18", r"\fbox{18 \text{ dollars}}", BOX, R, R),
    ("18", "#### 18", BOX, NONE, R),
    ("18", "The answer is 18, out of 20", PLAIN, R, R),
    ("18", "it costs 18", PLAIN, NONE, R),
    ("18", "<think>#### 18</think> 19", HASH, NONE, W),
    ("18", "<think>#### 18", HASH, NONE, NONE),
    ("18", "#### -18", HASH, W, W),
    ("5 or 6", "#### 5", HASH, ERROR, ERROR),
]

CHECKERS = [(Checker.math, COMPLETIONS), (Checker.numeric, NUMBERS)]
