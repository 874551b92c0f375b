"""Problems of reasoning-gym: repeatable, disjoint splits, scored by their generator; wrong names and options."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tinylora.answers.rewards import Outcome
from tinylora.settings.config import Checker, Demonstrations, EvalConfig, Split, TaskConfig, Template
from tinylora.settings.errors import UsageError
from tinylora.tasks import load_task
from tinylora.tasks.generated import GeneratedTask
from tinylora.tasks.problem import canonical, split_of

pytest.importorskip("reasoning_gym")

RIGHT, WRONG, NONE = Outcome.correct, Outcome.wrong, Outcome.no_answer


def load(generator: str = "chain_sum", template: Template = Template.boxed, **options: Any) -> GeneratedTask:
    task = load_task(TaskConfig("reasoning_gym", generator=generator, generator_options=options, template=template))
    assert isinstance(task, GeneratedTask)
    return task


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    task = load()
    batch = task.batch(3, 17, 8)
    task.batch(3, 18, 200)
    assert load().batch(3, 17, 8) == batch
    assert task.batch(3, 17, 200)[:8] == batch
    assert task.batch(3, 18, 8) != batch
    assert task.batch(4, 17, 8) != batch


def test_the_splits_share_no_problem() -> None:
    task = load()
    assert {split_of(problem.question) for problem in task.batch(0, 1, 200)} == {Split.train}
    for split in (Split.validation, Split.test):
        problems = task.held_out(split, 40)
        assert {split_of(problem.question) for problem in problems} == {split}
        assert len({problem.question for problem in problems}) == 40
        assert task.held_out(split, 10) == problems[:10]


COMMUTED = {  # generator and options, how it joins operands
    "chain_sum": ({"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1, "allow_negation": True}, " + "),
    "basic_arithmetic": ({"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}, " * "),
    "products": ({"min_digits": 1, "max_digits": 2}, " * "),
    "gcd": ({"max_value": 40}, ", "),
    "lcm": ({"max_value": 40}, ", "),
}


@pytest.mark.parametrize("generator", COMMUTED)
def test_no_test_problem_is_a_training_problem_with_its_operands_commuted(generator: str) -> None:
    options, joint = COMMUTED[generator]
    task = load(generator, **options)
    pair = re.compile(rf"(-?\d+){re.escape(joint)}(-?\d+)")

    def commuted(question: str) -> str:
        return pair.sub(rf"\2{joint}\1", question)

    trained = {problem.question for step in range(1, 6) for problem in task.batch(0, step, 100)}
    held_out = [p.question for split in (Split.validation, Split.test) for p in task.held_out(split, 30)]
    other = [question for question in held_out if commuted(question) != question]
    assert len(other) > 5, "the test needs questions with two operands"
    assert not trained & {commuted(question) for question in held_out}
    assert all(split_of(commuted(question)) is split_of(question) for question in other)


def test_what_makes_a_question_another_one_is_kept() -> None:
    same = ["What is 5 - 3?", "Calculate 5 - 3.", "Solve -3 + 5.", "Evaluate: 5 - 3."]
    assert len(set(map(canonical, same))) == 1
    assert canonical("sum of 13 woodlouses, 8 leechs?") == canonical("sum of 8 leechs, 13 woodlouses?")
    assert canonical("4.18+(7.3/3.44) = ?") == canonical("(7.3/3.44)+4.18 = ?")
    others = ["5 + 3", "5 * 3", "5 + 4", "53", "5.3", "5 + 3 + 3", "(5 + 3) * 2", "5 + 3 = x", "spell 5 3", "spell 3 5"]
    assert len(set(map(canonical, others))) == len(others)


def test_options_reach_the_generator_and_make_other_data() -> None:
    short = load(min_terms=2, max_terms=2, min_digits=1, max_digits=1)
    assert all(problem.question.count("+") + problem.question.count("-") <= 3 for problem in short.batch(0, 1, 50))
    assert len({task.data_digest for task in (short, load(), load("leg_counting"))}) == 3


def test_held_out_problems_end_where_a_generator_has_no_more() -> None:
    problems = load("coin_flip", min_trials=1, max_trials=2).held_out(Split.validation, 10_000)
    assert 0 < len(problems) < 10_000


def test_the_asked_for_form_is_strict_and_any_other_flexible() -> None:
    for template, right in (
        (Template.boxed, r"so \boxed{%s}."),
        (Template.hash, "so\n#### %s"),
        (Template.plain, "%s"),
    ):
        task = load(template=template)
        problem = task.batch(0, 1, 1)[0]
        answers = [right % problem.answer, right % "no number", f"so\n{problem.answer}", ""]
        scores = task.score_all([problem] * 4, answers)
        assert [score.strict for score in scores[:2]] == [RIGHT, WRONG]
        assert [score.flexible for score in scores] == [RIGHT, WRONG, RIGHT, NONE]


SENTENCES = {  # what models say where they are asked for no form; %s is the number
    "To find the answer to 5 - 4 = %s, we can perform the subtraction.": True,
    "The answer to the problem 5 + 3 = %s is %s.": True,
    "The final answer is **%s**.": True,
    "12 - 4 is %s.": True,
    "12 - 4 = %s": True,
    "Let me see. I add them.\nSo the sum is %s.": True,
    r"First I add, and so \boxed{%s}.": True,
    "That is not %s.": False,
    "It is twice %s.": False,
    "The answer is %s1.": False,
    "%s or 1000": False,
    "12 - 4 = %s0": False,
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_an_answer_in_a_sentence_is_read_where_no_form_is_asked_for(sentence: str) -> None:
    plain, boxed = load(template=Template.plain), load(template=Template.boxed)
    problem = plain.batch(0, 1, 1)[0]
    said = sentence.replace("%s", problem.answer)
    (score,), (by_form,) = plain.score_all([problem], [said]), boxed.score_all([problem], [said])
    assert (score.strict is RIGHT, score.flexible is RIGHT) == (SENTENCES[sentence],) * 2
    assert by_form.flexible is score.flexible
    assert (by_form.strict is RIGHT) is ("boxed" in sentence), "where a form is asked for, it earns the reward"


def test_answers_of_words_and_of_several_lines_are_read_whole() -> None:
    task = load("knights_knaves", template=Template.plain)
    problem = task.batch(0, 1, 1)[0]
    answers = [problem.answer, f"I think so.\nThe answer is: {problem.answer}", f"Hm.\n{problem.answer}", "Who knows?"]
    assert [score.strict for score in task.score_all([problem] * 4, answers)] == [RIGHT, RIGHT, RIGHT, WRONG]
    task = load("spiral_matrix", template=Template.plain)
    problem = task.batch(0, 1, 1)[0]
    first, rest = problem.answer.split(maxsplit=1)
    answers = [problem.answer, f"The answer is {problem.answer}.", f"The answer is {first}.", rest]
    assert [score.strict for score in task.score_all([problem] * 4, answers)] == [RIGHT, RIGHT, WRONG, WRONG]


def test_answers_that_only_the_generator_can_check_are_checked_by_it() -> None:
    task = load("graph_color", min_num_vertices=3, max_num_vertices=3, num_colors=3)
    problem = task.batch(0, 1, 1)[0]
    assert problem.answer == "", "it gives no answer of its own"
    colours = '{"%s": 1, "%s": 2, "%s": 3}'
    vertices = next(line for line in problem.question.splitlines() if line.startswith("Vertices:"))
    names = vertices.partition("[")[2].rstrip("]").split(", ")
    proper, missing = colours % tuple(names), f'{{"{names[0]}": 1}}'
    scores = task.score_all([problem] * 3, [rf"\boxed{{{proper}}}", rf"\boxed{{{missing}}}", r"\boxed{{{}"])
    assert scores[0].strict is RIGHT
    assert scores[1].strict is not RIGHT and scores[2].strict is not RIGHT


def test_it_is_evaluated_on_validation_and_test() -> None:
    suites = load().suites(EvalConfig(validation_items=3, test_items=5))
    assert [(suite.name, len(suite.problems)) for suite in suites] == [("validation", 3), ("test", 5)]


def test_unknown_generators_and_options_are_told_close_ones() -> None:
    with pytest.raises(UsageError, match=r"task\.generator=chain_sum"):
        load("chain_sums")
    with pytest.raises(UsageError, match=r"generator_options\.min_terms"):
        load(min_term=2)
    with pytest.raises(UsageError, match="size"):
        load(size=2)
    with pytest.raises(UsageError, match="makes no problem"):
        load(min_terms=5, max_terms=2)
    with pytest.raises(UsageError, match=r"generator=None"):
        load_task(TaskConfig("reasoning_gym"))


@pytest.mark.parametrize("template", Template)
def test_its_demonstrations_are_right_answers_in_the_asked_for_form(template: Template) -> None:
    task = load("number_format", template, min_num_candidates=2, max_num_candidates=2)
    problems = task.batch(0, 1, 20)
    shown = [task.demonstration(problem, Demonstrations.foreign) for problem in problems]
    assert all(f"The answer is {problem.answer}." in text for problem, text in zip(problems, shown, strict=True))
    assert [score.strict for score in task.score_all(problems, shown)] == [RIGHT] * 20
    with pytest.raises(UsageError, match=r"task\.demonstrations=own(.|\n)*=foreign"):
        task.demonstration(problems[0], Demonstrations.own)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    with pytest.raises(UsageError, match="pip install reasoning-gym"):
        load()


def test_an_answer_that_breaks_the_check_is_an_outcome_and_no_error() -> None:
    task = load("prime_factorization")
    (score,) = task.score_all(task.batch(0, 1, 1), [r"\boxed{{}}"])  # its check asks for the whole number that {} is
    assert score.strict is Outcome.checker_error


def test_suites_beside_it_are_judged_by_their_checker(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "answer": rf"\frac{{{n}}}{{7}}"} for n in range(1, 4)]
    (tmp_path / "aime24.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = TaskConfig(
        "reasoning_gym", str(tmp_path), generator="chain_sum", template=Template.boxed, checker=Checker.math
    )
    task = load_task(config, ["aime24"])
    validation, _, aime = task.suites(EvalConfig(validation_items=1, test_items=2, suites=["aime24"]))
    assert (aime.name, len(aime.problems), aime.samples) == ("aime24", 2, 8)
    mixed = [aime.problems[0], validation.problems[0], aime.problems[1]]
    answers = [r"\boxed{\frac{1}{7}}", rf"\boxed{{{mixed[1].answer}}}", r"\boxed{3/7}"]
    assert [score.strict for score in task.score_all(mixed, answers)] == [RIGHT, RIGHT, WRONG]
    assert task.data_digest != load_task(config).data_digest
