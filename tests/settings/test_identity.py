"""Which settings make a run another run: declared at every setting, and never changed for what has been recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from typing import Any, get_type_hints

import pytest

from tinylora.records.archive import read
from tinylora.settings import identity
from tinylora.settings.algorithms import ALGORITHMS
from tinylora.settings.config import (
    Adapter,
    AdapterConfig,
    Demonstrations,
    ModelConfig,
    Precision,
    RolloutConfig,
    Rounding,
    RunConfig,
    SftConfig,
    Strict,
    TaskConfig,
    Template,
    as_plain,
    flatten,
)
from tinylora.settings.errors import UsageError
from tinylora.settings.identity import Role, hashed_settings, setting
from tinylora.settings.recorded import from_plain


def all_settings(schema: Any, prefix: str = "") -> Iterator[tuple[str, Field[Any]]]:
    """Every setting by its dotted name; `algorithm` has those of all algorithms."""
    kinds = get_type_hints(schema)
    for each in fields(schema):
        if is_dataclass(kinds[each.name]):
            for option in ALGORITHMS.values() if each.name == "algorithm" else (kinds[each.name],):
                yield from all_settings(option, f"{prefix}{each.name}.")
        else:
            yield prefix + each.name, each


def test_every_setting_is_declared_as_identity_lane_place_or_note() -> None:
    undeclared = [name for name, each in all_settings(RunConfig) if not isinstance(each.metadata.get("role"), Role)]
    assert undeclared == [], "declare them with setting(default, role), see tinylora/settings/identity.py"


def test_what_may_differ_between_lanes_is_what_always_could() -> None:
    """Another list here means that packs are formed in another way, or that a run's identity has changed."""
    differs = {name for name, each in all_settings(RunConfig) if each.metadata["role"].differs_in_pack}
    assert differs == {
        "u",
        "n_tie",
        "sharing",
        "precision",
        "rounding",
        "lr",
        "seed",
        "projection_seed",
        "task.demonstrations",
        "model.lr_constants",
        "model.shape",
        "paper",
    }
    unhashed = {name for name, each in all_settings(RunConfig) if not each.metadata["role"].hashed}
    assert {"outputs_dir", "tracking.uri", "pack.max_lanes", "model.device", "task.folder", "paper"} <= unhashed
    assert not {"u", "seed", "steps", "model.dtype", "rollout.temperature", "eval.test_items"} & unhashed


def test_recorded_runs_keep_their_keys(study_archive: dict[str, dict[str, bytes]]) -> None:
    import yaml

    for key, files in list(study_archive.items())[::2]:
        written = yaml.safe_load(files["config.yaml"])
        assert "recipe" not in written["config"], "these records are older than the recipe"
        config = from_plain(written["config"])
        assert config.run_key == key and config.recipe == 1
        assert json.loads(json.dumps(config.scientific())) == written["scientific"]


@pytest.fixture(scope="module")
def study_archive() -> dict[str, dict[str, bytes]]:
    from support.study_store import RECIPE_1

    return read(RECIPE_1)


def test_a_setting_added_later_changes_no_old_key() -> None:
    @dataclass(frozen=True)
    class Later(RunConfig):
        nucleus: float = setting(0.9, Role.identity, absent=1.0)

    old, at_old_value = RunConfig(lr=0.1), Later(lr=0.1, nucleus=1.0)
    assert at_old_value.run_key == old.run_key
    assert Later(lr=0.1).run_key != old.run_key, "another value than old runs had is another run"


def test_a_raised_recipe_makes_other_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinylora.settings.config.RECIPE", 2)
    old, new = RunConfig(lr=0.1, recipe=1), RunConfig(lr=0.1, recipe=2)
    assert "recipe" not in old.scientific() and new.scientific()["recipe"] == 2
    assert old.run_key != new.run_key and old.pack_key != new.pack_key
    plain = as_plain(old)
    del plain["recipe"]  # as records are that were made before there was one
    assert from_plain(plain) == old


@pytest.mark.parametrize("recipe", [0, identity.RECIPE + 1])
def test_an_unknown_recipe_is_refused(recipe: int) -> None:
    with pytest.raises(UsageError, match=f"recipe={recipe}"):
        RunConfig(lr=0.1, recipe=recipe)


def test_what_a_run_does_not_use_is_not_hashed() -> None:
    full = RunConfig(lr=0.1, adapter=AdapterConfig(name=Adapter.full))
    assert not {"u", "n_tie", "sharing", "rank", "adapter.solver"} & flatten(hashed_settings(full)).keys()
    hub = RunConfig(lr=0.1, model=ModelConfig("a", hub="b/a", revision="v2"))
    assert hub.scientific()["model"] == {"name": "a", "dtype": "fp32", "revision": "v2"}
    local = replace(hub, model=replace(hub.model, path="somewhere/a"))
    assert local.scientific()["model"] == {"name": "a", "dtype": "fp32"}


def test_defaults_of_settings_are_kept() -> None:
    """`setting` gives a field its default, or its own list or mapping for each object."""
    assert all(
        each.default is not MISSING or each.default_factory is not MISSING for _, each in all_settings(RunConfig)
    )
    assert RunConfig(lr=0.1).eval.suites is not RunConfig(lr=0.1).eval.suites


