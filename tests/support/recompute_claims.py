"""Which cells each claim of the paper compares, written out again for `recompute`; and ratios of sizes."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy import stats

Cell = dict[str, Any]
Found = tuple[str, str, str, list[Cell], Any]
"""Claim, models, kind (linear, share, ratio), cells, and their weights or the count of those of the first curve."""
PROJECTED = ("tinylora",)
OF_OTHER_METRICS = (
    "Larger updates give longer responses",
    "Sampler and trainer hardly differ",
    "Merged weights and adapter form agree",
)
ADAPTER = ("adapter.name", "adapter.solver", "u", "n_tie", "sharing", "rank")
MODEL = ("model.name", "model.dtype", "model.revision", "model.chat_template", "model.date")
METHOD = ("algorithm.name", "algorithm.prompts", "algorithm.samples", "algorithm.kl_coefficient")
METHOD = (*METHOD, "algorithm.importance_cap", "task.demonstrations", "algorithm.attempts")
RESAMPLES = 4000


UPDATE = ("adapter.name", "u", "n_tie", "sharing", "rank")


def get(cell: Cell, name: str) -> str:
    return str(cell["settings"].get(name, ""))


def grpo(cell: Cell) -> bool:
    return get(cell, "algorithm.name") == "grpo" and not get(cell, "algorithm.reward")


def tiny(cell: Cell, **others: tuple[str, ...]) -> bool:
    """TinyLoRA as in the paper's main runs, and what else is asked of it."""
    wanted = {"adapter.name": ("tinylora",), "sharing": ("tiled",), "rank": ("2",), "precision": ("fp32",)} | others
    return all(get(cell, name) in values for name, values in wanted.items())


def full(cell: Cell) -> bool:
    return (get(cell, "adapter.name"), get(cell, "precision")) == ("full", "fp32")


def in_figure_1(cell: Cell) -> bool:
    small = tiny(cell, u=("1",)) or tiny(cell, u=("64",), n_tie=("all",))
    xs = (get(cell, "adapter.name"), get(cell, "sharing"), get(cell, "precision")) == ("lora_xs", "tiled", "fp32")
    lora = (get(cell, "adapter.name"), get(cell, "precision")) == ("lora", "fp32")
    return (grpo(cell) or get(cell, "algorithm.name") == "sft") and (small or xs or lora or full(cell))


def parts(cells: list[Cell], of: Callable[[Cell], bool], axes: Sequence[str]) -> list[list[Cell]]:
    """The cells that belong to a claim, apart where they differ in any setting but these."""
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        if of(cell) and get(cell, "adapter.name") != "none":
            fixed = {name: value for name, value in cell["settings"].items() if name not in axes and value}
            groups[json.dumps(fixed, sort_keys=True)].append(cell)
    return [sorted(own, key=lambda cell: cell["values"]) for own in groups.values()]


def untrained(own: list[Cell], model: str) -> Cell:
    """The untrained model as a cell that no draw changes: step 0 of the runs of a part, a mean over seeds."""
    runs = sorted((r for c in own if get(c, "model.name") == model for r in c["runs"]), key=lambda run: run["key"])
    runs = [run for run in runs if not run["failed"]]
    first = list({run["seed"]: run for run in reversed(runs)}.values())
    seeds = {seed: [run["test"]["base"] for run in runs if run["seed"] == seed] for seed in {r["seed"] for r in runs}}
    score = float(np.mean([np.mean(values) for values in seeds.values()]))
    known = all("base" in run["items"] for run in first)
    items = {"final": ("", np.mean([run["items"]["base"][1] for run in first], axis=0))} if known else {}
    return {"fixed": True, "runs": [{"draw": "", "seed": "", "test": {"final": score}, "items": items}]}


def nearest(own: list[Cell], size: int, low: int, high: int, *u: str) -> list[Cell]:
    inside = [c for c in own if tiny(c) and low <= c["values"] <= high and (not u or get(c, "u") in u)]
    return sorted(inside, key=lambda cell: (abs(cell["values"] - size), -cell["judged"]))[:1]


