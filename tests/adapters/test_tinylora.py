"""The adapter against the formula it stands for, in one lane and in many."""

import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from tinylora.adapters.basis import compute_basis
from tinylora.adapters.lane import LaneSpec
from tinylora.adapters.tinylora import TinyLora, projection
from tinylora.models.load import TORCH_DTYPE
from tinylora.models.maps import adapted_modules
from tinylora.settings.config import ALL, Precision, Sharing, Solver

SPECS = [
    LaneSpec(u=1),
    LaneSpec(u=13, n_tie=4, precision=Precision.bf16, projection_seed=1),
    LaneSpec(u=5, n_tie=2, sharing=Sharing.structured, precision=Precision.fp16, projection_seed=2),
    LaneSpec(u=40, n_tie=1, projection_seed=3),
]


def tiny_model(family: str) -> PreTrainedModel:
    config_class, model_class = {"qwen2": (Qwen2Config, Qwen2ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}[
        family
    ]
    torch.manual_seed(0)
    config = config_class(
        vocab_size=32,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=1,
        head_dim=8,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    model: PreTrainedModel = model_class(config).eval()
    return model.requires_grad_(False)


def adapt(model: PreTrainedModel, specs: list[LaneSpec], rank: int = 2) -> TinyLora:
    weights = {name: linear.weight for name, linear in adapted_modules(model).items()}
    return TinyLora(model, compute_basis(weights, rank, Solver.exact), specs)


def move(adapter: TinyLora, scale: float = 0.3) -> None:
    for lane in adapter.lanes:
        lane.v.data.copy_(scale * torch.randn(lane.v.shape, generator=torch.Generator().manual_seed(lane.v.numel())))
    adapter.round()


IDS = torch.arange(20).reshape(4, 5) % 32


@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_at_zero_v_every_lane_is_the_base_model_bit_for_bit(family: str) -> None:
    model = tiny_model(family)
    base = model(IDS).logits
    adapter = adapt(model, SPECS)
    with adapter.rows(torch.tensor([0, 1, 2, 3])):
        assert torch.equal(model(IDS).logits, base)
    adapter.use_lane(1)
    assert torch.equal(model(IDS).logits, base)


@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_lanes_equal_the_dense_formula(family: str) -> None:
    """Each row equals a model whose weights are W + U Sigma R V^T, built here from the definitions."""
    model, dense = tiny_model(family), tiny_model(family)
    adapter = adapt(model, SPECS)
    move(adapter)
    with adapter.rows(torch.tensor([3, 1, 0, 2])):
        logits = model(IDS).logits
    base_weights = {name: linear.weight.clone() for name, linear in adapted_modules(dense).items()}
    for row, number in enumerate([3, 1, 0, 2]):
        lane, spec = adapter.lane(number), SPECS[number]
        for module, (name, linear) in enumerate(adapted_modules(dense).items()):
            u, sigma, vh = torch.linalg.svd(base_weights[name], full_matrices=False)
            sign = torch.sign(u[u.abs().argmax(0), torch.arange(u.shape[1])])
            u, vh = u * sign, vh * sign[:, None]
            (group,) = [k for k, members in enumerate(lane.groups) if module in members]
            p = projection(spec.projection_seed, name, spec.u, 2)
            r = sum(lane.v[group, i].item() * p[i] for i in range(spec.u))
            linear.weight.copy_(base_weights[name] + u[:, :2] @ torch.diag(sigma[:2]) @ r @ vh[:2])
        torch.testing.assert_close(logits[row], dense(IDS[row : row + 1]).logits[0], atol=2e-4, rtol=1e-4)
        assert (logits[row] - model(IDS[row : row + 1]).logits[0]).abs().max() > 0.01, "this lane changes nothing"


def test_merged_weights_compute_what_the_lane_computes_and_leave_the_base_alone() -> None:
    model = tiny_model("qwen2")
    base = {name: value.clone() for name, value in model.state_dict().items()}
    adapter = adapt(model, SPECS)
    move(adapter)
    for number in range(len(SPECS)):
        with adapter.rows(torch.full((4,), number)):
            expected = model(IDS).logits
        merged = torch.func.functional_call(model, adapter.merged_weights(number), (IDS,)).logits
        torch.testing.assert_close(merged, expected, atol=2e-5, rtol=1e-4)
    assert all(torch.equal(value, base[name]) for name, value in model.state_dict().items())


def test_whole_lane_and_rows_are_the_same_computation() -> None:
    model = tiny_model("qwen2")
    adapter = adapt(model, SPECS)
    move(adapter)
    adapter.use_lane(2)
    whole = model(IDS).logits
    with adapter.rows(torch.full((4,), 2)):
        torch.testing.assert_close(model(IDS).logits, whole)
    adapter.use_lane(None)


def test_only_v_has_gradients_and_detach_restores_the_base() -> None:
    model = tiny_model("qwen2")
    base = model(IDS).logits
    adapter = adapt(model, SPECS)
    move(adapter)
    with adapter.rows(torch.tensor([0, 1, 2, 3])):
        model(IDS).logits.square().mean().backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(lane.v.grad.abs().max() > 0 for lane in adapter.lanes)
    adapter.detach()
    assert torch.equal(model(IDS).logits, base)


def test_tied_modules_share_one_v_and_counts_are_asserted() -> None:
    adapter = adapt(tiny_model("qwen2"), SPECS)  # 14 modules
    assert [lane.trained_values for lane in adapter.lanes] == [1, 13 * 4, 5 * 7, 40 * 14]
    assert [lane.trained_bytes for lane in adapter.lanes] == [4, 2 * 13 * 4, 2 * 5 * 7, 4 * 40 * 14]
    assert [tuple(lane.v.shape) for lane in adapter.lanes] == [(1, 1), (4, 13), (7, 5), (14, 40)]


@pytest.mark.parametrize("precision", TORCH_DTYPE)
def test_v_is_rounded_to_its_storage_type(precision: Precision) -> None:
    adapter = adapt(tiny_model("qwen2"), [LaneSpec(u=200, precision=precision)])
    values = torch.randn(1, 200, generator=torch.Generator().manual_seed(5)) / 7
    lane = adapter.lane(0)
    lane.v.data.copy_(values)
    lane.round()
    assert lane.tensors()["v"].dtype is TORCH_DTYPE[precision]
    assert torch.equal(lane.v.detach(), values.to(TORCH_DTYPE[precision]).float())
    assert torch.equal(lane.v.detach(), values) == (precision is Precision.fp32)


@pytest.mark.slow
def test_projections_are_the_same_in_another_process() -> None:
    code = (
        "from tinylora.adapters.tinylora import projection; print(projection(7, 'layers.0.q', 2, 2).flatten().tolist())"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert eval(printed) == projection(7, "layers.0.q", 2, 2).flatten().tolist()


def test_projections_differ_between_modules() -> None:
    drawn = [projection(7, name, 2, 2) for name in ("layers.0.q", "layers.0.k", "layers.1.q")]
    assert all(not torch.equal(a, b) for a, b in pairwise(drawn))
    assert projection(0, "m", 4000, 2).std().item() == pytest.approx(2**-0.5, rel=0.03)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_projections_are_nested_in_u(rank: int) -> None:
    whole = projection(7, "layers.0.q", 130, rank)
    assert all(torch.equal(projection(7, "layers.0.q", u, rank), whole[:u]) for u in (1, 3, 13, 16, 17, 120))


def test_projections_of_earlier_recipes_are_drawn_as_they_were() -> None:
    first = [-0.36388421058654785, 0.24025733768939972]
    for recipe in (1, 2):
        assert projection(7, "layers.0.q", 2, 2, recipe).flatten()[:2].tolist() == first
    assert projection(7, "layers.0.q", 2, 2).flatten()[:2].tolist() != first


@pytest.mark.parametrize("sharing", Sharing)
@pytest.mark.parametrize(("u", "n_tie"), [(1, 3), (5, 1), (13, ALL), (9, 2), (30, 4), (100, ALL)])
def test_degrees_of_freedom_are_the_rank_of_v_to_r(u: int, n_tie: int | str, sharing: Sharing) -> None:
    lane = adapt(tiny_model("qwen2"), [LaneSpec(u, n_tie, sharing)]).lane(0)
    of_v = torch.func.jacrev(lambda v: torch.func.functional_call(Matrices(lane), {"lane.v": v}, ()))(lane.v)
    assert lane.degrees_of_freedom == torch.linalg.matrix_rank(of_v.flatten(0, 2).flatten(1).detach())


class Matrices(torch.nn.Module):
    """R of a lane, as the output of a module of which v is a parameter."""

    def __init__(self, lane: torch.nn.Module) -> None:
        super().__init__()
        self.lane = lane

    def forward(self) -> torch.Tensor:
        return self.lane.matrices()


def test_full_tying_keeps_all_degrees_of_freedom() -> None:
    """With one P for all modules, tied lanes would have r^2 = 4 of them; with a P of its own for each, all u."""
    adapter = adapt(tiny_model("qwen2"), [LaneSpec(u=13, n_tie=ALL)])
    maps = adapter.lane(0).projections.transpose(0, 1).reshape(13, -1)
    assert torch.linalg.matrix_rank(maps) == 13
