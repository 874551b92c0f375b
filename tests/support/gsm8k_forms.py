r"""The forms in which models end an answer to GSM8K, right ones and near ones, with the verdict of a fair reader.

`{n}` is the answer, `{m}` another number, `{n:,}` the answer with separators. Each form that is right stands beside a
twin with a wrong number: the verdict on the twin is always "wrong". So do forms that say two numbers, or another one
last, which a policy under RL would find if they counted. `form` is the verdict where the prompt asks for `####`.
"""

from __future__ import annotations

from typing import NamedTuple


class Form(NamedTuple):
    """One way to end a completion, and whether it is right by a fair reader: wherever it stands, and after `####`."""

    text: str
    right: bool
    form: bool


def _marked(*texts: str) -> list[Form]:
    return [Form(text, True, True) for text in texts]


def _elsewhere(*texts: str) -> list[Form]:
    return [Form(text, True, False) for text in texts]


def _wrong(*texts: str) -> list[Form]:
    return [Form(text, False, False) for text in texts]


FORMS: list[Form] = [
    # after the mark that was asked for
    *_marked("#### {n}", "####{n}", "####  {n}", "#### {n}.", "#### ${n}", r"#### \${n}", "#### ${n}$", "#### {n}.00"),
    *_marked("#### **{n}**", "**#### {n}**", "#### `{n}`", "#### {n:,}", "#### {n} dollars", "#### {n} apples left"),
    *_marked(
        "#### {n} miles per hour", "####\n{n}", "#### \n\n{n}\n", "#### x = {n}", "#### = {n}", "#### Total = {n}"
    ),
    *_marked(
        r"#### \boxed{{{n}}}", r"#### \({n}\)", r"#### $\boxed{{{n}}}$", r"#### \text{{{n}}}", "#### {n} (in total)"
    ),
    *_marked("#### Answer: {n}", "#### The answer is {n}", "#### The answer is {n}.", "#### Final answer: {n}"),
    *_marked(
        "#### about {n}", "#### {k} + 1 = {n}", "#### {k} + 1", "#### {t}/2", r"#### \frac{{{t}}}{{2}}", "#### {n}e0"
    ),
    *_marked(
        "#### {n}\n\nI hope this helps!",
        "#### {n}\n\nLet me know if you have more questions.",
        "#### {m}\nNo.\n#### {n}",
    ),
    *_marked(
        "#### {n}\n####",
        "#### {full}",
        "#### {n}%",
        "#### Therefore, {n}",
        "#### She has {n} left.",
        "#### {n}, not {m}",
    ),
    *_marked("#### {n} because {k} + 1 = {n}", "#### \u20ac{n}", "<think>\n#### {m}\n</think>\n#### {n}", "#### {n}/1"),
    # in another form
    *_elsewhere(r"\boxed{{{n}}}", r"So $\boxed{{{n}}}$.", r"\boxed{{{n} \text{{ dollars}}}}", r"\fbox{{{n}}}"),
    *_elsewhere(
        "The answer is {n}.", "The final answer is {n}", "The answer is: {n}", "Answer: {n}", "**Answer:** {n}"
    ),
    *_elsewhere(
        "**Final Answer**: ${n}$", "The answer is **{n}**.", "The answer is {n} apples.", "The answer is ${n}."
    ),
    *_elsewhere(
        "She has {n} left.", "So in total that is {n} pens.", "Total: {n}", "= {n}", "So {k} + 1 = {n}.", "{n}"
    ),
    *_elsewhere("So it costs ${n}.", "So it costs ${n}.00 in all.", "So x = {n}", r"$x = {n}$", r"\[ {k} + 1 = {n} \]"),
    *_elsewhere(
        "### {n}", "| Total | {n} |", '{{"answer": {n}}}', "<answer>{n}</answer>", "\u7b54\u6848\u662f{n}\u3002"
    ),
    *_elsewhere(
        "Final Answer: Tom has {n} of them left.", r"First \boxed{{{m}}}. No, the answer is {n}.", "I get **{n}**."
    ),
    *_elsewhere("So {n} is the answer.", "That makes {n:,} altogether.", r"Hence \frac{{{t}}}{{2}}."),
    Form("#### {n}\n\nNo, the answer is {m}.", False, True),
    # wrong, however often the right number is said
    *_wrong(
        "#### {m}", "#### {m}\n(not {n})", "#### {m}, not {n}", "#### {n}0", "#### {n}.5", "#### -{n}", "#### 1{n}"
    ),
    *_wrong(
        "#### {n} or {m}", "#### {n} - {m}", "#### {n}-{m}", "#### {n}, {m}", "#### {n} and {m}", "#### {n} to {m}"
    ),
    *_wrong(
        "#### {n} = {m}", "#### {n} + {m} = {s}", "#### {n} x 2", "#### {n} * 3", r"#### {n} \times 10^3", "#### {n}^2"
    ),
    *_wrong(
        "#### {n} thousand", "#### {n} dozen", "#### {n} million", "#### {n}x", r"#### {n}\pi", r"#### \sqrt{{{n}}}"
    ),
    *_wrong(
        "#### {n}!", "#### {n} 1/2", "#### {n}/3", "#### {n}:{m}", "#### {n} and a half", "#### {n} of {s}", "#### {n}k"
    ),
    *_wrong(
        "#### unknown", "#### $x$", "#### cannot be determined", "#### not {n}", "#### at least {n}", "#### x + {n}"
    ),
    *_wrong(
        "#### less than {n}",
        "#### between {k} and {n}",
        "#### x > {n}",
        "#### {n}\n#### {m}",
        "#### {m}%",
        "#### {n}e2",
    ),
    *_wrong("#### N", "#### twelve thousand", "####\nI am not sure.", "#### ({n}, {m})"),
    *_wrong(
        r"\boxed{{{n}}} or \boxed{{{m}}}", r"\boxed{{{n}, {m}}}", r"\boxed{{{n}x}}", r"\boxed{{{n}}} No: \boxed{{{m}}}"
    ),
    *_wrong(
        "The answer is {n} or {m}.", "The answer is not {n}.", "The answer is {m}, not {n}.", "The answer is {n}x."
    ),
    *_wrong("The answer is between {k} and {n}.", "The answer is at least {n}.", "The answer is {n} thousand."),
    *_wrong(
        "So the ratio is {m}:{n}", r"So \frac{{{n}}}{{7919}}.", r"So x = \sqrt{{{n}}}", "So x = -{n}", "So {n} + {m}."
    ),
    *_wrong("So it is {n} or {m}.", "It is {n}. No, it is {m}.", "<think>#### {n}</think> {m}"),
    *_wrong("So that is x-{n}", "So it takes {m}h{n}", "So it is {n}{n}", "{n} is less than {m}", "So it is {m}.{n}"),
]


