"""A GGUF file as a model: converted once into a standard model folder in the cache, weights in fp32.

Its weights are what the file's blocks of 2 to 16 bits stand for. Nothing of a file is run.
"""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tinylora.models.file_digests import file_digest
from tinylora.settings.errors import FailureError, UsageError, first_line
from tinylora.settings.files import CACHE_VARIABLE, cache_folder
from tinylora.settings.paths import GGUF

MAGIC = b"GGUF"
FOLDER = "gguf"  # below the cache folder of the machine
VERSION = 1  # of the conversion
LONGEST_STEM = 100  # characters of a file's name in that of its folder
LEFT_BEHIND = 86400.0  # seconds after which what a killed conversion has left is removed
SOURCE = "made_from.json"
"""In a converted folder: name and SHA-256 of the file."""
PART_OF_SEVERAL = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)
ONE_MATRIX = 0.2
"""Relative distance below which head and embeddings are one matrix, stored twice with different rounding."""
REMEDY = "give another .gguf file, or the folder of the original model (model.path=<folder>, model.hub=<owner>/<name>)"


def is_gguf(path: Path) -> bool:
    """Whether a path is that of a GGUF file, by its name."""
    return path.suffix.lower() == GGUF and not os.path.isdir(path)  # Path's raises for names that are too long


def gguf_folder(gguf: Path, named: str) -> Path:
    """The model folder of a GGUF file, which `named` names: in the cache, converted on first use.

    Raises UsageError where the file is none that can be read, FailureError where the cache folder fails.
    """
    if not os.path.isfile(gguf):
        raise UsageError(named, "a model is a folder or a .gguf file, and this file does not exist", REMEDY)
    if PART_OF_SEVERAL.search(gguf.name):
        remedy = "join the parts (`llama-gguf-split --merge <first part> <file>`), and give the whole file"
        raise UsageError(
            named, "its name says that it is one part of several, and a model is read from one file", remedy
        )
    try:
        with gguf.open("rb") as file:
            begins = file.read(len(MAGIC))
        digest = file_digest(gguf, remember=True)
    except OSError as error:
        raise UsageError(named, f"the file must be readable: {first_line(error)}", REMEDY) from error
    if begins != MAGIC:
        raise UsageError(named, f"a GGUF file begins with {MAGIC.decode()}, and this one does not", REMEDY)
    name = f"{gguf.stem[:LONGEST_STEM]}-{digest[:16]}-v{VERSION}"
    return converted(gguf, cache_folder() / FOLDER / name, digest)


def converted(gguf: Path, folder: Path, digest: str) -> Path:
    """The cache folder of a GGUF file with this digest, made where it is not there; atomic, so that jobs may race.

    Raises UsageError where the file cannot be read, FailureError where the folder cannot be written.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _clear(folder)
        with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as part:
            made = Path(part, folder.name)
            print(f"converting {gguf.name} once for all runs: a minute or more", file=sys.stderr, flush=True)
            _convert(gguf, made)
            (made / SOURCE).write_text(json.dumps({"file": gguf.name, "sha256": digest}) + "\n", encoding="utf-8")
            made.replace(folder)
    except OSError as error:
        if not folder.is_dir():  # else another process has just put it there
            raise FailureError(
                f"the cache folder {folder.parent}",
                f"the converted model could not be written there (4 bytes a parameter): {first_line(error)}",
                f"free the space, or set {CACHE_VARIABLE}=<folder>",
            ) from error
    return folder


def _clear(folder: Path) -> None:
    """Remove what killed conversions of the same file have left."""
    for path in folder.parent.glob(f"{glob.escape(folder.name)}-*"):
        if path.is_dir() and time.time() - path.stat().st_mtime > LEFT_BEHIND:
            shutil.rmtree(path, ignore_errors=True)


def made_from(folder: Path) -> dict[str, str]:
    """Name and SHA-256 of the GGUF file that a model folder was made from; empty for others."""
    try:
        noted = json.loads((folder / SOURCE).read_bytes())
        return {"model_file": str(noted["file"]), "model_file_sha256": str(noted["sha256"])}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _convert(gguf: Path, folder: Path) -> None:
    """Write the model and tokenizer of a GGUF file into `folder`: fp32 safetensors, chat template included."""
    import torch  # here alone, so that models are found without it
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    _require_readers(gguf)
    logging.disable_progress_bar()
    options: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True}
    try:
        tokens = AutoTokenizer.from_pretrained(gguf.parent, **options)
        model: Any = AutoModelForCausalLM.from_pretrained(
            gguf.parent, **options, dtype=torch.float32, trust_remote_code=False
        )
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise UsageError(
            f"the GGUF file {gguf}",
            "it holds one whole causal language model of an architecture that transformers reads from GGUF: "
            f"{first_line(error)}",
            REMEDY,
        ) from error
    _tie(model)
    model.hf_quantizer.remove_quantization_config(model)  # the weights are whole again; saving would refuse them
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)


def _require_readers(gguf: Path) -> None:
    from transformers.utils.import_utils import is_accelerate_available, is_gguf_available

    if not (is_gguf_available() and is_accelerate_available()):
        raise UsageError(
            f"the GGUF file {gguf}",
            "it is read with the packages gguf and accelerate, which are not installed here",
            "pip install 'tinylora[tasks]'; `make install` has everything",
        )


def _tie(model: Any) -> None:
    """Make head and embeddings one matrix again where the file holds one twice, in two roundings.

    The head's is kept: it is the finer one where they differ.
    """
    import torch

    head, embedding = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    if head is embedding or head.shape != embedding.shape:
        return
    with torch.no_grad():
        if torch.linalg.vector_norm(head - embedding) < ONE_MATRIX * torch.linalg.vector_norm(head):
            embedding.copy_(head)
            model.config.tie_word_embeddings = True
            model.tie_weights()
