"""`experiments.questions survey`: its table follows from its lines; it goes on where it was; what can teach is kept."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from experiments import questions
from tinylora.settings.config import RunConfig
from tinylora.tasks import task_of
from tinylora.train import survey

SUMS = ("survey", "model=miniature-qwen2", "task=sums")


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def row_of(printed: str, last: int = 1) -> dict[str, str]:
    heading, *rows = [line.split() for line in printed.splitlines() if line]
    return dict(zip(heading, rows[-last], strict=True))


def test_the_table_follows_from_the_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert questions.main([*SUMS, "--problems", "80", "--samples", "3", "--out", str(tmp_path / "out.jsonl")]) == 0
    first, second = lines_of(tmp_path / "out.jsonl")
    assert (len(first["problems"]), len(second["problems"])) == (64, 16)
    strict = [*first["strict"], *second["strict"]]
    row = row_of(capsys.readouterr().out)
    assert row["problems"] == "80"
    assert row["strict"] == f"{sum(strict) / 240:.3f}"
    assert row["pass"] == f"{fmean(count > 0 for count in strict):.3f}"
    assert row["mixed"] == f"{fmean(0 < count < 3 for count in strict):.3f}"
    assert row["tokens"] == f"{(first['tokens'] + second['tokens']) / 240:.1f}"
    assert 0.2 < float(row["mixed"]) < 1
    held_out = task_of(RunConfig(lr=1.0)).held_out(questions.Split.validation, 80)
    assert [*first["problems"], *second["problems"]] == [problem.id for problem in held_out]


def test_it_goes_on_where_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.jsonl"
    asked = [*SUMS, "--out", str(out), "--problems"]
    assert questions.main([*asked, "64"]) == 0
    table = capsys.readouterr().out
    with out.open("a") as file:
        file.write('\n{"key": "cut in the mid')
    tried: list[str] = []
    try_problems = survey.try_problems

    def counting(pack: Any, name: str, *others: Any) -> survey.Tried:
        tried.append(name)
        return try_problems(pack, name, *others)

    monkeypatch.setattr(survey, "try_problems", counting)
    assert questions.main([*asked, "64"]) == 0
    assert capsys.readouterr().out == table
    assert tried == []
    assert questions.main([*asked, "70"]) == 0
    assert tried == ["validation-65"]
    assert len(lines_of(out)) == 2
    assert questions.main([*asked, "64", "rollout.temperature=0.5"]) == 0
    assert questions.main([*asked, "64", "--samples", "2"]) == 0
    assert questions.main([*asked, "64", "--split", "train"]) == 0
    assert tried[1:] == ["validation-1", "validation-1", "train-1"]


def test_what_is_right_now_and_then_is_kept_and_can_be_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, keep = tmp_path / "out.jsonl", tmp_path / "sets" / "mixed"
    asked = [*SUMS, "--split", "train", "--out", str(out), "--keep", str(keep), "--between", "1", "2"]
    assert questions.main(asked) == 0
    (line,) = lines_of(out)
    wanted = [id for id, count in zip(line["problems"], line["strict"], strict=True) if 1 <= count <= 2]
    rows = [json.loads(text) for text in (tmp_path / "sets" / "mixed-train.jsonl").read_text().splitlines()]
    assert 0 < len(wanted) < 64
    assert [row["id"] for row in rows] == wanted
    assert "1 to 2 of 4 samples were right" in capsys.readouterr().out
    problems = {problem.id: problem for problem in task_of(RunConfig(lr=1.0)).held_out(questions.Split.train, 64)}
    for row in rows:
        assert (row["question"], row["answer"]) == (problems[row["id"]].question, problems[row["id"]].answer)
        assert row["solution"]


def test_what_is_swept_has_a_column(capsys: pytest.CaptureFixture[str]) -> None:
    few = ("--problems", "8", "--samples", "2")
    assert questions.main(["survey", "task=sums", "model=miniature-qwen2,miniature-llama", *few]) == 0
    printed = capsys.readouterr().out
    assert [row_of(printed, last)["model.name"] for last in (2, 1)] == ["miniature-qwen2", "miniature-llama"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--problems", "0"], "--problems 0"),
        (["--samples", "-1"], "--samples -1"),
        (["--keep", "sets/x", "--between", "3", "2"], "--between 3 2"),
        (["--keep", "sets/x", "--between", "1", "9"], "--between 1 9"),
        (["task=aime24", "task.folder=/nowhere"], "/nowhere"),
        (["rollout.temperatur=1"], "temperatur"),
        (["u=1"], "u=1"),
    ],
)
def test_what_cannot_be_asked_is_said_in_three_parts(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = [word for word in SUMS if not any(each.startswith("task=") for each in words) or not word.startswith("task=")]
    assert questions.main([*own, *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "rule:" in error and "remedy:" in error
    assert list(tmp_path.iterdir()) == []
