"""Rows to train on, their split into micro-batches, and the trainer's log-probabilities of their completions."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from tinylora.adapter import TinyLora


@dataclass(frozen=True)
class Rows:
    """B prompts with a completion each, and the lane that each belongs to."""

    prompts: Sequence[Sequence[int]]
    completions: Sequence[Sequence[int]]
    lane_of_row: torch.Tensor  # (B,)

    def tokens_per_lane(self, lanes: int) -> torch.Tensor:
        """Completion tokens of each lane, (lanes,): the denominators of the optimizer step."""
        lengths = torch.tensor([len(completion) for completion in self.completions])
        return torch.zeros(lanes, dtype=torch.long).index_add(0, self.lane_of_row, lengths)


def micro_batches(rows: Rows, token_budget: int) -> list[list[int]]:
    """Row numbers, longest rows first, in batches of at most `token_budget` tokens with padding (but one row)."""
    lengths = [len(p) + len(c) for p, c in zip(rows.prompts, rows.completions, strict=True)]
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda r: (-lengths[r], r)):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= token_budget:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def completion_mask(rows: Rows, batch: Sequence[int], device: torch.device) -> torch.Tensor:
    """1.0 where a row of the batch has a completion token, (b, T) with T the longest completion in the batch."""
    lengths = torch.tensor([len(rows.completions[row]) for row in batch], device=device)
    return (torch.arange(int(lengths.max()), device=device) < lengths[:, None]).float()


def completion_logps(
    model: PreTrainedModel,
    adapter: TinyLora | None,
    rows: Rows,
    batch: Sequence[int],
    pad_token: int,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Log-probabilities (b, T) of the completion tokens of some rows, fp32; the padding holds arbitrary numbers.

    `adapter=None` gives those of the base model (v = 0). Rows are padded on the right, so that causal attention needs
    no mask, and logits are computed from the last token of the shortest prompt on.
    """
    device = model.device
    sequences = [[*rows.prompts[row], *rows.completions[row]] for row in batch]
    width = max(map(len, sequences))
    ids = torch.tensor([sequence + [pad_token] * (width - len(sequence)) for sequence in sequences], device=device)
    prompt_lengths = torch.tensor([len(rows.prompts[row]) for row in batch], device=device)
    first = int(prompt_lengths.min())
    with adapter.rows(rows.lane_of_row[list(batch)]) if adapter else nullcontext():
        logits: torch.Tensor = model(input_ids=ids, use_cache=False, logits_to_keep=width - first + 1).logits
    logits = logits[:, :-1].float() / temperature  # (b, width - first, V): predictions of tokens `first` and on
    logps = logits.gather(-1, ids[:, first:, None])[..., 0] - logits.logsumexp(-1)
    longest = max(len(rows.completions[row]) for row in batch)
    columns = (prompt_lengths - first)[:, None] + torch.arange(longest, device=device)
    return logps.gather(1, columns.clamp(max=logps.shape[1] - 1))
