"""Loading base models, frozen, with their tokenizers; and what is known of them from their config alone.

Nothing is unpickled, and no code from a model folder is run.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import logging

from tinylora.models.files import FOLDER_REMEDY, read_template, unreadable_weights
from tinylora.models.find import config_folder, is_here, resolve_folder
from tinylora.models.maps import adapted_modules, weight_of
from tinylora.models.shapes import ModuleShape
from tinylora.models.tokenizer import fit_tokenizer, load_tokenizer
from tinylora.settings.config import Attention, ModelConfig, Precision, RunConfig
from tinylora.settings.errors import FailureError, UsageError, first_line, require

CONTEXT = ("max_position_embeddings", "max_target_positions", "max_seq_len")
"""What families call the longest sequence."""
LEFT_OVER = "hold weights that its config.json does not ask for, so it is not the config of these weights"
TORCH_DTYPE = {Precision.fp32: torch.float32, Precision.bf16: torch.bfloat16, Precision.fp16: torch.float16}


def outline(config: ModelConfig) -> list[ModuleShape]:
    """The adapted linear maps in depth order (q, k, v, o, gate, up, down within a block), without reading weights.

    Raises UsageError for all that is known to be wrong before loading: files, family, attention, chat template.
    """
    folder = config_folder(config)
    read_template(config)
    model = _skeleton(folder, read_config(folder), config.attention)
    require(
        not config.gradient_checkpointing or any(isinstance(m, GradientCheckpointingLayer) for m in model.modules()),
        f"model.gradient_checkpointing=true for {config.identity}",
        f"the blocks of {type(model).__name__} must be able to compute their activations again",
        "leave it out, or lower pack.memory_gib",
    )
    return [ModuleShape(name, *weight_of(module).shape) for name, module in adapted_modules(model).items()]


def known_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a model, fitted to it; None of a hub model that is not fetched yet.

    Raises UsageError where it is missing, cannot be read or is not the model's.
    """
    if not is_here(config):
        return None
    folder = config_folder(config)
    tokens = load_tokenizer(folder, read_template(config))
    fit_tokenizer(tokens, _skeleton(folder, read_config(folder), config.attention), folder)
    return tokens


def text_config(settings: PreTrainedConfig) -> PreTrainedConfig:
    """The part of a config that is about its text decoder: an inner config, or all of it."""
    inner = settings.get_text_config(decoder=True)  # of a flat one, it may be a copy
    return settings if type(inner) is type(settings) else inner


def context_length(settings: PreTrainedConfig) -> int | None:
    """The longest sequence that a model is made for, in tokens; None where its config names none.

    That of "longrope" is the one that it was pretrained on: beyond it all positions of a batch are turned differently.
    """
    text = text_config(settings)
    rotation = getattr(text, "rope_parameters", None) or {}
    lengths = [getattr(text, name, None) for name in CONTEXT]
    for each in (rotation, *(value for value in rotation.values() if isinstance(value, dict))):  # by kind of layer
        if each.get("rope_type") == "longrope":
            lengths.append(each.get("original_max_position_embeddings"))
    return min((length for length in lengths if isinstance(length, int)), default=None)


def usable(context: int | None, lost_positions: int) -> int | None:
    """The longest text of a model whose context has positions that are not for tokens."""
    return None if context is None else context - lost_positions


def require_context(config: RunConfig, longest_prompt: int, lost_positions: int = 0) -> None:
    """Raise UsageError where a prompt of so many tokens and its longest completion exceed the model's context.

    `lost_positions` of it are not for tokens.
    """
    context = usable(context_length(read_config(config_folder(config.model))), lost_positions)
    wanted = config.rollout.max_new_tokens
    if context is None or longest_prompt + wanted <= context:
        return
    left = context - longest_prompt
    lower = f"lower rollout.max_new_tokens to {left} or less" if left > 0 else "give a task with shorter prompts"
    raise UsageError(
        f"rollout.max_new_tokens={wanted} after a prompt of {longest_prompt} tokens",
        f"model {config.model.identity} reads at most {context} tokens, prompt and completion together",
        f"{lower}, or take a model of longer context",
    )


def require_room(config: ModelConfig, prompt: int, lost_positions: int = 0) -> None:
    """Raise UsageError where a prompt of so many tokens alone fills the model's context."""
    context = usable(context_length(read_config(config_folder(config))), lost_positions)
    if context is not None and prompt >= context:
        raise UsageError(
            f"a prompt of {prompt} tokens for {config.identity}",
            f"it reads at most {context} tokens, prompt and completion together",
            "take a model of longer context, or a task with shorter prompts",
        )


