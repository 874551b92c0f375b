"""GSM8K from a folder: splits, order, prompts, demonstrations, scores, and an error for each way a file is wrong."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from tinylora.answers.rewards import Outcome
from tinylora.settings.config import Demonstrations, Split, TaskConfig, Template
from tinylora.settings.errors import UsageError
from tinylora.tasks import load_task
from tinylora.tasks.problem import Problem
from tinylora.tasks.question_sets import QuestionTask, _order

ROWS = 200


def row(number: int) -> dict[str, object]:
    """A row with solution and answer apart."""
    solution = (
        f"There are {number} + {number} = <<{number}+{number}={2 * number}>>{2 * number} clips.\n#### {2 * number}"
    )
    return {"id": f"made/{number}", "question": f"Twice {number}?", "solution": solution, "answer": f"{2 * number}"}


def original(number: int) -> dict[str, object]:
    """The same row as in the original release."""
    return {"question": f"Twice {number}?", "answer": row(number)["solution"]}


def write(folder: Path, train: list[dict[str, object]], test: list[dict[str, object]], suffix: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    for name, rows in (("train", train), ("test", test)):
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        path = folder / f"gsm8k-{name}.jsonl{suffix}"
        path.write_bytes(gzip.compress(content) if suffix else content)
    return folder


def gsm8k(folder: Path, template: Template = Template.hash) -> QuestionTask:
    task = load_task(TaskConfig(name="gsm8k", folder=str(folder), template=template))
    assert isinstance(task, QuestionTask)
    return task


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "data", [row(n) for n in range(ROWS)], [row(n) for n in range(1000, 1010)])


def test_validation_is_a_fixed_part_of_the_training_file(folder: Path) -> None:
    task = gsm8k(folder)
    ids = {split: {p.id for p in task.held_out(split, ROWS)} for split in Split}
    assert ids[Split.train] | ids[Split.validation] == {f"made/{n}" for n in range(ROWS)}
    assert not ids[Split.train] & ids[Split.validation]
    assert 0.01 * ROWS < len(ids[Split.validation]) < 0.12 * ROWS
    assert len(ids[Split.test]) == 10
    shorter = gsm8k(write(folder.parent / "half", [row(n) for n in range(ROWS // 2)], [row(0)]))
    assert {p.id for p in shorter.held_out(Split.validation, ROWS)} <= ids[Split.validation]


def test_held_out_problems_come_in_the_order_of_the_file(folder: Path) -> None:
    assert [p.id for p in gsm8k(folder).held_out(Split.test, 3)] == ["made/1000", "made/1001", "made/1002"]


def test_each_epoch_takes_every_training_problem_once(folder: Path) -> None:
    task = gsm8k(folder)
    train = task.held_out(Split.train, ROWS)
    order = [problem.id for step in range(1, 2 * len(train) + 1) for problem in task.batch(5, step, 1)]
    first, second = order[: len(train)], order[len(train) :]
    assert order[0] == train[_order("gsm8k", 5, 0, len(train))[0]].id, "step 1 begins with the first of the order"
    assert sorted(first) == sorted(second) == sorted(p.id for p in train)
    assert first != second
    assert [problem.id for step in range(1, 5) for problem in task.batch(5, step, 60)] == order[:240]


def test_a_batch_is_a_function_of_seed_and_step_and_may_exceed_the_data(folder: Path) -> None:
    batch = gsm8k(folder).batch(3, 17, 8)
    task = gsm8k(folder)
    task.batch(3, 90, 8)
    assert task.batch(3, 17, 8) == batch
    assert task.batch(4, 17, 8) != batch
    assert set(Counter(p.id for p in task.batch(0, 1, 3 * len(task.held_out(Split.train, ROWS)))).values()) == {3}


def test_the_prompt_asks_for_the_format_that_is_scored(folder: Path) -> None:
    task = gsm8k(folder)
    problem = task.held_out(Split.test, 1)[0]
    assert task.chat
    assert task.prompt(problem) == ('Twice 1000? Let\'s think step by step and output the final answer after "####".')


def test_demonstrations_are_the_solutions_without_calculator_notes(folder: Path) -> None:
    task = gsm8k(folder)
    problem = task.held_out(Split.test, 1)[0]
    demonstration = task.demonstration(problem, Demonstrations.foreign)
    assert demonstration == "There are 1000 + 1000 = 2000 clips.\n#### 2000"
    assert task.score_all([problem], [demonstration])[0].reward == 1.0
    with pytest.raises(UsageError, match="demonstrations=foreign"):
        task.demonstration(problem, Demonstrations.own)
    without = Problem("x/1", "Twice 3?", "6", None)
    with pytest.raises(UsageError, match="x/1"):
        task.demonstration(without, Demonstrations.foreign)
    unmarked = Problem("x/2", "Twice 3?", "6", "It is 6.")
    assert task.demonstration(unmarked, Demonstrations.foreign) == "It is 6.\n#### 6"


def test_demonstrations_end_as_the_prompt_asks(folder: Path) -> None:
    problem = gsm8k(folder).held_out(Split.test, 1)[0]
    boxed, plain = gsm8k(folder, Template.boxed), gsm8k(folder, Template.plain)
    assert boxed.prompt(problem).endswith(r"\boxed{}.")
    assert boxed.demonstration(problem, Demonstrations.foreign) == "There are 1000 + 1000 = 2000 clips.\n\\boxed{2000}"
    assert plain.prompt(problem) == problem.question
    assert plain.demonstration(problem, Demonstrations.foreign) == "There are 1000 + 1000 = 2000 clips.\n#### 2000"
    assert len({task.prompt_digest for task in (boxed, plain, gsm8k(folder))}) == 3


RIGHT, WRONG, NONE = Outcome.correct, Outcome.wrong, Outcome.no_answer


@pytest.mark.parametrize(
    ("completion", "strict", "flexible"),
    [
        ("so\n#### 1080", RIGHT, RIGHT),
        ("#### $1,080.00.", RIGHT, RIGHT),
        (r"\boxed{1,080}", NONE, RIGHT),
        ("it is 1080 dollars", NONE, RIGHT),
        ("#### 1081, not 1080", WRONG, WRONG),
        ("1081", NONE, WRONG),
        ("I do not know", NONE, NONE),
    ],
)
def test_scores(folder: Path, completion: str, strict: Outcome, flexible: Outcome) -> None:
    (score,) = gsm8k(folder).score_all([Problem("x/1", "?", "1080", None)], [completion])
    assert (score.strict, score.flexible) == (strict, flexible)


def test_original_rows_plain_and_compressed_are_the_same_data(tmp_path: Path) -> None:
    train, test = [original(n) for n in range(ROWS)], [original(7)]
    plain = gsm8k(write(tmp_path / "plain", train, test))
    packed = gsm8k(write(tmp_path / "packed", train, test, ".gz"))
    assert plain.data_digest == packed.data_digest
    assert plain.batch(0, 1, 50) == packed.batch(0, 1, 50)
    problem = plain.held_out(Split.test, 1)[0]
    assert (problem.id, problem.answer) == ("gsm8k-test/0", "14")
    assert plain.demonstration(problem, Demonstrations.foreign) == "There are 7 + 7 = 14 clips.\n#### 14"
    assert gsm8k(write(tmp_path / "other", train, [original(8)])).data_digest != plain.data_digest


def test_line_separators_inside_a_question_do_not_end_a_row(tmp_path: Path) -> None:
    odd = row(3) | {"question": "Twice\u2028three?"}
    task = gsm8k(write(tmp_path / "data", [row(n) for n in range(ROWS)], [odd]))
    assert task.held_out(Split.test, 1)[0].question == "Twice\u2028three?"


def test_a_missing_folder_or_file_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"task\.folder=<folder>"):
        load_task(TaskConfig(name="gsm8k"))
    with pytest.raises(UsageError, match="does not exist"):
        load_task(TaskConfig(name="gsm8k", folder=str(tmp_path / "absent")))
    (folder / "gsm8k-test.jsonl").unlink()
    with pytest.raises(UsageError, match=r"gsm8k-test\.jsonl"):
        load_task(TaskConfig(name="gsm8k", folder=str(folder)))


@pytest.mark.parametrize("keep", [0, 5, 40, -1])
def test_a_compressed_file_that_is_cut_short_is_refused(tmp_path: Path, keep: int) -> None:
    folder = write(tmp_path / "data", [row(n) for n in range(ROWS)], [row(0)], ".gz")
    path = folder / "gsm8k-train.jsonl.gz"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UsageError, match=r"gsm8k-train\.jsonl\.gz"):
        gsm8k(folder)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "no rows"),
        (b"\n\n", "no rows"),
        (b"\xff\xfe", "cannot be read"),
        (b"{", "line 1"),
        (b'\n{"question": "?", "answer": "1"}\n[1]', "line 3"),
        (b'{"id": "made/9", "prompt": "?", "answer": "1"}', "made/9"),
        (b'{"id": "made/9", "question": "?"}', "made/9"),
        (b'{"id": "made/9", "question": "?", "answer": 18}', "made/9"),
        (b'{"id": "made/9", "question": " ", "answer": "18"}', "made/9"),
        (b'{"id": "made/9", "question": "?", "answer": "eighteen"}', "made/9"),
        (b'{"question": "?", "answer": "so\\n#### "}', "none of its 1 rows has an answer"),
    ],
)
def test_a_wrong_row_is_named(folder: Path, content: bytes, named: str) -> None:
    (folder / "gsm8k-test.jsonl").write_bytes(content)
    with pytest.raises(UsageError, match=named):
        gsm8k(folder)


def test_too_few_rows_to_set_some_aside_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="validation"):
        gsm8k(write(tmp_path / "data", [row(1)], [row(2)]))
