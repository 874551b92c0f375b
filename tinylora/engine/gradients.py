"""The gradient of every lane's v, in micro-batches that fit into memory.

What lanes are made of is formed once per step. Each micro-batch adds its gradient for that (TinyLoRA: R (L, M, r, r), a
few numbers), and their sum goes back to every v at the end: so a micro-batch costs its tokens and nothing for v, and
one that fails has left nothing behind.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import chain

import torch

from tinylora.engine.engine import Engine
from tinylora.engine.memory import out_of_memory
from tinylora.engine.rows import Completions, Row, lay_out, micro_batches, numbers
from tinylora.models.load import recomputing

BatchLoss = Callable[[Sequence[Row]], tuple[torch.Tensor, dict[str, torch.Tensor]]]
"""From a micro-batch: the loss of its b completions (b,), and other numbers of them (b,) by name."""


def backward(
    engine: Engine, completions: Completions, prompts: Sequence[int], batch_loss: BatchLoss
) -> dict[str, torch.Tensor]:
    """Give every lane's v the gradient of the summed loss of the completions of some `prompts`, which the ranks share.

    Returns the loss ("loss") and the other numbers of every completion (B,), 0 for those of other prompts. The split
    into micro-batches changes nothing but rounding. Raises FailureError where a single row does not fit.
    """
    formed = engine.adapters.form()
    totals = [torch.zeros_like(leaf) for leaf in formed.leaves]
    found: dict[str, torch.Tensor] = defaultdict(lambda: torch.zeros(len(completions.tokens)))
    own = engine.ranks.own(prompts)
    waiting = micro_batches(lay_out(completions, own, engine.row_width), engine.limits.pass_tokens)[::-1]
    while waiting:
        batch = waiting.pop()
        try:
            # Recomputed activations need the lanes of their rows once more, so the gradient is taken inside.
            lanes = completions.lane_of_prompt[[row.prompt for row in batch]]
            with engine.adapters.rows(lanes, formed.leaves), recomputing(engine.model):
                loss, values = batch_loss(batch)
                gradients = torch.autograd.grad(loss.sum(), formed.leaves, materialize_grads=True)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise out_of_memory("training on one row", engine.name) from error
            half = len(batch) // 2
            waiting += [batch[half:], batch[:half]]
            continue
        for total, gradient in zip(totals, gradients, strict=True):
            total += gradient
        for name, value in (values | {"loss": loss.detach()}).items():
            found[name][numbers(batch)] = value.float().cpu()
    formed.give_back(totals)
    of_lanes = [engine.adapters.lane(index).v.grad for index in range(len(engine.adapters.lanes))]
    engine.ranks.add_up([gradient for gradient in of_lanes if gradient is not None])
    parts = engine.ranks.gather(dict(found))
    names = dict.fromkeys(chain(*parts))
    return {name: torch.stack([part[name] for part in parts if name in part]).sum(0) for name in names}
