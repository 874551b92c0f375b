"""What is kept of completions is what the rollouts said, whichever lane and step they are of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.packs import open_pack, point, steps_in_mlflow

from tinylora.answers import read_answer
from tinylora.engine.sampling import Request, Rollout
from tinylora.records.folder import RunFolder, Status, Unmirrored
from tinylora.records.mirrored import TABLE
from tinylora.records.progress import Silent
from tinylora.records.samples import LINES, SAMPLES, Sample, read_samples
from tinylora.settings.choices import Split, Strict, Template
from tinylora.settings.config import (
    Adapter,
    AdapterConfig,
    EvalConfig,
    GrpoConfig,
    RandomSearchConfig,
    RunConfig,
    SftConfig,
)
from tinylora.tasks.sums import SumsTask
from tinylora.train import evaluate, sampled
from tinylora.train.loop import run_pack
from tinylora.train.samples import EVERY, MOST_GROUPS, PROBLEMS, evaluated_rows, is_due

STEPS, SAMPLED = 6, 2
EVAL = EvalConfig(every=4, test_items=PROBLEMS + 3, validation_items=2, samples=SAMPLED)


def points(outputs: Path) -> list[RunConfig]:
    return [point(outputs, u=u, seed=u, steps=STEPS, eval=EVAL) for u in (13, 5)]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[RunConfig], dict[str, list[Rollout]]]:
    """Two lanes that were trained together, and the rollouts of their training and of their evaluations."""
    configs = points(tmp_path_factory.mktemp("recorded"))
    rollouts: dict[str, list[Rollout]] = {"sampled": [], "evaluate": []}

    def noting(name: str, real: Callable[..., Rollout]) -> Callable[..., Rollout]:
        def roll_out(engine: Any, request: Request, *tell: Any) -> Rollout:
            rollouts[name].append(real(engine, request, *tell))
            return rollouts[name][-1]

        return roll_out

    with pytest.MonkeyPatch.context() as patched:
        for module in (sampled, evaluate):
            name = module.__name__.rpartition(".")[2]
            patched.setattr(module, "roll_out", noting(name, module.roll_out))
        run_pack(configs, ["a", "b"], Silent(), Unmirrored())
    return configs, rollouts


def samples_of(config: RunConfig) -> list[Sample]:
    samples, wrong = read_samples(config.folder / SAMPLES)
    assert wrong is None
    return samples


def assert_said(sample: Sample, rollout: Rollout, row: int, decode: Callable[[list[list[int]]], list[str]]) -> None:
    """That a record is of this row of a rollout."""
    length = int(rollout.lengths[row])
    logp = rollout.logp[row, :length]
    assert [sample.completion] == decode([rollout.completion(row)]) and sample.tokens == length
    assert sample.logp_mean == pytest.approx(float(logp.mean()), abs=1e-4)
    assert sample.logp_least == pytest.approx(float(logp.min()), abs=1e-4)
    assert sample.reward == float(sample.right)
    task = SumsTask()
    (problem,) = (p for p in [*HELD_OUT, *_trained_on(sample)] if p.id == sample.problem)
    (score,) = task.score_all([problem], [sample.completion])
    assert (sample.strict, sample.flexible) == (score.strict.name, score.flexible.name)
    assert (sample.prompt, sample.gold) == (problem.question, problem.answer)
    assert sample.right is (sample.completion.endswith(f"#{sample.gold}"))
    assert not sample.right or sample.answer == sample.gold


HELD_OUT = [p for split in (Split.validation, Split.test) for p in SumsTask().held_out(split, PROBLEMS + 3)]


def _trained_on(sample: Sample) -> list[Any]:
    seeds = (13, 5) if sample.suite == "train" else ()
    found = {p.id: p for seed in seeds for p in SumsTask().batch(seed, sample.step, 4)}
    return list(found.values())


def test_every_evaluation_keeps_the_same_problems_greedily_and_sampled(
    recorded: tuple[list[RunConfig], dict[str, list[Rollout]]],
) -> None:
    configs, rollouts = recorded
    decode = open_pack(configs)[0].decode
    for number, config in enumerate(configs):
        evaluated = [sample for sample in samples_of(config) if sample.suite != "train"]
        assert sorted({sample.step for sample in evaluated}) == [0, 4, STEPS]
        for place, step in enumerate((0, 4, STEPS)):
            for suite, items in (("validation", 2), ("test", PROBLEMS + 3)):
                own = [sample for sample in evaluated if (sample.step, sample.suite) == (step, suite)]
                kept = min(PROBLEMS, items)
                assert [sample.kind for sample in own] == ["greedy", "sample"] * kept
                rollout = rollouts["evaluate"][2 * place + (suite == "test")]
                first = 0 if step == 0 else number * items  # step 0 is one evaluation for both
                for at, sample in enumerate(own):
                    assert_said(sample, rollout, (first + at // 2) * (1 + SAMPLED) + at % 2, decode)


def test_a_group_now_and_then_is_kept_by_its_best_and_worst(
    recorded: tuple[list[RunConfig], dict[str, list[Rollout]]],
) -> None:
    configs, rollouts = recorded
    decode, differing = open_pack(configs)[0].decode, 0
    for number, config in enumerate(configs):
        groups = [sample for sample in samples_of(config) if sample.suite == "train"]
        assert [(sample.step, sample.kind) for sample in groups] == [
            (step, kind) for step in (1, 1 + EVERY) for kind in ("best", "worst")
        ]
        for best, worst in zip(groups[::2], groups[1::2], strict=True):
            rollout, problems = rollouts["sampled"][best.step - 1], SumsTask().batch(config.seed, best.step, 4)
            texts = decode([rollout.completion(row) for row in range(number * 16, number * 16 + 16)])
            right = [text.endswith(f"#{problems[place // 4].answer}") for place, text in enumerate(texts)]
            mixed = [place for place in range(4) if len(set(right[4 * place : 4 * place + 4])) == 2]
            chosen = mixed[0] if mixed else 0
            assert best.problem == worst.problem == problems[chosen].id
            rows = range(number * 16 + 4 * chosen, number * 16 + 4 * chosen + 4)
            ordered = sorted(
                rows, key=lambda row: (right[row - number * 16], float(rollout.logp[row].sum() / rollout.lengths[row]))
            )
            assert_said(best, rollout, ordered[-1], decode)
            assert_said(worst, rollout, ordered[0], decode)
            differing += best.right and not worst.right
    assert differing, "the test needs a group whose rewards differ"


def test_metrics_count_the_records(recorded: tuple[list[RunConfig], dict[str, list[Rollout]]]) -> None:
    for config in recorded[0]:
        steps = [sample.step for sample in samples_of(config)]
        for line in RunFolder(config).lines():
            assert line.metrics[LINES] == sum(step <= line.step for step in steps)


def test_long_runs_keep_no_more_groups_than_short_ones(tmp_path: Path) -> None:
    assert [step for step in range(1, 12) if is_due(point(tmp_path, steps=11), step)] == [1, 6, 11]
    for steps in (500, 501, 12_345):
        due = [step for step in range(1, steps + 1) if is_due(point(tmp_path, steps=steps), step)]
        assert due[0] == 1 and MOST_GROUPS / 2 < len(due) <= MOST_GROUPS


def test_rows_that_are_kept_are_the_first_of_each_lane() -> None:
    assert evaluated_rows(lanes=2, problems=2, completions=3) == [
        {0: "greedy", 1: "sample", 3: "greedy", 4: "sample"},
        {6: "greedy", 7: "sample", 9: "greedy", 10: "sample"},
    ]
    assert [len(rows) for rows in evaluated_rows(3, 100, 5)] == [2 * PROBLEMS] * 3
    assert min(evaluated_rows(3, 100, 5)[2]) == 2 * 100 * 5


@pytest.mark.parametrize(
    ("changes", "suites"),
    [
        ({"algorithm": SftConfig(prompts=2)}, ["test", "validation"]),
        ({"algorithm": GrpoConfig(prompts=2, samples=2)}, ["test", "train", "validation"]),
        ({"algorithm": RandomSearchConfig(prompts=2, samples=2)}, ["test", "train", "validation"]),
        ({"adapter": AdapterConfig(Adapter.none)}, ["test", "validation"]),
    ],
)
def test_each_kind_of_run_keeps_what_it_has_and_mlflow_a_table(
    changes: dict[str, Any], suites: list[str], outputs: Path
) -> None:
    config = point(outputs, steps=2, eval=EvalConfig(test_items=2, validation_items=2), **changes)
    (record,) = run_pack([config], ["a"], Silent())
    assert record.status is Status.finished
    samples = samples_of(config)
    assert sorted({sample.suite for sample in samples}) == suites
    assert [sample.kind for sample in samples if sample.suite == "train"] == ["best", "worst"] * ("train" in suites)
    assert steps_in_mlflow(config) == list(range(config.training_steps + 1))
    (table,) = outputs.glob(f"mlflow-artifacts/*/artifacts/{TABLE}")
    assert len(json.loads(table.read_text())["data"]) == sum(sample.suite != "train" for sample in samples)


@pytest.mark.parametrize(
    ("text", "template", "strict", "answer"),
    [
        ("so \\boxed{7}.", Template.boxed, Strict.form, "7"),
        ("so 7.\n#### 8", Template.hash, Strict.form, "8"),
        ("so the answer is 7.", Template.boxed, Strict.form, "7"),
        ("so\n#### 1,700", Template.hash, Strict.verl, "1700"),
        ("so \\boxed{\\frac12}", Template.boxed, Strict.simplerl, "\\frac12"),
        ("it cannot be known", Template.boxed, Strict.form, None),
    ],
)
def test_the_answer_that_is_shown_is_read_by_the_rule_or_wherever_it_stands(
    text: str, template: Template, strict: Strict, answer: str | None
) -> None:
    assert read_answer(text, template, strict) == answer
