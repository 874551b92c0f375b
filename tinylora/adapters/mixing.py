"""How rows meet the R of their lanes: every row's reduced input (T, r) times an r x r matrix of its own.

A small R is copied for each row, and all rows are one batch of small products. Copies of a large one (LoRA-XS) would
take most of the time and memory; there the rows of each lane are put side by side, and its R is read where it is:

    (A, T, r) -> spread -> (lanes, size * T, r) -> product -> collect -> (A, T, r)

with `size` the most rows of any lane.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

LARGE = 16  # rank beyond which R is not copied


@dataclass(frozen=True)
class Slots:
    """Where each row stands when the rows of a lane are side by side."""

    of_row: torch.Tensor  # (A,) among lanes * size
    lanes: int  # that have rows
    size: int  # the most rows of any of them

    def spread(self, x: torch.Tensor) -> torch.Tensor:
        """(A, ...) to (lanes, size, ...), zero where there is no row."""
        grid = x.new_zeros(self.lanes * self.size, *x.shape[1:])
        return grid.index_copy_(0, self.of_row, x).view(self.lanes, self.size, *x.shape[1:])

    def collect(self, grid: torch.Tensor) -> torch.Tensor:
        """(lanes, size, ...) to (A, ...)."""
        return grid.flatten(0, 1).index_select(0, self.of_row)


@dataclass(frozen=True)
class RowMatrices:
    """R of the rows of a batch."""

    matrices: torch.Tensor  # (A, M, r, r) of each row; with slots (lanes, M, r, r) of each lane that has rows
    slots: Slots | None

    @classmethod
    def of(cls, formed: torch.Tensor, lane_of_row: torch.Tensor) -> RowMatrices:
        """From R (L, M, r, r) of all lanes and the lanes of the rows (A,)."""
        lane_of_row = lane_of_row.to(formed.device)
        if formed.shape[-1] <= LARGE:
            return cls(formed.index_select(0, lane_of_row), None)
        present, lane, counts = lane_of_row.unique(return_inverse=True, return_counts=True)
        size, order = int(counts.max()), lane.argsort(stable=True)
        first = counts.cumsum(0) - counts  # of each lane's rows in that order
        place = torch.empty_like(lane)
        place[order] = torch.arange(len(lane), device=lane.device) - first[lane[order]]
        return cls(formed.index_select(0, present), Slots(lane * size + place, len(present), size))


def mix(x: torch.Tensor, matrices: torch.Tensor, slots: Slots | None) -> torch.Tensor:
    """Each row's x (A, T, r) times the matrix (r, r) of the row, or with slots of its lane; (A, T, r)."""
    if slots is None:
        return torch.bmm(x, matrices)
    grid = slots.spread(x)
    return slots.collect(torch.bmm(grid.flatten(1, 2), matrices).view_as(grid))


def outer(left: torch.Tensor, right: torch.Tensor, slots: Slots | None) -> torch.Tensor:
    """left^T right, from (A, T, r) each: (A, r, r) of each row; with slots (lanes, r, r), summed over a lane's rows."""
    if slots is not None:
        left, right = (slots.spread(x).flatten(1, 2) for x in (left, right))
    return torch.bmm(left.transpose(1, 2), right)
