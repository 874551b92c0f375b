"""Completions to train on, how they are laid out in batches, and the log-probabilities that a model gives them.

The completions of one prompt share a row: a tree, of which every node is read once,

    prompt | completion 1 | what completion 2 has beyond completion 1 | ... | padding

Completions are sorted by their tokens, so that what two of them begin with is read with the first. For a prompt `p q`
with the completions `a b d .`, `a c e .` and `a c f .`:

    place      0  1  2  3  4  5  6  7      p - q - a -+- b - d
    token      p  q  a  b  d  c  e  f                 +- c -+- e
    position   0  1  2  3  4  3  4  4                       +- f

A token sees itself and what leads to it from the root: f sees p q a c. Its position is 4, as if its completion stood
alone, and not its place.
So nothing is read twice within a row, and a prompt is repeated only where its completions need several rows. The last
token of a completion is predicted and predicts nothing, so it is not read. A row is at most `row_width` long unless one
completion needs more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import torch
from torch.func import functional_call
from torch.nn.utils.rnn import pad_sequence
from transformers import PretrainedConfig, PreTrainedModel

from tinylora.engine.layout import Layout
from tinylora.models.load import text_config


@dataclass(frozen=True)
class Completions:
    """N prompts, their lanes, and equally many completions of each: completion b belongs to prompt b // samples."""

    prompts: Sequence[Sequence[int]]
    lane_of_prompt: torch.Tensor  # (N,)
    tokens: Sequence[list[int]]  # of the B = N * samples completions, each at least one

    @property
    def samples(self) -> int:
        """Completions of each prompt."""
        return len(self.tokens) // max(1, len(self.prompts))

    def tokens_per_lane(self, lanes: int) -> torch.Tensor:
        """Completion tokens of each lane, (lanes,): the denominators of the optimizer step."""
        lengths = torch.tensor([len(completion) for completion in self.tokens], dtype=torch.long)
        lane_of_completion = self.lane_of_prompt.repeat_interleave(self.samples)
        return torch.zeros(lanes, dtype=torch.long).index_add(0, lane_of_completion, lengths)


@dataclass(frozen=True)
class Row:
    """One row of a batch: a prompt and some of its completions, by number, sorted by their tokens."""

    prompt: int
    completions: tuple[int, ...]
    length: int  # tokens that are read


def row_width(config: PretrainedConfig, layout: Layout) -> int:
    """The length up to which completions of one prompt share a row; 0 where that is not right for the model.

    Attention over a row of length T costs about T/(3d) of what the linear maps of a model of width d cost, so up to
    T = d the tokens that are saved are worth more than the longer attention costs.
    """
    return int(text_config(config).hidden_size) if layout.trees else 0


