"""Trained adapters in forms that other tools read: a PEFT LoRA folder, or a standard model folder with merged weights.

delta W = (U Sigma R) V^T is a LoRA of rank r with B = U Sigma R and A = V^T, so whatever serves LoRA serves TinyLoRA.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tinylora.adapters.base import MapAdapters


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
