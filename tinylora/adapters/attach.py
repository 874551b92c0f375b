"""TinyLoRA for any training loop, without Hydra or MLflow: attach, train, save, load, merge, detach.

adapter = attach(model, u=13)                                 # the model now computes with the adapter, v = 0
optimizer = torch.optim.Adam(adapter.parameters(), lr=0.01)
...                                                           # any loss of the model's outputs
optimizer.step(); adapter.round()                             # round: only needed for 16-bit v
save(adapter, "adapter.safetensors")                          # 13 values
save_merged(model, adapter, "merged/")                        # a standard model folder
save_peft(model, adapter, "peft/")                            # a LoRA of rank r, as PEFT and vLLM read it
adapter.detach()                                              # the base model again, bit for bit

delta W = (U Sigma R) V^T is a LoRA of rank r with B = U Sigma R and A = V^T, so whatever serves LoRA serves TinyLoRA.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel, TrainerCallback
from transformers.pytorch_utils import Conv1D

from tinylora.adapters.adapter_file import read_adapter, same_spectrum, save_adapter
from tinylora.adapters.base import MapAdapters
from tinylora.adapters.basis import compute_basis
from tinylora.adapters.lane import LaneSpec
from tinylora.adapters.tinylora import TinyLora
from tinylora.models.maps import adapted_modules, weight_of
from tinylora.settings.config import ALL, Precision, Rounding, Sharing, Solver
from tinylora.settings.errors import UsageError, require


def attach(
    model: nn.Module,
    u: int = 13,
    *,
    n_tie: int | str = ALL,
    sharing: Sharing = Sharing.tiled,
    precision: Precision = Precision.fp32,
    rank: int = 2,
    projection_seed: int = 0,
    solver: Solver = Solver.fast,
) -> TinyLora:
    """Adapt all linear maps in the blocks of a causal language model and freeze everything else.

    `adapter.parameters()` is the one v (K, u), zero at first. Raises UsageError where the model has no linear maps to
    adapt, n_tie exceeds their number, or rank exceeds a weight's smaller side.
    """
    require(u >= 1, f"u={u}", "at least one value per group is trained", "give u=1 or more")
    given, rule = f"precision={precision.value}", "whole numbers are trained by an fp32 master, which this v has not"
    require(not precision.whole, given, rule, "give another precision, or train with experiments.run")
    spec = LaneSpec(u, n_tie, sharing, precision, projection_seed=projection_seed)
    return _attach(model, spec, rank, solver)


class AdapterCallback(TrainerCallback):
    """For the trainers of transformers and TRL, which are given an optimizer of `adapter.parameters()`.

    After each optimizer step it rounds v to its storage type and clears its gradient: a trainer clears (and clips) the
    gradients of the model's own parameters alone, and v would gather those of all steps.
    """

    def __init__(self, adapter: TinyLora) -> None:
        self.adapter = adapter

    def on_optimizer_step(self, *arguments: Any, **keywords: Any) -> None:
        """Called by the trainer after its optimizer."""
        self.adapter.round()
        self.adapter.zero_grad()


def save(adapter: TinyLora, path: str | Path) -> None:
    """Write the adapter: v in its storage type, and a header from which the rest is rebuilt."""
    save_adapter(Path(path), adapter, 0)


def load(model: nn.Module, path: str | Path, solver: Solver = Solver.fast) -> TinyLora:
    """Attach a saved adapter to the model that it was trained on.

    An adapter that was rounded from a master (`rounding=master`) is for use: what is kept of it cannot be trained on.
    Raises UsageError where the model is another one, FailureError where the file is damaged.
    """
    spec, rank, v, header = read_adapter(Path(path))
    adapter = _attach(model, spec, rank, solver)
    if not same_spectrum(header, adapter):
        adapter.detach()
        raise UsageError(
            f"adapter {path} on {type(model).__name__}",
            "the singular values of the model's weights are not those that the adapter was trained with",
            "load the model that the adapter was trained on",
        )
    assert v.shape == adapter.lane(0).v.shape, "the adapter's groups are not this model's"
    adapter.lane(0).hold(v)
    adapter.lane(0).v.requires_grad_(spec.rounding is not Rounding.master)
    return adapter


def _attach(model: nn.Module, spec: LaneSpec, rank: int, solver: Solver) -> TinyLora:
    model.requires_grad_(False)
    weights = {name: weight_of(module) for name, module in adapted_modules(model).items()}
    adapter = TinyLora(model, compute_basis(weights, rank, solver), [spec])
    adapter.use_lane(0)
    return adapter


def save_peft(model: PreTrainedModel, adapter: MapAdapters, folder: str | Path, lane: int = 0) -> None:
    """Write a lane as a PEFT LoRA folder, which `PeftModel.from_pretrained(model, folder)` loads.

    The factors are fp32 and lora_alpha = r, so there is no further scale.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, torch.Tensor] = {}
    for name, (left, right) in adapter.low_rank(lane).items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = right.cpu().contiguous()  # (r, d_in)
        tensors[f"base_model.model.{name}.lora_B.weight"] = left.T.cpu().contiguous()  # (d_out, r)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": model.config.name_or_path or None,
        "r": adapter.rank,
        "lora_alpha": adapter.rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": _targets(model, adapter.names),
        "fan_in_fan_out": isinstance(model.get_submodule(adapter.names[0]), Conv1D),
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings, indent=1) + "\n")


def save_merged(model: PreTrainedModel, adapter: MapAdapters, folder: str | Path, lane: int = 0) -> None:
    """Write a standard model folder (safetensors) with the update in its weights; the model itself stays as it is."""
    model.save_pretrained(folder, state_dict=model.state_dict() | adapter.merged_weights(lane))


def _targets(model: PreTrainedModel, names: list[str]) -> list[str]:
    """The maps as PEFT selects them: by the last part of their names, where that selects these and no others."""
    parts = {name.rpartition(".")[2] for name in names}
    selected = [name for name, _ in model.named_modules() if name.rpartition(".")[2] in parts]
    return sorted(parts) if sorted(selected) == sorted(names) else list(names)
