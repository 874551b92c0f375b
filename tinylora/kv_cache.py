"""A key-value cache with room for the whole completion, so that a decoded token is written, not concatenated."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):
    """`DynamicLayer` over a buffer of fixed length: `keys` and `values` are views of the filled part."""

    def __init__(self, capacity: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.capacity, self.filled = capacity, 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate the buffers at the first update; states are (B, heads, T, width)."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self._buffers = [
            states.new_empty((*states.shape[:2], self.capacity, states.shape[3]))
            for states in (key_states, value_states)
        ]
        self._show(0)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append states and return all that is held."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.filled
        end = start + key_states.shape[2]
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = states
        return self._show(end)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep (or repeat) the rows `indices` of the batch."""
        filled = self.filled
        for place, buffer in enumerate(self._buffers):
            kept = buffer.new_empty((len(indices), *buffer.shape[1:]))
            torch.index_select(buffer[:, :, :filled], 0, indices, out=kept[:, :, :filled])
            self._buffers[place] = kept
        self._show(filled)

    def _show(self, filled: int) -> tuple[torch.Tensor, torch.Tensor]:
        self.filled = filled
        self.keys, self.values = (buffer[:, :, :filled] for buffer in self._buffers)
        return self.keys, self.values


def new_cache(config: PretrainedConfig, capacity: int) -> DynamicCache:
    """An empty cache for sequences of up to `capacity` tokens; layers of another kind than plain attention stay."""
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer(capacity) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
