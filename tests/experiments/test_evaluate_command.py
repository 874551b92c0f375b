"""`experiments.evaluate` on trained runs: it finds what they measured, goes on where it ended, and refuses."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.packs import point, steps_in_mlflow
from transformers import AutoModelForCausalLM

from analysis.page.report import make_files
from analysis.records.load import load as load_records
from experiments import evaluate
from tinylora.adapters.attach import load, save_peft
from tinylora.models.find import MINIATURES
from tinylora.records.archive_check import check_run
from tinylora.records.choice import SCORE
from tinylora.records.evaluations import EVALUATIONS, Evaluated, read_evaluations
from tinylora.records.folder import ADAPTER, ITEMS, LOCK, SUMMARY, RunFolder, Unmirrored
from tinylora.records.items import ItemLine, read_items
from tinylora.records.kept import KEPT
from tinylora.records.progress import Silent
from tinylora.records.reading import DamagedError
from tinylora.settings.config import EvalConfig, Precision, RunConfig
from tinylora.train import evaluated
from tinylora.train.loop import run_pack

STEPS = 4
EVAL = EvalConfig(every=2, test_items=8, validation_items=6, samples=2)
SUITES = ("validation", "test")


def points(outputs: Path) -> list[RunConfig]:
    lanes: list[dict[str, Any]] = [{"u": 13}, {"u": 5, "seed": 1}, {"u": 2, "precision": Precision.bf16}]
    return [point(outputs, steps=STEPS, lr=0.02, eval=EVAL, **lane) for lane in lanes]


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs = tmp_path_factory.mktemp("trained") / "outputs"
    run_pack(points(outputs), ["a", "b", "c"], Silent(), Unmirrored())
    return outputs


@pytest.fixture
def trained(once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of trained runs; MLflow is left alone."""
    monkeypatch.setattr(evaluate, "_mirror", lambda adapters: None)
    shutil.copytree(once, tmp_path / "outputs")
    yield tmp_path / "outputs"


def call(capsys: pytest.CaptureFixture[str], *words: object, status: int = 0) -> tuple[str, str]:
    """What the command prints on stdout and stderr."""
    capsys.readouterr()
    found = evaluate.main([str(word) for word in words])
    printed = capsys.readouterr()
    assert found == status, printed.err
    return printed.out, printed.err


def same(line: ItemLine) -> Any:
    return json.loads(line.text())


def assert_measured(config: RunConfig, lines: list[Evaluated], step: int) -> None:
    """That these lines, one for each suite, say what the run itself measured at a step, to the last bit."""
    own = RunFolder(config).lines()[step].metrics
    assert {line.suite for line in lines} == set(SUITES) and len(lines) == len(SUITES)
    assert {line.step for line in lines} == {step}
    for line in lines:
        beginning = f"eval/{line.suite}/"
        assert line.metrics == {name: value for name, value in own.items() if name.startswith(beginning)}
        items = [each for each in read_items(config.folder / ITEMS) if (each.step, each.suite) == (step, line.suite)]
        assert [same(line.outcomes)] == [same(each) for each in items]


def files_of(outputs: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(outputs)): path for path in sorted(outputs.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if path.name not in (EVALUATIONS, LOCK)}