def test_rollout_settings_change_the_identity_and_places_do_not() -> None:
    config = RunConfig(lr=0.1)
    assert RunConfig(lr=0.1, outputs_dir="elsewhere").run_key == config.run_key
    assert RunConfig(lr=0.1, rollout=RolloutConfig(max_new_tokens=5)).run_key != config.run_key


def of_kind(kind: Adapter, **changes: Any) -> RunConfig:
    return RunConfig(**({"lr": 0.003, "rank": 3, "adapter": AdapterConfig(kind)} | changes))


def test_settings_that_an_adapter_does_not_use_are_no_part_of_its_runs() -> None:
    for kind, unused in {
        Adapter.lora_xs: {"u": 5},
        Adapter.lora: {"u": 5, "n_tie": 3},
        Adapter.full: {"u": 5, "n_tie": 3, "rank": 7},
        Adapter.none: {"rank": 7, "seed": 4, "lr": 1.0, "steps": 9, "algorithm": SftConfig()},
    }.items():
        assert of_kind(kind).run_key == of_kind(kind, **unused).run_key
    keys = {of_kind(kind).run_key for kind in Adapter}
    assert len(keys) == len(Adapter)


def test_settings_that_old_runs_did_not_have_change_no_key_of_theirs() -> None:
    old = as_plain(RunConfig(task=TaskConfig("gsm8k", template=Template.boxed), lr=1.0))
    for group, name in (
        ("task", "system_message"),
        ("task", "max_prompt_tokens"),
        ("algorithm", "entropy_coefficient"),
    ):
        value = old[group].pop(name)
        assert not value and name not in from_plain(old).scientific()[group]
    sft = as_plain(RunConfig(algorithm=SftConfig(), lr=1.0))
    del sft["algorithm"]["attempts"]
    assert "attempts" not in from_plain(sft).scientific()["algorithm"]


def test_settings_of_conversations_and_demonstrations_count_where_they_are_used() -> None:
    def changed(name: str, task: dict[str, Any], **run: Any) -> bool:
        return name in flatten(RunConfig(task=TaskConfig(**task), lr=1.0, **run).scientific())

    asked = {"system_message": "You are a helpful assistant.", "max_prompt_tokens": 1024}
    for name in asked:
        assert changed(f"task.{name}", {"name": "gsm8k"} | asked)
        assert not changed(f"task.{name}", asked), "sums are no conversation, and presets in small keep their settings"
    untrained = AdapterConfig(Adapter.none)
    assert not changed("task.max_prompt_tokens", {"name": "gsm8k"} | asked, adapter=untrained)
    sampled = {"demonstrations": Demonstrations.sampled}
    assert changed("algorithm.attempts", sampled, algorithm=SftConfig())
    assert not changed("algorithm.attempts", sampled)
    assert not changed("algorithm.attempts", {}, algorithm=SftConfig())


def test_a_strict_rule_is_part_of_the_identity_where_it_is_another_than_the_form_and_is_used() -> None:
    def keys(**task: Any) -> dict[str, Any]:
        config = RunConfig(task=TaskConfig(**task), lr=1.0)
        assert from_plain(as_plain(config)) == config
        return config.scientific()["task"]

    questions = {"name": "gsm8k", "template": Template.hash}
    assert "strict" not in keys(**questions), "runs that were recorded before it was a setting keep their run_key"
    assert keys(**questions, strict=Strict.verl)["strict"] == "verl"
    assert "strict" not in keys(name="sums", strict=Strict.verl)
    old = as_plain(RunConfig(task=TaskConfig(**questions), lr=1.0))
    del old["task"]["strict"]
    assert from_plain(old).task.strict is Strict.form


def test_auto_draws_other_projections_for_each_seed_and_model_and_is_the_number_it_resolves_to() -> None:
    configs = [RunConfig(lr=0.1, seed=seed, model=ModelConfig(name)) for seed in (0, 1) for name in ("a", "b")]
    roots = [config.projection_root for config in configs]
    assert len(set(roots)) == 4 and all(0 <= root < 2**31 for root in roots)
    given = [replace(config, projection_seed=config.projection_root) for config in configs]
    assert [config.run_key for config in given] == [config.run_key for config in configs]
    other = replace(configs[0], projection_seed=3)
    assert other.run_key != configs[0].run_key and other.pack_key == configs[0].pack_key
    assert configs[0].scientific()["projection_seed"] == roots[0]


def test_only_tinylora_of_this_recipe_has_a_projection_seed() -> None:
    old = RunConfig(lr=0.1, seed=4, recipe=2)
    assert old.projection_root == 4 and "projection_seed" not in old.scientific()
    assert replace(old, projection_seed=9).run_key == old.run_key
    for kind in Adapter:
        keys = {of_kind(kind, projection_seed=root).run_key for root in (1, 2)}
        assert len(keys) == (2 if kind is Adapter.tinylora else 1)


@pytest.mark.parametrize("root", [-1, "random"])
def test_a_projection_seed_is_a_number_or_auto(root: int | str) -> None:
    with pytest.raises(UsageError, match=f"projection_seed={root}"):
        RunConfig(lr=0.1, projection_seed=root)


def test_rounding_is_part_of_the_identity_where_it_is_another_than_old_runs_had() -> None:
    old = RunConfig(lr=0.1, precision=Precision.bf16)
    plain = as_plain(old)
    del plain["rounding"], plain["projection_seed"]
    assert from_plain(plain) == old and "rounding" not in old.scientific()
    assert replace(old, rounding=Rounding.master).scientific()["rounding"] == "master"
