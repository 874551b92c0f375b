"""Effects behind the claims table, worked out from the study's cells in plain Python, without any code of ours."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator

from support.study_cells import Cell, of_figure_1, tinylora


def claims(cells: list[Cell], levels: dict[str, float]) -> Iterator[tuple[str, str, float]]:
    """Claim, model and effect of each claim that the study's cells can be asked."""
    for model, untrained in levels.items():
        own = [cell for cell in cells if cell["model"] == model]
        grpo = [cell for cell in own if cell["algorithm"] == "grpo"]
        for claim, effect in {**of_sizes(grpo, untrained), **of_pairs(grpo)}.items():
            if effect is not None:
                yield claim, model, effect
        sft = best_by_size([c for c in own if c["algorithm"] == "sft" and (of_figure_1(c) or c["adapter"] == "full")])
        rl = best_by_size([c for c in grpo if of_figure_1(c) or (c["adapter"], c["precision"]) == ("full", "fp32")])
        if sft and rl:
            yield "SFT needs 100 to 1000 times the parameters of RL", model, ratio(rl, sft, untrained)
    curves = {
        model: best_by_size([c for c in cells if c["model"] == model and c["algorithm"] == "grpo" and tinylora(c)])
        for model in levels
    }
    if len(curves) == 2 and all(curves.values()):
        first, second = sorted(curves, key=lambda model: "llama" in model)
        effect = ratio(curves[first], curves[second], max(levels.values()))
        yield "Qwen needs 10 times fewer parameters than Llama", second, effect


def of_sizes(grpo: list[Cell], untrained: float) -> dict[str, float | None]:
    """Claims about an update of one size, and full fine-tuning."""
    full = next((cell["mean"] for cell in grpo if cell["adapter"] == "full"), None)
    small = {
        size: nearest([c for c in grpo if tinylora(c)], size, *bounds)
        for size, bounds in ((13, (10, 16)), (196, (150, 260)), (1, (1, 1)))
    }

    def kept(size: int) -> float | None:
        cell = small[size]
        return None if full is None or cell is None else 100 * (cell["mean"] - untrained) / (full - untrained)

    thirteen, one = small[13], small[1]
    behind = None if full is None or thirteen is None else 100 * (full - thirteen["mean"])
    return {
        "13 parameters keep most of full fine-tuning's gain": kept(13),
        "196 parameters keep 87% of full fine-tuning's gain": kept(196),
        "13 parameters come within 5 points of full fine-tuning": behind,
        "One parameter gains about 5 points": None if one is None else 100 * (one["mean"] - untrained),
    }


def nearest(cells: list[Cell], size: int, low: int, high: int) -> Cell | None:
    """The cell nearest in size, of several the best on validation."""
    inside = [cell for cell in cells if low <= cell["values"] <= high]
    return min(inside, key=lambda cell: (abs(cell["values"] - size), -cell["validation"]), default=None)


def of_pairs(grpo: list[Cell]) -> dict[str, float | None]:
    """Claims about pairs of cells that differ in one setting."""
    bits = [c for c in grpo if (c["adapter"], c["rank"], c["u"]) == ("tinylora", "2", "1") and c["n_tie"] != "all"]
    of_rank = [
        c for c in grpo if tinylora({**c, "rank": "2"}) and c["n_tie"] == "1" and c["u"] in {"1", "4", "16", "64"}
    ]
    return {
        "fp32 beats bf16 at equal parameters": pairs(bits, "precision", "fp32", "bf16", "sharing", "n_tie"),
        "fp32 beats fp16 at equal parameters": pairs(bits, "precision", "fp32", "fp16", "sharing", "n_tie"),
        "fp32 is best bit for bit": pairs(bits, "precision", "fp32", "bf16", "sharing", "bytes"),
        "A larger frozen rank hurts": pairs(of_rank, "rank", "2", "64", "u"),
        "Tiled sharing beats structured at equal parameters": tiled_less_structured(bits),
        "Untying helps more than values per group": untied(grpo),
    }


def pairs(cells: list[Cell], setting: str, first: str, second: str, *by: str) -> float | None:
    """Mean difference in points over the pairs that agree in `by`."""
    of = [
        {tuple(cell[name] for name in by): cell["mean"] for cell in cells if cell[setting] == value}
        for value in (first, second)
    ]
    both = of[0].keys() & of[1].keys()
    return statistics.mean(100 * (of[0][key] - of[1][key]) for key in both) if both else None


def tiled_less_structured(bits: list[Cell]) -> float | None:
    """At the sizes of structured sharing, along the tiled curve (straight lines over the logarithm of the size)."""
    fp32 = [cell for cell in bits if cell["precision"] == "fp32"]
    tiled = sorted((math.log(cell["values"]), cell["mean"]) for cell in fp32 if cell["sharing"] == "tiled")
    differences = []
    for cell in fp32:
        at = math.log(cell["values"])
        if cell["sharing"] == "structured" and cell["n_tie"] != "1" and len(tiled) > 1:
            for (x, y), (x_next, y_next) in itertools.pairwise(tiled):
                if x <= at <= x_next:
                    differences.append(100 * (y + (at - x) / (x_next - x) * (y_next - y) - cell["mean"]))
                    break
    return statistics.mean(differences) if differences else None


def untied(grpo: list[Cell]) -> float | None:
    """One value for each map, less 64 values for all."""
    ends = {(c["u"], c["n_tie"]): c["mean"] for c in grpo if tinylora(c)}
    if ("1", "1") in ends and ("64", "all") in ends:
        return 100 * (ends["1", "1"] - ends["64", "all"])
    return None


def best_by_size(cells: list[Cell]) -> list[tuple[int, float]]:
    """Size and accuracy, of several cells of one size the best on validation."""
    best: dict[int, Cell] = {}
    for cell in cells:
        if cell["values"] not in best or cell["validation"] > best[cell["values"]]["validation"]:
            best[cell["values"]] = cell
    return sorted((size, cell["mean"]) for size, cell in best.items())


def ratio(first: list[tuple[int, float]], second: list[tuple[int, float]], untrained: float) -> float:
    """How many times the size the second needs for half the gain that both reach; infinite where it has none."""
    top_first, top_second = (max(mean for _, mean in curve) for curve in (first, second))
    if top_second <= untrained:
        return math.inf
    target = untrained + 0.5 * (min(top_first, top_second) - untrained)
    return reaching(second, target) / reaching(first, target)


def reaching(curve: list[tuple[int, float]], target: float) -> float:
    """The size at which the best so far reaches the target, log-linear between sizes."""
    size_before, best = curve[0]
    if best >= target - 1e-12:
        return float(size_before)
    for size, mean in curve[1:]:
        if mean >= target - 1e-12:
            share = (target - best) / (mean - best)
            return math.exp(math.log(size_before) + share * (math.log(size) - math.log(size_before)))
        size_before, best = size, max(best, mean)
    return math.inf