def completions(solution: str, answer: str, number: int) -> list[tuple[str, bool, bool, str]]:
    """Every form of one problem: text, flexible verdict, form verdict, and the form; twins of right forms included.

    The reasoning in front is the data set's own, without its last line; `number` makes the wrong number.
    """
    reasoning = solution.rpartition("####")[0].strip()
    right = int(answer.replace(",", ""))
    wrong = right + (1 + number % 7) * (1 if number % 2 else 10)
    made: list[tuple[str, bool, bool, str]] = []
    for text, is_right, in_form in FORMS:
        made.append((f"{reasoning}\n{_filled(text, right, wrong)}", is_right, in_form, text))
        if is_right:
            made.append((f"{reasoning}\n{_filled(text, wrong, right)}", False, False, f"{text} (wrong twin)"))
    return made


def _filled(text: str, n: int, m: int) -> str:
    full = str(n).translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)})
    return text.format(n=n, m=m, k=n - 1, t=2 * n, s=n + m, full=full)


def verl_takes(completion: str, answer: str) -> bool:
    """The strict rule of verl, said once more without a line of the checker's: what is compared, and how."""
    end = completion[-300:]
    taken = None
    for place in range(len(end)):
        if not end.startswith("#### ", place):
            continue
        sign = "-" if end.startswith("-", place + 5) else ""
        digits = place + 5 + len(sign)
        stop = digits
        while stop < len(end) and end[stop] in "0123456789.,":
            stop += 1
        if stop > digits:
            taken = sign + end[digits:stop]
    return taken is not None and taken.replace(",", "") == answer.replace(",", "")
