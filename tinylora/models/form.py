"""The form in which a model is asked and taught: the tokens of a prompt, and the token that ends an answer.

A conversation is rendered in the tokenizer's chat template (`templates`), other prompts are texts. A completion ends
where the model says so: at the tokenizer's end token, at those of its generation config, and in a conversation also at
the token that the template puts behind an assistant's message. That last one is what demonstrations end with: a base
model's tokenizer may name `<|endoftext|>` where its template ends every turn with `<|im_end|>`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase

from tinylora.models.find import config_folder
from tinylora.models.templates import Message, limited, question, say
from tinylora.settings.config import ModelConfig
from tinylora.settings.errors import UsageError, first_line

ANSWER, NEXT = "The answer is 7351.", "And then, 64?"  # of an assistant, and of a user who asks on
PROBES = (
    "1",
    "What is 12 + 345?\nGive it as \\boxed{...}, or after ####.",
    "  Two  spaces, a tab\t, caf\u00e9, \u6f22\u5b57, \U0001f642, x^{2} \u2264 \\frac{1}{2}\n\n",
)
"""Texts whose tokens tell one form from another: digits, marks, spaces, and letters of several scripts."""
OTHER_DAYS = (date(1999, 12, 31), date(2033, 5, 4))  # one of them differs from any day in all that can be printed


@dataclass(frozen=True)
class Shown:
    """What a chat template shows of itself."""

    dated: bool
    """Whether it prints the day."""
    behind: str
    """What it puts behind an assistant's message, "" where it takes none."""
    behind_inner: str | None
    """The same where another message follows, up to that one; None where none may follow."""
    opening: str
    """What it puts in front of an assistant's message, beyond the prompt for one."""


@dataclass(frozen=True)
class Form:
    """How a model is asked and taught on one kind of task."""

    tokens: PreTrainedTokenizerBase = field(repr=False)
    day: date | None
    """Of the chat template; None where the task is no conversation."""
    end_tokens: frozenset[int]
    """Each ends a completion."""
    end: int
    """The one that demonstrations end with."""
    before_end: str = ""
    """What the template puts between an answer and that token."""
    dated: bool = False
    """Whether the template prints the day."""
    system: str | None = None
    """What the system says in front of every question; None: whatever the template puts there."""
    notes: tuple[str, ...] = ()
    """Sentences on the template that its user should know."""

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of what is asked."""
        if self.day is None:  # some tokenizers end every text: that would be the end of an answer
            found = self._encode(texts, add_special_tokens=True)
            return [ids[:-1] if len(ids) > 1 and ids[-1] in self.end_tokens else ids for ids in found]
        asked = [say(self.tokens, self.day, question(text, self.system)) for text in texts]
        return self._encode(asked, add_special_tokens=False)  # the template prints those that it wants

    def completions(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of demonstrated answers, each with its end token."""
        encoded = self._encode([text + self.before_end for text in texts], add_special_tokens=False)
        return [[*tokens, self.end] for tokens in encoded]

    def decode(self, completions: Sequence[Sequence[int]]) -> list[str]:
        """The texts of completions, without the token that ended them and without special tokens."""
        answers = [list(ids[:-1] if ids and ids[-1] in self.end_tokens else ids) for ids in completions]
        return list(self.tokens.batch_decode(answers, skip_special_tokens=True))

    @cached_property
    def digest(self) -> str:
        """16 hex digits over the tokens of fixed prompts and answers, and the end tokens."""
        found = [[_or_none(encode, text) for text in PROBES] for encode in (self.prompts, self.completions)]
        return hashlib.sha256(json.dumps([*found, sorted(self.end_tokens)]).encode()).hexdigest()[:16]

    def _encode(self, texts: Sequence[str], add_special_tokens: bool) -> list[list[int]]:
        return list(self.tokens(list(texts), add_special_tokens=add_special_tokens).input_ids)


def form_of(config: ModelConfig, tokens: PreTrainedTokenizerBase, chat: bool, system: str | None = None) -> Form:
    """The form of a model with its tokenizer (as `load` gives it), on tasks that are conversations or are not.

    `system` is the system's message in front of every question of a conversation. Raises UsageError where its chat
    template cannot be used.
    """
    return _form_of(config_folder(config), config.identity, tokens, config.day if chat else None, system)


def _or_none(encode: Callable[[Sequence[str]], list[list[int]]], text: str) -> list[int] | None:
    """The tokens of a text; None where the tokenizer knows no token for it, as one of digits alone."""
    try:
        return encode([text])[0]
    except Exception:  # the Rust tokenizers raise bare Exception
        return None


