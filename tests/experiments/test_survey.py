"""`experiments.questions survey`: its table follows from its lines; it goes on where it was; what can teach is kept."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from experiments import questions
from tinylora.settings.choices import Checker, Split, Template
from tinylora.settings.config import RunConfig, TaskConfig
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
    held_out = task_of(RunConfig(lr=1.0)).held_out(Split.validation, 80)
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


def test_what_is_right_now_and_then_is_kept_and_is_what_is_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for part, count in (("train", 80), ("test", 9)):
        rows = [{"question": f"{part} {i}: what is {i} + 1?", "answer": str(i + 1)} for i in range(count)]
        (tmp_path / f"gsm8k-{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def every_third(_: object, name: str, problems: Any, samples: int, progress: object) -> survey.Tried:
        right, count = [i % 3 for i in range(len(problems))], len(problems)
        return survey.Tried([p.id for p in problems], samples, right, right, [0] * count, count, 0, 1.0)

    monkeypatch.setattr("tinylora.train.pack.load_pack", lambda *_: None)
    monkeypatch.setattr(survey, "try_problems", every_third)
    asked = ["survey", "task=gsm8k", f"task.folder={tmp_path}", "task.template=boxed", "--split", "train"]
    assert (
        questions.main([*asked, "--problems", "40", "--keep", str(tmp_path / "sets" / "some"), "--between", "1", "1"])
        == 0
    )
    printed = capsys.readouterr().out
    words = dict(word.split("=") for word in printed.rpartition("train with: ")[2].split())
    assert words["task.checker"] == "numeric"
    template, checker = Template(words["task.template"]), Checker(words["task.checker"])
    config = TaskConfig(
        words["task"], words["task.folder"], training_set=words["task.training_set"], template=template, checker=checker
    )
    whole = task_of(RunConfig(lr=1.0, task=TaskConfig("gsm8k", str(tmp_path), template=template, checker=checker)))
    kept = task_of(RunConfig(lr=1.0, task=config))
    first = whole.held_out(Split.train, 40)
    assert [p.question for p in kept.held_out(Split.train, 99)] == [p.question for p in first[1::3]]
    for split in (Split.validation, Split.test):
        assert [p.question for p in kept.held_out(split, 99)] == [p.question for p in whole.held_out(split, 99)]
    assert kept.prompt(first[1]) == whole.prompt(first[1])


def test_a_model_without_probabilities_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate_suite = survey.evaluate_suite

    def failing(pack: Any, *others: Any) -> Any:
        pack.lanes[0].failure = "the model's probabilities are not finite at step 0"
        return evaluate_suite(pack, *others)[0], {}

    monkeypatch.setattr(survey, "evaluate_suite", failing)
    assert questions.main([*SUMS, "--problems", "4"]) == 1
    assert "probabilities are not finite" in capsys.readouterr().err


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
        (["--split", "train", "--keep", "sets/x", "--between", "3", "2"], "--between 3 2"),
        (["--split", "train", "--keep", "sets/x", "--between", "1", "9"], "--between 1 9"),
        (["--split", "train", "--keep", "sets/x", "--samples", "1"], "--samples 1"),
        (["--split", "train", "--keep", "x"], "--keep with task=sums"),
        (["--keep", "sets/x"], "--split validation"),
        (["--split", "train", "--keep", "x", "rollout.temperature=0.5,1"], "--keep with a sweep"),
        (["--between", "1", "2"], "--between"),
        (["--out="], "this is a folder"),
        (["--split", "train", "--keep="], "it names a question set"),
        (["--out", "/"], "--out /"),
        (["eval.test_items=3,4"], "eval.test_items=3,4"),
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
