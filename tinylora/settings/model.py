"""The settings of the base model, and its sizes."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from tinylora.settings.choices import Attention, Precision
from tinylora.settings.errors import is_positive, require, require_counts
from tinylora.settings.identity import Role, content_digest, setting
from tinylora.settings.paths import GGUF, as_model_path, as_path
from tinylora.settings.rules import require_kinds, require_path, shown
from tinylora.settings.uses import CONVERSES, NO_FOLDER_OF_MODEL, OF_THE_HUB, RATE_IS_AUTO, TRAINS

DAY = "2024-07-26"  # what Llama 3's own templates fall back to


@dataclass(frozen=True)
class ShapeConfig:
    """The sizes of a Llama-like model (seven maps in each block), known without its files."""

    blocks: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    tied: bool
    """Whether the head is the transposed embedding."""
    context: int
    """Longest sequence, in tokens."""

    def __post_init__(self) -> None:
        require_kinds(self, "model.shape.")
        counts = ("blocks", "hidden", "intermediate", "heads", "kv_heads", "head_width", "vocabulary", "context")
        require_counts("model.shape.", **{name: getattr(self, name) for name in counts})


@dataclass(frozen=True)
class ModelConfig:
    """The base model: frozen, except in full fine-tuning."""

    name: str = setting(
        "miniature-qwen2", Role.identity, counts_as=lambda run: run.model.identity, given=NO_FOLDER_OF_MODEL
    )
    """Name in the records; a shipped miniature, `smollm2-135m` from its package, or that of a model on the hub."""
    hub: str | None = setting(None, Role.place, given=NO_FOLDER_OF_MODEL)
    """Repository on the Hugging Face hub, `owner/name`, for models that do not ship with the package."""
    revision: str = setting("main", Role.identity, used=OF_THE_HUB)
    """Branch, tag or commit there, by which weights of one name differ; the commit that it resolves to is recorded."""
    path: str | None = setting(None, Role.place, enters=as_model_path)
    """Folder with config, safetensors and tokenizer, or a GGUF file; it replaces the named model (and names it)."""
    chat_template: str | None = setting(
        None,
        Role.identity,
        used=lambda run: run.model.chat_template is not None,
        given=CONVERSES,
        counts_as=lambda run: run.model.chat_template_digest or content_digest(Path(run.model.chat_template)),
        enters=as_path,
    )
    """Jinja file that stands in for the tokenizer's chat template (base models have none). Its content counts."""
    chat_template_digest: str | None = setting(None, Role.place, given=CONVERSES)
    """Digest of that content, noted where the file is at hand: records are read where it is not. A file with another
    content is refused."""
    date: str = setting(DAY, Role.identity, used=CONVERSES, absent=DAY)
    """The day (YYYY-MM-DD) that a chat template is given as today, so that its prompts are the same on every day."""
    dtype: Precision = setting(Precision.fp32, Role.identity)
    """Type of the base weights and of the arithmetic on them."""
    device: str = setting("auto", Role.place)
    """`auto`: the accelerator where there is one, else `cpu`; or a torch device."""
    attention: Attention = setting(Attention.sdpa, Role.place)
    """Implementation of attention."""
    gradient_checkpointing: bool = setting(False, Role.place, given=TRAINS)
    """Keep one activation per block in training and compute the others again: less memory, a third more time."""
    shape: ShapeConfig | None = setting(None, Role.note, given=NO_FOLDER_OF_MODEL)
    """The model's sizes, for planning without its files. Loading uses those in the files."""
    lr_constants: dict[str, float] = setting(dict, Role.note, given=RATE_IS_AUTO)
    """For `lr=auto`, found on validation data: c of lr = c/(u + 8) for each "task/algorithm" (TinyLoRA), or the rate
    itself for "task/algorithm/adapter"."""

    def __post_init__(self) -> None:
        require_kinds(self, "model.")
        require_path("model.path", self.path)
        require_path("model.chat_template", self.chat_template)
        given, rule = f"model.dtype={self.dtype.value}", "a model computes in a floating-point type"
        require(not self.dtype.whole, given, rule, "give model.dtype=fp32 or bf16; `precision` is the type of v")
        given, rule = f"model.date={shown(self.date)}", "model.date is a day of the calendar, written YYYY-MM-DD"
        require(_is_day(self.date), given, rule, f"give model.date={DAY}, for example")
        for name, rate in self.lr_constants.items():
            given, rule = f"model.lr_constants.{name}={rate}", "a learning rate is a finite number above 0"
            require(is_positive(rate), given, rule, "correct it, or leave it out and give lr=<number>")

    @property
    def day(self) -> datetime.date:
        """The day that a chat template is given as today."""
        return datetime.date.fromisoformat(self.date)

    @property
    def identity(self) -> str:
        """The name under which runs of this model are recorded."""
        if self.path is None:
            return self.name
        if Path(self.path).suffix.lower() == GGUF:
            return Path(self.path).name
        try:
            return Path(self.path).resolve().name
        except (OSError, RuntimeError):  # it leads nowhere, which is said where paths enter
            return Path(self.path).name


def _is_day(text: str) -> bool:
    try:
        return datetime.date.fromisoformat(text).isoformat() == text  # it reads other forms, too
    except ValueError:
        return False
