"""What the study's report must show, worked out from the archived records in plain Python, without any code of ours.

`make study-records` writes them to analysis/study/expected.csv by `write`; test_study compares.

A cell is the runs that differ in nothing but seed and learning rate. Its rate is the one with the best mean greedy
validation accuracy (of equal ones the smallest); its number is the mean over seeds at that rate. The interval comes
from all n^n equally likely resamples of the n seeds. Items are written out by hand from what the paper's figures show.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import statistics
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

STUDY = Path(__file__).parents[2] / "analysis" / "study"
COLUMNS = ("item", "model", "panel", "series", "x", "mean", "low", "high", "flexible", "n", "lr")
TEST, FLEXIBLE, VALIDATION = (
    "eval/test/greedy_strict",
    "eval/test/greedy_flexible",
    "eval/validation/greedy_strict",
)
NAMES = {"tinylora": "TinyLoRA", "lora_xs": "LoRA-XS", "lora": "LoRA", "full": "full fine-tuning"}
Run = dict[str, Any]
Cell = dict[str, Any]


def read_runs(archive: Path = STUDY / "records.tar.xz") -> list[Run]:
    """Finished runs: settings, sizes, and scores before and after."""
    files: dict[str, dict[str, bytes]] = defaultdict(dict)
    with tarfile.open(archive) as tar:
        for member in tar:
            key, name = member.name.split("/")
            opened = tar.extractfile(member)
            assert opened is not None
            files[key][name] = opened.read()
    runs = []
    for run in files.values():
        described = yaml.load(run["config.yaml"], getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if json.loads(run["summary.json"])["status"] == "finished":
            lines = [json.loads(line) for line in run["metrics.jsonl"].splitlines()]
            settings = described["scientific"]
            assert lines[-1]["step"] == settings["steps"]
            runs.append(
                {
                    **settings,
                    "values": described["provenance"]["trained_values"],
                    "bytes": described["provenance"]["trained_bytes"],
                    "first": lines[0]["metrics"],
                    "last": lines[-1]["metrics"],
                }
            )
    return runs


def cells_of(runs: list[Run]) -> list[Cell]:
    """One entry for each cell, at its chosen rate."""
    by_cell: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run["adapter"]["name"] != "none":
            measured = ("lr", "seed", "first", "last")
            by_cell[json.dumps({k: v for k, v in run.items() if k not in measured}, sort_keys=True)].append(run)
    return [_cell(json.loads(key), own) for key, own in by_cell.items()]


def _cell(settings: dict[str, Any], runs: list[Run]) -> Cell:
    by_rate: dict[float, list[Run]] = defaultdict(list)
    for run in runs:
        by_rate[run["lr"]].append(run)
    judged = {lr: statistics.mean(run["last"][VALIDATION] for run in own) for lr, own in by_rate.items()}
    best = max(judged.values())
    lr = min(rate for rate, accuracy in judged.items() if accuracy > best - 1e-12)
    scores = [run["last"][TEST] for run in by_rate[lr]]
    low, high = interval(scores)
    return {
        "model": settings["model"]["name"],
        "algorithm": settings["algorithm"]["name"],
        "adapter": settings["adapter"]["name"],
        "demonstrations": settings["task"].get("demonstrations", ""),
        **{name: str(settings.get(name, "")) for name in ("u", "n_tie", "sharing", "rank", "precision")},
        "values": settings["values"],
        "bytes": settings["bytes"],
        "lr": lr,
        "scores": scores,
        "n": len(scores),
        "validation": best,
        "mean": statistics.mean(scores),
        "low": low,
        "high": high,
        "flexible": statistics.mean(run["last"][FLEXIBLE] for run in by_rate[lr]),
    }


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
    small = tinylora(cell) and (cell["u"] == "1" or (cell["u"], cell["n_tie"]) == ("64", "all"))
    return cell["precision"] == "fp32" and (small or tied or cell["adapter"] == "lora")


def points(cells: list[Cell], levels: dict[str, float]) -> Iterator[tuple[Any, ...]]:
    """Item, model, panel, series, x and cell of every point of every figure."""
    grpo = [cell for cell in cells if cell["algorithm"] == "grpo"]
    for cell in cells:
        item = "figure1" if cell["algorithm"] == "grpo" else "figure2"
        if of_figure_1(cell):
            apart = f" u={cell['u']}" if cell["adapter"] == "tinylora" and cell["u"] != "1" else ""
            yield item, cell["model"], "", NAMES[cell["adapter"]] + apart, cell["values"], cell
        elif cell["adapter"] == "full":
            yield item, cell["model"], "", NAMES["full"], "", {"mean": cell["mean"]}
    for cell in grpo:
        yield from _of_grpo(cell)
    for item, model, panel in {(item, model, panel) for item, model, panel, *_ in _places(cells)}:
        yield item, model, panel, "untrained", "", {"mean": levels[model]}
    yield from best_points(cells)
    yield from smallest_updates(cells)
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
    """Qwen v Llama, RL v SFT: of several cells of one size the best on validation."""
    curves: dict[tuple[str, str, str], dict[int, list[Cell]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        if cell["algorithm"] == "grpo" and tinylora(cell):
            curves["families", "", cell["model"]][cell["values"]].append(cell)
        if of_figure_1(cell) or (cell["adapter"] == "full" and cell["precision"] == "fp32"):
            series = f"{cell['algorithm'].upper()} {cell['demonstrations']}".strip()
            curves["rl-sft", cell["model"], series][cell["values"]].append(cell)
    for (item, model, series), sizes in curves.items():
        for size, found in sizes.items():
            yield item, model, "", series, size, max(found, key=lambda cell: cell["validation"])


def smallest_updates(cells: list[Cell]) -> Iterator[tuple[Any, ...]]:
    """Figure 3: of all sizes the smallest that reaches a share of the best accuracy."""
    of_model: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        if (
            cell["algorithm"] == "grpo"
            and of_figure_1(cell)
            and not (cell["adapter"] == "tinylora" and cell["u"] != "1")
        ):
            of_model[cell["model"]].append(cell)
    for model, own in of_model.items():
        best = max(cell["mean"] for cell in own)
        for share in (0.9, 0.95, 0.975):
            size = min(cell["values"] for cell in own if cell["mean"] >= share * best)
            yield "figure3", model, "", f"{share:g}", "", {"mean": float(size)}


def table_2(cells: list[Cell], levels: dict[str, float]) -> Iterator[tuple[Any, ...]]:
    """The test set alone stands for the six sets: per cent with one decimal, and the share of full's gain."""
    for full in (cell for cell in cells if (cell["adapter"], cell["algorithm"]) == ("full", "grpo")):
        model, ends = full["model"], (_printed(levels[full["model"]]), _printed(full["mean"]))
        small = [
            cell
            for cell in cells
            if cell["model"] == model
            and cell["algorithm"] == "grpo"
            and tinylora(cell)
            and cell["u"] == "1"
            and cell["n_tie"] in ("16", "4", "1")
        ]
        for cell in (*small, full):
            average = _printed(cell["mean"])
            kept = 100 * (average - ends[0]) / (ends[1] - ends[0]) if ends[1] > ends[0] else math.nan
            yield "table2", model, "average", cell["adapter"], cell["values"], {"mean": average}
            yield "table2", model, "gain kept", cell["adapter"], cell["values"], {"mean": kept}


def _printed(share: float) -> float:
    """Per cent with one decimal, halves up."""
    return math.floor(1000 * share + 0.5) / 10


def write(path: Path = STUDY / "expected.csv") -> None:
    """Write the expected numbers, sorted."""
    runs = read_runs()
    untrained: dict[str, set[float]] = defaultdict(set)
    for run in runs:
        untrained[run["model"]["name"]].add(run["first"][TEST])
    assert all(len(values) == 1 for values in untrained.values())  # one untrained model, measured once for all
    levels = {model: values.pop() for model, values in untrained.items()}
    from support.study_claims import claims

    text: Callable[[Any], str] = lambda value: (  # noqa: E731
        "" if value is None or value != value else f"{value:.9g}" if isinstance(value, float) else str(value)
    )
    rows = []
    cells = cells_of(runs)
    effects = [("claims", model, "", claim, "", {"mean": effect}) for claim, model, effect in claims(cells, levels)]
    for *where, cell in [*points(cells, levels), *effects]:
        rows.append([text(value) for value in (*where, *(cell.get(name) for name in COLUMNS[5:]))])
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *sorted(rows)])
