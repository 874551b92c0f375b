"""The frozen basis and the adapter on it v PEFT's TinyLoRA initialisation: `python -m benchmarks.attach`.

One matrix of each shape that Qwen2.5-7B adapts, in a fresh process per shape, ours and PEFT's in turn on the same
weights: `python -m benchmarks.attach 3584x3584 trained` is one such process, and prints what it measured as JSON.

Spectra: `trained` is noise of N(0, 0.02^2), the bulk of a trained weight, plus 24 directions that decay from 2.6 times
the edge of that bulk to the edge itself, the second and the third 1 % apart. The other two have no gap to go by:
`gaussian` is the noise alone, whose top values are as dense as random values get, and in `flat` all values are equal.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from benchmarks.timing import markdown, peak_memory, timed
from benchmarks.trl_peer import require_peers
from benchmarks.workload import MINIATURE
from tinylora.adapters.basis import compute_basis
from tinylora.adapters.basis_cache import cached_basis
from tinylora.adapters.lane import LaneSpec
from tinylora.adapters.noise import torch_stream
from tinylora.adapters.tinylora import TinyLora
from tinylora.models.load import load
from tinylora.models.maps import adapted_modules, weight_of
from tinylora.settings.config import ModelConfig, Solver
from tinylora.settings.errors import TinyLoraError

SHAPES = {  # (d_out, d_in): the maps of a block that have it, and how many there are in all 28 blocks
    (3584, 3584): ("q, o", 56),
    (512, 3584): ("k, v", 56),
    (18944, 3584): ("gate, up", 56),
    (3584, 18944): ("down", 28),
}
NO_GAP_SHAPE = (1792, 1792)
RANK, U = 2, 13
ROUNDS, PEER_SECONDS = 3, 2.0  # a call of PEFT is repeated where all of them together take no longer than this
MIB = 2**20
HEADING = ("attaching TinyLoRA, r=2, u=13", "ours", "PEFT", "ratio")


def measure(quick: bool = False) -> dict[str, Any]:
    """Times, angles and memory by shape, extrapolated to the model; without a gap; with a warm cache.

    `quick` halves both sides of each shape. Raises UsageError where PEFT is not installed.
    """
    require_peers()
    shapes = {}
    for (d_out, d_in), (maps, count) in SHAPES.items():
        found = _in_process((d_out // 2, d_in // 2) if quick else (d_out, d_in), "trained")
        shapes[maps] = found | {"count": count}
    total = {side: sum(s["count"] * s[side]["median_s"] for s in shapes.values()) for side in ("ours", "peer")}
    return {
        "rank": RANK,
        "u": U,
        "threads": torch.get_num_threads(),
        "shapes": shapes,
        "model": {
            "ours_s": total["ours"],
            "peer_s": total["peer"],
            "matrices": sum(count for _, count in SHAPES.values()),
            "how": "extrapolated: the time of one matrix of each shape, times how many the model has",
            "name": "Qwen2.5-7B with half its sides" if quick else "Qwen2.5-7B",
        },
        "no_gap": {spectrum: _in_process(NO_GAP_SHAPE, spectrum) for spectrum in ("gaussian", "flat")},
        "miniature": _miniature(),
    }


def rows(result: dict[str, Any]) -> list[list[str]]:
    """Lines of the table with HEADING; the ratio is PEFT's number over ours."""
    shapes, model, miniature = result["shapes"], result["model"], result["miniature"]
    table = [_times(f"{maps}: {s['d_out']} x {s['d_in']}, s", s) for maps, s in shapes.items()]
    what = f"all {model['matrices']} of {model['name']} (extrapolated: one of each shape x count), s"
    table.append(_row(what, model["ours_s"], model["peer_s"]))
    largest = max(shapes.values(), key=lambda s: float(s["peer_peak_mib"]))
    what = f"memory beyond a weight of {largest['weight_mib']:.0f} MiB, MiB"
    table.append(_row(what, largest["ours_peak_mib"], largest["peer_peak_mib"]))
    angle = max(max(s["angle_left"], s["angle_right"]) for s in shapes.values())
    table.append(["largest angle between the spaces, radians", f"{angle:.1e}", "", ""])
    for spectrum, found in result["no_gap"].items():
        table.append(_times(f"no gap: {spectrum}, {found['d_out']} x {found['d_in']}, s", found))
    table.append(_row(f"{MINIATURE.model}, ours from a warm cache, s", miniature["warm_s"], miniature["peer_s"]))
    counts = [str(miniature[f"{side}_decompositions"]) for side in ("warm", "peer")]
    return [*table, [f"{MINIATURE.model}, decompositions", *counts, ""]]


def synthetic(shape: tuple[int, int], spectrum: str) -> torch.Tensor:
    """A weight (d_out, d_in), always the same, with one of the spectra above; made in place, so the peak is its own."""
    generator = torch_stream(0, "attach", spectrum, *shape)
    weight = torch.randn(*shape, generator=generator)
    if spectrum == "flat":
        equal: torch.Tensor = torch.linalg.qr(weight)[0].contiguous()
        return equal
    weight *= 0.02
    if spectrum == "trained":
        edge = 0.02 * (shape[0] ** 0.5 + shape[1] ** 0.5)
        values = edge * (1 + 1.6 * torch.exp(-torch.arange(24) / 4))
        values[2] = 0.99 * values[1]
        u, v = (torch.linalg.qr(torch.randn(side, len(values), generator=generator))[0] for side in shape)
        weight.addmm_(u * values, v.T)
    return weight


