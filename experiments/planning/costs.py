"""The lines of a plan: what points would cost, from their settings and how fast runs of the model were here.

The lines name points, packs, trained values and bytes, tokens, memory and hours; what has ended is not counted again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.compose.fitting import shape_of
from experiments.display import plain_table
from experiments.planning import estimate, room
from experiments.planning.devices import Device, planned_device
from experiments.planning.packing import in_packs, unfinished
from tinylora.models.shapes import shape_parameters
from tinylora.records.damage import status_of
from tinylora.records.folder import CONFIG, DamagedError, RunFolder, Status, lines_of, read_yaml
from tinylora.settings.config import ALL, RunConfig, ShapeConfig
from tinylora.settings.errors import UsageError
from tinylora.train.origin import require_same_origin

RESPONSE = 300  # assumed tokens of a response where none is given or measured, and the limit is no lower


@dataclass(frozen=True)
class Assumptions:
    """What a plan rests on beside the settings, as given or as measured; None is looked up or assumed."""

    sampled_per_s: float | None = None
    trained_per_s: float | None = None
    """Tokens per second, all lanes together."""
    response_tokens: float | None = None
    """Mean tokens of a response."""
    tflops: float | None = None
    """Teraflops per second that the device keeps up."""
    device: str | None = None
    """Where it would run: an entry of `devices.DEVICES`; None is the device here."""
    device_gib: float | None = None
    """Memory of the device, where it is another one."""


NOTHING_GIVEN = Assumptions()


def plan(points: Sequence[RunConfig], assumptions: Assumptions = NOTHING_GIVEN) -> list[str]:
    """The lines of a plan, a part for each model."""
    notes = require_same_origin(points, fetch=False)
    lines = []
    for identity in dict.fromkeys(point.model.identity for point in points):
        own = [point for point in points if point.model.identity == identity]
        lines += _plan_model(own, assumptions)
    return [*lines, *(f"note: {note}" for note in notes)]


def _plan_model(points: list[RunConfig], assumptions: Assumptions) -> list[str]:
    model, shape = points[0].model, shape_of(points[0].model)
    if shape is None:
        raise UsageError(
            f"model {model.identity}",
            "a plan needs the model's sizes without loading it: model.shape, or the config.json of a Llama-like model",
            "plan the sizes of the model that is most like it, such as model=qwen2.5-0.5b-instruct",
        )
    device = planned_device(assumptions.device, assumptions.device_gib)
    going = unfinished(points)
    heading = f"model {model.identity}: {shape_parameters(shape):,} parameters in {model.dtype.value}"
    damaged = sum(status_of(RunFolder(point)) is Status.damaged for point in points)
    counts = (
        f"{in_packs(points, lambda: device)}; {len(points) - len(going) - damaged} have ended in "
        f"{points[0].outputs_dir} and would be skipped, {in_packs(going, lambda: device)} would run"
        + (f"; {damaged} damaged and set aside (experiments.run names them)" if damaged else "")
    )
    return [heading, *_table(points, shape), counts, *_cost(going, shape, assumptions, device), ""]


def _table(points: Sequence[RunConfig], shape: ShapeConfig) -> list[str]:
    """A line for each size: points that differ in rate and seed alone stand together."""
    rows = Counter[tuple[str, ...]]()
    for point in points:
        values = estimate.trained_values(point, shape)
        kind = point.adapter.name
        named = [name for name in ("u", "n_tie", "sharing", "rank") if name not in kind.unused]
        if point.n_tie == ALL and kind.has_basis:
            named.remove("sharing")
        settings = [f"{name}={getattr(value := getattr(point, name), 'value', value)}" for name in named]
        words = (kind.value, " ".join(settings), point.algorithm.name.value, point.precision.value)
        sizes = values, estimate.degrees_of_freedom(point, shape), -(-point.precision.bits_of(values) // 8)
        rows[*words, *(f"{size:,}" for size in sizes)] += 1
    heading = ("adapter", "settings", "algorithm", "precision", "trained values", "freedom", "bytes", "points")
    lines = plain_table([heading, *((*key, str(count)) for key, count in rows.items())], numbers=4)
    return [f"  {line}" for line in lines]


def _cost(points: Sequence[RunConfig], shape: ShapeConfig, assumptions: Assumptions, device: Device) -> list[str]:
    if not points:
        return ["nothing would run"]
    fitting, refused = room.fitting(points, shape, device)
    if not fitting:
        return [*refused, "hours: none, since nothing fits"]
    speed, limit = measured_speed(points), points[0].rollout.max_new_tokens
    response = round(assumptions.response_tokens or speed.response_tokens or min(RESPONSE, limit))
    source = "given" if assumptions.response_tokens else "measured" if speed.response_tokens else "assumed"
    tokens = [estimate.run_tokens(point, response) for point in fitting]
    sampled, trained = sum(t.sampled for t in tokens), sum(t.trained for t in tokens)
    which = f"{response} a response ({source}; at most {limit})"
    lines = [*refused, f"tokens: {sampled:.3g} sampled, {trained:.3g} trained on, with {which}"]
    lines += room.lines(fitting, shape, device)
    flops = sum(estimate.operations(p, shape, t) for p, t in zip(fitting, tokens, strict=True))
    hours = _hours(sampled, trained, flops, speed, assumptions, device)
    return [*lines, f"{hours}; of the points that fit" if refused else hours]


def _hours(
    sampled: int, trained: int, flops: float, speed: Assumptions, assumptions: Assumptions, device: Device
) -> str:
    measured = speed if assumptions.device is None else NOTHING_GIVEN  # speeds here say nothing of a device elsewhere
    of_sampling = assumptions.sampled_per_s or measured.sampled_per_s
    of_training = assumptions.trained_per_s or measured.trained_per_s
    if of_sampling and of_training:
        given = assumptions.sampled_per_s and assumptions.trained_per_s
        hours = (sampled / of_sampling + trained / of_training) / 3600
        return (
            f"hours: about {hours:.3g} ({'given' if given else 'measured here'}: {of_sampling:,.0f} tokens/s sampled, "
            f"{of_training:,.0f} trained on)"
        )
    tflops = assumptions.tflops or device.tflops
    how = "given" if assumptions.tflops else device.why
    hours = flops / (tflops * 1e12) / 3600
    return (
        f"hours: about {hours:.3g}, not measured: {flops:.3g} operations at {tflops:.3g} teraflops/s ({how}; give "
        "--tflops, or --sampled-per-s and --trained-per-s as measured)"
    )


def measured_speed(points: Sequence[RunConfig]) -> Assumptions:
    """The speed of earlier runs of the points' model and task in their outputs_dir.

    Lanes of one pack have the seconds of the pack in their records: equal times of a step count once.
    """
    config = points[0]
    seconds: dict[str, dict[tuple[int, float], None]] = {"rollout": {}, "train": {}}
    sampled = trained = completions = 0.0
    for path in sorted(Path(config.outputs_dir).glob(f"*/{CONFIG}")):
        batch, before = _completions_per_step(path, config), 0.0
        for line in lines_of(path.parent) if batch else []:
            metrics = line.metrics
            if "time/train_s" not in metrics or "train/completion_tokens" not in metrics:
                continue
            tokens = metrics["train/completion_tokens"] * batch
            trained, completions = trained + tokens, completions + batch
            seconds["train"][line.step, metrics["time/train_s"]] = None
            if "time/rollout_s" in metrics:
                so_far = metrics.get("train/tokens_sampled", before + tokens)  # earlier versions did not count
                sampled, before = sampled + so_far - before, so_far
                seconds["rollout"][line.step, metrics["time/rollout_s"]] = None
    spent = {name: sum(second for _, second in found) for name, found in seconds.items()}
    return Assumptions(
        sampled / spent["rollout"] if spent["rollout"] else None,
        trained / spent["train"] if spent["train"] else None,
        trained / completions if completions else None,
    )


def _completions_per_step(path: Path, config: RunConfig) -> int:
    """Completions in a step of a recorded run; 0 for one of another model or task."""
    try:
        described: Any = read_yaml(path)
    except DamagedError:
        return 0
    try:
        settings = described["scientific"]
        names, algorithm = (settings["model"]["name"], settings["task"]["name"]), settings["algorithm"]
        own = names == (config.model.identity, config.task.name)
        return int(algorithm.get("prompts", 0)) * int(algorithm.get("samples", 1)) if own else 0
    except (KeyError, TypeError, ValueError, AttributeError):  # another version's, or damaged
        return 0
