"""The YAML groups compose into the schema, and the schema gives points their identity, pack and name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from experiments.compose.composer import Composer
from experiments.compose.points import compose as compose_line
from experiments.compose.points import distinct
from experiments.compose.schema import register, to_run_config
from experiments.planning.packing import form_packs
from tinylora.records.progress import labels
from tinylora.settings.config import (
    Algorithm,
    Checker,
    Demonstrations,
    GrpoConfig,
    ModelConfig,
    PackConfig,
    Precision,
    RandomSearchConfig,
    RunConfig,
    SftConfig,
    TaskConfig,
    Template,
    TrackingConfig,
)
from tinylora.settings.errors import UsageError
from tinylora.settings.paths import as_entered
from tinylora.tasks.sources import TESTS, TRAINING

CONF = Path(__file__).parents[2] / "conf"
GROUPS = ("model", "task", "algorithm", "adapter", "rollout", "tracking")
OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
OPTIONS.remove(("model", "hub"))  # which stands for what has no file: tests/experiments/test_plan.py


@pytest.fixture
def hydra_conf() -> Iterator[None]:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def point(**settings: Any) -> RunConfig:
    model = ModelConfig(lr_constants={"sums/grpo": 0.15, "sums/sft": 0.15})
    return RunConfig(**({"model": model} | settings))


def composed(*overrides: str) -> RunConfig:
    return to_run_config(compose("config", overrides=list(overrides)))


def composer() -> Composer:
    loader = GlobalHydra.instance().config_loader()
    return Composer(loader, loader.load_configuration("config", [], RunMode.MULTIRUN))


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_of_every_group_composes(hydra_conf: None, group: str, option: str) -> None:
    config = composed(f"{group}={option}", "lr=0.1")
    chosen = getattr(config, group)
    if group in ("model", "task", "adapter"):
        assert getattr(chosen.name, "value", chosen.name) == option


def test_defaults_of_the_root_are_those_of_the_dataclasses(hydra_conf: None) -> None:
    config = composed()
    assert config.model.lr_constants, "the default model has no learning rate for lr=auto"
    model = ModelConfig(shape=config.model.shape, lr_constants=config.model.lr_constants)
    assert config == point(model=model, outputs_dir=str(Path("outputs").resolve()))


def test_algorithms_come_with_their_own_settings(hydra_conf: None) -> None:
    assert composed("algorithm=grpo", "algorithm.samples=4").algorithm == GrpoConfig(samples=4)
    assert composed("algorithm=sft", "algorithm.prompts=3").algorithm == SftConfig(prompts=3)
    searched = composed("algorithm=random_search", "algorithm.samples=1", "lr=0.01").algorithm
    assert searched == RandomSearchConfig(samples=1)


def test_completions_are_as_long_as_the_task_needs(hydra_conf: None) -> None:
    config = composed("task=gsm8k", "model=smollm2-135m")
    assert config.rollout.max_new_tokens == config.task.max_new_tokens == 512
    assert config.task.demonstrations is Demonstrations.foreign
    assert composed("rollout.max_new_tokens=7").rollout.max_new_tokens == 7
    assert composed("task=math", "lr=0.1").rollout.max_new_tokens == 3072


@pytest.mark.parametrize("name", TESTS)
def test_questions_are_asked_and_judged_as_their_sets_want(hydra_conf: None, name: str) -> None:
    task = composed(f"task={name}", "lr=0.1").task
    wanted = (Template.hash, Checker.numeric) if name == "gsm8k" else (Template.boxed, Checker.math)
    assert (task.template, task.checker) == wanted
    assert task.training_set in (None, *TRAINING.get(name, ()))


@pytest.mark.parametrize("given", ["task.generator_options={min_terms: 2}", "task.generator_options.min_terms=2"])
def test_the_names_in_a_mapping_are_the_users(hydra_conf: None, given: str) -> None:
    assert composed("task=reasoning_gym", given, "lr=0.1").task.generator_options == {"min_terms": 2}


def test_values_of_two_types_keep_the_given_one(hydra_conf: None) -> None:
    assert composed("n_tie=16").n_tie == 16
    assert composed("n_tie=all").n_tie == "all"
    assert composed("lr=1").learning_rate == 1.0
    config = composed("lr=auto", "u=3")
    assert config.learning_rate == config.model.lr_constants["sums/grpo"] / (3 + 8)


def test_an_algorithm_under_another_name_is_refused() -> None:
    with pytest.raises(UsageError, match="algorithm=sft"):
        point(algorithm=GrpoConfig(name=Algorithm.sft))


def test_points_of_one_model_go_together_in_order() -> None:
    other = ModelConfig(name="miniature-llama", lr_constants={"sums/grpo": 0.15})
    points = [point(u=1), point(u=1, model=other), point(u=13, seed=4), point(u=2, precision=Precision.bf16)]
    assert form_packs(points) == [[points[0], points[2], points[3]], [points[1]]]


def test_no_pack_has_more_lanes_than_asked_for() -> None:
    points = [point(seed=seed, pack=PackConfig(max_lanes=3)) for seed in range(7)]
    assert form_packs(points) == [points[:3], points[3:6], points[6:]]


def test_what_all_lanes_share_keeps_points_apart() -> None:
    points = [point(), point(rank=3), point(steps=9), point(algorithm=SftConfig()), point(rank=3, u=2)]
    assert form_packs(points) == [[points[0]], [points[1], points[4]], [points[2]], [points[3]]]


@pytest.mark.parametrize(
    "line",
    [
        "adapter=tinylora,full u=1,13 lr=1",
        "adapter=tinylora,lora n_tie=16 lr=1",
        "algorithm=grpo,sft task.demonstrations=own,foreign",
        "adapter=tinylora,none seed=0,1 lr=0.1",
        "n_tie=1,all sharing=tiled,structured",
        "task=sums,gsm8k task.template=boxed lr=1",
        "+paper=figure1 model=miniature-qwen2 u=1 seed=0 lr=1e-3",
        "u=1000 rank=2",
        "u=3 seed=0 u=3",
        "model=glob(miniature*) u=3",
        "u=range(1,4) ++steps=3",
    ],
)
def test_what_some_point_uses_is_no_mistake(line: str) -> None:
    assert compose_line(line.split()).points


def test_no_points_make_no_packs() -> None:
    assert form_packs([]) == []


def test_points_that_are_the_same_run_are_one() -> None:
    same = point(lr=0.15 / (13 + 8), task=TaskConfig(demonstrations=Demonstrations.foreign))
    points = [point(), point(seed=1), same, point(tracking=TrackingConfig(experiment="elsewhere"))]
    assert distinct(points) == points[:2]


def test_labels_name_what_varies() -> None:
    assert labels([point()]) == ["u=13 fp32 seed=0"]
    assert labels([point(u=1), point(u=13)]) == ["u=1", "u=13"]
    assert labels([point(u=1, precision=Precision.bf16), point(u=13, lr=0.5)]) == [
        "u=1 bf16 lr=auto",
        "u=13 fp32 lr=0.5",
    ]


def test_labels_name_an_algorithm_without_the_settings_that_come_with_it() -> None:
    assert labels([point(), point(algorithm=SftConfig())]) == ["algorithm=grpo", "algorithm=sft"]
    points = [point(), point(algorithm=GrpoConfig(samples=4)), point(algorithm=SftConfig())]
    assert labels(points) == [
        "algorithm=grpo algorithm.samples=8",
        "algorithm=grpo algorithm.samples=4",
        "algorithm=sft",
    ]


def test_labels_leave_out_where_things_lie() -> None:
    llama = ModelConfig(path="somewhere/llama", device="cpu", lr_constants={"sums/grpo": 1.0})
    assert labels([point(), point(model=llama, outputs_dir="elsewhere")]) == ["model=miniature-qwen2", "model=llama"]


WORDS = (
    "u=3 seed=7",
    "task=gsm8k model=smollm2-135m",
    "task=gsm8k model=smollm2-135m task.max_new_tokens=9",  # to which rollout.max_new_tokens refers
    "task.max_new_tokens=9 u=5",
    "rollout.max_new_tokens=7",
    "algorithm=sft algorithm.prompts=3 n_tie=16",
    "algorithm=sft task.demonstrations=foreign",
    "adapter=lora rank=4 lr=0.1 precision=bf16",
    "task=reasoning_gym task.generator_options.min_terms=2 lr=0.1",
    "task=reasoning_gym lr=0.1",
    "tracking=server",  # which refers to a variable of the environment
    "tracking=server u=4",
    "model.name=other +model.lr_constants={sums/sft:0.25}",
    "model.lr_constants={sums/grpo:0.5} u=2",
    "eval.suites=[] eval.test_items=3",
    "",
)


def test_points_that_are_composed_together_are_what_hydra_composes_of_each_alone(hydra_conf: None) -> None:
    together = composer()
    alone = [as_entered(OmegaConf.to_object(compose("config", overrides=words.split()))) for words in WORDS]
    for order in (list(range(len(WORDS))), list(range(len(WORDS)))[::-1], [2, 1, 2, 1, 10, 11, 10, 15, 12, 15]):
        for number in order:
            words = WORDS[number]
            assert together.point(words.split()) == alone[number], words


def test_a_variable_of_the_environment_is_read_for_every_point(
    hydra_conf: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = composer()
    for uri in ("http://one:1", "http://two:2"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert together.point(["tracking=server"]).tracking.uri == uri


@pytest.mark.parametrize("added", ["+nope=1", "+model.nope=1", "+rollout.nope=1"])
def test_a_point_that_adds_a_setting_is_refused_and_leaves_no_trace(hydra_conf: None, added: str) -> None:
    together = composer()
    before = together.point(["u=3"])
    with pytest.raises(UsageError, match="there is no setting"):
        together.point(["u=3", added])
    assert together.point(["u=3"]) == before