def effects(cells: list[Cell]) -> Iterator[Found]:
    """Every effect on accuracy that a report's claims have."""
    for own in parts(cells, lambda c: grpo(c) and (tiny(c) or full(c)), ADAPTER):
        yield from of_sizes(own)
    for own in parts(cells, lambda c: grpo(c) and tiny(c), ADAPTER):
        for one in nearest(own, 1, 1, 1):
            base = untrained(own, model_of(own))
            yield "One parameter gains about 5 points", model_of(own), "linear", [one, base], [1.0, -1.0]
    for own in parts(cells, of_figure_4, ("n_tie", "sharing", "precision")):
        yield from of_precisions(own)
    for own in parts(cells, of_figure_7, (*MODEL, "rank", "u")):
        for same in by_model(own):
            yield from pairs("A larger frozen rank hurts", same, "rank", "2", "64", "u")
    grid = {"n_tie": ("1", "8", "64", "all"), "u": ("1", "4", "16", "64")}
    for own in parts(cells, lambda c: grpo(c) and tiny(c, **grid), (*MODEL, "n_tie", "u")):
        for same in by_model(own):
            yield from of_ties(same)
    for own in parts(cells, in_figure_1, (*METHOD, *ADAPTER)):
        yield from of_algorithms(own)
    for own in parts(cells, lambda c: grpo(c) and tiny(c), (*MODEL, "u", "n_tie")):
        models = {get(cell, "model.name") for cell in own}
        for one, two in ((a, b) for a in models for b in models if "qwen" in a and "llama" in b):
            curves = [[cell for cell in own if get(cell, "model.name") == model] for model in (one, two)]
            bases = [untrained(own, model) for model in (one, two)]
            yield "Qwen needs 10 times fewer parameters than Llama", f"{one} {two}", "ratio", *two_curves(curves, bases)


def model_of(own: list[Cell]) -> str:
    return get(own[0], "model.name")


def by_model(own: list[Cell]) -> list[list[Cell]]:
    return [[c for c in own if get(c, "model.name") == model] for model in sorted({get(c, "model.name") for c in own})]


def of_figure_4(cell: Cell) -> bool:
    kind = (get(cell, "adapter.name"), get(cell, "rank"), get(cell, "u"))
    return grpo(cell) and kind == ("tinylora", "2", "1") and get(cell, "n_tie") != "all"


def of_figure_7(cell: Cell) -> bool:
    ranks, values = ("1", "2", "4", "16", "64"), ("1", "4", "16", "64")
    return grpo(cell) and tiny(cell, rank=ranks, u=values, n_tie=("1",))


def of_sizes(own: list[Cell]) -> Iterator[Found]:
    whole, base, model = [c for c in own if full(c)][:1], untrained(own, model_of(own)), model_of(own)
    for claim, small in (
        ("13 parameters keep most of full fine-tuning's gain", nearest(own, 13, 10, 16, "1")),
        ("196 parameters keep 87% of full fine-tuning's gain", nearest(own, 196, 150, 260)),
    ):
        if whole and small:
            yield claim, model, "share", [*small, *whole, base], None
    small = nearest(own, 13, 10, 16, "1")
    if whole and small:
        cells = [*whole, *small]
        yield "13 parameters come within 5 points of full fine-tuning", model, "linear", cells, [1.0, -1.0]


def pairs(claim: str, own: list[Cell], setting: str, first: str, second: str, *alike: str) -> Iterator[Found]:
    sides = [{key(c, alike): c for c in own if get(c, setting) == value} for value in (first, second)]
    both = sorted(sides[0].keys() & sides[1].keys())
    if both:
        cells = [side[at] for side in sides for at in both]
        weights = [1 / len(both)] * len(both) + [-1 / len(both)] * len(both)
        yield claim, model_of(own), "linear", cells, weights


def key(cell: Cell, alike: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(cell["bytes"]) if name == "bytes" else get(cell, name) for name in alike)


