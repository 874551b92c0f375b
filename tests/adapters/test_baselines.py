"""LoRA-XS, LoRA, full fine-tuning and no training: against their formulas, and in the same loops as TinyLoRA."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.packs import open_pack, point, with_engine
from torch.func import functional_call

from tinylora.adapters.adapter_file import read_safetensors
from tinylora.adapters.mixing import LARGE
from tinylora.engine.rollout import roll_out
from tinylora.engine.rows import Completions
from tinylora.engine.sampling import Request, Sampling
from tinylora.records.folder import RunFolder, Status
from tinylora.records.progress import Silent
from tinylora.settings.config import (
    ALL,
    Adapter,
    AdapterConfig,
    GrpoConfig,
    ModelConfig,
    Precision,
    RunConfig,
    SftConfig,
)
from tinylora.train import grpo, sft
from tinylora.train.loop import run_pack
from tinylora.train.pack import LaneRun, Pack

PROMPTS = [[3, 4, 5, 13], [6, 7], [8, 9, 10], [11, 4, 3]]
COMPLETIONS = Completions(PROMPTS, torch.tensor([0, 1, 1, 0]), [[7, 8, 9, 2], [5, 2], [4, 3, 2], [9, 9, 8, 7, 2]])


def of_kind(outputs: Path, kind: Adapter, **changes: Any) -> RunConfig:
    return point(outputs, adapter=AdapterConfig(kind), **({"lr": 0.003, "rank": 3} | changes))


def two_lanes(outputs: Path, kind: Adapter, **changes: Any) -> tuple[Pack, list[LaneRun]]:
    """Two lanes with all values away from where they start."""
    points = [of_kind(outputs, kind, seed=0, **changes), of_kind(outputs, kind, seed=1, n_tie=2, **changes)]
    pack, lanes = open_pack(points)
    for number, lane in enumerate(lanes):
        lane.v.data += 0.05 * torch.randn(lane.v.shape, generator=torch.Generator().manual_seed(number))
    return pack, lanes


def dense(pack: Pack, lane: LaneRun) -> dict[str, torch.Tensor]:
    """The weights of a lane by the definition of its adapter, differentiable in v, built from the shapes alone."""
    weights, start = {}, 0
    for module, name in enumerate(pack.engine.adapters.names):
        weight, rank = pack.engine.model.get_submodule(name).weight, pack.config.rank
        d_out, d_in = weight.shape
        if pack.basis is not None:  # LoRA-XS: U Sigma R V^T, one R for each group of neighbours
            factors = pack.basis.factors[name]
            group = 0 if lane.config.n_tie == ALL else module // int(lane.config.n_tie)
            r = lane.v[group].view(rank, rank)
            update = factors.left @ torch.diag(factors.sigma) @ r @ factors.right.T
        else:  # LoRA: B A
            a = lane.v[start : start + rank * d_in].view(rank, d_in)
            b = lane.v[start + rank * d_in : start + rank * (d_in + d_out)].view(rank, d_out).T
            start += rank * (d_in + d_out)
            update = b @ a
        weights[f"{name}.weight"] = weight + update
    return weights


def sft_gradient(pack: Pack, lane: LaneRun) -> torch.Tensor:
    """The gradient of one lane's mean loss per token, one sequence at a time through dense weights."""
    weights, total, tokens = dense(pack, lane), torch.zeros(()), 0
    for number, completion in enumerate(COMPLETIONS.tokens):
        if COMPLETIONS.lane_of_prompt[number] == lane.index:
            ids = torch.tensor([[*PROMPTS[number], *completion]])
            logps = functional_call(pack.engine.model, weights, (ids,)).logits[0].log_softmax(-1)
            start = len(PROMPTS[number])
            total = total - logps[start - 1 : -1].gather(1, ids[0, start:, None]).sum()
            tokens += len(completion)
    return torch.autograd.grad(total / tokens, lane.v)[0]


SIZES = [(Adapter.lora_xs, 3), (Adapter.lora_xs, LARGE + 1), (Adapter.lora, 3)]


