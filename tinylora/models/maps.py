"""The linear maps of a model that are adapted: those of its transformer blocks, all of them or none.

A family is known by its modules, not by its name, so families that transformers adds later are taken as they are. A
model in which only a part of the maps can be adapted is refused: its parameter counts would not mean what they say.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tinylora.settings.errors import UsageError

_FAMILY_REMEDY = "give a dense, unquantised model, such as of the Qwen2, Qwen3, Llama, Mistral, Gemma or Phi-3 family"


def adapted_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Every linear map inside the transformer blocks, by name, in depth order: not the head, not the embeddings.

    A map is an nn.Linear or the Conv1D of GPT-2 (see `weight_of`); one that a family fuses from several, such as the
    qkv_proj and gate_up_proj of Phi-3, is adapted as one. Raises UsageError where the blocks hold no map, or matrices
    that are neither maps nor embeddings (experts, quantised layers): a model is adapted whole or not at all.
    """
    blocks = _blocks(model)
    inside = {name: module for name, module in model.named_modules() if blocks and name.startswith(f"{blocks}.")}
    found: dict[str, nn.Module] = {n: module for n, module in inside.items() if isinstance(module, nn.Linear | Conv1D)}
    for name, module in inside.items():
        if not isinstance(module, nn.Embedding):
            _require_maps_alone(type(model).__name__, name, module, adapted=name in found)
    if not found:
        raise UsageError(
            f"a model of type {type(model).__name__}",
            "the linear maps of its transformer blocks are adapted, and it has no nn.Linear or Conv1D there",
            _FAMILY_REMEDY,
        )
    return found


def weight_of(module: nn.Module) -> torch.Tensor:
    """W (d_out, d_in) of an adapted module's y = x W^T, a view of its weight: the Conv1D of GPT-2 keeps W^T."""
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    return weight.T if isinstance(module, Conv1D) else weight


def _require_maps_alone(model: str, name: str, module: nn.Module, adapted: bool) -> None:
    parameters = dict(module.named_parameters(recurse=False))
    for key, tensor in [*parameters.items(), *module.named_buffers(recurse=False)]:
        real = tensor.dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64)
        quantised = tensor.ndim >= 2 and not real and tensor.dtype != torch.bool
        if quantised or (tensor.ndim >= 2 and key in parameters and not adapted):
            raise UsageError(
                f"a model of type {model}",
                f"every matrix of its blocks is adapted as a linear map of full precision, and {name}.{key} "
                f"{tuple(tensor.shape)} {tensor.dtype} is none (mixtures of experts and quantised layers are refused)",
                _FAMILY_REMEDY,
            )


def _blocks(model: nn.Module) -> str:
    """Name of the list of transformer blocks: the longest ModuleList of the decoder that is not inside another."""
    decoder: nn.Module = model.get_decoder() if isinstance(model, PreTrainedModel) else model
    prefix = next((name for name, module in model.named_modules() if module is decoder), "")
    if not any(isinstance(module, nn.ModuleList) for module in decoder.modules()):  # ModernBERT calls its head decoder
        decoder, prefix = model, ""
    lists: dict[str, int] = {}
    for name, module in decoder.named_modules(prefix=prefix):
        if isinstance(module, nn.ModuleList) and not any(name.startswith(f"{outer}.") for outer in lists):
            lists[name] = len(module)
    return max(lists, key=lists.__getitem__, default="")
