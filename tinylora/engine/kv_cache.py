"""A key-value cache whose rows come and go, and in which a decoded token is written, not concatenated.

Rows of different lengths end in the same column: what is to the left of a row's first token is masked out.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer

from tinylora.engine.layout import Reading

LEAST_ROOM = 16  # free columns of a new buffer


class RoomyLayer(DynamicLayer):
    """`DynamicLayer` over buffers with room for more columns: `keys` and `values` are views of the filled ones."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make the first buffers, for states (A, heads, T, width)."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self._show([_buffer(states, len(states), states.shape[2]) for states in (key_states, value_states)], 0)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append columns and return all that is held."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.put(key_states, value_states)
        return self._held

    def put(self, key_states: torch.Tensor, value_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Append columns; returns the whole buffers (A, heads, capacity, width), 0 where nothing is held."""
        start, end = self.filled, self.filled + key_states.shape[2]
        self.reserve(end)
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = states
        self._show(self._buffers, end)
        return self._buffers[0], self._buffers[1]

    def reserve(self, columns: int) -> int:
        """Have room for that many columns in all; returns how many there is room for."""
        if columns > self._buffers[0].shape[2]:
            buffers = [_buffer(old, len(old), columns) for old in self._buffers]
            for new, held in zip(buffers, self._held, strict=True):
                new[:, :, : self.filled] = held
            self._show(buffers, self.filled)
        return self._buffers[0].shape[2]

    def select(self, rows: torch.Tensor, first: int) -> None:
        """Keep (or repeat) some rows, and the columns from `first` on."""
        columns = self.filled - first
        buffers = [_buffer(old, len(rows), columns) for old in self._buffers]
        for new, old in zip(buffers, self._held, strict=True):
            torch.index_select(old[:, :, first:], 0, rows, out=new[:, :, :columns])
        self._show(buffers, columns)

    def append(self, other: RoomyLayer) -> None:
        """Add the rows of another cache behind those that are held; all end in the same column."""
        held, columns = len(self._buffers[0]), max(self.filled, other.filled)
        buffers = [_buffer(old, held + len(new), columns) for old, new in zip(self._buffers, other._held, strict=True)]
        for new, ours, theirs in zip(buffers, self._held, other._held, strict=True):
            new[:, :, :columns] = 0
            new[:held, :, columns - self.filled : columns] = ours
            new[held:, :, columns - other.filled : columns] = theirs
        self._show(buffers, columns)

    def copy(self, sources: torch.Tensor, targets: torch.Tensor) -> None:
        """Copy some rows over others."""
        for held in self._held:
            held[targets] = held[sources]

    def _show(self, buffers: list[torch.Tensor], filled: int) -> None:
        self._buffers, self.filled = buffers, filled
        keys, values = (buffer[:, :, :filled] for buffer in buffers)
        self.keys, self.values = self._held = (keys, values)


def _buffer(like: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """A buffer (rows, heads, columns and some more, width): the columns are unset, what is behind them is 0."""
    buffer = like.new_empty((rows, like.shape[1], columns + max(LEAST_ROOM, columns // 8), like.shape[3]))
    buffer[:, :, columns:] = 0
    return buffer


def new_cache(config: PretrainedConfig, reading: Reading = Reading.padded) -> DynamicCache:
    """An empty cache; layers of another kind than plain attention stay as transformers makes them.

    Where rows are read anew, what is kept of them is their tokens, in the one layer of the cache (`read_tokens`).
    """
    cache = DynamicCache(config=config)
    if reading is Reading.anew:
        cache.layers = [RoomyLayer()]
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def read_tokens(cache: DynamicCache, ids: torch.Tensor) -> torch.Tensor:
    """All tokens (A, S) of the rows of a cache that keeps tokens, after `ids` (A, T) have been added to them."""
    (layer,) = cache.layers
    assert isinstance(layer, RoomyLayer)
    kept, _ = layer.update(ids[:, None, :, None], ids[:, None, :, None])
    return kept[:, 0, :, 0]


def can_append(cache: DynamicCache) -> bool:
    """Whether rows can join this cache: those of sliding windows, say, can only be selected."""
    return all(isinstance(layer, RoomyLayer) for layer in cache.layers)


def _filled(cache: DynamicCache) -> list[Any]:
    """The layers that the model has filled: some configs count more than it has (BART those of its encoder)."""
    return [layer for layer in cache.layers if getattr(layer, "is_initialized", True)]


def select_rows(cache: DynamicCache, rows: torch.Tensor, first: int = 0) -> None:
    """Keep (or repeat) some rows of a cache, and the columns from `first` on (0, where not all layers can append)."""
    for layer in _filled(cache):
        if isinstance(layer, RoomyLayer):
            layer.select(rows, first)
        else:
            layer.batch_select_indices(rows)


def append_rows(cache: DynamicCache, other: DynamicCache) -> None:
    """Add the rows of another cache behind those of this one, which can append."""
    for layer, joining in zip(_filled(cache), _filled(other), strict=True):
        assert isinstance(layer, RoomyLayer) and isinstance(joining, RoomyLayer)
        layer.append(joining)


def copy_rows(cache: DynamicCache, sources: torch.Tensor, targets: torch.Tensor) -> None:
    """Copy some rows of a cache, which can append, over others."""
    for layer in _filled(cache):
        assert isinstance(layer, RoomyLayer)
        layer.copy(sources, targets)
