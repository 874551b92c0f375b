"""The evaluation of suites: their metrics, several samples of each problem, and noise that all runs have in common."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from support.packs import give_v, open_pack, point

from tinylora.answers.rewards import Outcome, Score
from tinylora.models.find import MINIATURES
from tinylora.records.damage import damage_of
from tinylora.records.folder import RunFolder, Status, Unmirrored
from tinylora.records.items import ids_of
from tinylora.records.progress import Silent
from tinylora.settings.config import Adapter, AdapterConfig, EvalConfig, ModelConfig, Split
from tinylora.tasks.problem import Problem, Suite
from tinylora.tasks.sums import SumsTask
from tinylora.train.evaluate import evaluate, summarise
from tinylora.train.loop import run_pack
from tinylora.train.pack import Judged


class SuitesOfSums(SumsTask):
    """`sums` with suites of the test's choice, and the texts that were scored."""

    def __init__(self, *suites: Suite) -> None:
        self.chosen = list(suites)
        self.scored: list[tuple[str, str]] = []

    def suites(self, settings: EvalConfig) -> list[Suite]:
        return self.chosen

    def score_all(self, problems: Sequence[Problem], completions: Sequence[str]) -> list[Score]:
        self.scored += zip((problem.question for problem in problems), completions, strict=True)
        return super().score_all(problems, completions)


PROBLEMS = SumsTask().held_out(Split.test, 6)
ONE = EvalConfig(samples=1)


def test_a_suite_without_validation_gives_its_metrics_and_the_merge_check(tmp_path: Path) -> None:
    pack, _ = open_pack([point(tmp_path, eval=ONE), point(tmp_path, eval=ONE, seed=1)])
    give_v(pack)
    task = SuitesOfSums(Suite("test", PROBLEMS), Suite("aime24", PROBLEMS[:3], samples=4))
    found = evaluate(replace(pack, task=task), [0, 1], Silent())
    metrics = {lane: evaluation.metrics for lane, evaluation in found.items()}
    names = {name.rpartition("/")[0] for name in metrics[0] if name.count("/") == 2}
    assert names == {"eval/test", "eval/aime24"}
    assert all("eval/merge_kl" in lane and "eval/aime24/sampled_pass" in lane for lane in metrics.values())
    assert "eval/aime24/greedy_pass" not in metrics[0] and "eval/test/sampled_pass" not in metrics[0]
    assert len(task.scored) == 2 * (6 + 6 + 3 + 3 * 4)


def test_every_suite_has_as_many_samples_as_asked_and_small_ones_more(tmp_path: Path) -> None:
    pack, _ = open_pack([point(tmp_path, eval=EvalConfig(samples=3))])
    task = SuitesOfSums(Suite("test", PROBLEMS), Suite("aime24", PROBLEMS[:3], samples=4))
    (found,) = evaluate(replace(pack, task=task), [0], Silent()).values()
    assert [item.sampled_strict.shape for item in found.items] == [(6, 3), (3, 4)]
    assert "eval/test/sampled_pass" in found.metrics


def test_the_outcome_of_every_problem_is_that_of_its_answers(tmp_path: Path) -> None:
    two = EvalConfig(samples=2)
    pack, lanes = open_pack([point(tmp_path, eval=two), point(tmp_path, eval=two, seed=1)])
    give_v(pack)
    lanes[1].step = 7
    task = SuitesOfSums(Suite("test", PROBLEMS))
    found = evaluate(replace(pack, task=task), [0, 1], Silent())
    right = [
        score.strict is Outcome.correct
        for score in (task._score(Problem("", q, str(_sum(q)), None), text) for q, text in task.scored)
    ]
    for place, lane in enumerate((0, 1)):
        (item,) = found[lane].items
        own = right[place * 18 : (place + 1) * 18]
        assert item.greedy_strict.tolist() == own[::3]
        assert item.sampled_strict.tolist() == [[own[3 * n + 1], own[3 * n + 2]] for n in range(6)]
        assert item.greedy_strict.mean() == found[lane].metrics["eval/test/greedy_strict"]
        assert (item.step, item.suite, item.ids) == (lanes[lane].step, "test", ids_of(p.id for p in PROBLEMS))
    assert 0 < sum(right) < len(right), "the test needs right and wrong answers"


