"""Completions to train on, how they are laid out in batches, and the log-probabilities that a model gives them.

The completions of one prompt stand side by side in a row behind the prompt, which is read once:

    prompt | completion 1 | completion 2 | completion 3 | padding

Each completion sees the prompt and itself, at the positions that it would have alone. So a step costs what its tokens
cost: no prompt is repeated for every sample, and little is padded. The last token of a completion is predicted and
predicts nothing, so it is not read. A row is at most `row_width` long unless one completion needs more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain

import torch
from torch.func import functional_call
from torch.nn.utils.rnn import pad_sequence
from transformers import PretrainedConfig, PreTrainedModel

from tinylora.adapter import TinyLora

ATTENTION_LAYERS = {"full_attention", "sliding_attention"}


@dataclass(frozen=True)
class Completions:
    """N prompts, their lanes, and as many completions of each: completion b belongs to prompt b // samples."""

    prompts: Sequence[Sequence[int]]
    lane_of_prompt: torch.Tensor  # (N,)
    tokens: Sequence[Sequence[int]]  # of the B = N * samples completions, each at least one

    @property
    def samples(self) -> int:
        """Completions of each prompt."""
        return len(self.tokens) // len(self.prompts)

    def tokens_per_lane(self, lanes: int) -> torch.Tensor:
        """Completion tokens of each lane, (lanes,): the denominators of the optimizer step."""
        lengths = torch.tensor([len(completion) for completion in self.tokens])
        lane_of_completion = self.lane_of_prompt.repeat_interleave(self.samples)
        return torch.zeros(lanes, dtype=torch.long).index_add(0, lane_of_completion, lengths)


@dataclass(frozen=True)
class Row:
    """One row of a batch: a prompt and some of its completions, by number, and how many tokens of them are read."""

    prompt: int
    completions: tuple[int, ...]
    length: int


def row_width(config: PretrainedConfig) -> int:
    """The length up to which completions of one prompt share a row.

    Attention over a row of length T costs about T/(3d) of what the linear maps of a model of width d cost, so up to
    T = d the tokens that are saved are worth more. Within one sliding window all layers see the whole row. A model
    with other layers than attention carries a state from token to token: there each completion has a row of its own.
    """
    width = int(config.hidden_size)
    if not set(getattr(config, "layer_types", None) or ATTENTION_LAYERS) <= ATTENTION_LAYERS:
        return 0
    return min(width, getattr(config, "sliding_window", None) or width)


def lay_out(completions: Completions, prompts: Sequence[int], width: int) -> list[Row]:
    """Rows with all completions of some prompts, each filled up to `width`, longest completions first."""
    rows: list[Row] = []
    for prompt in prompts:
        own = range(prompt * completions.samples, (prompt + 1) * completions.samples)
        filled: list[Row] = []
        for number in sorted(own, key=lambda n: -len(completions.tokens[n])):
            length = len(completions.tokens[number]) - 1
            place = next((i for i, row in enumerate(filled) if row.length + length <= width), None)
            if place is None:
                filled.append(Row(prompt, (number,), len(completions.prompts[prompt]) + length))
            else:
                row = filled[place]
                filled[place] = Row(prompt, (*row.completions, number), row.length + length)
        rows += filled
    return rows


def micro_batches(rows: Sequence[Row], token_budget: int) -> list[list[Row]]:
    """The rows, longest first, in batches of at most `token_budget` tokens with padding (but at least one row)."""
    batches: list[list[Row]] = []
    for row in sorted(rows, key=lambda r: -r.length):
        if batches and (len(batches[-1]) + 1) * batches[-1][0].length <= token_budget:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def numbers(batch: Sequence[Row]) -> list[int]:
    """The b completions of a batch in the order of its rows: the first dimension of all that is computed for it."""
    return [number for row in batch for number in row.completions]


def completion_mask(completions: Completions, batch: Sequence[Row], device: torch.device) -> torch.Tensor:
    """1.0 where a completion of the batch has a token, (b, T) with T the longest of them."""
    lengths = torch.tensor([len(completions.tokens[number]) for number in numbers(batch)], device=device)
    return (torch.arange(int(lengths.max()), device=device) < lengths[:, None]).float()