@pytest.mark.parametrize(("kind", "rank"), SIZES)
def test_gradients_of_lanes_are_those_of_the_dense_formula(kind: Adapter, rank: int, tmp_path: Path) -> None:
    pack, lanes = two_lanes(tmp_path, kind, algorithm=SftConfig(prompts=2), rank=rank)
    sft.accumulate(pack, COMPLETIONS)
    for lane in lanes:
        wanted = sft_gradient(pack, lane)
        assert lane.v.grad is not None and wanted.norm() > 0
        assert (lane.v.grad - wanted).norm() < 1e-4 * wanted.norm()


@pytest.mark.parametrize(("kind", "rank"), SIZES)
@pytest.mark.parametrize("own_step", [True, False])
def test_rollouts_and_merged_weights_are_those_of_the_dense_formula(
    kind: Adapter, rank: int, own_step: bool, tmp_path: Path
) -> None:
    pack, lanes = two_lanes(tmp_path, kind, rank=rank)
    assert (pack.engine.decode_step is not None) == kind.has_basis
    noise = torch.rand((12, 12), generator=torch.Generator().manual_seed(0))
    request = Request(PROMPTS, COMPLETIONS.lane_of_prompt, noise, Sampling(12), samples=3)
    rollout = roll_out((pack if own_step else with_engine(pack, decode_step=None)).engine, request)
    for row, prompt in enumerate(prompt for prompt in PROMPTS for _ in range(3)):
        weights = dense(pack, lanes[int(COMPLETIONS.lane_of_prompt[row // 3])])
        ids = torch.tensor([[*prompt, *rollout.completion(row)]])
        logps = functional_call(pack.engine.model, weights, (ids,)).logits[0].log_softmax(-1)
        wanted = logps[len(prompt) - 1 : -1].gather(1, ids[0, len(prompt) :, None])[:, 0]
        length = int(rollout.lengths[row])
        torch.testing.assert_close(rollout.logp[row, :length], wanted.detach(), atol=1e-4, rtol=0)
    merged = pack.engine.adapters.merged_weights(1)
    for name, wanted in dense(pack, lanes[1]).items():
        torch.testing.assert_close(merged[name], wanted.detach(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", Adapter)
def test_an_untrained_lane_is_the_base_model(kind: Adapter, tmp_path: Path) -> None:
    ids = torch.tensor(PROMPTS[:1])
    base_pack, _ = open_pack([of_kind(tmp_path, Adapter.none)])
    base = base_pack.engine.model(ids).logits
    pack, _ = open_pack([of_kind(tmp_path, kind)])
    with pack.engine.adapters.rows(torch.tensor([0])):
        torch.testing.assert_close(pack.engine.model(ids).logits, base, atol=0, rtol=0)


def test_lora_trains_as_many_values_as_its_factors_hold_and_lora_xs_r_squared_per_group(tmp_path: Path) -> None:
    pack, lanes = two_lanes(tmp_path, Adapter.lora)
    shapes = [pack.engine.model.get_submodule(name).weight.shape for name in pack.engine.adapters.names]
    assert lanes[0].v.numel() == 3 * sum(d_out + d_in for d_out, d_in in shapes)
    _, lanes = two_lanes(tmp_path, Adapter.lora_xs)
    assert [lane.v.numel() for lane in lanes] == [9, 11 * 9]


def test_a_step_of_full_fine_tuning_is_a_step_of_adam_on_the_model(tmp_path: Path) -> None:
    pack, (lane,) = open_pack([of_kind(tmp_path, Adapter.full, algorithm=SftConfig(prompts=3))])
    plain, _ = open_pack([of_kind(tmp_path, Adapter.none)])
    problems = pack.task.batch(0, 1, 3)
    optimizer = torch.optim.Adam(plain.engine.model.requires_grad_(True).parameters(), lr=0.003)
    losses, tokens = torch.zeros(()), 0
    targets = [pack.task.demonstration(problem, lane.config.task.demonstrations) for problem in problems]
    for prompt, target in zip(pack.encode_prompts(problems), pack.encode_completions(targets), strict=True):
        ids = torch.tensor([[*prompt, *target]])
        logps = plain.engine.model(ids).logits[0].log_softmax(-1)
        losses = losses - logps[len(prompt) - 1 : -1].gather(1, ids[0, len(prompt) :, None]).sum()
        tokens += len(target)
    (losses / tokens).backward()
    optimizer.step()
    sft.sft_step(pack, [lane])
    ours, theirs = (torch.cat([p.detach().flatten() for p in each.engine.model.parameters()]) for each in (pack, plain))
    # Adam's first step is the sign of the gradient: where that is all but zero, rounding decides.
    assert ((ours - theirs).abs() < 1e-5).float().mean() > 0.99


def test_full_fine_tuning_keeps_the_base_model_for_the_kl_term(tmp_path: Path) -> None:
    algorithm = GrpoConfig(prompts=2, samples=2, kl_coefficient=0.5)
    pack, (lane,) = open_pack([of_kind(tmp_path, Adapter.full, algorithm=algorithm)])
    completions = replace(COMPLETIONS, lane_of_prompt=torch.zeros(4, dtype=torch.long))
    found = grpo.accumulate(pack, completions, torch.zeros(4, 5), torch.zeros(4))
    assert found["train/kl"].item() == pytest.approx(0, abs=1e-6)
    lane.v.data += 0.01 * torch.randn(lane.v.shape, generator=torch.Generator().manual_seed(0))
    pack.engine.adapters.round()
    assert grpo.accumulate(pack, completions, torch.zeros(4, 5), torch.zeros(4))["train/kl"].item() > 1e-4


@pytest.mark.parametrize("precision", [Precision.fp32, Precision.bf16])
def test_the_model_computes_with_the_stored_values_of_full_fine_tuning(precision: Precision, tmp_path: Path) -> None:
    pack, (lane,) = open_pack([of_kind(tmp_path, Adapter.full, precision=precision)])
    base = [parameter.detach().flatten().clone() for parameter in pack.engine.model.parameters()]
    grpo.grpo_step(pack, [lane])
    weights = torch.cat([parameter.detach().flatten() for parameter in pack.engine.model.parameters()])
    v = lane.v.detach()
    assert torch.equal(weights, torch.cat(base) + v) and v.abs().max() > 0
    assert torch.equal(v, v.bfloat16().float()) == (precision is Precision.bf16)


@pytest.mark.parametrize("kind", [Adapter.lora_xs, Adapter.lora, Adapter.full, Adapter.none])
def test_every_adapter_runs_to_its_record(kind: Adapter, outputs: Path) -> None:
    config = of_kind(outputs, kind, steps=2)
    (record,) = run_pack([config], ["run"], Silent())
    assert record.status is Status.finished
    lines = RunFolder(config).lines()
    assert [line.step for line in lines] == ([0] if kind is Adapter.none else [0, 1, 2])
    tensors, _ = read_safetensors(config.folder / "adapter.safetensors")
    assert sum(tensor.numel() for tensor in tensors.values()) == record.summary["trained_values"]
    assert ("eval/merge_kl" in lines[-1].metrics) == kind.packs
    if kind.packs:
        assert lines[-1].metrics["eval/merge_kl"] < 1e-6


@pytest.mark.parametrize("kind", [Adapter.tinylora, Adapter.lora, Adapter.full])
def test_recomputed_activations_give_the_same_gradient(kind: Adapter, tmp_path: Path) -> None:
    gradients, kept = [], []
    for recompute in (False, True):
        model = ModelConfig(device="cpu", gradient_checkpointing=recompute)
        config = of_kind(tmp_path, kind, model=model, algorithm=SftConfig(prompts=2))
        pack, (lane,) = open_pack([config])
        if kind is Adapter.tinylora:
            lane.v.data += 0.1
        sft.accumulate(pack, replace(COMPLETIONS, lane_of_prompt=torch.zeros(4, dtype=torch.long)))
        assert lane.v.grad is not None
        gradients.append(lane.v.grad.clone())
        kept.append(pack.engine.limits.pass_tokens)
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-6, rtol=1e-5)
    assert kept[1] >= kept[0]