def load(config: ModelConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The frozen model in evaluation mode and its tokenizer, which pads on the left.

    Raises UsageError where the folder, its files or the device are wrong.
    """
    device = resolve_device(config.device)
    folder = resolve_folder(config)
    settings = read_config(folder)
    _skeleton(folder, settings, config.attention)
    tokens = load_tokenizer(folder, read_template(config))
    model = _load_weights(folder, settings, config)
    fit_tokenizer(tokens, model, folder)
    try:
        model.to(device)  # type: ignore[arg-type]
    except (RuntimeError, AssertionError) as error:
        raise FailureError(
            f"model.device={config.device}",
            f"the model could not be moved there: {first_line(error)}",
            "free memory on the device, or give model.device=cpu",
        ) from error
    if config.gradient_checkpointing:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of its new name, which versions before 5.20 do not know
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    _require_finite(model, folder)
    model.eval()
    return model.requires_grad_(False), tokens


def _require_finite(model: nn.Module, folder: Path) -> None:
    """Raise UsageError for the first weight that is NaN or infinite: nothing could be trained or sampled with it."""
    for name, weight in model.named_parameters():
        # A sum passes each value once and makes no copy; it may overflow where all are finite, so it is asked again.
        if not bool(weight.sum(dtype=torch.float32).isfinite()) and not bool(weight.isfinite().all()):
            what = "NaN" if bool(weight.isnan().any()) else "infinite"
            raise UsageError(
                f"the model in {folder}",
                f"weights are finite numbers, and {name} holds {what} ones",
                "copy or save the model again, or take another one",
            )


def recomputed_blocks(model: PreTrainedModel) -> list[GradientCheckpointingLayer]:
    """The blocks of a model for which gradient checkpointing is enabled; none of another."""
    blocks = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    return [block for block in blocks if block.gradient_checkpointing]


@contextmanager
def recomputing(model: PreTrainedModel) -> Iterator[None]:
    """Inside, a model for which it is enabled keeps no more of a block than its input (Chen et al. 2016).

    transformers computes the rest again for blocks in training mode. Only the blocks themselves are put there, and only
    while a gradient is taken: what is inside them stays in evaluation mode (no dropout), and rollouts keep their cache.
    """
    blocks = recomputed_blocks(model)
    for block in blocks:
        block.training = True
    try:
        yield
    finally:
        for block in blocks:
            block.training = False


def resolve_device(name: str, elsewhere: bool = False) -> torch.device:
    """The device of the setting `model.device`; `auto` is the accelerator where there is one.

    Raises UsageError for another name, and for a device that is not here, unless it is to be `elsewhere`.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    remedy = "give model.device=auto, cpu, cuda or cuda:<number>"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"model.device={name}", "this is not the name of a torch device", remedy) from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"model.device={name}", "models run on cpu or cuda", remedy)
    if device.type == "cuda" and not elsewhere and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        there = f"model.device=cuda:{count - 1}" if count else "model.device=cpu"
        raise UsageError(f"model.device={name}", f"this machine has {count} CUDA devices", f"give {there}, or auto")
    return device


def parameter_count(model: nn.Module) -> int:
    """Number of parameters; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _skeleton(folder: Path, settings: PreTrainedConfig, attention: Attention) -> nn.Module:
    """The model without weights. Raises UsageError where there is none, or none with this attention."""

    def build(chosen: Attention) -> Any:
        options: dict[str, Any] = {"trust_remote_code": False, "attn_implementation": chosen.value}
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(settings, **options)

    reason = ""  # for which the family lacks it; some versions of transformers compute without the cap, silently
    if attention is Attention.sdpa and getattr(text_config(settings), "attn_logit_softcapping", None):
        reason = "it caps attention scores, and sdpa does not"
    try:
        model: nn.Module = build(Attention.eager if reason else attention)
    except Exception as error:  # as in `_read_config`
        try:
            model = build(Attention.eager)
        except Exception as other:  # so it is not for the attention
            raise _unreadable(folder, other) from other
        reason = first_line(error)
    if reason:
        raise UsageError(
            f"model.attention={attention.value} for the model in {folder}",
            f"the model must be able to use this implementation: {reason}",
            f"give model.attention={Attention.eager.value}",
        )
    return model


def read_config(folder: Path) -> PreTrainedConfig:
    """The config of a model folder. Raises UsageError where it is none, or that of a quantised model."""
    try:
        settings = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # what a wrong config raises depends on the family that it names
        raise _unreadable(folder, error) from error
    if getattr(settings, "quantization_config", None) is not None:
        raise UsageError(
            f"the model in {folder}",
            "its weights are quantised, and the basis is computed from full-precision weights",
            "give the model that it was quantised from",
        )
    assert isinstance(settings, PreTrainedConfig)
    return settings


def _unreadable(folder: Path, error: Exception) -> UsageError:
    return UsageError(
        f"the model in {folder}",
        f"its config.json must describe a causal language model that transformers knows: {first_line(error)}",
        FOLDER_REMEDY,
    )


def _load_weights(folder: Path, settings: PreTrainedConfig, config: ModelConfig) -> PreTrainedModel:
    logging.disable_progress_bar()
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=settings,
            dtype=TORCH_DTYPE[config.dtype],
            attn_implementation=config.attention.value,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (SafetensorError, OSError, ValueError, RuntimeError, ImportError) as error:
        raise unreadable_weights(folder, error) from error
    model, report = loaded
    # transformers would go on: with random numbers for what is missing, and without what is left over.
    for which, what in (("missing_keys", "lack weights that its config.json asks for"), ("unexpected_keys", LEFT_OVER)):
        if names := sorted(report[which]):
            raise UsageError(
                f"the model in {folder}",
                f"its files {what}: {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}",
                "copy or save the model again, its config.json and all model*.safetensors of it",
            )
    assert isinstance(model, PreTrainedModel)
    return model
