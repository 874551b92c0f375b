"""The lines of a plan: what points would cost, from their settings and earlier speeds. Needs no Hydra and no PyTorch.

The lines name points, packs, trained values and bytes, tokens, memory and hours; what has ended is not counted again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from experiments.compose.fitting import shape_of
from experiments.display import plain_table
from experiments.planning import estimate
from experiments.planning.device import GB, GIB, Device, find_device
from experiments.planning.packing import form_packs
from experiments.planning.speed import Speed, measured_speed
from tinylora.models.shapes import shape_parameters
from tinylora.records.folder import RunFolder
from tinylora.settings.config import RunConfig, ShapeConfig
from tinylora.settings.errors import UsageError

RESPONSE = 300  # assumed tokens of a response where none is given or measured, and the limit is no lower
TFLOPS_ACCELERATOR, TFLOPS_PROCESSOR = 150.0, 0.05  # assumed: what an H100 and two cores keep up on such work


@dataclass(frozen=True)
class Assumptions:
    """What a plan rests on beside the settings; None is measured, looked up or assumed."""

    sampled_per_s: float | None = None
    trained_per_s: float | None = None
    """Tokens per second, all lanes together."""
    response: int | None = None
    """Mean tokens of a response."""
    tflops: float | None = None
    """Teraflops per second that the device keeps up."""
    device_gib: float | None = None


NOTHING_GIVEN = Assumptions()


def plan(points: Sequence[RunConfig], assumptions: Assumptions = NOTHING_GIVEN) -> list[str]:
    """The lines of a plan, a part for each model."""
    lines = []
    for identity in dict.fromkeys(point.model.identity for point in points):
        own = [point for point in points if point.model.identity == identity]
        lines += _plan_model(own, assumptions)
    return lines


def _plan_model(points: list[RunConfig], assumptions: Assumptions) -> list[str]:
    model = points[0].model
    shape = shape_of(model)
    if shape is None:
        raise UsageError(
            f"model {model.identity}",
            "a plan needs the model's sizes without loading it: model.shape, or the config.json of a Llama-like model",
            "give model.shape={blocks: ..., hidden: ..., ...} (see conf/model), or model.path=<folder>",
        )
    ended = [point for point in points if (status := RunFolder(point).status()) is not None and status.final]
    going = [point for point in points if point not in ended]
    parameters = shape_parameters(shape)
    lines = [f"model {model.identity}: {parameters:,} parameters in {model.dtype.value}"]
    lines += _table(points, shape)
    lines.append(
        f"{len(points)} points in {len(form_packs(points))} packs; {len(ended)} have ended in {points[0].outputs_dir} "
        f"and would be skipped, {len(going)} in {len(form_packs(going))} packs would run"
    )
    return [*lines, *_cost(going, shape, assumptions), ""]


def _table(points: Sequence[RunConfig], shape: ShapeConfig) -> list[str]:
    """A line for each size: points that differ in rate and seed alone stand together."""
    rows: dict[tuple[str, ...], int] = {}
    for point in points:
        values = estimate.trained_values(point, shape)
        settings = [f"{name}={getattr(value := getattr(point, name), 'value', value)}" for name in _named(point)]
        words = (point.adapter.name.value, " ".join(settings), point.algorithm.name.value, point.precision.value)
        key = (*words, f"{values:,}", f"{values * point.precision.size:,}")
        rows[key] = rows.get(key, 0) + 1
    heading = ("adapter", "settings", "algorithm", "precision", "trained values", "bytes", "points")
    lines = plain_table([heading, *((*key, str(count)) for key, count in rows.items())], numbers=3)
    return [f"  {line}" for line in lines]


def _named(point: RunConfig) -> Iterable[str]:
    kind = point.adapter.name
    if kind.has_basis:
        yield from ("u", "n_tie") if kind.value == "tinylora" else ("n_tie",)
        if point.n_tie != "all":
            yield "sharing"
    if kind.has_rank:
        yield "rank"


def _cost(points: Sequence[RunConfig], shape: ShapeConfig, assumptions: Assumptions) -> list[str]:
    """Tokens, memory and hours of the points that would run."""
    if not points:
        return ["nothing would run"]
    device, speed = find_device(assumptions.device_gib), measured_speed(points)
    limit = points[0].rollout.max_new_tokens
    response = round(assumptions.response or speed.response or min(RESPONSE, limit))
    source = "given" if assumptions.response else "measured" if speed.response else "assumed"
    tokens = [estimate.run_tokens(point, response) for point in points]
    sampled, trained = sum(t.sampled for t in tokens), sum(t.trained for t in tokens)
    which = f"{response} a response ({source}; at most {limit})"
    lines = [f"tokens: {sampled:.3g} sampled, {trained:.3g} trained on, with {which}"]
    lines += _memory(points, shape, device)
    flops = sum(estimate.operations(p, shape, t) for p, t in zip(points, tokens, strict=True))
    return [*lines, _hours(sampled, trained, flops, speed, assumptions, device)]


def _memory(points: Sequence[RunConfig], shape: ShapeConfig, device: Device) -> list[str]:
    packs = form_packs(points)
    lanes = max(sum(estimate.lane_bytes(point, shape) for point in pack) for pack in packs)
    model, row = estimate.model_bytes(points[0], shape), max(estimate.row_bytes(point, shape) for point in points)
    left = device.gib * GIB - model - lanes
    verdict = f"about {left // 2 // row:,.0f} rows at once"
    if left < 2 * row:
        verdict = "DOES NOT FIT: take a smaller model, model.dtype=bf16 or a larger device"
    needs = f"weights {model / GB:.2f} GB, values and moments of the largest pack {lanes / GB:.3f} GB"
    return [
        f"memory: {needs}, a row at its longest {row / GB:.3f} GB; {device.name} has {device.gib:.0f} GiB: {verdict}"
    ]


def _hours(sampled: int, trained: int, flops: float, speed: Speed, assumptions: Assumptions, device: Device) -> str:
    of_sampling = assumptions.sampled_per_s or speed.sampled_per_s
    of_training = assumptions.trained_per_s or speed.trained_per_s
    if of_sampling and of_training:
        given = assumptions.sampled_per_s and assumptions.trained_per_s
        hours = (sampled / of_sampling + trained / of_training) / 3600
        return (
            f"hours: about {hours:.3g} ({'given' if given else 'measured here'}: {of_sampling:,.0f} tokens/s sampled, "
            f"{of_training:,.0f} trained on)"
        )
    tflops = assumptions.tflops or (TFLOPS_ACCELERATOR if device.accelerator else TFLOPS_PROCESSOR)
    how = "given" if assumptions.tflops else f"assumed of {device.name}"
    hours = flops / (tflops * 1e12) / 3600
    return (
        f"hours: about {hours:.3g}, from {flops:.3g} operations at {tflops:g} teraflops/s ({how}; give --tflops, or "
        "--sampled-per-s and --trained-per-s as measured)"
    )
