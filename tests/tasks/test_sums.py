"""The generated task: disjoint splits, right demonstrations, exact scores, repeatable batches."""

from __future__ import annotations

import random

import pytest

from tinylora.answers.rewards import Outcome
from tinylora.settings.config import Demonstrations, EvalConfig, Split, TaskConfig
from tinylora.settings.errors import UsageError
from tinylora.tasks import load_task
from tinylora.tasks.problem import Problem
from tinylora.tasks.sums import LEVELS, SumsTask, split_of, worked_answer

TASK = SumsTask()
PROBLEM = Problem(id="sums/12+7+35=", question="12+7+35=", answer="54", solution=None)


def numbers_of(question: str) -> list[int]:
    return [int(part) for part in question.rstrip("=").split("+")]


RIGHT, WRONG, NONE = Outcome.correct, Outcome.wrong, Outcome.no_answer


def test_the_splits_share_no_problem() -> None:
    drawn = {
        Split.train: {p.question for step in range(20) for p in TASK.batch(0, step, 64)},
        Split.validation: {p.question for p in TASK.held_out(Split.validation, 200)},
        Split.test: {p.question for p in TASK.held_out(Split.test, 200)},
    }
    for split, questions in drawn.items():
        assert {split_of(numbers_of(question)) for question in questions} == {split}


def test_the_same_numbers_in_another_order_belong_to_the_same_split() -> None:
    rng = random.Random(0)
    for level in LEVELS:
        for _ in range(50):
            numbers = [rng.randrange(100) for _ in range(level + 2)]
            assert split_of(numbers) is split_of(numbers[::-1]) is split_of(sorted(numbers))


def test_held_out_problems_are_of_all_levels_in_turn() -> None:
    problems = TASK.held_out(Split.test, 400)
    assert [problem.question.count("+") - 1 for problem in problems] == 100 * list(LEVELS)


def test_slips_forget_carries_and_nothing_else() -> None:
    numbers = [19, 35, 11, 20]
    assert worked_answer(numbers) == "19+35=54;54+11=65;65+20=85;#85"
    assert worked_answer(numbers, random.Random(0), 1.0) == "19+35=44;44+11=55;55+20=75;#75"
    assert worked_answer(numbers, random.Random(0), 0.0) == worked_answer(numbers)


def test_held_out_problems_are_different_and_a_longer_list_begins_with_the_shorter() -> None:
    problems = TASK.held_out(Split.test, 300)
    assert len({problem.question for problem in problems}) == 300
    assert TASK.held_out(Split.test, 40) == problems[:40]


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    batch = TASK.batch(3, 17, 8)
    TASK.batch(3, 18, 8)
    assert SumsTask().batch(3, 17, 8) == batch
    assert TASK.batch(3, 18, 8) != batch
    assert TASK.batch(4, 17, 8) != batch
    assert TASK.batch(3, 17, 4) == batch[:4]


def test_the_gold_answer_is_the_sum() -> None:
    for problem in TASK.batch(0, 0, 50):
        assert int(problem.answer) == sum(int(number) for number in problem.question[:-1].split("+"))
        assert problem.question.count("+") - 1 in LEVELS


def test_demonstrations_work_forwards_in_the_own_manner_and_backwards_in_the_foreign_one() -> None:
    assert TASK.prompt(PROBLEM) == "12+7+35="
    assert TASK.demonstration(PROBLEM, Demonstrations.own) == "12+7=19;19+35=54;#54"
    assert TASK.demonstration(PROBLEM, Demonstrations.foreign) == "35+7=42;42+12=54;#54"


@pytest.mark.parametrize("manner", [Demonstrations.own, Demonstrations.foreign])
def test_demonstrations_are_right_in_every_step(manner: Demonstrations) -> None:
    for problem in TASK.batch(0, 0, 50):
        demonstration = TASK.demonstration(problem, manner)
        assert TASK.score_all([problem], [demonstration])[0].reward == 1.0
        *steps, _ = demonstration.split(";")
        for step in steps:
            terms, _, total = step.partition("=")
            assert sum(map(int, terms.split("+"))) == int(total)


@pytest.mark.parametrize(
    ("completion", "strict", "flexible"),
    [
        ("#54", RIGHT, RIGHT),
        ("12+7=19;19+35=54;#54", RIGHT, RIGHT),
        ("#55", WRONG, WRONG),
        ("#540", WRONG, WRONG),
        ("#054", WRONG, WRONG),
        ("54", NONE, RIGHT),
        ("#54;", NONE, RIGHT),
        ("#5#54", RIGHT, RIGHT),
        ("#54#5", WRONG, WRONG),
        ("19+35=54;", NONE, RIGHT),
        ("#", NONE, NONE),
        ("", NONE, NONE),
        ("#54\n", NONE, RIGHT),
        ("+" * 100_000, NONE, NONE),
    ],
)
def test_scores(completion: str, strict: Outcome, flexible: Outcome) -> None:
    (score,) = TASK.score_all([PROBLEM], [completion])
    assert (score.strict, score.flexible) == (strict, flexible)
    assert score.reward == (1.0 if strict is RIGHT else 0.0)


def test_it_is_loaded_by_name_and_takes_no_folder() -> None:
    task = load_task(TaskConfig(name="sums"))
    assert (task.name, task.chat, len(task.data_digest)) == ("sums", False, 16)
    with pytest.raises(UsageError, match="no folder"):
        load_task(TaskConfig(name="sums", folder="data"))


def test_an_unknown_task_is_told_the_known_ones() -> None:
    with pytest.raises(UsageError, match="sums, gsm8k"):
        load_task(TaskConfig(name="gms8k"))


def test_it_is_evaluated_on_validation_and_test_and_takes_no_other_suites() -> None:
    validation, test = TASK.suites(EvalConfig(validation_items=5, test_items=7))
    assert (validation.name, test.name, validation.samples, test.samples) == ("validation", "test", 1, 1)
    assert validation.problems == TASK.held_out(Split.validation, 5)
    assert test.problems == TASK.held_out(Split.test, 7)
    with pytest.raises(UsageError, match=r"eval\.suites"):
        load_task(TaskConfig(name="sums"), ["gsm8k"])