def test_the_last_step_is_what_the_runs_measured_and_all_else_stays(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_of(trained)
    out, err = call(capsys, trained)
    said = set()
    for config in points(trained):
        lines = read_evaluations(config.folder)
        assert_measured(config, lines, STEPS)
        check_run(config.folder)
        said.add(tuple(lines[0].metrics[f"eval/validation/sampled_{name}"] for name in ("flexible", "tokens")))
    assert len(said) == 3 and max(said)[0] > 0, "the adapters differ, and answer rightly now and then"
    assert files_of(trained) == before
    assert out.count("\n") == 1 + 3 * len(SUITES) and "6 evaluations made, 0 were there already" in err
    again, err = call(capsys, trained)
    assert again == out and "all 6 evaluations were there already" in err


def test_a_step_is_what_the_run_measured_there_and_best_is_by_validation(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = points(trained)[0]
    call(capsys, config.run_key[:6], "--step", 2, "--outputs-dir", trained)
    assert_measured(config, read_evaluations(config.folder), 2)
    call(capsys, config.folder, "--step", "best")
    scores = {line.step: line.metrics[SCORE] for line in RunFolder(config).lines() if SCORE in line.metrics}
    best = min(step for step, score in scores.items() if score == max(scores.values()))
    assert {line.step for line in read_evaluations(config.folder)} == {2, best}


def test_adapters_one_by_one_are_worth_what_they_are_in_one_batch(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for config in points(trained):
        call(capsys, config.folder, "eval.suites=[test]")
        (line,) = read_evaluations(config.folder)
        assert line.metrics == {
            name: value for name, value in RunFolder(config).lines()[-1].metrics.items() if name.startswith("eval/test")
        }


def test_it_goes_on_with_what_lacks_results(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    add, answer = evaluated.add_evaluation, evaluated.evaluate_suite

    def until_killed(folder: Path, line: Evaluated) -> None:
        if len(list(trained.glob(f"*/{EVALUATIONS}"))) == 2:
            raise KeyboardInterrupt
        add(folder, line)

    def noting(pack: Any, lanes: Any, suite: Any, progress: Any) -> Any:
        asked.append(len(lanes))
        return answer(pack, lanes, suite, progress)

    monkeypatch.setattr(evaluated, "add_evaluation", until_killed)
    monkeypatch.setattr(evaluated, "evaluate_suite", noting)
    _, err = call(capsys, trained, status=130)
    assert "the same command resumes" in err
    monkeypatch.setattr(evaluated, "add_evaluation", add)
    call(capsys, trained)
    assert sorted(asked) == [1, 3, 3], "validation of all; then of the one that lacks it, and test of all"
    for config in points(trained):
        assert_measured(config, read_evaluations(config.folder), STEPS)


def test_other_settings_are_another_evaluation(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = points(trained)[0].folder
    for words in (("eval.suites=[test]",), ("eval.suites=[test]", "eval.test_items=5"), ("eval.suites=[test]",)):
        call(capsys, folder, *words)
    assert [len(line.outcomes.greedy_strict) for line in read_evaluations(folder)] == [8, 5]


def test_files_and_peft_folders_are_evaluated_where_they_lie(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = points(trained)[0]
    (tmp_path / "alone").mkdir()
    file = shutil.copy(config.folder / ADAPTER, tmp_path / "alone")
    model = AutoModelForCausalLM.from_pretrained(MINIATURES / "miniature-qwen2")
    save_peft(model, load(model, file), tmp_path / "peft")
    settings = ["eval.test_items=8", "eval.samples=2", "eval.suites=[test]", "rollout.max_new_tokens=48"]
    call(capsys, file, tmp_path / "peft", "model=miniature-qwen2", "model.device=cpu", *settings)
    call(capsys, config.folder, "eval.suites=[test]")
    (of_run,) = read_evaluations(config.folder)
    for place in ("alone", "peft"):
        (found,) = read_evaluations(tmp_path / place)
        assert found.step is None and found.file is not None
        assert found.metrics == of_run.metrics and found.key == of_run.key


def test_mlflow_has_what_the_folders_have(once: Path, outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tinylora.records.mirror import Mirror

    for config in points(once)[:2]:
        shutil.copytree(config.folder, outputs / config.run_key)
    for words in (("eval.suites=[test]",), ("eval.suites=[test]",), ("eval.suites=[test]", "--step", 2)):
        call(capsys, outputs, *words)
    for config in points(outputs)[:2]:
        mirror = Mirror(config)
        (run,) = mirror.client.search_runs([mirror.experiment], f"tags.run_key = '{config.run_key}'")
        history = mirror.client.get_metric_history(run.info.run_id, "after/test/sampled_strict")
        lines = RunFolder(config).lines()
        expected = {(step, lines[step].metrics["eval/test/sampled_strict"]) for step in (2, STEPS)}
        assert len(history) == 2 and {(each.step, each.value) for each in history} == expected
        assert steps_in_mlflow(config) == list(range(STEPS + 1)), "the run's own metrics stay as they are"
        (artifact,) = outputs.glob(f"mlflow-artifacts/{run.info.run_id}/artifacts/{EVALUATIONS}")
        assert artifact.read_bytes() == (config.folder / EVALUATIONS).read_bytes()
    evaluated_in_report = make_files(load_records(points(outputs)[0].tracking_uri, "tinylora"))["evaluated.csv"]
    shown = pd.read_csv(io.BytesIO(evaluated_in_report)).set_index(["run_key", "step"])
    for config in points(outputs)[:2]:
        for step in (2, STEPS):
            score = RunFolder(config).lines()[step].metrics["eval/test/sampled_strict"]
            assert shown.loc[(config.run_key, step), "sampled_strict"] == pytest.approx(score)


def test_a_file_that_was_changed_is_damage_and_the_run_is_whole(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = points(trained)[0].folder
    call(capsys, folder, "eval.suites=[test]")
    path = folder / EVALUATIONS
    whole = json.loads(path.read_text())
    value = whole["metrics"]["eval/test/greedy_strict"]
    other = whole | {"metrics": whole["metrics"] | {"eval/test/greedy_strict": value + 0.125}}
    for content in (json.dumps(other) + "\n", json.dumps(whole), json.dumps(whole | {"file": "0" * 16}) + "\n"):
        path.write_text(content)
        with pytest.raises(DamagedError, match="the run is whole without"):
            check_run(folder)
        _, err = call(capsys, folder, "eval.suites=[test]", status=1)
        assert f"{path} is damaged" in err


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    _, err = call(capsys, *words, status=2)
    assert err.count("\n  rule:   ") == 1 and err.count("\n  remedy: ") == 1 and "Traceback" not in err
    return err


def test_what_cannot_be_evaluated_is_refused(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third = points(trained)
    assert "ffff: no run" in refused(capsys, "ffff", "--outputs-dir", trained)
    assert "none is named" in refused(capsys, "eval.suites=[test]")
    assert "of this run 0, 2, 4" in refused(capsys, first.folder, "--step", 3)
    assert "--step final" in refused(capsys, first.folder, "--step", "final")
    assert "sums" in refused(capsys, first.folder, "eval.suites=[math500]")
    assert "lr=3" in refused(capsys, first.folder, "lr=3")
    assert "give one value" in refused(capsys, first.folder, "eval.samples=1,2")
    assert "singular values" in refused(capsys, first.folder / ADAPTER, "model=miniature-llama")
    assert "a file holds one v" in refused(capsys, first.folder / ADAPTER, "--step", "best")
    (first.folder / KEPT).unlink()
    assert "of this run none" in refused(capsys, first.folder, "--step", 2)
    for config in (first, second):
        (config.folder / SUMMARY).unlink()
        (config.folder / ADAPTER).unlink()
    assert "which is running" in refused(capsys, first.folder)
    out, err = call(capsys, trained, "eval.suites=[test]")
    assert third.run_key in out and second.run_key not in out
    assert f"left out: run {second.run_key} (u=5" in err
    (third.folder / SUMMARY).unlink()
    assert "no run has finished" in refused(capsys, trained)
    assert "no run" in refused(capsys, tmp_path)


def test_a_model_that_was_replaced_is_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = points(trained)[0]
    shutil.copytree(MINIATURES / "miniature-llama", tmp_path / "miniature-qwen2")
    said = refused(capsys, config.folder, f"model.path={tmp_path / 'miniature-qwen2'}")
    assert "an adapter is of the model that it was trained on" in said
