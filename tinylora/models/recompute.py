"""Gradient checkpointing: keep the input of every block in training, and compute the rest again (Chen et al. 2016).

transformers does it for blocks in training mode. Only the blocks themselves are put there, and only while a gradient is
taken: what is inside them stays in evaluation mode (no dropout), and rollouts keep their cache.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer


def enable(model: PreTrainedModel) -> None:
    """Let a model recompute its blocks inside `recomputing`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of its new name, which versions before 5.20 do not know
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def recomputed_blocks(model: PreTrainedModel) -> list[GradientCheckpointingLayer]:
    """The blocks of a model for which it is enabled; none of another."""
    blocks = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    return [block for block in blocks if block.gradient_checkpointing]


@contextmanager
def recomputing(model: PreTrainedModel) -> Iterator[None]:
    """Inside, a model for which it is enabled keeps no more of a block than its input."""
    blocks = recomputed_blocks(model)
    for block in blocks:
        block.training = True
    try:
        yield
    finally:
        for block in blocks:
            block.training = False
