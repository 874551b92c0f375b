"""math and the evaluation sets: which rows count, what is said of the others, suites, scores, and SFT targets."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tinylora.answers.rewards import Outcome
from tinylora.settings.config import Checker, Demonstrations, EvalConfig, Split, Strict, TaskConfig, Template
from tinylora.settings.errors import UsageError
from tinylora.tasks import TASKS, load_task
from tinylora.tasks.problem import Problem
from tinylora.tasks.question_sets import QuestionTask
from tinylora.tasks.sources import SOURCES, SUITES, TESTS, TRAINING

RIGHT, WRONG, NONE = Outcome.correct, Outcome.wrong, Outcome.no_answer
TRAIN = "simplerl-math-level3to5"


def row(set_name: str, number: int, **changes: Any) -> dict[str, Any]:
    solution = rf"Half of ${2 * number}$ is $\boxed{{{number}}}$."
    return {
        "id": f"{set_name}/{number}",
        "question": f"Half of {2 * number} in {set_name}?",
        "answer": str(number),
        "solution": solution,
        "level": 3,
    } | changes


def write(folder: Path, **sets: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, rows in sets.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def rows(set_name: str, count: int) -> list[dict[str, Any]]:
    return [row(set_name, number) for number in range(count)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Small sets under all names."""
    return write(
        tmp_path / "data", **{name: rows(name, 200 if name in (TRAIN, "math-train") else 6) for name in SOURCES}
    )


def load(folder: Path, name: str = "math", suites: tuple[str, ...] = (), **settings: Any) -> QuestionTask:
    solutions = settings.pop("solutions", False)
    chosen = {"template": Template.boxed, "checker": Checker.math} | settings
    task = load_task(TaskConfig(name, folder=str(folder), **chosen), suites, solutions)
    assert isinstance(task, QuestionTask)
    return task


def test_the_table_is_complete() -> None:
    assert set(TRAINING) <= set(TESTS) <= set(TASKS)
    assert {*TESTS.values(), *(name for sets in TRAINING.values() for name in sets)} == set(SOURCES)
    assert set(SUITES.values()) <= set(SOURCES)


def test_math_is_trained_on_the_set_of_choice_and_tested_on_math500(folder: Path) -> None:
    usual, other = load(folder), load(folder, training_set="math-train")
    assert {problem.id.split("/")[0] for problem in usual.batch(0, 1, 400)} == {TRAIN}
    assert {problem.id.split("/")[0] for problem in other.batch(0, 1, 400)} == {"math-train"}
    assert usual.held_out(Split.test, 9) == other.held_out(Split.test, 9)
    assert usual.data_digest != other.data_digest
    with pytest.raises(UsageError, match="simplerl-math-level3to5, math-train"):
        load(folder, training_set="gsm8k-train")
    with pytest.raises(UsageError, match="nothing"):
        load(folder, "aime24", training_set="math-train")


def test_validation_has_no_part_in_training(folder: Path) -> None:
    task = load(folder)
    trained = {problem.id for problem in task.batch(0, 1, 400)}
    validation = {problem.id for problem in task.held_out(Split.validation, 200)}
    assert validation and not validation & trained
    assert len(validation | trained) == 200


@pytest.mark.parametrize("name", [name for name in TESTS if name not in TRAINING])
def test_evaluation_sets_have_a_test_and_nothing_to_train_on(folder: Path, name: str) -> None:
    task = load(folder, name)
    (suite,) = task.suites(EvalConfig(test_items=4))
    assert (suite.name, len(suite.problems)) == ("test", 4)
    with pytest.raises(UsageError, match=rf"eval\.suites=\[{name}\]"):
        task.batch(0, 1, 1)


