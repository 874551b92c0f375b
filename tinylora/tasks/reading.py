"""Rows of a data set, from a folder of JSON lines or from the Hugging Face hub, in one form and checked."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tinylora.answers.extraction import last_box
from tinylora.settings.errors import UsageError
from tinylora.settings.given_files import GIB, Unreadable, json_of, read_regular, text_of, unzipped
from tinylora.settings.rules import why_not_text
from tinylora.tasks.download import fetch
from tinylora.tasks.problem import Problem
from tinylora.tasks.prompts import answer_in_a_sentence
from tinylora.tasks.sources import SOURCES, Source

FORMAT_REMEDY = (
    'give rows of the texts "question" and "answer" (and "id", "solution" where there are such), '
    "or original GSM8K rows, whose answer ends in `#### <number>`"
)
LARGEST = GIB  # of the text of a set: all of it is held at once
NO_ANSWER = ("", "None")  # what sources write where an answer was lost


@dataclass(frozen=True)
class Row:
    """One row; texts as in the source."""

    id: str
    question: str
    answer: str | None
    """None: the source has lost it."""
    solution: str | None


@dataclass(frozen=True)
class DataSet:
    """The rows of a set, and where they were read from."""

    name: str
    rows: tuple[Row, ...]
    from_hub: bool
    commit: str | None = None
    """The commit on the hub, where it is known."""

    @cached_property
    def digest(self) -> str:
        """16 hex digits of the rows: the same wherever and however compressed they lie."""
        return hashlib.sha256(json.dumps([astuple(row) for row in self.rows]).encode()).hexdigest()[:16]


def read_set(name: str, folder: str | None, revision: str) -> DataSet:
    """The set `name` of SOURCES. Raises UsageError for a wrong folder, file or row, FailureError for a dead hub."""
    if folder is not None:
        text, path = _read_text(Path(folder), name)
        where, commit = str(path), None
        rows = [_row_of(raw, f"{name}/{number}", where) for number, raw in enumerate(_json_lines(text, path))]
    else:
        source = SOURCES[name]
        where = f"{source.repository} on the hub"
        raws, commit = fetch(name, source, revision)
        rows = [_row_of(_renamed(raw, source, name), f"{name}/{number}", where) for number, raw in enumerate(raws)]
    if not rows:
        raise UsageError(where, "the data set holds no rows", FORMAT_REMEDY)
    return DataSet(name, tuple(rows), folder is None, commit)


def same_text(question: str) -> str:
    """What two questions have in common that are the same up to white space and case."""
    return "".join(question.split()).casefold()


def _read_text(folder: Path, name: str) -> tuple[str, Path]:
    for path in (folder / f"{name}.jsonl.gz", folder / f"{name}.jsonl"):
        if os.path.lexists(path):
            break
    else:
        raise UsageError(
            f"task.folder={folder}",
            f"it must hold {name}.jsonl or {name}.jsonl.gz" if os.path.isdir(folder) else "the folder does not exist",
            f"give task.folder=<folder> with {name}.jsonl[.gz], or none, to read from the Hugging Face hub",
        )
    try:
        content = read_regular(path, LARGEST)
        text = text_of(unzipped(content, LARGEST) if path.suffix == ".gz" else content)
    except Unreadable as error:
        raise UsageError(f"{path}", f"it cannot be read to its end: {error}", "copy the file again") from error
    if "\r" in text and "\n" not in text:
        raise UsageError(f"{path}", "lines end in a line feed, and here in carriage returns alone", "convert the file")
    return text, path


def _json_lines(text: str, path: Path) -> Iterator[dict[str, Any]]:
    # Not through `datasets`: that takes 2 s instead of 0.05, leaves lock files in the home folder, turns numbers into
    # texts and names no row in its errors. Nor by splitlines: a question may hold U+2028.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json_of(line)
            if not isinstance(row, dict):
                raise Unreadable("it is something else")
        except Unreadable as error:
            raise UsageError(
                f"{path} line {number}", f"every line is one JSON object: {error}", FORMAT_REMEDY
            ) from error
        yield row


def _row_of(raw: Mapping[str, Any], default_id: str, where: str) -> Row:
    """One checked row; UsageError, naming it, where a column is missing or of another type."""
    identity = str(raw.get("id") or default_id)
    question, answer, solution = raw.get("question"), raw.get("answer", 0), raw.get("solution")
    right = isinstance(question, str) and question.strip() and (answer is None or isinstance(answer, str))
    if not (right and (solution is None or isinstance(solution, str))):
        raise UsageError(f"row {identity} of {where}", "a row has the texts `question` and `answer`", FORMAT_REMEDY)
    assert isinstance(question, str)
    for text in (identity, question, answer or "", solution or ""):
        if (reason := why_not_text(text)) is not None:
            raise UsageError(f"row {identity!r} of {where}", f"a row holds {reason}", "correct or remove the row")
    reasoning, mark, final = (answer or "").rpartition("####")
    if mark and reasoning:
        solution = answer
    return Row(identity, question, None if final.strip() in NO_ANSWER else final, solution or None)


def _renamed(raw: Mapping[str, Any], source: Source, name: str) -> dict[str, Any]:
    """A row of the hub under our names."""
    solution = _text(raw, source.solution)
    answer = last_box(solution or "") if source.answer is None else _text(raw, source.answer)
    identity = _text(raw, source.id)
    if identity is not None and "/" not in identity:
        identity = f"{name}/{identity}"
    return {"id": identity, "question": _text(raw, source.question), "answer": answer, "solution": solution}


def _text(raw: Any, path: str | None) -> str | None:
    """The value of a column as text; the first of a list; None for a missing one."""
    if path is None:
        return None
    value = raw
    for part in path.split("."):
        value = value[part] if isinstance(value, Mapping) else None
    if isinstance(value, list):
        value = value[0] if value else None
    return None if value is None else str(value)


def question_line(problem: Problem) -> str:
    """A problem as a line of a question file; one without a solution has the answer in a sentence, to learn from."""
    solution = problem.solution or answer_in_a_sentence(problem.answer)
    row = {"id": problem.id, "question": problem.question, "answer": problem.answer, "solution": solution}
    return json.dumps(row) + "\n"
