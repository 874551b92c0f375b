"""The tokenizer of a model folder: loaded once in a process, and checked to be that of the model."""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from pathlib import Path

from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tinylora.models.hub import FILES
from tinylora.models.templates import render
from tinylora.settings.errors import UsageError, first_line
from tinylora.settings.model import DAY


def load_tokenizer(folder: Path, template: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer, which pads on the left, with `template` in the place of its own chat template, if given.

    The same object as long as the files stay the same. Raises UsageError where it cannot be read, or has no end token.
    """
    files = sorted({path for pattern in FILES for path in folder.glob(pattern)})
    known = [(path.name, (status := path.stat()).st_size, status.st_mtime_ns) for path in files]
    return _load(folder, template, tuple(known))


def fit_tokenizer(tokens: PreTrainedTokenizerBase, model: nn.Module, folder: Path) -> None:
    """Check that the tokenizer is the model's, and set its pad token where the model embeds none."""
    embeddings = model.get_input_embeddings()  # type: ignore[operator]
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


@lru_cache(maxsize=8)
def _load(folder: Path, template: str | None, files: tuple[tuple[str, int, int], ...]) -> PreTrainedTokenizerBase:
    try:
        tokens = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, padding_side="left"
        )
    except Exception as error:  # the Rust tokenizer raises bare Exception on a damaged file
        raise UsageError(
            f"the model in {folder}",
            f"its tokenizer cannot be read: {first_line(error)}",
            "put the model's tokenizer.json and tokenizer_config.json into the folder",
        ) from error
    if tokens.eos_token is None:
        raise UsageError(
            f"the model in {folder}",
            "completions end at the tokenizer's eos token, and it names none",
            "set eos_token in tokenizer_config.json",
        )
    assert isinstance(tokens, PreTrainedTokenizerBase)
    if template is not None:
        tokens.chat_template = template
        render(tokens, ["1"], date.fromisoformat(DAY))
    return tokens
