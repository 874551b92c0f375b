"""Beside PEFT, given the same numbers: the same update, and exports that it reads."""

import json
from pathlib import Path

import pytest
import torch
from support.packs import open_pack, point
from test_tinylora import IDS, adapt, move, tiny_model

from tinylora.adapters.attach import save_peft
from tinylora.adapters.lane import LaneSpec
from tinylora.settings.config import Adapter, AdapterConfig

peft = pytest.importorskip("peft")


def test_peft_with_our_projections_has_our_update() -> None:
    """PEFT splits Sigma: delta W = U S^1/2 R S^1/2 V^T. Ours is U S R V^T: the same for R' = S^1/2 R S^-1/2."""
    model, u = tiny_model("qwen2"), 5
    peer = peft.get_peft_model(
        tiny_model("qwen2"), peft.TinyLoraConfig(r=2, u=u, weight_tying=1.0, target_modules="all-linear")
    )
    adapter = adapt(model, [LaneSpec(u)])
    move(adapter)
    lane = adapter.lane(0)
    layers = {name: module for name, module in peer.base_model.model.named_modules() if hasattr(module, "tinylora_P")}
    assert list(layers) == adapter.names
    for index, (name, layer) in enumerate(layers.items()):
        factors = adapter.basis.factors[name]
        root = factors.sigma.sqrt()
        # Singular vectors are found up to their sign: take the peer's.
        sign = torch.sign((layer.tinylora_A["default"] * factors.right.T).sum(1))
        scaled = sign[:, None] * root[:, None] * lane.projections[index] / root * sign
        layer.tinylora_P["default"] = scaled
        with torch.no_grad():
            for key in layer.tinylora_v["default"]:
                layer.tinylora_v["default"][key].copy_(lane.v[0])
        ours = adapter.merged_weights(0)[f"{name}.weight"] - model.get_submodule(name).weight
        torch.testing.assert_close(layer.get_delta_weight("default"), ours, atol=1e-5, rtol=1e-5)
        assert ours.abs().max() > 1e-3


@pytest.mark.parametrize("kind", [Adapter.tinylora, Adapter.lora_xs, Adapter.lora])
def test_a_lane_is_exported_to_a_folder_that_peft_loads_to_the_same_logits(kind: Adapter, tmp_path: Path) -> None:
    points = [point(tmp_path, adapter=AdapterConfig(kind), rank=3, u=7, seed=seed) for seed in (0, 1)]
    pack, lanes = open_pack(points)
    for lane in lanes:
        lane.v.data += 0.05 * torch.randn(lane.v.shape, generator=torch.Generator().manual_seed(lane.index))
    ids = torch.tensor([[3, 4, 5, 13, 7], [9, 8, 7, 6, 5]])
    with torch.no_grad(), pack.engine.adapters.rows(torch.tensor([1, 1])):
        ours = pack.engine.model(ids).logits
    save_peft(pack.engine.model, pack.engine.adapters, tmp_path / "peft", lane=1)
    assert json.loads((tmp_path / "peft" / "adapter_config.json").read_text())["r"] == 3
    base, _ = open_pack([point(tmp_path, adapter=AdapterConfig(Adapter.none))])
    untrained = base.engine.model(ids).logits
    peer = peft.PeftModel.from_pretrained(base.engine.model, tmp_path / "peft")
    torch.testing.assert_close(peer(input_ids=ids).logits, ours, atol=1e-4, rtol=1e-4)
    assert (ours - untrained).abs().max() > 0.01


def test_lora_with_pefts_factors_is_pefts_lora(tmp_path: Path) -> None:
    pack, (lane,) = open_pack([point(tmp_path, adapter=AdapterConfig(Adapter.lora), rank=4)])
    base, _ = open_pack([point(tmp_path, adapter=AdapterConfig(Adapter.none))])
    targets = sorted({name.rpartition(".")[2] for name in pack.engine.adapters.names})
    peer = peft.get_peft_model(base.engine.model, peft.LoraConfig(r=4, lora_alpha=4, target_modules=targets))
    parts = []
    generator = torch.Generator().manual_seed(0)
    for name in pack.engine.adapters.names:
        layer = peer.base_model.model.get_submodule(name)
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        assert a.abs().max() <= a.shape[1] ** -0.5, "PEFT draws A as we do, from another stream"
        b.data.copy_(0.05 * torch.randn(b.shape, generator=generator))
        parts += [a.detach().flatten(), b.detach().T.flatten()]
    lane.v.data.copy_(torch.cat(parts))
    ids = IDS % 17
    with pack.engine.adapters.rows(torch.zeros(4, dtype=torch.long)):
        ours = pack.engine.model(ids).logits
    torch.testing.assert_close(ours, peer(input_ids=ids).logits, atol=1e-5, rtol=1e-4)
    peer(input_ids=ids).logits.square().mean().backward()
    with pack.engine.adapters.rows(torch.zeros(4, dtype=torch.long)):
        pack.engine.model(ids).logits.square().mean().backward()
    theirs = []
    for name in pack.engine.adapters.names:
        layer = peer.base_model.model.get_submodule(name)
        theirs += [layer.lora_A["default"].weight.grad.flatten(), layer.lora_B["default"].weight.grad.T.flatten()]
    wanted = torch.cat(theirs)
    assert (lane.v.grad - wanted).norm() < 1e-5 * wanted.norm()
