"""Families of models, at miniature size: what is accepted is read right, and what cannot be is refused by name.

Reports of left padding, windows and positions that were read wrongly in silence: huggingface/transformers#16595,
huggingface/transformers#14521, huggingface/transformers#22161, huggingface/transformers#24694.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import reference
from support.families import CONTEXT, EAGER, REFUSED, RIGHT, family_folder
from support.packs import give_v, open_pack, point

from tinylora.adapters.attach import attach
from tinylora.engine import known_layouts
from tinylora.engine.known_layouts import layout_of
from tinylora.engine.rollout import roll_out
from tinylora.engine.sampling import Request, Sampling
from tinylora.models.load import load
from tinylora.settings.choices import Adapter, Attention, Split
from tinylora.settings.config import AdapterConfig, ModelConfig, RolloutConfig, RunConfig
from tinylora.settings.errors import UsageError
from tinylora.settings.files import CACHE_VARIABLE
from tinylora.train import grpo
from tinylora.train.inputs import check_inputs


def point_on(folder: Path, family: str, **changes: object) -> RunConfig:
    attention = Attention.eager if family in EAGER else Attention.sdpa
    model = ModelConfig(path=str(folder), device="cpu", attention=attention)
    return point(folder.parent, model=model, **changes)


FAST = ("GPT-Neo", "BART", "OPT")


@pytest.mark.parametrize(
    "kind", [kind if kind.startswith(FAST) else pytest.param(kind, marks=pytest.mark.slow) for kind in RIGHT]
)
def test_rollouts_and_gradients_are_those_of_every_completion_alone(tmp_path: Path, kind: str) -> None:
    family, settings, layout = RIGHT[kind]
    folder = family_folder(tmp_path / "model", family, settings)
    configs = [point_on(folder, family, u=u) for u in (3, 40)]
    check_inputs(configs)
    pack, lanes = open_pack(configs)
    assert (pack.engine.layout.trees, pack.engine.layout.reading) == layout
    give_v(pack, scale=0.5)

    prompts = pack.encode_prompts(pack.task.held_out(Split.test, 4))
    noise = torch.rand((8, 16), generator=torch.Generator().manual_seed(0))
    request = Request(prompts, torch.tensor([0, 1, 0, 1]), noise, Sampling(16), samples=2)
    rollout = roll_out(pack.engine, request)
    assert [rollout.completion(row) for row in range(8)] == [reference.decode(pack, request, row) for row in range(8)]

    completions = rollout.completions(request.prompts, request.lane_of_prompt)
    advantages = torch.randn(8, generator=torch.Generator().manual_seed(0))
    found = grpo.accumulate(pack, completions, rollout.logp, advantages)
    for lane in lanes:
        assert found["train/prob_diff"][lane.index] < 1e-5
        wanted = reference.grpo_gradient(pack, lane.index, completions, rollout.logp, advantages)
        assert lane.v.grad is not None
        assert (lane.v.grad - wanted).norm() < 2e-4 * wanted.norm() > 0


@pytest.mark.parametrize("kind", ["OPT, which flattens rows", "BART, no positions", "GPT, a cache that stays empty"])
@pytest.mark.parametrize("name", [Adapter.lora, Adapter.full])
def test_other_adapters_sample_what_they_train(tmp_path: Path, kind: str, name: Adapter) -> None:
    family, settings, _ = RIGHT[kind]
    folder = family_folder(tmp_path / "model", family, settings)
    pack, lanes = open_pack([point_on(folder, family, adapter=AdapterConfig(name=name), lr=1e-3)])
    lanes[0].v.data.add_(torch.randn(lanes[0].v.shape, generator=torch.Generator().manual_seed(0)), alpha=0.02)
    pack.engine.adapters.round()
    prompts = pack.encode_prompts(pack.task.held_out(Split.test, 4))
    noise = torch.rand((8, 16), generator=torch.Generator().manual_seed(0))
    rollout = roll_out(pack.engine, Request(prompts, torch.zeros(4, dtype=torch.long), noise, Sampling(16), samples=2))
    completions = rollout.completions(prompts, torch.zeros(4, dtype=torch.long))
    found = grpo.accumulate(pack, completions, rollout.logp, torch.linspace(-1, 1, 8))
    assert found["train/prob_diff"][0] < 1e-5
    assert lanes[0].v.grad is not None and bool(lanes[0].v.grad.any())


@pytest.mark.parametrize("kind", ["OPT, which flattens rows", "DeepSeek-V3, dense", "Gemma 3, sizes in a sub-config"])
def test_attached_models_compute_as_merged_ones(tmp_path: Path, kind: str) -> None:
    family, settings, _ = RIGHT[kind]
    model, _ = load(point_on(family_folder(tmp_path / "model", family, settings), family).model)
    ids = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 3]])
    before = model(input_ids=ids).logits
    adapter = attach(model, u=13)
    adapter.lane(0).v.data.normal_(generator=torch.Generator().manual_seed(0))
    logits = model(input_ids=ids).logits
    logits.sum().backward()
    assert adapter.lane(0).v.grad is not None
    merged = adapter.merged_weights(0)
    adapter.detach()
    assert torch.equal(model(input_ids=ids).logits, before)
    model.load_state_dict(merged, strict=False)
    torch.testing.assert_close(logits, model(input_ids=ids).logits, rtol=1e-4, atol=1e-4)
    assert (logits - before).abs().max() > 0.01


class Doubled(torch.nn.Linear):
    """A linear map that is none."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Twice what a linear map gives."""
        return 2 * super().forward(x)