def of_precisions(own: list[Cell]) -> Iterator[Found]:
    for other in ("bf16", "fp16"):
        claim = f"fp32 beats {other} at equal parameters"
        yield from pairs(claim, own, "precision", "fp32", other, "sharing", "n_tie")
    yield from pairs("fp32 is best bit for bit", own, "precision", "fp32", "bf16", "sharing", "bytes")
    fp32 = [cell for cell in own if get(cell, "precision") == "fp32"]
    tiled = [cell for cell in fp32 if get(cell, "sharing") == "tiled"]
    other = [c for c in fp32 if get(c, "sharing") == "structured" and get(c, "n_tie") != "1"]
    other = [c for c in other if len(tiled) > 1 and tiled[0]["values"] <= c["values"] <= tiled[-1]["values"]]
    if other:
        weights = list(np.mean([along(tiled, c["values"]) for c in other], axis=0)) + [-1 / len(other)] * len(other)
        claim = "Tiled sharing beats structured at equal parameters"
        kept = [(cell, w) for cell, w in zip([*tiled, *other], weights, strict=True) if w]
        yield claim, model_of(own), "linear", [cell for cell, _ in kept], [w for _, w in kept]


def along(curve: list[Cell], size: float) -> list[float]:
    """The weights of a curve's cells in its mean at a size, log-linear between two of them."""
    at, sizes = math.log(size), [math.log(cell["values"]) for cell in curve]
    weights = [0.0] * len(curve)
    for place in range(len(sizes)):
        if sizes[place] == at:
            weights[place] = 1.0
            return weights
    after = next(place for place, value in enumerate(sizes) if value > at)
    weights[after] = (at - sizes[after - 1]) / (sizes[after] - sizes[after - 1])
    weights[after - 1] = 1 - weights[after]
    return weights


def of_ties(own: list[Cell]) -> Iterator[Found]:
    untied = [cell for cell in own if (get(cell, "n_tie"), get(cell, "u")) == ("1", "1")][:1]
    tied = [cell for cell in own if get(cell, "n_tie") == "all"]
    if not (untied and tied):
        return
    wanted, size = untied[0]["values"] * 64 / 252, untied[0]["values"]
    closest = min(tied, key=lambda cell: abs(math.log(cell["values"] / wanted)))
    cells = [*untied, closest]
    if abs(math.log(closest["values"] / wanted)) <= math.log(2):
        yield "Untying helps more than values per group", model_of(own), "linear", cells, [1.0, -1.0]
    if tied[0]["values"] <= size <= tied[-1]["values"]:
        kept = [(cell, -w) for cell, w in zip(tied, along(tied, size), strict=True) if w]
        claim, weights = "Untying helps more than as many values per group", [1.0, *(w for _, w in kept)]
        yield claim, model_of(own), "linear", [*untied, *(cell for cell, _ in kept)], weights


def of_algorithms(own: list[Cell]) -> Iterator[Found]:
    rl, base = [cell for cell in own if grpo(cell)], untrained(own, model_of(own))
    manners = sorted({get(cell, "task.demonstrations") for cell in own if not grpo(cell)})
    for manner in manners if rl else []:
        sft = [cell for cell in own if not grpo(cell) and get(cell, "task.demonstrations") == manner]
        yield from at_equal_size(model_of(own), rl, sft)
        claim = "SFT needs 100 to 1000 times the parameters of RL"
        yield claim, model_of(own), "ratio", *two_curves([rl, sft], [base, base])


def at_equal_size(model: str, rl: list[Cell], sft: list[Cell]) -> Iterator[Found]:
    sides: list[dict[tuple[str, ...], Cell]] = [{}, {}]
    for side, cells in zip(sides, (rl, sft), strict=True):
        for cell in sorted(cells, key=lambda cell: cell["judged"]):
            if get(cell, "adapter.name") == "tinylora":
                side[key(cell, ("u", "n_tie"))] = cell
    both = sorted(sides[0].keys() & sides[1].keys())
    if both:
        weights = [1 / len(both)] * len(both) + [-1 / len(both)] * len(both)
        yield "RL beats SFT at equal parameters", model, "linear", [side[at] for side in sides for at in both], weights


