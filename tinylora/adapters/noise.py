"""Draws of tensors from named random streams (see `settings.seeds`): projections, first factors, sampling noise."""

from __future__ import annotations

import torch

from tinylora.settings.seeds import stream_seed


def torch_stream(root: int, *name: str | int) -> torch.Generator:
    """A CPU generator for the stream `name`: CPU on every machine, so that all devices see the same numbers."""
    return torch.Generator("cpu").manual_seed(stream_seed(root, *name))
