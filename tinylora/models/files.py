"""What lies in a model folder, and the template that is given beside it: checked before loading, without PyTorch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open

from tinylora.models import hub
from tinylora.models.hub import FILES, WEIGHTS
from tinylora.settings.config import ModelConfig
from tinylora.settings.errors import UsageError, first_line
from tinylora.settings.given_files import MIB, Unreadable, json_of, read_regular, text_of
from tinylora.settings.rules import why_not_text

FOLDER_REMEDY = "give model.path=<folder> with config.json, model.safetensors and a tokenizer"
VOCABULARIES = (
    "tokenizer.json",
    "vocab.*",
    "*.model",
    "*.tiktoken",
    "tekken.json",
)  # some of them is in every tokenizer
ADAPTER = "adapter_config.json"  # of PEFT
FULL_PRECISION = ("F64", "F32", "BF16", "F16")
LARGEST_CONFIG, LARGEST_TEMPLATE = 16 * MIB, MIB


def require_files(folder: Path, named: str) -> None:
    """Raise UsageError unless a folder holds a config.json and weight files; `named` is the setting that names it."""
    if not os.path.isdir(folder):  # not Path's: that raises for names that are too long
        raise UsageError(named, "a model is a folder, and this one does not exist", "give model.path=<folder>")
    try:
        _require_regular(folder, named)
        _require_config(folder, named)
        _require_weights(folder, named)
    except OSError as error:
        raise UsageError(
            named, f"the files of a model must be readable: {first_line(error)}", "give another model.path"
        ) from error


def require_whole(folder: Path) -> None:
    """Raise UsageError where a weight file is cut short or holds quantised weights, or a tokenizer is missing."""
    for path in sorted(folder.glob(WEIGHTS)):
        try:
            with safe_open(path, framework="numpy") as file:  # reads the header, which says how long the file must be
                kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise unreadable_weights(folder, error) from error
        for name, kind in kinds.items():
            if name.endswith("weight") and kind not in FULL_PRECISION:
                raise UsageError(
                    f"the model in {folder}",
                    f"weights are of full precision ({', '.join(FULL_PRECISION)}), and {name} is {kind}",
                    "give the model that it was quantised from",
                )
    if not any(path for pattern in VOCABULARIES for path in folder.glob(pattern)):
        raise UsageError(
            f"the model in {folder}",
            "a model comes with its tokenizer, and there is none",
            "put its tokenizer.json there",
        )


def read_template(config: ModelConfig) -> str | None:
    """The text of `model.chat_template`; None without one. Raises UsageError where it cannot be read."""
    if config.chat_template is None:
        return None
    try:
        text = text_of(read_regular(Path(config.chat_template), LARGEST_TEMPLATE))
        if (reason := why_not_text(text)) is not None:
            raise Unreadable(f"it is not {reason}")
    except Unreadable as error:
        raise UsageError(
            f"model.chat_template={config.chat_template}",
            f"it is a Jinja file, and this one cannot be read: {error}",
            "give the path of a template file, or leave the setting out to use the tokenizer's own",
        ) from error
    return text


def _require_regular(folder: Path, named: str) -> None:
    """A pipe or a device in the place of a file would be read for ever."""
    for path in _files(folder):
        if not path.is_file():
            raise UsageError(
                named,
                f"{path.name} in {folder} is no regular file, but a folder, a pipe, a device or a link to nothing",
                "copy the model again",
            )


def _files(folder: Path) -> Iterator[Path]:
    for pattern in FILES:
        yield from folder.glob(pattern)


def _require_config(folder: Path, named: str) -> None:
    if (folder / ADAPTER).exists():  # which transformers would follow to the model that it names
        raise UsageError(
            named,
            f"a model folder holds a model of its own, and {ADAPTER} names another one",
            f"merge the adapter into that model, or remove {ADAPTER}",
        )
    path = folder / "config.json"
    if not path.exists():
        raise UsageError(named, f"a model folder holds a config.json; {folder} has none", FOLDER_REMEDY)
    try:
        content = json_of(text_of(read_regular(path, LARGEST_CONFIG)))
        if not isinstance(content, dict):
            raise Unreadable("it is no JSON object")
    except Unreadable as error:
        raise UsageError(
            f"the model in {folder}",
            f"its config.json must describe a causal language model that transformers knows: {error}",
            FOLDER_REMEDY,
        ) from error


def _require_weights(folder: Path, named: str) -> None:
    if not any(folder.glob(WEIGHTS)):
        raise UsageError(
            named,
            f"weights are read from {WEIGHTS} only (pickled ones can run code); {folder} has none",
            "save the model with save_pretrained, which writes safetensors",
        )
    missing = hub.missing_weights(folder)
    if missing:
        raise UsageError(
            named,
            f"its index names weight files that {folder} lacks: {', '.join(missing[:3])}",
            "copy the model again, all model*.safetensors of it",
        )


def unreadable_weights(folder: Path, error: Exception) -> UsageError:
    """The error for weight files that are not what they should be."""
    return UsageError(
        f"the model in {folder}",
        f"its weights cannot be read: {type(error).__name__}: {first_line(error)}",
        "copy or save the model again: a file may be cut short, or not fit its config.json",
    )