def measure_shapes(shapes: Mapping[tuple[int, int], int], device: torch.device) -> dict[str, Any]:
    """Seconds to attach on a device to so many matrices of each shape: one of each is timed, by ours and by PEFT."""
    found = []
    for side in (_ours, _peer):
        side(synthetic((300, 300), "trained").to(device))  # imports and the set-up of libraries
    for shape, count in shapes.items():
        weight = synthetic(shape, "trained").to(device)
        seconds = {
            "ours": min(timed(partial(_ours, weight)) for _ in range(ROUNDS)),
            "peer": timed(partial(_peer, weight)),
        }
        found.append({"d_out": shape[0], "d_in": shape[1], "count": count, **seconds})
    total = {f"{side}_s": sum(entry["count"] * entry[side] for entry in found) for side in ("ours", "peer")}
    return {**total, "matrices": sum(shapes.values()), "shapes": found}


class _Model(nn.Module):
    """One linear map, which is what both sides adapt."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.proj = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
        self.proj.weight = nn.Parameter(weight, requires_grad=False)


Factors = tuple[torch.Tensor, torch.Tensor]  # orthonormal columns: left (d_out, r), right (d_in, r)


def _ours(weight: torch.Tensor) -> Factors:
    basis = compute_basis({"proj": weight}, RANK, Solver.fast)
    TinyLora(_Model(weight), basis, [LaneSpec(U)])
    return basis.factors["proj"].left, basis.factors["proj"].right


def _peer(weight: torch.Tensor) -> Factors:
    from peft import TinyLoraConfig, get_peft_model

    model: Any = get_peft_model(_Model(weight), TinyLoraConfig(r=RANK, u=U, target_modules=["proj"]))
    layer = model.base_model.model.proj
    left, right = layer.tinylora_B["default"], layer.tinylora_A["default"].T  # U sqrt(Sigma), V sqrt(Sigma)
    return nn.functional.normalize(left, dim=0), nn.functional.normalize(right, dim=0)


def _in_process(shape: tuple[int, int], spectrum: str) -> dict[str, Any]:
    name = "x".join(map(str, shape))
    command = [sys.executable, "-m", "benchmarks.attach", name, spectrum]
    return dict(json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))


def _one_matrix(shape: tuple[int, int], spectrum: str) -> dict[str, Any]:
    """Ours and PEFT's in turn, and the growth of this process' peak: ours goes first, as PEFT's is the larger one."""
    for side in (_ours, _peer):
        side(synthetic((300, 300), "trained"))  # imports and the set-up of libraries
    weight = synthetic(shape, spectrum)
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    factors: dict[str, Factors] = {}
    peaks = [peak_memory()]
    for _ in range(ROUNDS):
        _call("ours", _ours, weight, seconds, factors)
        peaks.append(peak_memory())
        if not seconds["peer"] or sum(seconds["peer"]) + seconds["peer"][0] < PEER_SECONDS:
            _call("peer", _peer, weight, seconds, factors)
            peaks.append(peak_memory())
    left, right = (_angle(a, b) for a, b in zip(factors["ours"], factors["peer"], strict=True))
    return {
        "d_out": shape[0],
        "d_in": shape[1],
        "spectrum": spectrum,
        **{side: {"median_s": median(calls), "calls_s": calls} for side, calls in seconds.items()},
        "angle_left": left,
        "angle_right": right,
        "weight_mib": weight.nbytes / MIB,
        "ours_peak_mib": (peaks[1] - peaks[0]) / MIB,
        "peer_peak_mib": (peaks[2] - peaks[0]) / MIB,
    }


def _call(
    side: str,
    attach: Callable[[torch.Tensor], Factors],
    weight: torch.Tensor,
    seconds: dict[str, list[float]],
    factors: dict[str, Factors],
) -> None:
    started = time.perf_counter()
    factors[side] = attach(weight)
    seconds[side].append(time.perf_counter() - started)


def _angle(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest principal angle between two column spaces, from the sine: the cosine loses small angles."""
    a, b = a.double(), b.double()
    return float(torch.linalg.matrix_norm(a - b @ (b.T @ a), 2).clamp(max=1).asin())


def _miniature() -> dict[str, Any]:
    """The shipped model: a cold and a warm cache, PEFT's initialisation, and the decompositions that each makes."""
    from peft import TinyLoraConfig, get_peft_model

    model, _ = load(ModelConfig(MINIATURE.model, device="cpu"))
    weights = {name: weight_of(module) for name, module in adapted_modules(model).items()}
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:

        def ours() -> None:
            TinyLora(
                model, cached_basis(weights, RANK, Solver.fast, Path(folder), MINIATURE.model), [LaneSpec(U)]
            ).detach()

        def peer() -> None:
            get_peft_model(model, TinyLoraConfig(r=RANK, u=U, target_modules=list(weights)))

        for name, attach in {"cold": ours, "warm": ours, "peer": peer}.items():
            with (
                patch.object(torch.linalg, "svd", wraps=torch.linalg.svd) as svd,
                patch.object(torch.linalg, "eigh", wraps=torch.linalg.eigh) as eigh,
            ):
                result[f"{name}_s"] = timed(attach)
            result[f"{name}_decompositions"] = svd.call_count + eigh.call_count
    return result


def _times(what: str, found: dict[str, Any]) -> list[str]:
    return _row(what, found["ours"]["median_s"], found["peer"]["median_s"])


def _row(what: str, ours: float, peer: float) -> list[str]:
    numbers = (ours, peer, peer / ours)
    return [what, *(f"{number:,.0f}" if number >= 100 else f"{number:.2g}" for number in numbers)]


def _main(arguments: list[str]) -> int:
    warnings.filterwarnings("ignore")  # of the peer
    if arguments:
        d_out, d_in = map(int, arguments[0].split("x"))
        print(json.dumps(_one_matrix((d_out, d_in), arguments[1])))
        return 0
    try:
        print(markdown(HEADING, rows(measure())))
    except TinyLoraError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