def test_rows_that_cannot_be_learnt_from_are_left_out_of_training_and_counted(tmp_path: Path) -> None:
    train = rows(TRAIN, 200)
    train[3] = row(TRAIN, 3, answer="")
    train[4] = row(TRAIN, 4, answer="None")
    train[5] = row(TRAIN, 5, answer=None)
    train[6] = row(TRAIN, 6, question="  HALF of 20\tin simplerl-math-level3to5? ")  # as row 10, but for space and case
    train[7] = row(TRAIN, 3380)
    task = load(write(tmp_path / "data", math500=rows("math500", 5), **{TRAIN: train}))
    kept = {problem.id for split in (Split.train, Split.validation) for problem in task.held_out(split, 200)}
    assert kept == {f"{TRAIN}/{number}" for number in range(200) if number not in (3, 4, 5, 7, 10)}
    assert task.notes[0] == (
        f"5 of 200 rows of {TRAIN} are left out: 3 without an answer, 1 known to be broken, 1 that repeat a question."
    )


def test_long_prompts_are_left_out_of_training_and_counted(folder: Path) -> None:
    task, whole = load(folder), load(folder)
    long = {problem.id for problem in task.batch(0, 0, 400) if len(task.prompt(problem)) % 2}
    count = len({problem.id for problem in task.batch(0, 0, 400)})
    assert 0 < len(long) < count
    task.leave_out_long(1024, lambda texts: [1024 + len(text) % 2 for text in texts])
    assert not {problem.id for problem in task.batch(0, 0, 400)} & long
    assert task.notes[-1] == f"{len(long)} of {count} training prompts have more than 1024 tokens: left out."
    assert task.held_out(Split.validation, 200) == whole.held_out(Split.validation, 200)
    with pytest.raises(UsageError, match=r"task\.max_prompt_tokens=5"):
        task.leave_out_long(5, lambda texts: [6 for _ in texts])


def test_what_the_system_says_is_part_of_how_a_task_asks(folder: Path) -> None:
    digests = {load(folder, system_message=said).prompt_digest for said in (None, "You are a helpful assistant.", "x")}
    assert len(digests) == 3


def test_test_sets_lose_no_row_but_those_without_an_answer(tmp_path: Path) -> None:
    test = [row("amc23", 1, answer=""), row("amc23", 2), row("amc23", 2), row("amc23", 3, answer="27.0")]
    task = load(write(tmp_path / "data", amc23=test), "amc23")
    assert [problem.id for problem in task.held_out(Split.test, 9)] == ["amc23/2", "amc23/2", "amc23/3"]
    assert task.notes == ["1 of 4 rows of amc23 are left out: 1 without an answer."]


def test_questions_that_are_trained_on_and_asked_in_a_test_are_counted(tmp_path: Path) -> None:
    leaked = row("aime24", 1, question=f"half OF 8 in\n{TRAIN}?")
    sets = {TRAIN: rows(TRAIN, 200), "math500": rows("math500", 5), "aime24": [row("aime24", 0), leaked]}
    task = load(write(tmp_path / "data", **sets), suites=("aime24",))
    assert task.notes == [f"Test questions that are also in {TRAIN}: 0 of 5 in math500, 1 of 2 in aime24."]


def test_an_answer_that_the_checker_cannot_parse_is_named(folder: Path) -> None:
    write(folder, math500=[row("math500", 0), row("math500", 1, answer="x + y")])
    assert load(folder).held_out(Split.test, 2)[1].answer
    with pytest.raises(UsageError, match=r"math500/1(.|\n)*task\.checker=math"):
        load(folder, checker=Checker.numeric)


def test_suites_come_by_name_and_small_sets_are_sampled_often(folder: Path) -> None:
    task = load(folder, suites=("gsm8k", "aime24", "math500"))
    settings = EvalConfig(test_items=3, validation_items=2, samples_per_item=5, suites=["gsm8k", "aime24", "math500"])
    suites = task.suites(settings)
    found = [(suite.name, len(suite.problems), suite.samples) for suite in suites]
    assert found == [("validation", 2, 1), ("test", 3, 1), ("gsm8k", 3, 1), ("aime24", 3, 5), ("math500", 3, 1)]
    assert suites[2].problems[0].id == "gsm8k-test/0"
    (own,) = load(folder, "amc23").suites(settings.__class__(samples_per_item=7))
    assert own.samples == 7


