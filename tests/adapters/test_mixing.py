"""Matrices of many lanes applied to the rows of a batch."""

import torch

from tinylora.adapters.mixing import LARGE, RowMatrices, mix, outer


def test_rows_side_by_side_by_lane_are_mixed_as_each_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    formed = torch.randn(5, 1, LARGE + 1, LARGE + 1, generator=generator)
    lane_of_row = torch.tensor([3, 1, 3, 3, 0, 1, 3])
    x, y = torch.randn(2, 7, 4, LARGE + 1, generator=generator)
    rows = RowMatrices.of(formed, lane_of_row)
    assert rows.slots is not None and (rows.slots.lanes, rows.slots.size) == (3, 4)
    torch.testing.assert_close(mix(x, rows.matrices[:, 0], rows.slots), torch.bmm(x, formed[lane_of_row, 0]))
    summed = torch.zeros(5, LARGE + 1, LARGE + 1).index_add(0, lane_of_row, torch.bmm(x.transpose(1, 2), y))
    torch.testing.assert_close(outer(x, y, rows.slots), summed[[0, 1, 3]])