def two_curves(curves: list[list[Cell]], bases: list[Cell]) -> tuple[list[Cell], tuple[int, list[Cell]]]:
    """The best cell of each size of both, how many are of the first, and the untrained models.

    A size counts where both have trained the same update of it.
    """
    best: list[list[Cell]] = []
    of_both = set.intersection(*({key(cell, UPDATE) for cell in curve} for curve in curves))
    for curve in ([cell for cell in curve if key(cell, UPDATE) in of_both] for curve in curves):
        by_size: dict[int, Cell] = {}
        for cell in sorted(curve, key=lambda cell: cell["judged"]):
            by_size[cell["values"]] = cell
        best.append([by_size[size] for size in sorted(by_size)])
    return [*best[0], *best[1]], (len(best[0]), bases)


def ratio(cells: list[Cell], how: tuple[int, list[Cell]]) -> tuple[float, float, float]:
    """How many times the size the second curve needs for half of what both gain; NaN where one never gains."""
    from support.recompute import reach

    count, bases = how
    curves = [cells[:count], cells[count:]]
    if min(map(len, curves)) < 2:
        return math.nan, math.nan, math.nan  # or no update that both have trained
    for curve, base in zip(curves, bases, strict=True):
        best = max(curve, key=lambda cell: (cell["judged"], cell["values"]))
        value, down, *_ = reach([best, base], [1.0, -1.0])
        if not value - down > 0:
            return math.nan, math.nan, math.nan
    means = [np.array([[np.mean([r["test"]["final"] for r in c["runs"]]) for c in curve]]) for curve in curves]
    lowest = max(base["runs"][0]["test"]["final"] for base in bases)
    target = lowest + 0.5 * (min(float(m.max()) for m in means) - lowest)
    sizes = [np.array([cell["values"] for cell in curve], float) for curve in curves]
    (one,), (two,) = (needed(s, m, target) for s, m in zip(sizes, means, strict=True))
    drawn = resample(cells)
    parts = drawn[:, :count], drawn[:, count:]
    first, second = (needed(s, part, target) for s, part in zip(sizes, parts, strict=True))
    ratios = second / first
    low = np.quantile(np.where(parts[1][:, 0] >= target, 0, ratios), 0.025, method="nearest")
    high = np.quantile(np.where(parts[0][:, 0] >= target, np.inf, ratios), 0.975, method="nearest")
    draws = min(len({run["draw"] for run in cell["runs"]}) for cell in cells)
    factor = stats.t.ppf(0.975, draws - 1) / stats.norm.ppf(0.975) * math.sqrt(draws / (draws - 1))
    with np.errstate(divide="ignore"):
        value, low, high = np.log([two / one, low, high])
    return two / one, math.exp(value - factor * (value - low)), math.exp(value + factor * (high - value))


def needed(sizes: Any, means: Any, target: float) -> Any:
    """(resamples,): the size at which the best so far reaches the target, log-linear; infinite where none does."""
    found = []
    for row in np.maximum.accumulate(means, axis=1):
        after = int(np.argmax(row >= target - 1e-12))
        if row[after] < target - 1e-12:
            found.append(math.inf)
        elif after == 0:
            found.append(sizes[0])
        else:
            share = (target - row[after - 1]) / (row[after] - row[after - 1])
            found.append(math.exp((1 - share) * math.log(sizes[after - 1]) + share * math.log(sizes[after])))
    return np.array(found)


def resample(cells: list[Cell]) -> Any:
    """(resamples, cells): means over resampled draws, crossed seeds and problems."""
    from support.recompute import common, is_crossed

    rng, kept = np.random.default_rng(7), {}

    def counts(names: list[str]) -> Any:
        if tuple(names) not in kept:
            kept[tuple(names)] = rng.multinomial(len(names), [1 / len(names)] * len(names), RESAMPLES)
        return kept[tuple(names)]

    columns = []
    for runs in common(cells):
        weights = np.ones((RESAMPLES, len(runs)))
        for name in ("draw", "seed") if is_crossed(runs) else ("draw",):
            names = sorted({run[name] for run in runs})
            weights = weights * counts(names)[:, [names.index(run[name]) for run in runs]]
        weights = weights / weights.sum(axis=1, keepdims=True)
        items = np.stack([run["items"]["final"][1] for run in runs])
        problems = counts([f"item {place}" for place in range(items.shape[1])])
        columns.append(((weights @ items) * problems).mean(axis=1))
    return np.stack(columns, axis=1)
