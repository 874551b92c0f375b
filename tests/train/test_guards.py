"""Guards: each is shown by a run that cannot learn, a healthy one stays silent, and `stop` ends that run alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.packs import At, interrupt, point

from experiments.compose.points import compose
from tinylora.adapters.adapter_file import read_safetensors
from tinylora.records.folder import STATE, SUMMARY, RunFolder, RunRecord, Status, Unmirrored
from tinylora.records.measured import MetricLine
from tinylora.records.progress import Silent
from tinylora.settings.config import (
    EvalConfig,
    GrpoConfig,
    ModelConfig,
    OnNoSignal,
    RolloutConfig,
    RunConfig,
    SftConfig,
    Strict,
    TaskConfig,
    Template,
)
from tinylora.train.guards import NO_SIGNAL_STEPS, Kind, Watch
from tinylora.train.loop import run_pack
from tinylora.train.recorder import FolderRecorder

BROKEN = {"u": 13, "lr": 0.2}  # a rate that leaves nothing of the model after a step
HEALTHY = {"u": 13, "lr": 0.0071}
GROUPS = GrpoConfig(prompts=16, samples=4)
ADDITION = {"operators": ["+"], "allow_parentheses": False, "allow_negation": False, "max_digits": 2}
AS_A_SUM = (  # "Calculate 7 + 5 + 2." and the asked-for form, as the miniature knows sums: 7+5+2=
    "{% for m in messages %}{% if m.role == 'user' %}"
    "{% set sum = m.content.split('\\n')[0].replace('Calculate ', '').replace('.', '').replace(' ', '') %}"
    "<bos>{{ sum }}=WORKED{% else %}{{ m.content }}<eos>{% endif %}{% endfor %}"
)
WORKED = (  # all of the way but its end: 7+5=12;12+2=14;#
    "{% set n = sum.split('+') %}{% if n|length == 3 %}{% set two = n[0]|int + n[1]|int %}"
    "{{ n[0] }}+{{ n[1] }}={{ two }};{{ two }}+{{ n[2] }}={{ two + n[2]|int }};#{% endif %}"
)


class Told(Silent):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """Keep it."""
        self.warnings.append(text)


def run(configs: Sequence[RunConfig], progress: Silent | None = None) -> list[RunRecord]:
    return run_pack(configs, [f"lane {number}" for number in range(len(configs))], progress or Silent(), Unmirrored())


def lines(config: RunConfig, upto: int = 10**9) -> list[tuple[int, dict[str, float]]]:
    """The recorded steps without what a clock says."""
    return [
        (line.step, {name: value for name, value in line.metrics.items() if not name.startswith("time/")})
        for line in RunFolder(config).lines()
        if line.step <= upto
    ]


def warned(config: RunConfig) -> dict[str, tuple[int, float]]:
    """The recorded warnings of a run by name: at which step, since when."""
    return {
        name.removeprefix("warning/"): (step, value)
        for step, metrics in lines(config)
        for name, value in metrics.items()
        if name.startswith("warning/")
    }


def additions(outputs: Path, template: Template, worked: str = "", **changes: Any) -> RunConfig:
    """Additions made by reasoning-gym, put as the miniature knows them; the answer is asked for by a template."""
    outputs.mkdir(parents=True, exist_ok=True)
    chat = outputs / "as_a_sum.jinja"
    chat.write_text(AS_A_SUM.replace("WORKED", worked))
    options = ADDITION | {"min_terms": 3, "max_terms": 3, "min_digits": 2}
    task = TaskConfig("reasoning_gym", generator="basic_arithmetic", generator_options=options, template=template)
    return point(outputs, model=ModelConfig(device="cpu", chat_template=str(chat)), task=task, **changes)


def test_a_healthy_run_is_silent(tmp_path: Path) -> None:
    config, told = point(tmp_path, steps=NO_SIGNAL_STEPS + 4, algorithm=GROUPS, **HEALTHY), Told()
    (record,) = run([config], told)
    assert (told.warnings, list(record.warnings), warned(config)) == ([], [], {})
    last = lines(config)[-1][1]
    assert 0 < last["train/token_entropy"] < 1 and last["train/flexible"] >= last["train/reward"] > 0


def test_a_rate_that_breaks_the_model_is_told_once_with_a_smaller_one(tmp_path: Path) -> None:
    config, told = point(tmp_path, steps=NO_SIGNAL_STEPS + 6, **BROKEN), Told()
    (record,) = run([config], told)
    step, since = warned(config)["no_signal"]
    assert step - since == NO_SIGNAL_STEPS - 1
    text = next(text for text in record.warnings if text.startswith("no signal"))
    assert f"no signal since step {since:.0f}: " in text and "learning rate" in text and "lr=0.04" in text
    assert told.warnings == [f"lane 0: {warning}" for warning in record.warnings], "each once"
    assert f"python -m experiments.samples {config.folder}" in text
    assert record.status is Status.finished, "it is said, and no more"


def test_completions_that_are_cut_are_told_with_more_tokens(tmp_path: Path) -> None:
    config = point(tmp_path, steps=5, rollout=RolloutConfig(max_new_tokens=3))
    (record,) = run([config])
    assert warned(config)["cut"] == (5, 1)
    assert "100% of the completions reach 3 tokens" in record.warnings[-1]
    assert "rollout.max_new_tokens=6" in record.warnings[-1]


def test_completions_that_have_become_short_are_told(tmp_path: Path) -> None:
    config = point(tmp_path, steps=9, u=1, n_tie=2, lr=0.24, algorithm=GROUPS, rollout=RolloutConfig(64))
    (record,) = run([config])
    (kind,) = warned(config)
    assert kind == "short" and "5 tokens where it was 17 at the first step" in record.warnings[0]


def test_samples_that_are_all_the_same_are_told_with_the_temperature(tmp_path: Path) -> None:
    config = point(tmp_path, steps=5, u=1, lr=1e-6, rollout=RolloutConfig(48, temperature=0.001))
    (record,) = run([config])
    assert warned(config)["same"] == (5, 1)
    assert "rollout.temperature=0.001 " in record.warnings[0] and "rollout.temperature=1 " in record.warnings[0]


def test_another_form_than_the_asked_for_is_told_and_the_remedy_learns(tmp_path: Path) -> None:
    pytest.importorskip("reasoning_gym")
    config = additions(tmp_path, Template.boxed, steps=5, **HEALTHY)
    (record,) = run([config])
    assert warned(config) == {"no_form": (5, 1)}
    (text,) = record.warnings
    assert "the form `boxed`" in text and "0% are right" not in text and text.endswith("with task.template=plain")
    mended = additions(tmp_path, Template.plain, steps=5, **HEALTHY)
    (record,) = run([mended])
    assert record.warnings == () and lines(mended)[-1][1]["train/reward"] > 0.1


def test_a_lane_that_has_learnt_everything_is_not_called_broken(tmp_path: Path) -> None:
    pytest.importorskip("reasoning_gym")
    few = GrpoConfig(prompts=2, samples=2)
    given: dict[str, Any] = {"u": 1, "lr": 1e-6, "algorithm": few, "on_no_signal": OnNoSignal.stop}
    config = additions(tmp_path, Template.plain, WORKED, steps=NO_SIGNAL_STEPS + 2, **given)
    (record,) = run([config])
    assert record.status is Status.finished, "what it has learnt counts"
    assert lines(config)[-1][1]["train/reward"] == 1
    assert list(warned(config)) == ["nothing_left"]
    assert "nothing left to learn" in record.warnings[0] and "none is needed" in record.warnings[0]


def test_sft_has_no_groups_and_is_not_watched(tmp_path: Path) -> None:
    config = point(tmp_path, algorithm=SftConfig(prompts=4), steps=NO_SIGNAL_STEPS + 1, lr=0.5)
    (record,) = run([config])
    assert record.status is Status.finished and record.warnings == ()


def mixed(outputs: Path, what: OnNoSignal) -> list[RunConfig]:
    """Healthy lanes on both sides of one that loses its signal; all are evaluated meanwhile."""
    changes: dict[str, Any] = {
        "steps": NO_SIGNAL_STEPS + 8,
        "on_no_signal": what,
        "eval": EvalConfig(every=7, test_items=6, validation_items=4),
    }
    healthy = [point(outputs, u=u, seed=seed, **changes) for u, seed in ((13, 0), (5, 2))]
    lrs = [replace(config, lr=0.15 / (config.u + 8)) for config in healthy]
    return [lrs[0], point(outputs, seed=1, **BROKEN, **changes), lrs[1]]


@pytest.fixture(scope="module")
def going(tmp_path_factory: pytest.TempPathFactory) -> list[RunConfig]:
    """The mixed lanes after they have trained to the end, undisturbed, with `warn`."""
    configs = mixed(tmp_path_factory.mktemp("going"), OnNoSignal.warn)
    assert [record.status for record in run(configs)] == [Status.finished] * 3
    return configs


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> list[RunConfig]:
    """The same with `stop`."""
    configs = mixed(tmp_path_factory.mktemp("stopped"), OnNoSignal.stop)
    assert [record.status for record in run(configs)] == [Status.finished, Status.failed, Status.finished]
    return configs


def test_stop_ends_the_lane_without_signal_and_no_other_changes_by_a_bit(
    going: list[RunConfig], stopped: list[RunConfig]
) -> None:
    (_, ended, _) = again = run(stopped)
    assert [record.skipped for record in again] == [True] * 3, "it has ended, and is not trained further"
    assert ended.reason is not None and ended.reason.startswith("no signal since step ")
    step, metrics = lines(stopped[1])[-1]
    assert step == warned(stopped[1])["no_signal"][0] < going[1].steps
    assert metrics["eval/test/sampled_strict"] == 0 and ended.summary["eval/test/sampled_strict"] == 0
    without = {name: value for name, value in metrics.items() if not name.startswith(("eval/", "samples/"))}
    assert without.items() <= dict(lines(going[1]))[step].items(), "up to there nothing is other than with `warn`"
    assert lines(stopped[1], step - 1) == lines(going[1], step - 1)
    for place in (0, 2):
        assert lines(stopped[place]) == lines(going[place])
        one, other = (read_safetensors(configs[place].folder / STATE)[0] for configs in (going, stopped))
        assert all(one[name].equal(other[name]) for name in one) and one["v"].abs().max() > 0


@pytest.mark.parametrize(
    ("what", "at"),
    [
        (OnNoSignal.warn, NO_SIGNAL_STEPS + 4),
        (OnNoSignal.stop, 5),
        (OnNoSignal.stop, NO_SIGNAL_STEPS + 1),
        (OnNoSignal.stop, NO_SIGNAL_STEPS + 4),
    ],
)
def test_a_pack_that_was_killed_neither_repeats_nor_loses_a_warning(
    what: OnNoSignal, at: int, tmp_path: Path, going: list[RunConfig], stopped: list[RunConfig]
) -> None:
    whole, cut = going if what is OnNoSignal.warn else stopped, mixed(tmp_path, what)
    first, second = At(at, interrupt), Told()
    told: list[str] = []
    first.warn = told.append  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run(cut, first)
    found, wanted = run(cut, second), run(whole)
    assert [lines(config) for config in cut] == [lines(config) for config in whole]
    assert [(record.status, record.reason) for record in found] == [(r.status, r.reason) for r in wanted]
    for record, other in zip(found, wanted, strict=True):
        assert [text.splitlines()[:2] for text in record.warnings] == [t.splitlines()[:2] for t in other.warnings]
    assert sorted(told + second.warnings) == sorted(f"lane 1: {text}" for text in found[1].warnings) != []


def test_a_lane_that_was_killed_as_it_ended_is_not_trained_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = point(tmp_path, steps=NO_SIGNAL_STEPS + 8, on_no_signal=OnNoSignal.stop, **BROKEN)
    conclude = FolderRecorder.conclude

    def killed(self: FolderRecorder, lane: Any, status: Status, reason: str | None = None) -> None:
        if status is Status.failed:
            raise KeyboardInterrupt
        conclude(self, lane, status, reason)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(FolderRecorder, "conclude", killed)
        run([config])
    before, told = lines(config), Told()
    (record,) = run([config], told)
    assert record.status is Status.failed and record.reason is not None and record.reason.startswith("no signal")
    assert lines(config) == before and told.warnings == []


def test_warn_is_no_part_of_a_run_and_stop_is() -> None:
    plain = RunConfig(lr=0.1)
    assert "on_no_signal" not in plain.scientific()
    assert RunConfig(lr=0.1, on_no_signal=OnNoSignal.warn).run_key == plain.run_key
    stop = RunConfig(lr=0.1, on_no_signal=OnNoSignal.stop)
    assert stop.run_key != plain.run_key and stop.pack_key != plain.pack_key
    sft = RunConfig(lr=0.1, algorithm=SftConfig())
    assert replace(sft, on_no_signal=OnNoSignal.stop).run_key == sft.run_key


def watch_of(
    config: RunConfig, steps: int = NO_SIGNAL_STEPS, first_reward: float | None = None, **train: float
) -> Watch:
    """What some steps with these metrics show, after a first one with this reward where it is given."""
    usual = {
        "reward": 0.0,
        "flexible": 0.0,
        "zero_variance": 1.0,
        "outcome/no_answer": 0.0,
        "truncated": 0.0,
        "completion_tokens": 50.0,
        "token_entropy": 0.3,
    }
    metrics = {f"train/{name}": value for name, value in (usual | train).items()}
    watch = Watch(config)
    first = [] if first_reward is None else [metrics | {"train/reward": first_reward, "train/zero_variance": 0.0}]
    watch.see_again(MetricLine(step, 0.0, each) for step, each in enumerate([*first, *[metrics] * steps], start=1))
    return watch


GENERATED = {"name": "reasoning_gym", "generator": "chain_sum"}
REMEDIES: dict[str, tuple[dict[str, Any], dict[str, float], str]] = {  # task, metrics, the settings that are offered
    "form of made problems": (GENERATED, {"flexible": 0.4}, "task.template=plain"),
    "no form asked for": (GENERATED | {"template": Template.plain}, {"outcome/no_answer": 1.0}, "task.template=boxed"),
    "cut": ({}, {"truncated": 0.9}, "rollout.max_new_tokens=128"),
    "sure": ({}, {"token_entropy": 1e-4}, "rollout.temperature=2"),
    "hard": ({}, {}, "algorithm.samples=16"),
}


@pytest.mark.parametrize("case", REMEDIES)
def test_a_remedy_is_a_command_that_can_be_composed(case: str) -> None:
    task, metrics, offered = REMEDIES[case]
    settings = TaskConfig(**({"template": Template.boxed} | task)) if task else TaskConfig()
    alert = watch_of(RunConfig(lr=0.1, task=settings), **metrics).of_kind(Kind.no_signal)
    assert alert is not None and f"the same command with {offered}" in alert.remedy
    given = ["lr=0.1", *([f"task={task['name']}", f"task.generator={task['generator']}"] if task else [])]
    assert compose([*given, *offered.split()]).points


def test_a_rate_far_above_the_known_one_is_to_become_that() -> None:
    for rate, offered in ((5.0, "lr=auto"), (0.02, "lr=0.004")):
        (config,) = compose([f"lr={rate}", "u=13"]).points
        assert config.model.lr_constants
        alert = watch_of(config, first_reward=0.6).of_kind(Kind.no_signal)
        assert alert is not None and f"the same command with {offered}" in alert.remedy


def test_a_rule_of_a_protocol_is_given_up_with_its_form() -> None:
    config = RunConfig(lr=0.1, task=TaskConfig("gsm8k", template=Template.hash, strict=Strict.verl))
    alert = watch_of(config, **{"outcome/no_answer": 1.0}).of_kind(Kind.no_form)
    assert alert is not None and "task.template=boxed task.strict=form" in alert.remedy


@pytest.mark.parametrize(("limit", "offered"), [(64, "rollout.max_new_tokens=128"), (128, "lr=auto")])
def test_no_more_tokens_are_offered_than_the_model_can_read(limit: int, offered: str) -> None:
    (config,) = compose([f"rollout.max_new_tokens={limit}", "lr=0.1"]).points
    assert config.model.shape is not None and config.model.shape.context == 256
    alert = watch_of(config, truncated=0.9).of_kind(Kind.cut)
    assert alert is not None and alert.remedy.endswith(f"with {offered}")


def test_groups_that_differ_once_in_ten_steps_are_a_signal() -> None:
    watch = watch_of(RunConfig(lr=0.1), steps=NO_SIGNAL_STEPS - 1)
    metrics = {"train/reward": 0.01, "train/zero_variance": 15 / 16, "train/completion_tokens": 50.0}
    assert watch.see(NO_SIGNAL_STEPS, metrics) == [] == watch.alerts


def test_a_summary_with_warnings_that_are_no_texts_is_damaged(tmp_path: Path) -> None:
    config = point(tmp_path, steps=1)
    run([config])
    summary = json.loads((config.folder / SUMMARY).read_text())
    (config.folder / SUMMARY).write_text(json.dumps(summary | {"warnings": [5]}))
    assert RunFolder(config).status() is Status.damaged
