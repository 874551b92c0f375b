"""What is kept of a lane's v at its evaluations (`records.kept`), and the way back to tensors."""

from __future__ import annotations

import numpy as np
import torch

from tinylora.adapters.lane import Lane
from tinylora.adapters.rounding import values
from tinylora.models.load import TORCH_DTYPE
from tinylora.records.kept import KeptV, is_small
from tinylora.train.pack import LaneRun


def kept_of(lane: LaneRun) -> KeptV | None:
    """The v of a lane where it stands; None where that is too much to be kept."""
    if not is_small(lane.config, lane.v.numel()):
        return None
    stored, scale = lane.adapter.stored_v()
    content = stored.cpu().contiguous().view(torch.uint8).numpy().tobytes()
    return KeptV(
        lane.step, lane.config.precision, tuple(stored.shape), content, None if scale is None else float(scale)
    )


def hold_kept(lane: Lane, kept: KeptV) -> None:
    """Put what was kept of a lane like this one into it."""
    dtype = torch.int8 if kept.precision.whole else TORCH_DTYPE[kept.precision]
    stored = torch.from_numpy(np.frombuffer(kept.v, dtype=np.uint8).copy()).view(dtype).view(kept.shape)
    assert stored.shape == lane.v.shape, "the run's settings say the shape of its v"
    lane.hold(values(stored, None if kept.scale is None else torch.tensor(kept.scale)))
