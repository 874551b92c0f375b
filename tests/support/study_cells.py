"""What the study's report must show, worked out from the archived records in plain Python, without any code of ours.

`make study-records` writes them to analysis/study/expected.csv by `write`; test_study compares.

Cells, their rates and, where there are outcomes by problem, their intervals are those of `recompute`. For old records
the interval comes from all n^n equally likely resamples of the n seeds. Items are written out by hand from what the
paper's figures show.
"""

from __future__ import annotations

import csv
import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from support import recompute

STUDY = Path(__file__).parents[2] / "analysis" / "study"
COLUMNS = ("item", "model", "panel", "series", "x", "apart", "mean", "low", "high", "flexible", "n", "lr")
METHOD = ("algorithm.prompts", "algorithm.samples", "algorithm.attempts", "task.demonstrations")
ENTROPY = "algorithm.entropy_coefficient"
APART = ("steps", "model.dtype", "rounding", ENTROPY)
"""Settings that no item but RL v SFT (METHOD) draws together: where runs differ in these they are in other files."""
NAMES = {"tinylora": "TinyLoRA", "lora_xs": "LoRA-XS", "lora": "LoRA", "full": "full fine-tuning"}
Cell = dict[str, Any]


def read_cells(archive: Path = STUDY / "records.tar.xz") -> tuple[list[Cell], dict[str, float]]:
    """One entry for each cell at its chosen rate, and the untrained accuracy of each model in fp32.

    A base model in another type was run at one size, which is said and drawn nowhere.
    """
    runs = recompute.count_failed(recompute.read(archive))
    trained = [cell for cell in recompute.cells_of(runs) if cell["settings"]["adapter.name"] != "none"]
    trained = [cell for cell in trained if not is_control(cell["settings"])]  # these stand elsewhere
    of_model: dict[str, list[Any]] = defaultdict(list)
    for run in runs:
        if not run["settings"].get("rollout.end_bias") and run["settings"]["model.dtype"] == "fp32":
            of_model[run["settings"]["model.name"]].append(run)
    levels = {model: recompute.by_seed(own, "test") for model, own in of_model.items()}
    return [_cell(cell) for cell in trained], levels


def is_control(settings: dict[str, str]) -> bool:
    """Whether a trained run is none of GRPO on right answers, or of SFT."""
    return bool(settings.get("algorithm.reward")) or settings["algorithm.name"] == "random_search"


def _cell(cell: Cell) -> Cell:
    settings, runs = cell["settings"], cell["runs"]
    scores = [run["test"]["final"] for run in runs]
    if all("final" in run["items"] for run in runs):
        _, low, high = (min(max(end / 100, 0), 1) for end in recompute.linear([cell], [1.0]))
    else:
        low, high = interval(scores)
    return {
        "model": settings["model.name"],
        "apart": apart(settings, (*APART, *METHOD)),
        "apart from method": apart(settings, APART),
        "algorithm": settings["algorithm.name"],
        "adapter": settings["adapter.name"],
        "demonstrations": settings.get("task.demonstrations", ""),
        **{name: settings.get(name, "") for name in ("u", "n_tie", "sharing", "rank", "precision")},
        "values": cell["values"],
        "bytes": cell["bytes"],
        "lr": cell["lr"],
        "n": len(scores),
        "validation": cell["judged"],
        "mean": statistics.mean(scores),
        "low": low,
        "high": high,
        "flexible": statistics.mean(run["flexible"]["final"] for run in runs),
    }


def apart(settings: dict[str, str], names: tuple[str, ...]) -> str:
    """Those of the settings that a run has, as text; that it has no entropy term, too."""
    of_run = {ENTROPY: "none"} | {name: value for name, value in settings.items() if value}
    return " ".join(f"{name}={of_run[name]}" for name in names if name in of_run)


def interval(scores: list[float]) -> tuple[float, float]:
    """The 2.5 and 97.5 per cent points of the mean over all resamples; no interval for one seed."""
    if len(scores) < 2:
        return math.nan, math.nan
    means = sorted(statistics.mean(chosen) for chosen in itertools.product(scores, repeat=len(scores)))
    return means[math.ceil(0.025 * len(means)) - 1], means[math.ceil(0.975 * len(means)) - 1]


def tinylora(cell: Cell) -> bool:
    """TinyLoRA as in the paper's main runs."""
    settings = cell["adapter"], cell["sharing"], cell["rank"], cell["precision"]
    return settings == ("tinylora", "tiled", "2", "fp32")


def of_figure_1(cell: Cell) -> bool:
    """The adapters of Figures 1 and 2, but for full fine-tuning."""
    tied = cell["adapter"] == "lora_xs" and cell["sharing"] == "tiled"
    small = tinylora(cell) and (cell["u"] == "1" or (cell["u"] in ("13", "64") and cell["n_tie"] == "all"))
    return cell["precision"] == "fp32" and (small or tied or cell["adapter"] == "lora")


def points(cells: list[Cell], levels: dict[str, float]) -> Iterator[tuple[Any, ...]]:
    """Item, model, panel, series, x and cell of every point of every figure."""
    grpo = [cell for cell in cells if cell["algorithm"] == "grpo"]
    for cell in cells:
        item = "figure1" if cell["algorithm"] == "grpo" else "figure2"
        if of_figure_1(cell):
            apart = ", all tied" if cell["adapter"] == "tinylora" and cell["u"] != "1" else ""
            yield item, cell["model"], "", NAMES[cell["adapter"]] + apart, cell["values"], cell
        elif cell["adapter"] == "full":
            yield item, cell["model"], "", NAMES["full"], "", {"mean": cell["mean"], "apart": cell["apart"]}
    for cell in grpo:
        yield from _of_grpo(cell)
    for item, model, panel in {(item, model, panel) for item, model, panel, *_ in _places(cells)}:
        yield item, model, panel, "untrained", "", {"mean": levels[model]}
    yield from best_points(cells)
    yield from table_2(cells, levels)


