"""TinyLoRA as a library: in a plain training loop, without Hydra or MLflow."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.processes import loaded_by
from transformers import AutoModelForCausalLM, PreTrainedModel

from tinylora.adapters.adapter_file import read_safetensors
from tinylora.adapters.attach import attach, load, save, save_merged
from tinylora.adapters.basis import compute_basis
from tinylora.adapters.lane import LaneSpec
from tinylora.adapters.tinylora import TinyLora
from tinylora.models.find import MINIATURES
from tinylora.models.load import TORCH_DTYPE
from tinylora.models.load import load as load_model
from tinylora.models.maps import adapted_modules, weight_of
from tinylora.settings.config import ModelConfig, Precision, Solver
from tinylora.settings.errors import FailureError, UsageError

IDS = torch.tensor([[1, 5, 6, 14, 7, 8, 15, 17, 9, 10]])


def miniature(name: str = "miniature-qwen2") -> PreTrainedModel:
    return load_model(ModelConfig(name, device="cpu"))[0]


def train(model: PreTrainedModel, adapter: torch.nn.Module, steps: int = 20) -> list[float]:
    """Next-token loss on one row: anything that has a gradient."""
    optimizer = torch.optim.Adam(adapter.parameters(), lr=0.01)
    losses = []
    for _ in range(steps):
        loss = model(input_ids=IDS, labels=IDS).loss
        loss.backward()
        optimizer.step()
        adapter.round()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("precision", TORCH_DTYPE)
def test_attach_train_save_load_merge_detach(precision: Precision, tmp_path: Path) -> None:
    model = miniature()
    base = model(IDS).logits
    adapter = attach(model, u=13, precision=precision)
    assert torch.equal(model(IDS).logits, base)
    assert [parameter.numel() for parameter in adapter.parameters()] == [13]
    losses = train(model, adapter)
    assert losses[-1] < losses[0]
    trained = model(IDS).logits

    save(adapter, tmp_path / "adapter.safetensors")
    assert load_file(tmp_path / "adapter.safetensors")["v"].nbytes == 13 * precision.size
    save_merged(model, adapter, tmp_path / "merged")
    adapter.detach()
    assert torch.equal(model(IDS).logits, base)

    load(model, tmp_path / "adapter.safetensors")
    assert torch.equal(model(IDS).logits, trained), "what is loaded is not what was saved"
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", use_safetensors=True)
    torch.testing.assert_close(merged(IDS).logits, trained, atol=1e-4, rtol=1e-4)


def test_inside_base_an_attached_model_is_the_base_model() -> None:
    model = miniature()
    expected = model(IDS).logits
    adapter = attach(model, u=3)
    adapter.lane(0).v.data.fill_(1.0)
    moved = model(IDS).logits
    with adapter.base():
        assert torch.equal(model(IDS).logits, expected)
    assert torch.equal(model(IDS).logits, moved) and not torch.equal(moved, expected)


def test_loading_on_another_model_is_refused(tmp_path: Path) -> None:
    save(attach(miniature(), u=2), tmp_path / "adapter.safetensors")
    other = miniature("miniature-llama")
    base = other(IDS).logits
    with pytest.raises(UsageError, match="singular values"):
        load(other, tmp_path / "adapter.safetensors")
    assert torch.equal(other(IDS).logits, base), "a refused adapter stayed attached"


def test_files_that_are_no_adapter_are_refused(tmp_path: Path) -> None:
    model = miniature()
    with pytest.raises(UsageError, match="does not exist"):
        load(model, tmp_path / "none.safetensors")
    with pytest.raises(UsageError, match="format"):
        load(model, MINIATURES / "miniature-qwen2" / "model.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00")
    with pytest.raises(FailureError, match="damaged"):
        load(model, tmp_path / "cut.safetensors")


def test_a_file_from_before_recipes_is_read_by_the_first_and_one_of_a_later_recipe_is_refused(tmp_path: Path) -> None:
    model, path = miniature(), tmp_path / "adapter.safetensors"
    weights = {name: weight_of(module) for name, module in adapted_modules(model).items()}
    spec = LaneSpec(u=3, recipe=1, seed=7, projection_seed=7)
    adapter = TinyLora(model, compute_basis(weights, 2, Solver.fast), [spec])
    adapter.use_lane(0)
    adapter.lane(0).v.data.fill_(0.1)
    expected = model(IDS).logits
    save(adapter, path)
    adapter.detach()
    tensors, header = read_safetensors(path)
    written = {"u": 3, "n_tie": "all", "sharing": "tiled", "precision": "fp32", "seed": 7, "kind": "tinylora"}
    for recipe in ({}, {"recipe": 1}, {"recipe": 2}):
        save_file(tensors, path, header | {"spec": json.dumps(written | recipe)})
        adapter = load(model, path)
        assert torch.equal(model(IDS).logits, expected)
        adapter.detach()
    save_file(tensors, path, header | {"spec": json.dumps(written | {"recipe": 99})})
    with pytest.raises(UsageError, match="recipe 99"):
        load(miniature(), path)


def test_wrong_arguments_are_refused() -> None:
    model = miniature()
    for changes, rule in (({"u": 0}, "u=0"), ({"n_tie": 22}, "21 adapted modules"), ({"rank": 97}, "rank=97")):
        with pytest.raises(UsageError, match=rule):
            attach(model, **changes)  # type: ignore[arg-type]


def test_a_second_adapter_on_one_model_is_refused_until_the_first_is_detached() -> None:
    model = miniature()
    first = attach(model, u=3)
    with pytest.raises(UsageError, match="detach the adapter"):
        attach(model, u=4)
    first.detach()
    attach(model, u=4).detach()


@pytest.mark.slow
def test_the_library_needs_neither_hydra_nor_mlflow() -> None:
    assert not loaded_by("tinylora.adapters.attach") & {"hydra", "mlflow", "omegaconf"}