def test_other_suites_are_other_data(folder: Path) -> None:
    digests = {load(folder, suites=suites).data_digest for suites in ((), ("aime24",), ("amc23",))}
    assert len(digests) == 3


def test_an_unknown_suite_is_told_the_known_ones(folder: Path) -> None:
    with pytest.raises(UsageError, match="aime24, amc23"):
        load(folder, suites=("aime25",))


def test_sft_learns_from_the_rows_with_solutions(tmp_path: Path) -> None:
    train = [
        row(TRAIN, number, solution=None if number % 4 else row(TRAIN, number)["solution"]) for number in range(400)
    ]
    data = write(tmp_path / "data", math500=rows("math500", 5), **{TRAIN: train})
    task = load(data, solutions=True)
    count = len(task.held_out(Split.train, 400))
    problems = task.batch(0, 1, count)
    assert len({problem.id for problem in problems}) == count
    assert all(task.demonstration(problem, Demonstrations.foreign) == problem.solution for problem in problems)
    assert f"{len(load(data).held_out(Split.train, 400)) - count} of" in task.notes[-2]
    assert len(load(data).held_out(Split.validation, 400)) == len(task.held_out(Split.validation, 400))
    with pytest.raises(UsageError, match="algorithm=grpo"):
        load(
            write(tmp_path / "none", math500=train[:1], **{TRAIN: [r | {"solution": None} for r in train]}),
            solutions=True,
        )
    with pytest.raises(UsageError, match="foreign"):
        task.demonstration(problems[0], Demonstrations.own)


def test_a_solution_without_a_box_gets_one(folder: Path) -> None:
    task = load(folder)
    problem = Problem("x/1", "?", "7", "It is seven.")
    demonstration = task.demonstration(problem, Demonstrations.foreign)
    assert demonstration == "It is seven.\n\\boxed{7}"
    assert task.score_all([problem], [demonstration])[0].reward == 1.0


@pytest.mark.parametrize(
    ("gold", "completion", "strict", "flexible"),
    [
        (r"\frac{1}{2}", r"so \boxed{\dfrac{1}{2}}.", RIGHT, RIGHT),
        (r"\frac12", r"\boxed{0.5}", RIGHT, RIGHT),
        (r"\frac{\sqrt{3}}{2}", r"\boxed{1} no, \boxed{\frac{\sqrt{3}}{2}}", RIGHT, RIGHT),
        (r"\sqrt{3}", r"\boxed{3}", WRONG, WRONG),
        ("27.0", r"\boxed{27}", RIGHT, RIGHT),
        ("025", r"\boxed{25}", RIGHT, RIGHT),
        (r"10{,}000", r"\boxed{10,\!000}", RIGHT, RIGHT),
        ("$-2,0,2$", r"\boxed{-2, 0, 2}", RIGHT, RIGHT),
        ("7", "#### 7", NONE, RIGHT),
        ("7", "It is 7", NONE, RIGHT),
        ("7", r"\boxed{8}, though 7", WRONG, WRONG),
        ("7", r"\boxed{7", NONE, RIGHT),
        ("7", r"\boxed{7/00}", WRONG, WRONG),
        ("7", "I do not know", NONE, NONE),
        ("7", "", NONE, NONE),
    ],
)
def test_scores_of_the_math_checker(
    tmp_path: Path, gold: str, completion: str, strict: Outcome, flexible: Outcome
) -> None:
    task = load(write(tmp_path / "data", math500=[row("math500", 1, answer=gold)]), "math500")
    (score,) = task.score_all(task.held_out(Split.test, 1), [completion])
    assert (score.strict, score.flexible) == (strict, flexible)


