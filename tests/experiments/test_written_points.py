"""Sweeps whose points were written down: trained by the minute without Hydra and MLflow, imported elsewhere."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.packs import At
from support.processes import run_without

from experiments import plan, questions, run, sweep
from experiments.command import MORE_TO_DO
from experiments.compose.points import compose
from experiments.compose.written import read_points
from tinylora.records.folder import RunFolder
from tinylora.records.import_runs import sync
from tinylora.records.stopping import StopRequest
from tinylora.settings.choices import Algorithm, Checker, Demonstrations, Split, Template
from tinylora.settings.config import EvalConfig, TaskConfig
from tinylora.settings.errors import UsageError
from tinylora.tasks import load_task
from tinylora.tasks.problem import split_of
from tinylora.tasks.question_sets import QuestionTask

ABSENT = "hydra,omegaconf,antlr4,mlflow,sqlalchemy,submitit,reasoning_gym,datasets,math_verify,trl,peft,pandas"
SMALL = (
    "u=1,13",
    "algorithm=grpo,sft",
    "lr=0.02",
    "steps=2",
    "algorithm.prompts=2",
    "rollout.max_new_tokens=24",
    "eval.test_items=4",
    "eval.validation_items=4",
    "model.device=cpu",
)


def write(folder: Path, *words: str) -> Path:
    file = folder / "points.json"
    assert plan.main(["--write", str(file), "-m", *SMALL, f"outputs_dir={folder / 'outputs'}", *words]) == 0
    return file


def run_here(monkeypatch: pytest.MonkeyPatch, file: Path, *others: str) -> int:
    monkeypatch.setattr("sys.argv", ["run.py", "--points", str(file), *others])
    return run.main()


def run_elsewhere(file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Train for some time in a process without the packages that a borrowed machine lacks."""
    return run_without(ABSENT, "experiments.run", "--points", str(file), *options)


def adapters(file: Path) -> dict[str, dict[str, torch.Tensor]]:
    points = read_points(file)
    return {point.run_key: load_file(point.folder / "adapter.safetensors") for point in points}


@pytest.mark.slow
def test_minutes_without_hydra_and_mlflow_end_where_an_uninterrupted_sweep_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, cut = write(tmp_path / "whole"), write(tmp_path / "cut")
    done = run_elsewhere(whole, "--minutes", "9")
    assert done.returncode == 0, done.stderr
    assert "pack 1 of 2: 2 finished, 2 waiting, about" in done.stderr and "pack 2 of 2: 4 finished\n" in done.stderr
    assert "hours: about" in done.stdout and done.stdout.count(" -> ") == 2 * 4  # sampled and greedy of each run
    stop = StopRequest()
    clock = At(1, lambda: stop.ask("a test is the clock"))  # in the first of two packs
    with monkeypatch.context() as patched:
        patched.setattr(run, "stop_after", lambda minutes: stop)
        patched.setattr(sweep, "open_progress", lambda title="": clock)
        assert run_here(patched, cut) == MORE_TO_DO
    said = capsys.readouterr().err
    assert "pack 1 of 2: 2 cut short, 2 waiting" in said and "the same command goes on from here" in said
    assert sorted(len(RunFolder(point).lines()) for point in read_points(cut)) == [0, 0, 2, 2]
    assert run_here(monkeypatch, cut) == 0
    for key, tensors in adapters(cut).items():
        torch.testing.assert_close(tensors, adapters(whole)[key], rtol=0, atol=0)
    moved = (tmp_path / "cut" / "outputs").rename(tmp_path / "elsewhere")
    assert sync(moved).runs == 4 and sync(moved).problems == []


def test_minutes_that_are_over_at_once_leave_everything_to_the_next_command(tmp_path: Path) -> None:
    file = write(tmp_path)
    done = run_elsewhere(file, "--minutes", "0")
    assert done.returncode == MORE_TO_DO and "the same command goes on from here" in done.stderr, done.stderr


