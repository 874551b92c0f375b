"""TinyLoRA for any training loop, without Hydra or MLflow: attach, train, save, load, merge, detach.

adapter = attach(model, u=13)                                 # the model now computes with the adapter, v = 0
optimizer = torch.optim.Adam(adapter.parameters(), lr=0.01)
...                                                           # any loss of the model's outputs
optimizer.step(); adapter.round()                             # round: only needed for 16-bit v
save(adapter, "adapter.safetensors")                          # 13 values
save_merged(model, adapter, "merged/")                        # a standard model folder
adapter.detach()                                              # the base model again, bit for bit
"""

from __future__ import annotations

from pathlib import Path

from torch import nn
from transformers import PreTrainedModel

from tinylora.adapter import LaneSpec, TinyLora
from tinylora.basis import compute_basis
from tinylora.checkpoint import load_v, read_adapter, same_spectrum, save_adapter
from tinylora.config import ALL, Precision, Sharing, Solver
from tinylora.errors import UsageError
from tinylora.models import adapted_modules, weight_of


def attach(
    model: nn.Module,
    u: int = 13,
    *,
    n_tie: int | str = ALL,
    sharing: Sharing = Sharing.tiled,
    precision: Precision = Precision.fp32,
    rank: int = 2,
    seed: int = 0,
    solver: Solver = Solver.fast,
) -> TinyLora:
    """Adapt all linear maps in the blocks of a causal language model and freeze everything else.

    `adapter.parameters()` is the one v (K, u), zero at first. Raises UsageError where the model has no linear maps to
    adapt, n_tie exceeds their number, or rank exceeds a weight's smaller side.
    """
    if u < 1:
        raise UsageError(f"u={u}", "at least one value per group is trained", "give u=1 or more")
    return _attach(model, LaneSpec(u, n_tie, sharing, precision, seed), rank, solver)


def save(adapter: TinyLora, path: str | Path) -> None:
    """Write the adapter: v in its storage type, and a header from which the rest is rebuilt."""
    save_adapter(Path(path), adapter, 0)


def load(model: nn.Module, path: str | Path, solver: Solver = Solver.fast) -> TinyLora:
    """Attach a saved adapter to the model that it was trained on.

    Raises UsageError where the model is another one, FailureError where the file is damaged.
    """
    spec, rank, v, header = read_adapter(Path(path))
    adapter = _attach(model, spec, rank, solver)
    if not same_spectrum(header, adapter):
        adapter.detach()
        raise UsageError(
            f"adapter {path} on {type(model).__name__}",
            "the singular values of the model's weights are not those that the adapter was trained with",
            "load the model that the adapter was trained on",
        )
    load_v(adapter.lane(0), v)
    return adapter


def save_merged(model: PreTrainedModel, adapter: TinyLora, folder: str | Path, lane: int = 0) -> None:
    """Write a standard model folder (safetensors) with W + U Sigma R V^T; the model itself stays as it is."""
    model.save_pretrained(folder, state_dict=model.state_dict() | adapter.merged_weights(lane))


def _attach(model: nn.Module, spec: LaneSpec, rank: int, solver: Solver) -> TinyLora:
    model.requires_grad_(False)
    weights = {name: weight_of(module) for name, module in adapted_modules(model).items()}
    adapter = TinyLora(model, compute_basis(weights, rank, solver), [spec])
    adapter.use_lane(0)
    return adapter