def _sum(question: str) -> int:
    return sum(map(int, question.rstrip("=").split("+")))


def test_each_lane_answers_every_problem_as_often_as_asked(tmp_path: Path) -> None:
    pack, _ = open_pack([point(tmp_path, eval=ONE), point(tmp_path, eval=ONE, seed=1)])
    task = SuitesOfSums(Suite("amc23", PROBLEMS[:2], samples=3))
    evaluate(replace(pack, task=task), [0, 1], Silent())
    expected = [problem.question for problem in PROBLEMS[:2] for _ in range(1 + 3)]
    assert [question for question, _ in task.scored] == expected * 2
    sampled = [answered for place, answered in enumerate(task.scored) if place % 4]  # the first of each is greedy
    first, second = sampled[:6], sampled[6:]
    assert first == second, "untrained lanes with the same noise say the same"
    assert len({text for _, text in first}) > 2, "samples of one problem have noise of their own"


def test_the_noise_is_a_function_of_the_suite(tmp_path: Path) -> None:
    pack, _ = open_pack([point(tmp_path, eval=ONE)])
    texts = {}
    for name, others in (("amc23", ()), ("aime24", ()), ("amc23 after another", (Suite("aime24", PROBLEMS[:2], 2),))):
        task = SuitesOfSums(*others, Suite(name.split()[0], PROBLEMS[:4], samples=2))
        evaluate(replace(pack, task=task), [0], Silent())
        texts[name] = task.scored[-12:]
    assert texts["amc23"] == texts["amc23 after another"]
    assert texts["amc23"] != texts["aime24"]


def test_avg_and_pass_at_k_by_hand() -> None:
    right, wrong = Score(Outcome.correct, Outcome.correct), Score(Outcome.wrong, Outcome.correct)
    scores = [right, wrong, wrong, wrong, right, right]  # two samples of each of three problems
    metrics = summarise(scores, [2, 4, 6, 8, 10, 12], samples=2)
    assert metrics["strict"] == pytest.approx(3 / 6)
    assert metrics["flexible"] == 1.0
    assert metrics["pass"] == pytest.approx(2 / 3)
    assert metrics["tokens"] == 7
    assert "pass" not in summarise(scores, [1] * 6)


def test_a_model_without_finite_probabilities_is_not_scored(outputs: Path, tmp_path: Path) -> None:
    model = tmp_path / "overflowing"
    shutil.copytree(MINIATURES / "miniature-qwen2", model)
    tensors = load_file(model / "model.safetensors")
    tensors["model.norm.weight"].fill_(3e38)  # each of them finite, the logits not
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    base = ModelConfig(path=str(model), device="cpu")
    untrained = point(outputs, model=base, adapter=AdapterConfig(Adapter.none))
    trained = [point(outputs, model=base, seed=seed) for seed in (0, 1)]
    for pack in ([untrained], trained):
        for again in (False, True):
            records = run_pack(pack, ["a", "b"][: len(pack)], Silent(), Unmirrored())
            assert {(record.status, record.skipped) for record in records} == {(Status.failed, again)}
            assert all("not finite" in (record.reason or "") for record in records)
        assert all(RunFolder(config).lines() == [] and damage_of(RunFolder(config)) is None for config in pack)


def test_a_lane_without_finite_probabilities_is_stopped_and_the_others_are_scored(tmp_path: Path) -> None:
    pack, lanes = open_pack([point(tmp_path, seed=seed) for seed in (0, 1)])
    lanes[1].v.data.fill_(float("nan"))
    found = evaluate(pack, [0, 1], Silent())
    assert "eval/test/greedy_strict" in found[0].metrics and list(found) == [0]
    assert lanes[0].failure is None and "not finite" in str(lanes[1].failure)


def test_verdicts_of_the_moment_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where only the flexible verdict is one: an evaluation that is remembered must not keep them."""
    pack, _ = open_pack([point(tmp_path)])
    assert evaluate(pack, [0], Silent())[0].unsure == []
    late = Judged(Score(Outcome.no_answer, Outcome.timeout), "")
    monkeypatch.setattr(type(pack), "judge", lambda self, problems, completions, kept: [late] * len(problems))
    assert evaluate(pack, [0], Silent())[0].unsure == ["validation", "test"]