def _places(cells: list[Cell]) -> Iterator[tuple[Any, ...]]:
    for cell in cells:
        if of_figure_1(cell) or cell["adapter"] == "full":
            yield "figure1" if cell["algorithm"] == "grpo" else "figure2", cell["model"], ""
        if cell["algorithm"] == "grpo":
            yield from ((item, model, panel) for item, model, panel, *_ in _of_grpo(cell))


def _of_grpo(cell: Cell) -> Iterator[tuple[Any, ...]]:
    """Figures 4 and 6 to 9; those that compare models have a panel for each."""
    model = cell["model"]
    if (cell["adapter"], cell["rank"], cell["u"]) == ("tinylora", "2", "1") and cell["n_tie"] != "all":
        name = f"{cell['sharing']} {cell['precision']}"
        yield "figure4", model, "by trained parameters", name, cell["values"], cell
        yield "figure4", model, "by bytes of the update", name, cell["bytes"], cell
    untied_lora_xs = cell["adapter"] == "lora_xs" and (
        cell["n_tie"] == "1" or (cell["n_tie"], cell["rank"]) == ("8", "8")
    )
    if untied_lora_xs or cell["adapter"] == "lora":
        yield "figure6", model, model, NAMES[cell["adapter"]], cell["values"], cell
    known = cell["adapter"] == "tinylora" and cell["sharing"] == "tiled" and cell["precision"] == "fp32"
    if known and cell["u"] in ("1", "4", "16", "64"):
        if cell["n_tie"] == "1" and cell["rank"] in ("1", "2", "4", "16", "64"):
            yield "figure7", model, model, f"u={cell['u']}", cell["rank"], cell
        if cell["rank"] == "2" and cell["n_tie"] in ("1", "8", "64", "all"):
            yield "figure8", model, model, f"u={cell['u']}", cell["n_tie"], cell
            yield "figure9", model, model, f"n_tie={cell['n_tie']}", cell["u"], cell


def best_points(cells: list[Cell]) -> Iterator[tuple[Any, ...]]:
    """RL v SFT: of several cells of one size the best on validation; Qwen v Llama: all, a line for each u if tied."""
    curves: dict[tuple[str, str, str, str], dict[int, list[Cell]]] = defaultdict(lambda: defaultdict(list))
    ties: dict[str, set[str]] = defaultdict(set)
    for cell in cells:
        if cell["algorithm"] == "grpo" and tinylora(cell):
            ties[cell["apart"]].add(cell["n_tie"])
    for cell in cells:
        if cell["algorithm"] == "grpo" and tinylora(cell):
            way = f", u={cell['u']}" if len(ties[cell["apart"]]) > 1 else ""  # else lines run along u
            yield "families", "", "", f"{cell['model']}{way}", cell["values"], cell
        if cell["u"] == "13":  # it is in Figures 1 and 2 alone
            continue
        if of_figure_1(cell) or (cell["adapter"] == "full" and cell["precision"] == "fp32"):
            series = f"{cell['algorithm'].upper()} {cell['demonstrations']}".strip()
            curves["rl-sft", cell["model"], series, cell["apart from method"]][cell["values"]].append(cell)
    for (item, model, series, alike), sizes in curves.items():
        for size, found in sizes.items():
            best = max(found, key=lambda cell: cell["validation"])
            yield item, model, "", series, size, best | {"apart": alike}


def table_2(cells: list[Cell], levels: dict[str, float]) -> Iterator[tuple[Any, ...]]:
    """The test set alone stands for the six sets: per cent with one decimal, and the share of full's gain."""
    for model, alike in sorted({(cell["model"], cell["apart"]) for cell in cells if in_table_2(cell)}):
        own = [cell for cell in cells if (cell["model"], cell["apart"]) == (model, alike) and in_table_2(cell)]
        base = _printed(levels[model])
        best = [_printed(cell["mean"]) for cell in own if cell["adapter"] == "full"]
        for cell in own:
            average = _printed(cell["mean"])
            kept = 100 * (average - base) / (best[0] - base) if best and best[0] > base else math.nan
            for column, mean in (("average", average), ("gain kept", kept)):
                yield "table2", model, column, cell["adapter"], cell["values"], {"mean": mean, "apart": alike}


def in_table_2(cell: Cell) -> bool:
    """GRPO's full fine-tuning, and TinyLoRA of the table's sizes."""
    tied = cell["u"] == "1" and cell["n_tie"] in ("16", "4", "1")
    untied = cell["u"] in ("2", "32", "512") and cell["n_tie"] == "1"
    return cell["algorithm"] == "grpo" and (cell["adapter"] == "full" or (tinylora(cell) and (tied or untied)))


def _printed(share: float) -> float:
    """Per cent with one decimal, halves up."""
    return math.floor(1000 * share + 0.5) / 10


def write(path: Path = STUDY / "expected.csv") -> None:
    """Write the expected numbers, sorted."""
    cells, levels = read_cells()
    text: Callable[[Any], str] = lambda value: (  # noqa: E731
        "" if value is None or value != value else f"{value:.9g}" if isinstance(value, float) else str(value)
    )
    rows = []
    for *where, cell in points(cells, levels):
        rows.append([text(value) for value in (*where, *(cell.get(name) for name in COLUMNS[5:]))])
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *sorted(rows)])