def test_scores_come_in_the_order_of_the_completions(folder: Path) -> None:
    task = load(folder)
    problems = task.held_out(Split.test, 3)
    scores = task.score_all(problems, [r"\boxed{0}", r"\boxed{5}", r"\boxed{2}"])
    assert [score.strict for score in scores] == [RIGHT, WRONG, RIGHT]


def test_the_strict_rule_is_the_one_that_is_asked_for(tmp_path: Path) -> None:
    data = write(tmp_path / "data", math500=[row("math500", 1, answer=r"\frac{1}{2}")])
    problem = load(data, "math500").held_out(Split.test, 1)[0]
    completions = [r"so \boxed{0.5}", "The answer is 0.5.", r"\boxed{\frac{2}{4}}, surely", r"\boxed{1} and \boxed{2}"]
    for strict in (Strict.form, Strict.simplerl):
        task = load(data, "math500", strict=strict)
        scores = task.score_all([problem] * 4, completions)
        assert [score.strict for score in scores] == [RIGHT, NONE, RIGHT, WRONG]
        assert [score.flexible for score in scores] == [RIGHT, RIGHT, RIGHT, WRONG]
    task = load(
        write(tmp_path / "numbers", math500=[row("math500", 1, answer="1,080")]),
        "math500",
        strict=Strict.verl,
        template=Template.hash,
    )
    scores = task.score_all(task.held_out(Split.test, 1) * 3, ["#### 1,080", "#### 1080.", "####1080"])
    assert [score.strict for score in scores] == [RIGHT, WRONG, NONE]
    assert [score.flexible for score in scores] == [RIGHT] * 3


def test_simplerls_rule_is_math_verifys_verdict_and_not_ours(tmp_path: Path) -> None:
    task = load(
        write(tmp_path / "data", math500=[row("math500", 1, answer="x = 5")]), "math500", strict=Strict.simplerl
    )
    hostile = [r"\boxed{" + "(" * 4000 + "}", r"\boxed{9^{9^{9^{9}}}}", r"\boxed{}", ""]
    scores = task.score_all(task.held_out(Split.test, 1) * 5, [r"\boxed{5}", *hostile])
    assert scores[0].strict is RIGHT
    assert all(score.strict is not RIGHT for score in scores[1:])


def test_decimals_of_a_set_with_rounded_answers_are_met_nearly_and_those_of_others_exactly(tmp_path: Path) -> None:
    answers = {"minerva_math": ["4.5e33", "0.33333", "3", r"\frac{1}{3}"], "math500": ["0.33333"]}
    data = write(
        tmp_path / "data",
        **{name: [row(name, n, answer=text) for n, text in enumerate(texts)] for name, texts in answers.items()},
    )
    minerva = load(data, "minerva_math").held_out(Split.test, 9)
    assert [problem.tolerance > 0 for problem in minerva] == [True, True, False, False]
    near = [r"\boxed{4.50001 \times 10^{33}}", r"\boxed{\frac{1}{3}}", r"\boxed{3.0001}", r"\boxed{0.33333}"]
    found = load(data, "minerva_math").score_all(minerva, near)
    assert [score.strict for score in found] == [RIGHT, RIGHT, WRONG, WRONG]
    (score,) = load(data, "math500").score_all(load(data, "math500").held_out(Split.test, 1), [r"\boxed{\frac{1}{3}}"])
    assert score.strict is WRONG


@pytest.mark.parametrize("answer", ["2x", r"2\pi", r"\sqrt{2}", "5 or 6", "x + 3 = 5", "eighteen", "1/0"])
def test_a_gold_answer_that_is_no_number_as_a_whole_is_refused(tmp_path: Path, answer: str) -> None:
    data = write(tmp_path / "data", math500=[row("math500", 7, answer=answer)])
    with pytest.raises(UsageError, match=r"(?s)math500/7.*numbers alone"):
        load(data, "math500", checker=Checker.numeric)
    assert load(data, "math500").held_out(Split.test, 1)[0].answer == answer
