"""How v is stored: the values of each type, their scale, chance, and the master that is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.packs import open_pack, point

from tinylora.adapters.adapter_file import read_adapter, save_adapter
from tinylora.adapters.lane import Lane, LaneSpec
from tinylora.adapters.noise import torch_stream
from tinylora.adapters.rounding import stochastic, stored, values
from tinylora.models.load import TORCH_DTYPE
from tinylora.settings.config import Adapter, AdapterConfig, ModelConfig, Precision, Rounding, RunConfig
from tinylora.settings.errors import UsageError
from tinylora.train import grpo
from tinylora.train.pack import apply_gradient

WHOLE = [precision for precision in Precision if precision.whole]
V = torch.randn(7, 13, generator=torch.Generator().manual_seed(1)) / 11


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("v", [V, V[:1, :1], torch.zeros(3, 2), torch.zeros(0), V.exp() ** 9], ids=str)
def test_rounding_what_is_rounded_changes_nothing(v: torch.Tensor, precision: Precision) -> None:
    once = values(*stored(v, precision))
    assert once.dtype is torch.float32 and once.shape == v.shape
    assert torch.equal(values(*stored(once, precision)), once)


@pytest.mark.parametrize(("precision", "levels"), [(Precision.int8, 127), (Precision.int4, 7)])
def test_whole_numbers_are_the_nearest_multiples_of_the_scale(precision: Precision, levels: int) -> None:
    q, scale = stored(V, precision)
    assert scale is not None and q.dtype is torch.int8 and int(q.abs().max()) == levels
    torch.testing.assert_close(scale, V.abs().max() / levels, rtol=2**-16, atol=0)
    assert (values(q, scale) - V).abs().max() <= 0.5001 * scale
    assert torch.equal(values(q, scale).double(), q.double() * scale.double()), "a product is not exact"


def test_two_bits_are_ternary_and_one_bit_is_the_sign() -> None:
    q, scale = stored(V, Precision.int2)
    large = V.abs() >= 0.7 * V.abs().mean()
    assert scale is not None and torch.equal(q, torch.where(large, V.sign(), 0.0).to(torch.int8))
    torch.testing.assert_close(scale, V.abs()[large].mean(), rtol=2**-15, atol=0)
    q, scale = stored(V, Precision.int1)
    assert scale is not None and set(q.flatten().tolist()) == {-1, 1} and torch.equal(q < 0, V < 0)
    torch.testing.assert_close(scale, V.abs().mean(), rtol=2**-15, atol=0)


@pytest.mark.parametrize("precision", [Precision.bf16, Precision.fp16])
def test_chance_takes_one_of_the_two_neighbours_and_is_right_on_average(precision: Precision) -> None:
    v = torch.cat([V.flatten(), torch.tensor([0.0, -0.0, 1.0, 60001.5, 3e-8, -2e-6, 65504.0])])
    draws = torch.stack([stochastic(v, precision, torch_stream(0, "test", draw)) for draw in range(2000)])
    low, high = draws.amin(0), draws.amax(0)
    assert torch.equal(values(*stored(draws, precision)), draws), "not of the type"
    assert ((low <= v) & (v <= high)).all()
    bits = torch.stack([low, high]).to(TORCH_DTYPE[precision]).view(torch.int16).int()
    assert ((bits[0] - bits[1]).abs() <= 1)[low.sign() * high.sign() > 0].all(), "not neighbours"
    off = (draws.double().mean(0) - v.double()).abs()
    assert (off <= 5 * (high - low).double() / 2 / 2000**0.5 + 1e-12).all()
    exact = values(*stored(v, precision))
    assert torch.equal(stochastic(exact, precision, torch_stream(0, "test")), exact)


@pytest.mark.parametrize(
    ("precision", "bits"), [("fp32", 416), ("bf16", 208), ("int8", 136), ("int4", 84), ("int1", 45)]
)
def test_bits_count_the_scale_and_bytes_are_whole(precision: str, bits: int) -> None:
    lane = Lane(LaneSpec(13, precision=Precision(precision)), torch.zeros(13))
    assert (lane.trained_bits, lane.trained_bytes) == (bits, -(-bits // 8))
    assert Lane(LaneSpec(13, precision=Precision(precision)), torch.zeros(0)).trained_bits == 0


def straight_through(v: torch.Tensor, precision: Precision, gradients: list[torch.Tensor]) -> torch.Tensor:
    """v after some steps of Adam on an fp32 parameter, then rounded."""
    parameter = torch.nn.Parameter(v.clone())
    optimizer = torch.optim.Adam([parameter], lr=0.01)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return values(*stored(parameter.detach(), precision))


@pytest.mark.parametrize("precision", [Precision.bf16, *WHOLE])
def test_a_master_takes_the_steps_and_v_is_rounded_from_it(precision: Precision, tmp_path: Path) -> None:
    changes = {"u": 13, "n_tie": 8, "lr": 0.01, "precision": precision, "rounding": Rounding.master}
    pack, lanes = open_pack([point(tmp_path, **changes), point(tmp_path, seed=1, **changes)])
    gradients = [torch.randn(3, 13, generator=torch.Generator().manual_seed(step)) for step in range(5)]
    for gradient in gradients:
        for lane in lanes:
            lane.v.grad = gradient.clone()
            apply_gradient(pack.engine.adapters, lane, 0.0)
            lane.step += 1
    for lane in lanes:
        assert torch.equal(lane.v.detach(), straight_through(torch.zeros(3, 13), precision, gradients))
        assert not torch.equal(lane.v.detach(), lane.adapter.unrounded)


def test_a_step_that_rounding_loses_is_kept_by_a_master_and_on_average_by_chance(tmp_path: Path) -> None:
    roundings = [Rounding.nearest, Rounding.stochastic, Rounding.master]
    points = [point(tmp_path, u=200, lr=1e-4, precision=Precision.bf16, rounding=rounding) for rounding in roundings]
    pack, lanes = open_pack(points)
    for lane in lanes:
        lane.adapter.hold(torch.ones(1, 200))
        for _ in range(100):  # of 1e-4 each: together 1.3 times the distance of two values
            lane.v.grad = torch.full((1, 200), -1.0)
            apply_gradient(pack.engine.adapters, lane, 0.0)
            lane.step += 1
    nearest, by_chance, master = (lane.v.detach() for lane in lanes)
    assert (nearest == 1).all() and (master == 1.0078125).all()
    assert set(by_chance.unique().tolist()) > {1.0, 1.0078125} and by_chance.mean().item() == pytest.approx(
        1.01, abs=2e-3
    )


@pytest.mark.parametrize("kind", [Adapter.tinylora, Adapter.lora_xs])
@pytest.mark.parametrize("precision", WHOLE)
def test_an_adapter_file_holds_whole_numbers_and_gives_back_the_bits_of_v(
    kind: Adapter, precision: Precision, tmp_path: Path
) -> None:
    settings = {"u": 5, "n_tie": 3, "rank": 2, "lr": 0.01, "precision": precision, "rounding": Rounding.master}
    pack, (lane,) = open_pack([point(tmp_path, adapter=AdapterConfig(kind), **settings)])
    lane.adapter.hold(0.1 * torch.randn(lane.v.shape, generator=torch.Generator().manual_seed(3)))
    lane.adapter.round()
    save_adapter(tmp_path / "a", pack.engine.adapters, 0)
    assert load_file(tmp_path / "a")["v"].dtype is torch.int8
    spec, _, v, _ = read_adapter(tmp_path / "a")
    assert torch.equal(v, lane.v.detach()) and v.abs().max() > 0 and spec == lane.adapter.spec


@pytest.mark.parametrize("kind", [Adapter.lora, Adapter.full])
def test_factors_and_whole_models_are_rounded_alike(kind: Adapter, tmp_path: Path) -> None:
    config = point(tmp_path, adapter=AdapterConfig(kind), lr=0.003, precision=Precision.int4, rounding=Rounding.master)
    pack, (lane,) = open_pack([config])
    grpo.grpo_step(pack, [lane])
    save_adapter(tmp_path / "a", pack.engine.adapters, 0)
    tensors = load_file(tmp_path / "a")
    scale = tensors.pop("scale")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.int8}
    assert sum(tensor.numel() for tensor in tensors.values()) == lane.v.numel()
    assert set((lane.v.detach() / scale).unique().tolist()) <= {float(q) for q in range(-7, 8)}


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("precision", [Precision.fp32, Precision.bf16])
def test_whatever_the_type_an_untrained_full_lane_is_the_base_model_and_small_updates_are_kept(
    precision: Precision, rounding: Rounding, tmp_path: Path
) -> None:
    if precision is Precision.fp32 and rounding is not Rounding.nearest:
        return
    kind = {"adapter": AdapterConfig(Adapter.full), "lr": 1e-5, "precision": precision, "rounding": rounding}
    pack, (lane,) = open_pack([point(tmp_path, **kind)])
    plain, _ = open_pack([point(tmp_path, adapter=AdapterConfig(Adapter.none))])
    base = {name: value.detach().clone() for name, value in plain.engine.model.named_parameters()}
    own = dict(pack.engine.model.named_parameters())
    assert all(torch.equal(own[name], value) for name, value in base.items())
    lane.v.grad = torch.ones_like(lane.v)
    apply_gradient(pack.engine.adapters, lane, 0.0)
    for name, value in base.items():
        torch.testing.assert_close(own[name].detach(), value - 1e-5, atol=2e-7, rtol=1e-6)


def test_first_factors_in_16_bits_leave_the_base_model(tmp_path: Path) -> None:
    ids = torch.tensor([[3, 4, 5, 13]])
    plain, _ = open_pack([point(tmp_path, adapter=AdapterConfig(Adapter.none))])
    changes = {"precision": Precision.int2, "rounding": Rounding.master, "lr": 0.1}
    pack, _ = open_pack([point(tmp_path, adapter=AdapterConfig(Adapter.lora), **changes)])
    with pack.engine.adapters.rows(torch.tensor([0])):
        assert torch.equal(pack.engine.model(ids).logits, plain.engine.model(ids).logits)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"precision": Precision.int8}, "precision=int8 rounding=nearest"),
        ({"precision": Precision.int1, "rounding": Rounding.stochastic}, "precision=int1 rounding=stochastic"),
        ({"rounding": Rounding.master}, "precision=fp32 rounding=master"),
        ({"rounding": Rounding.stochastic}, "precision=fp32 rounding=stochastic"),
        (
            {"adapter": AdapterConfig(Adapter.lora), "precision": Precision.int1, "rounding": Rounding.master},
            "adapter=lora precision=int1",
        ),
    ],
)
def test_a_rounding_that_cannot_matter_or_work_is_refused(changes: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        RunConfig(**({"lr": 0.1} | changes))  # type: ignore[arg-type]


def test_a_model_does_not_compute_in_whole_numbers() -> None:
    with pytest.raises(UsageError, match=r"model\.dtype=int8"):
        ModelConfig(dtype=Precision.int8)