def test_a_layer_that_only_looks_like_a_linear_map_is_refused(tmp_path: Path) -> None:
    model, _ = load(point_on(family_folder(tmp_path / "model", *RIGHT["Llama"][:2]), "Llama").model)
    model.model.layers[1].mlp.up_proj.__class__ = Doubled
    with pytest.raises(UsageError, match=r"layers\.1\.mlp\.up_proj"):
        attach(model, u=13)


def test_the_longest_text_is_one_that_the_family_can_read(tmp_path: Path) -> None:
    family, settings, _ = RIGHT["RoBERTa, positions from the padding's"]
    folder = family_folder(tmp_path / "model", family, settings)
    too_long = point_on(folder, family, rollout=RolloutConfig(max_new_tokens=CONTEXT - 1))
    with pytest.raises(UsageError, match=f"at most {CONTEXT - 2} tokens"):
        check_inputs([too_long])
    pack, _ = open_pack([point_on(folder, family)])
    assert pack.engine.context == CONTEXT - 2  # of 128 positions, those of the padding and before are no text's
    family, settings, _ = RIGHT["Phi-3, a rotation that changes"]
    pack, _ = open_pack([point_on(family_folder(tmp_path / "phi", family, settings), family)])
    assert pack.engine.context == 96


def test_a_family_that_cannot_compute_activations_again_is_refused(tmp_path: Path) -> None:
    family, settings, _ = RIGHT["GPT, a cache that stays empty"]
    config = point_on(family_folder(tmp_path / "model", family, settings), family)
    with pytest.raises(UsageError, match=r"gradient_checkpointing=true"):
        check_inputs([replace(config, model=replace(config.model, gradient_checkpointing=True))])


def test_an_answer_is_remembered_and_a_damaged_memory_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    refused = point_on(family_folder(tmp_path / "bert", *REFUSED["BERT, an encoder"][:2]), "Bert").model
    with pytest.raises(UsageError) as first:
        layout_of(refused)
    monkeypatch.setattr(known_layouts, "layout_for", lambda *_: pytest.fail("tried twice"))
    with pytest.raises(UsageError) as again:
        layout_of(refused)
    assert str(first.value) == str(again.value)
    monkeypatch.undo()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    memory = tmp_path / "cache" / known_layouts.REMEMBERED
    (key,) = json.loads(memory.read_text())
    for damaged in (
        "[1",
        json.dumps({key: 1}),
        json.dumps({key: {"trees": True}}),
        json.dumps({key: {"reading": "x"}}),
    ):
        memory.write_text(damaged)
        with pytest.raises(UsageError):
            layout_of(refused)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_right_is_refused_before_anything_is_written(tmp_path: Path, kind: str) -> None:
    family, settings, words = REFUSED[kind]
    folder = family_folder(tmp_path / "model", family, settings)
    with pytest.raises(UsageError, match=words) as caught:
        check_inputs([point_on(folder, family)])
    assert "docs/models-and-tasks.md" in caught.value.remedy or "dense" in caught.value.remedy
