"""Task `gsm8k`: grade-school word problems (Cobbe et al. 2021), read from a folder that the user names.

The folder holds gsm8k-train.jsonl and gsm8k-test.jsonl, plain or as .gz, one JSON object a line: the rows of the
original release (`question` and an `answer` that ends in `#### N`), or rows with `solution` and `answer` apart, and
with an `id` of their own.

    prompt       verl's: the question and the request to think step by step and answer after "####"
    validation   about 5% of the training file, by a stable hash of the row's id; never trained on
    foreign      the data set's own solutions, written by people, without their <<...>> calculator notes
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tinylora.answers.numeric import flexible_answer, gold_answer, strict_answer
from tinylora.config import Demonstrations, Split
from tinylora.errors import UsageError
from tinylora.rewards import Score, compare
from tinylora.seeds import python_stream
from tinylora.tasks.problem import Problem

INSTRUCTION = 'Let\'s think step by step and output the final answer after "####".'
FORMAT_REMEDY = "give the original GSM8K rows: question, and an answer that ends in `#### <number>`"

_CALCULATOR_NOTE = re.compile(r"<<[^<>\n]*>>")


class Gsm8kTask:
    """GSM8K from a folder, scored by exact match of the final number."""

    name = "gsm8k"
    chat = True

    def __init__(self, folder: str | Path) -> None:
        train, train_digest = _read_problems(Path(folder), "gsm8k-train")
        test, test_digest = _read_problems(Path(folder), "gsm8k-test")
        self.data_digest = hashlib.sha256(f"{train_digest} {test_digest}".encode()).hexdigest()[:16]
        self._problems: dict[Split, list[Problem]] = {Split.train: [], Split.validation: [], Split.test: test}
        for problem in train:
            self._problems[_split_of(problem.id)].append(problem)
        for split in (Split.train, Split.validation):
            if not self._problems[split]:
                raise UsageError(
                    f"task.folder={folder} with {len(train)} training rows",
                    f"about one row in 20 is set aside for validation, and none is left for {split.name}",
                    "give the whole training file (GSM8K has 7473 rows)",
                )

    def batch(self, seed: int, step: int, count: int) -> list[Problem]:
        """The training problems of one lane's step: a pure function of the arguments.

        Step n takes the n-th `count` problems of an endless order in which each epoch is a shuffle of its own.
        """
        problems = self._problems[Split.train]
        places = (divmod(place, len(problems)) for place in range(step * count, (step + 1) * count))
        return [problems[_order(seed, epoch, len(problems))[index]] for epoch, index in places]

    def held_out(self, split: Split, count: int) -> list[Problem]:
        """The first `count` problems of a split, in the order of its file (all, where there are fewer)."""
        return self._problems[split][:count]

    def prompt(self, problem: Problem) -> str:
        """The user's message: the question and what is asked of the answer."""
        return f"{problem.question} {INSTRUCTION}"

    def demonstration(self, problem: Problem, manner: Demonstrations) -> str:
        """The data set's solution, which is foreign to any model; UsageError for the model's own manner."""
        if manner is Demonstrations.own:
            raise UsageError(
                "task=gsm8k task.demonstrations=own",
                "GSM8K has only solutions that people wrote, in no model's own manner",
                "give task.demonstrations=foreign",
            )
        if problem.solution is None:
            raise UsageError(f"row {problem.id} of GSM8K", "it has no solution to learn from", FORMAT_REMEDY)
        solution = _CALCULATOR_NOTE.sub("", problem.solution).strip()
        return solution if "####" in solution else f"{solution}\n#### {problem.answer}"

    def score(self, problem: Problem, completion: str) -> Score:
        r"""Strict: the number after the last `####` (or in the last \boxed). Flexible: else the last number."""
        return Score(
            strict=compare(strict_answer(completion), problem.answer),
            flexible=compare(flexible_answer(completion), problem.answer),
        )


def _split_of(row: str) -> Split:
    return Split.train if hashlib.sha256(row.encode()).digest()[0] % 20 else Split.validation


@functools.lru_cache(maxsize=64)  # one entry a lane: the order of its current epoch
def _order(seed: int, epoch: int, count: int) -> tuple[int, ...]:
    order = list(range(count))
    python_stream(seed, "gsm8k", "order", epoch).shuffle(order)
    return tuple(order)


def _read_problems(folder: Path, stem: str) -> tuple[list[Problem], str]:
    """The problems of one file and the sha256 of its text, which is the same plain and compressed."""
    text, path = _read_text(folder, stem)
    problems = [_problem_of(row, f"{stem}/{number}", path) for number, row in enumerate(_rows(text, path))]
    if not problems:
        raise UsageError(f"{path}", "the file holds no rows", FORMAT_REMEDY)
    return problems, hashlib.sha256(text.encode()).hexdigest()


def _read_text(folder: Path, stem: str) -> tuple[str, Path]:
    for path in (folder / f"{stem}.jsonl.gz", folder / f"{stem}.jsonl"):
        if path.is_file():
            break
    else:
        raise UsageError(
            f"task.folder={folder}",
            f"it must hold {stem}.jsonl or {stem}.jsonl.gz" if folder.is_dir() else "the folder does not exist",
            "give task.folder=<folder> with gsm8k-train.jsonl[.gz] and gsm8k-test.jsonl[.gz]",
        )
    try:
        content = path.read_bytes()
        return (gzip.decompress(content) if path.suffix == ".gz" else content).decode(), path
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UsageError(f"{path}", f"it cannot be read to its end: {error}", "copy the file again") from error


def _rows(text: str, path: Path) -> Iterator[dict[str, Any]]:
    # Not through `datasets`: that takes 2 s instead of 0.05, leaves lock files in the home folder, turns numbers into
    # texts and names no row in its errors. Nor by splitlines: a question may hold U+2028.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UsageError(
                f"{path} line {number}", f"every line is one JSON object: {error}", FORMAT_REMEDY
            ) from error
        if not isinstance(row, dict):
            raise UsageError(f"{path} line {number}", "every line is one JSON object", FORMAT_REMEDY)
        yield row


def _problem_of(row: dict[str, Any], default_id: str, path: Path) -> Problem:
    """One checked row; UsageError, naming it, where a column is missing or the gold answer is no number."""
    identity = str(row.get("id") or default_id)
    question, answer, solution = row.get("question"), row.get("answer"), row.get("solution")
    if not (isinstance(question, str) and question.strip() and isinstance(answer, str)):
        raise UsageError(f"row {identity} of {path}", "a row has the texts `question` and `answer`", FORMAT_REMEDY)
    reasoning, mark, final = answer.rpartition("####")
    gold = gold_answer(final)
    if gold is None:
        raise UsageError(f"row {identity} of {path}", f"its gold answer is no number: {final[-80:]!r}", FORMAT_REMEDY)
    if mark and reasoning:
        solution = answer
    return Problem(id=identity, question=question, answer=gold, solution=solution if solution else None)
