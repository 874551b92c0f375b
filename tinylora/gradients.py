"""The gradient of every lane's v, in micro-batches that fit into memory.

R is formed once per step. Each micro-batch adds its gradient for R (L, M, r, r), a few numbers, and their sum goes back
to every v at the end: so a micro-batch costs its tokens and nothing for v, and one that fails has left nothing behind.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch

from tinylora.batches import Completions, Row, lay_out, micro_batches, numbers
from tinylora.memory import out_of_memory
from tinylora.pack import Pack

RowLoss = Callable[[Sequence[Row], torch.Tensor], tuple[torch.Tensor, dict[str, torch.Tensor]]]
"""From a micro-batch and R (L, M, r, r): the loss of its b completions (b,), and other numbers of them (b,) by name."""


def backward(
    pack: Pack, completions: Completions, prompts: Sequence[int], row_loss: RowLoss
) -> dict[str, torch.Tensor]:
    """Give every lane's v the gradient of the summed loss of the completions of some `prompts`.

    Returns the loss ("loss") and the other numbers of every completion (B,), 0 for those of other prompts. The split
    into micro-batches changes nothing but rounding. Raises FailureError where a single row does not fit.
    """
    matrices = pack.adapter.matrices()  # (L, M, r, r)
    formed = matrices.detach().requires_grad_()
    total = torch.zeros_like(formed)
    found: dict[str, torch.Tensor] = defaultdict(lambda: torch.zeros(len(completions.tokens)))
    waiting = micro_batches(lay_out(completions, prompts, pack.row_width), pack.limits.pass_tokens)[::-1]
    while waiting:
        batch = waiting.pop()
        try:
            loss, values = row_loss(batch, formed)
            (gradient,) = torch.autograd.grad(loss.sum(), formed)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise out_of_memory("training on one row", pack.config) from error
            half = len(batch) // 2
            waiting += [batch[half:], batch[:half]]
            continue
        total += gradient
        for name, value in (values | {"loss": loss.detach()}).items():
            found[name][numbers(batch)] = value.float().cpu()
    matrices.backward(total)
    return dict(found)