def completion_logps(
    model: PreTrainedModel,
    adapter: TinyLora | None,
    completions: Completions,
    batch: Sequence[Row],
    temperature: float = 1.0,
    matrices: torch.Tensor | None = None,
) -> torch.Tensor:
    """Log-probabilities (b, T) of the tokens of a batch's completions, fp32, 0 in the padding.

    `adapter=None` gives those of the base model (v = 0); `matrices` (L, M, r, r) go to `TinyLora.rows`.
    """
    lanes = completions.lane_of_prompt[[row.prompt for row in batch]]
    with adapter.rows(lanes, matrices) if adapter else nullcontext():
        logits = completion_logits(model, completions, batch).float() / temperature
    tokens = list(chain.from_iterable(completions.tokens[number] for number in numbers(batch)))
    targets = torch.tensor(tokens, device=logits.device)
    logps = logits.gather(-1, targets[:, None])[:, 0] - logits.logsumexp(-1)  # (n,)
    mask = completion_mask(completions, batch, logits.device)
    return torch.zeros_like(mask).masked_scatter(mask > 0, logps)


def completion_logits(
    model: PreTrainedModel,
    completions: Completions,
    batch: Sequence[Row],
    parameters: Mapping[str, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Logits (n, V) that predict the n completion tokens of a batch, one completion after the other.

    `parameters` stand in for the model's own, by name. The head is computed at these positions alone.
    """
    device, width = model.device, max(row.length for row in batch)
    ids = pad_sequence([torch.tensor(_tokens(completions, row)) for row in batch], batch_first=True)
    inputs = {"input_ids": ids.to(device), "use_cache": False}
    if any(len(row.completions) > 1 for row in batch):  # else the rows are causal, and padding is behind all tokens
        columns = zip(*(_places(completions, row) for row in batch), strict=True)
        positions, parts = (pad_sequence([torch.tensor(c) for c in column], batch_first=True, padding_value=-1)
                            for column in columns)  # fmt: skip
        inputs["position_ids"] = positions.clamp(min=0).to(device)
        inputs["attention_mask"] = _side_by_side(parts.to(device), model.dtype)
    predictors = [place * width + p for place, row in enumerate(batch) for p in _predictors(completions, row)]
    with _head_at(model, torch.tensor(predictors, device=device)):
        logits: torch.Tensor = functional_call(model, dict(parameters or {}), (), inputs).logits
    return logits[0]


def _tokens(completions: Completions, row: Row) -> list[int]:
    """The tokens that are read of a row."""
    return [*completions.prompts[row.prompt], *chain.from_iterable(completions.tokens[n][:-1] for n in row.completions)]


def _places(completions: Completions, row: Row) -> tuple[list[int], list[int]]:
    """For each token of a row its position, and its part: 0 is the prompt, 1 the first completion, ..."""
    start = len(completions.prompts[row.prompt])
    positions, parts = list(range(start)), [0] * start
    for part, number in enumerate(row.completions, start=1):
        length = len(completions.tokens[number]) - 1
        positions += range(start, start + length)
        parts += [part] * length
    return positions, parts


def _predictors(completions: Completions, row: Row) -> list[int]:
    """For each completion token of a row the place of the token before it."""
    start = len(completions.prompts[row.prompt])
    places, end = [], start
    for number in row.completions:
        length = len(completions.tokens[number]) - 1
        places += [start - 1, *range(end, end + length)]
        end += length
    return places


def _side_by_side(parts: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The additive attention mask (R, 1, T, T) of rows with these parts (R, T); -1 is padding."""
    causal = torch.ones(parts.shape[1], parts.shape[1], dtype=torch.bool, device=parts.device).tril()
    seen = causal & ((parts[:, None, :] == 0) | (parts[:, None, :] == parts[:, :, None]))  # (R, T of query, T of key)
    mask = torch.zeros(seen.shape, dtype=dtype, device=parts.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


@contextmanager
def _head_at(model: PreTrainedModel, places: torch.Tensor) -> Iterator[None]:
    """Inside, the model's head reads only some places (n,) of the flattened batch: its output is (1, n, V)."""

    def select(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (inputs[0].flatten(0, 1)[None, places], *inputs[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()