def lay_out(completions: Completions, prompts: Sequence[int], width: int) -> list[Row]:
    """Rows with all completions of some prompts, each filled up to `width`."""
    rows: list[Row] = []
    for prompt in prompts:
        own = range(prompt * completions.samples, (prompt + 1) * completions.samples)
        filled: list[Row] = []
        before: Sequence[int] = ()
        for number in sorted(own, key=lambda n: completions.tokens[n][:-1]):
            read = completions.tokens[number][:-1]
            added = len(read) - _shared(before, read)
            if filled and filled[-1].length + added <= width:
                filled[-1] = Row(prompt, (*filled[-1].completions, number), filled[-1].length + added)
            else:
                filled.append(Row(prompt, (number,), len(completions.prompts[prompt]) + len(read)))
            before = read
        rows += filled
    return rows


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    return next((i for i, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))  # noqa: B905


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
    completions: Completions,
    batch: Sequence[Row],
    temperature: float = 1.0,
    parameters: Mapping[str, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Log-probabilities (b, T) of the tokens of a batch's completions, fp32, 0 in the padding.

    Those of the base model, unless the rows have lanes (`rows` of the adapters). `parameters` are as for
    `completion_logits`.
    """
    logits, places = completion_logits(model, completions, batch, parameters)
    return _logps(completions, batch, logits.float() / temperature, places)


def logps_and_entropies(
    model: PreTrainedModel, completions: Completions, batch: Sequence[Row], temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Beside the log-probabilities (b, T), the entropy in nats of what could stand in each token's place (b, T).

    Both of the softmax at the temperature; 0 in the padding.
    """
    logits, places = completion_logits(model, completions, batch)
    logits = logits.float() / temperature
    entropies = logits.logsumexp(-1) - (logits.softmax(-1) * logits).sum(-1)  # (places,)
    mask = completion_mask(completions, batch, logits.device)
    spread = torch.zeros_like(mask).masked_scatter(mask > 0, entropies[places])
    return _logps(completions, batch, logits, places), spread


def _logps(completions: Completions, batch: Sequence[Row], logits: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    tokens = list(chain.from_iterable(completions.tokens[number] for number in numbers(batch)))
    logps = logits[places, torch.tensor(tokens, device=logits.device)] - logits.logsumexp(-1)[places]  # (tokens,)
    mask = completion_mask(completions, batch, logits.device)
    return torch.zeros_like(mask).masked_scatter(mask > 0, logps)


def completion_logits(
    model: PreTrainedModel,
    completions: Completions,
    batch: Sequence[Row],
    parameters: Mapping[str, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (places, V), and for each completion token of a batch, the index of the place before it (tokens,).

    `parameters` stand in for the model's own, by name. The head is computed only at the places that predict a token.
    """
    device, trees = model.device, [_Tree.of(completions, row) for row in batch]
    ids = pad_sequence([torch.tensor(tree.tokens) for tree in trees], batch_first=True)
    inputs = {"input_ids": ids.to(device), "use_cache": False}
    if any(len(row.completions) > 1 for row in batch):  # else rows are causal, and padding is behind all tokens
        positions = pad_sequence([torch.tensor(tree.positions) for tree in trees], batch_first=True)
        ends = pad_sequence([torch.tensor(tree.ends) for tree in trees], batch_first=True)
        dtype = next(iter(parameters.values())).dtype if parameters else model.dtype
        inputs |= {"position_ids": positions.to(device), "attention_mask": _past(ends.to(device), dtype)}
    predictors = [p + row * ids.shape[1] for row, tree in enumerate(trees) for p in tree.predictors]
    heads, places = torch.tensor(predictors, device=device).unique(return_inverse=True)
    with _head_at(model, heads):
        logits: torch.Tensor = functional_call(model, dict(parameters or {}), (), inputs).logits
    return logits[0], places


@dataclass(frozen=True)
class _Tree:
    """A row as it is read: its prompt and, behind it, of each completion what it does not share with the one before."""

    tokens: list[int]
    positions: list[int]
    ends: list[int]  # node k is in the past of the tokens k to ends[k] - 1
    predictors: list[int]  # for each token of each completion the node before it

    @classmethod
    def of(cls, completions: Completions, row: Row) -> _Tree:
        """The tree of a row, whose completions are sorted by their tokens."""
        tokens = list(completions.prompts[row.prompt])
        start, path = len(tokens), list[int]()  # path: the nodes of the last completion
        positions, ends, predictors = list(range(start)), [row.length] * row.length, list[int]()
        before: Sequence[int] = ()
        for number in row.completions:
            read = completions.tokens[number][:-1]
            shared = _shared(before, read)
            for node in path[shared:]:
                ends[node] = len(tokens)
            path = [*path[:shared], *range(len(tokens), len(tokens) + len(read) - shared)]
            tokens += read[shared:]
            positions += range(start + shared, start + len(read))
            predictors += [start - 1, *path]
            before = read
        assert len(tokens) == row.length, "the row was laid out from other completions"
        return cls(tokens, positions, ends, predictors)


def _past(ends: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The additive attention mask (A, 1, T, T) of trees with these ends (A, T); padding, with end 0, sees itself."""
    places = torch.arange(ends.shape[1], device=ends.device)
    queries, keys = places[:, None], places[None, :]
    seen = (keys <= queries) & (queries < ends[:, None, :]) | (keys == queries)  # (A, T of query, T of key)
    mask = torch.zeros(seen.shape, dtype=dtype, device=ends.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


@contextmanager
def _head_at(model: PreTrainedModel, places: torch.Tensor) -> Iterator[None]:
    """Inside, the model's head reads only some places of the flattened batch: its output is (1, places, V)."""
    with _head_of(model, lambda hidden: hidden.flatten(0, 1)[None, places]):
        yield


@contextmanager
def last_column(model: PreTrainedModel) -> Iterator[None]:
    """Inside, the model's head reads the last column only: its output is (A, 1, V).

    `logits_to_keep` of transformers gives the head a view, which PyTorch multiplies row by row with a frozen head. On a
    processor that is 4 times as slow, and 100 times in bf16, where it copies the head's weights for every row.
    """
    with _head_of(model, lambda hidden: hidden[:, -1:].contiguous()):
        yield


@contextmanager
def _head_of(model: PreTrainedModel, select: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    def hook(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (select(inputs[0]), *inputs[1:])

    with model.get_output_embeddings().register_forward_pre_hook(hook):
        yield