def test_a_file_that_holds_no_points_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path)
    content = json.loads(file.read_text())
    for broken in ("", "[]", "{}", json.dumps({f"not-{key}": point for key, point in content.items()})):
        file.write_text(broken)
        assert run_here(monkeypatch, file) == 2
    assert run_here(monkeypatch, tmp_path / "missing.json") == 2
    assert run_here(monkeypatch, file, "u=1") == 2 and "composed already" in capsys.readouterr().err
    assert plan.main(["--write", str(file), "no_such=1"]) == 2
    assert "no_such" in capsys.readouterr().err


def test_the_study_has_its_most_telling_packs_first() -> None:
    composition = compose(["+study=smollm2"])
    packs = sweep.in_order(composition.points)
    assert not composition.notes and len(composition.points) == 288
    of = [
        (pack[0].algorithm.name.value, {p.precision.value for p in pack}, {p.sharing.value for p in pack}, len(pack))
        for pack in packs
    ]
    assert of == [
        ("grpo", {"fp32"}, {"tiled"}, 60),
        ("sft", {"fp32"}, {"tiled"}, 60),
        ("grpo", {"bf16"}, {"tiled"}, 60),
        ("grpo", {"fp32", "bf16"}, {"structured"}, 24),
        ("sft", {"bf16"}, {"tiled"}, 60),
        ("sft", {"fp32", "bf16"}, {"structured"}, 24),
    ]
    assert {(p.u, p.n_tie) for p in packs[0]} == {(1, "all"), (13, "all"), (120, "all"), (1000, "all"), (1, 16)}
    assert {p.seed for p in packs[0]} == {0, 1, 2}


OPTIONS = ["min_terms=3", "max_terms=3", "min_digits=1", "max_digits=1"]


def test_questions_that_are_written_down_are_read_without_their_generator(tmp_path: Path) -> None:
    pytest.importorskip("reasoning_gym")
    words = [str(tmp_path), "sums", "chain_sum", *OPTIONS, "--train", "120", "--held-out", "10"]
    assert questions.main(words) == 0
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert questions.main(words) == 0 and first == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    config = TaskConfig(
        "reasoning_gym",
        folder=str(tmp_path),
        training_set="sums",
        template=Template.plain,
        checker=Checker.numeric,
        generator="chain_sum",
    )
    task = load_task(config, solutions=True)
    assert isinstance(task, QuestionTask) and task.name == "reasoning_gym"
    parts = {split: task.held_out(split, 1000) for split in (Split.train, Split.validation, Split.test)}
    assert [len(problems) for problems in parts.values()] == [120, 10, 10]
    assert all(split_of(problem.question) is split for split, problems in parts.items() for problem in problems)
    assert [suite.samples for suite in task.suites(EvalConfig(samples_per_item=3))] == [1, 3]
    problem = parts[Split.train][0]
    text = task.demonstration(problem, Demonstrations.foreign)
    assert text == f"The answer is {problem.answer}." and task.score_all([problem], [text])[0].reward == 1.0


def test_questions_need_a_folder_a_generator_and_options_with_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="read from a folder"):
        load_task(TaskConfig("reasoning_gym", training_set="sums"))
    pytest.importorskip("reasoning_gym")
    for words, said in (
        (["chain_sums"], "chain_sum"),
        (["chain_sum", "max_terms"], "name=value"),
        (["chain_sum", "max_terms={"], "max_terms"),
    ):
        assert questions.main([str(tmp_path), "sums", *words]) == 2
        assert said in capsys.readouterr().err


def test_both_algorithms_of_the_study_take_their_own_batches() -> None:
    points = compose(["+study=smollm2", "seed=0"]).points
    assert {(p.algorithm.name, p.algorithm.prompts) for p in points} == {(Algorithm.grpo, 16), (Algorithm.sft, 64)}