@lru_cache(maxsize=8)  # another tokenizer is loaded where any file of the folder has changed
def _form_of(folder: Path, name: str, tokens: PreTrainedTokenizerBase, day: date | None, system: str | None) -> Form:
    rows, configured = _of_config(folder)
    eos = tokens.eos_token_id
    assert isinstance(eos, int), "tokenizers are loaded with an end token"
    ends = frozenset((eos, *configured))
    if day is None:
        return Form(tokens, None, ends, eos)
    shown: Shown = limited(lambda: _look(tokens, day, system))
    before, end = _closing(tokens, shown, ends) or ("", eos)
    form = Form(tokens, day, ends | {end}, end, before, shown.dated, system, tuple(_notes(name, day, shown)))
    _require_embedded(form, name, rows)
    return form


def _look(tokens: PreTrainedTokenizerBase, day: date, system: str | None) -> Shown:
    asked: list[Message] = question(PROBES[0], system)
    answer: Message = {"role": "assistant", "content": ANSWER}
    prompt = say(tokens, day, asked)
    dated = {prompt} != {say(tokens, other, asked) for other in OTHER_DAYS}
    front, behind = _around(tokens, day, [*asked, answer])
    _, inner = _around(tokens, day, [*asked, answer, *question(NEXT)])
    asks = prompt != say(tokens, day, asked, asks=False)
    opening = (front or "").removeprefix(prompt) if not asks and (front or "").startswith(prompt) else ""
    return Shown(dated, behind or "", None if inner is None else inner.partition(NEXT)[0], opening)


def _around(tokens: PreTrainedTokenizerBase, day: date, messages: Sequence[Message]) -> tuple[str | None, str | None]:
    """What stands in front of the assistant's message and behind it; None where the template takes no such message."""
    try:
        front, found, behind = say(tokens, day, messages, asks=False).rpartition(ANSWER)
    except Exception:  # as `limited` reports them
        return None, None
    return (front, behind) if found else (None, None)


def _closing(tokens: PreTrainedTokenizerBase, shown: Shown, ends: frozenset[int]) -> tuple[str, int] | None:
    """The token that the template ends an assistant's message with, and the text in front of it.

    None where it ends with none: with nothing, or a text of ordinary tokens. A token that is no end token by itself
    must also stand behind a message which another one follows: else it may begin what comes next.
    """
    found = _first_added(tokens, shown.behind)
    if found is None or found[1] in ends or shown.behind_inner is None:
        return found
    inner = _first_added(tokens, shown.behind_inner)
    return found if inner is not None and inner[1] == found[1] else None


def _first_added(tokens: PreTrainedTokenizerBase, text: str) -> tuple[str, int] | None:
    """The first added token in a text (such as special tokens are), and the text in front of it."""
    added = {token: number for token, number in tokens.get_added_vocab().items() if token.strip()}
    pattern = "|".join(re.escape(token) for token in sorted(added, key=len, reverse=True))
    found = re.search(pattern, text) if added else None
    return (text[: found.start()], added[found[0]]) if found else None


def _notes(name: str, day: date, shown: Shown) -> list[str]:
    notes = []
    if shown.dated:
        notes.append(f"The chat template of {name} prints a date: pinned to {day} (model.date).")
    if shown.opening.strip():
        notes.append(
            f"The chat template of {name} begins no answer: its prompts end before {shown.opening!r}, which it puts in "
            "front of an assistant's message (it lacks a part for add_generation_prompt)."
        )
    return notes


def _of_config(folder: Path) -> tuple[int, list[int]]:
    """The rows of the model's embedding, and the end tokens of its generation config, which transformers may derive."""
    settings = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    try:
        generation = GenerationConfig.from_pretrained(folder, local_files_only=True)
    except OSError:  # there is none, or it is no JSON
        derived: dict[str, Any] = {"config_file_name": "config.json", "_from_model_config": True}  # as in loading
        generation = GenerationConfig.from_pretrained(folder, local_files_only=True, **derived)
    except Exception as error:  # what a wrong one raises depends on what is wrong
        raise UsageError(
            f"the model in {folder}",
            f"its generation_config.json must hold settings of generation: {first_line(error)}",
            "copy the file again, or remove it: the end tokens are then those of config.json",
        ) from error
    found = generation.eos_token_id
    ends = found if isinstance(found, list) else [found]
    return settings.get_text_config().vocab_size, [token for token in ends if isinstance(token, int)]


def _require_embedded(form: Form, name: str, rows: int) -> None:
    """Raise UsageError where a prompt or an answer has a token that the model has no embedding of."""
    beyond = [each for ids in (*form.prompts(PROBES[:1]), [form.end]) for each in ids if each >= rows]
    if beyond:
        raise UsageError(
            f"the chat template of {name}",
            f"it writes {form.tokens.convert_ids_to_tokens(beyond[0])!r}, token {beyond[0]} of the tokenizer, and the "
            f"model embeds {rows}",
            "take the tokenizer and the template that belong to the model, or a model made for conversations",
        )
