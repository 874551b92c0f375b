"""Every effect, interval and verdict of a claims table again, from the outcomes by problem, by other code.

    PYTHONPATH=tests python -m support.recompute RECORDS.tar.xz CLAIMS.csv

It reads an archive of run folders (`<run_key>/{config.yaml,metrics.jsonl,items.jsonl,summary.json}`) and the claims.csv
of a report made of the same runs, and imports nothing of this project. Contrasts and shares must agree to rounding;
ratios of sizes rest on resampling, so their intervals must agree within a fifth. The exit status is 1 where a row
differs, is missing, or where the report decides on records that have no outcomes by problem.
"""

from __future__ import annotations

import base64
import csv
import json
import math
import sys
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy import optimize, stats
from support import recompute_claims as paper

Run = dict[str, Any]
Cell = dict[str, Any]
Row = dict[str, Any]
LACKING = {"recipe": "1", "task.strict": "form", "eval.samples": "1", "rounding": "nearest"}
FEWEST, FEWEST_SEEDS = 8, 3


def flat(values: dict[str, Any], before: str = "") -> dict[str, str]:
    """Nested settings by dotted name, as text; "" for what is not set."""
    found: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{before}{name}.")
        else:
            found[before + name] = "" if value is None else str(value)
    return found


def bits(text: str, count: int) -> Any:
    """(count,) of 0 and 1."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8))[:count]


def outcomes(content: bytes, steps: int) -> dict[str, tuple[str, Any]]:
    """Of step 0 and of the last step: the digest of the problems, and the share of right completions of each."""
    found = {}
    for line in map(json.loads, content.splitlines()):
        when = {0: "base", steps: "final"}.get(line["step"])
        if line["suite"] == "test" and when:
            n, k = line["items"], line["samples"]
            found[when] = (line["ids"], bits(line["sampled_strict"], n * k).reshape(n, k).mean(axis=1))
    return found


def read(archive: Path) -> list[Run]:
    """The runs that ended, with what is needed of them."""
    files: dict[str, dict[str, bytes]] = defaultdict(dict)
    with tarfile.open(archive) as tar:
        for member in tar:
            key, _, name = member.name.partition("/")
            if (opened := tar.extractfile(member)) is not None:
                files[key][name] = opened.read()
    return [run for key, own in sorted(files.items()) if (run := one_run(key, own))]


def one_run(key: str, files: dict[str, bytes]) -> Run | None:
    """A finished or failed run; None for others."""
    described = yaml.load(files["config.yaml"], getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    status, settings = json.loads(files["summary.json"])["status"], flat(described["scientific"])
    if status not in ("finished", "failed"):
        return None
    origin, steps = described["provenance"], int(settings["steps"])
    settings = {**settings, "recipe": str(described.get("recipe", settings.get("recipe", "1")))}
    settings |= {name: settings.get(name) or value for name, value in LACKING.items()}
    lines = [json.loads(line) for line in files.get("metrics.jsonl", b"").splitlines()]
    by_step = {line["step"]: line["metrics"] for line in lines}
    projection, seed = settings.pop("projection_seed", None), settings.pop("seed")
    score = {when: by_step.get(step, {}) for when, step in (("base", 0), ("final", steps))}
    return {
        "key": key,
        "failed": status == "failed",
        "settings": settings,
        "lr": float(settings.pop("lr")),
        "values": int(origin["trained_values"]),
        "bytes": origin["trained_bytes"],
        "seed": seed,
        "draw": f"s{seed}"
        if projection is None or settings["adapter.name"] not in paper.PROJECTED
        else f"P{projection}",
        "test": {when: metrics.get("eval/test/sampled_strict", math.nan) for when, metrics in score.items()},
        "validation": {
            when: metrics.get("eval/validation/sampled_strict", math.nan) for when, metrics in score.items()
        },
        "flexible": {when: metrics.get("eval/test/sampled_flexible", math.nan) for when, metrics in score.items()},
        "items": outcomes(files.get("items.jsonl", b""), steps),
    }


def of_model(run: Run) -> str:
    """The settings on which the untrained model's score depends."""
    names = ("model.", "task.", "rollout.", "eval.")
    kept = {k: v for k, v in run["settings"].items() if k.startswith(names) and k != "task.demonstrations"}
    return json.dumps(kept, sort_keys=True)


def by_seed(runs: Sequence[Run], what: str) -> float:
    """The untrained model's score: the mean over seeds of the means over their runs."""
    values = defaultdict(list)
    for run in runs:
        values[run["seed"]].append(run[what]["base"])
    return float(np.mean([np.mean(own) for own in values.values()]))


def count_failed(runs: list[Run]) -> list[Run]:
    """Failed runs end as the untrained model, where a finished run says how good that is."""
    alike = defaultdict(list)
    for run in runs:
        if not run["failed"]:
            alike[of_model(run)].append(run)
    for run in runs:
        if run["failed"] and (like := alike[of_model(run)]):
            for what in ("test", "validation", "flexible"):
                run[what]["base"] = run[what]["final"] = by_seed(like, what)
            run["items"] = {"final": like[0]["items"]["base"]} if "base" in like[0]["items"] else {}
    return [run for run in runs if not run["failed"] or alike[of_model(run)]]


def cells_of(runs: list[Run]) -> list[Cell]:
    """One entry for each cell at its chosen rate, on the draws that did not choose it where there are such."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[json.dumps(run["settings"], sort_keys=True)].append(run)
    cells = []
    for own in groups.values():
        rates = defaultdict(list)
        for run in own:
            rates[run["lr"]].append(run)
        times = Counter(run["draw"] for those in rates.values() for run in {r["draw"]: r for r in those}.values())
        several = {draw for draw, count in times.items() if count > 1} or set(times)
        judging = {lr: [run for run in those if run["draw"] in several] for lr, those in rates.items()}
        judged = {lr: float(np.mean([r["validation"]["final"] for r in own])) for lr, own in judging.items() if own}
        best = max(judged.values())
        lr = min(rate for rate, score in judged.items() if score > best - 1e-12)
        chose = {run["draw"] for rate, those in rates.items() if rate != lr for run in those}
        reported = [run for run in rates[lr] if run["draw"] not in chose] or rates[lr]
        cells.append({**own[0], "lr": lr, "runs": reported, "judged": best})
    return cells


def common(cells: Sequence[Cell]) -> list[list[Run]]:
    """The runs of each cell, on the draws that all share where these are three or more."""
    sets = [{run["draw"] for run in cell["runs"]} for cell in cells if not cell.get("fixed")]
    shared = set.intersection(*sets)
    return [
        [run for run in cell["runs"] if cell.get("fixed") or len(shared) < 3 or run["draw"] in shared] for cell in cells
    ]


def mean_by(runs: Sequence[Run], name: str) -> dict[str, float]:
    """The mean test accuracy of each draw or seed."""
    values = defaultdict(list)
    for run in runs:
        values[run[name]].append(run["test"]["final"])
    return {key: float(np.mean(values[key])) for key in sorted(values)}


def margins(cells: Sequence[Cell], weights: Sequence[float]) -> Iterator[Any]:
    """The contrast by draw, by seed (where crossed with draws), and by problem: arrays whose mean's error it has."""
    runs, groups = common(cells), defaultdict(list)
    for place, cell in enumerate(cells):
        if not cell.get("fixed"):
            groups[frozenset(run["draw"] for run in runs[place])].append(place)
    for group in groups.values():
        for name in ("draw", "seed"):
            if name == "draw" or all(is_crossed(runs[place]) for place in group):
                tables = [mean_by(runs[place], name) for place in group]
                if all(table.keys() == tables[0].keys() for table in tables):
                    yield sum(weights[p] * np.array(list(t.values())) for p, t in zip(group, tables, strict=True))
    yield sum(w * np.mean([r["items"]["final"][1] for r in own], axis=0) for w, own in zip(weights, runs, strict=True))


def is_crossed(runs: Sequence[Run]) -> bool:
    """Whether each draw has the same several seeds."""
    draws, seeds = {run["draw"] for run in runs}, {run["seed"] for run in runs}
    return min(len(draws), len(seeds)) > 1 and len({(r["draw"], r["seed"]) for r in runs}) == len(draws) * len(seeds)


def reach(cells: Sequence[Cell], weights: Sequence[float]) -> tuple[float, float, float, float, float]:
    """A contrast, how far its 95% interval reaches down and up, its standard error and degrees of freedom."""
    value = sum(w * np.mean([r["test"]["final"] for r in own]) for w, own in zip(weights, common(cells), strict=True))
    parts = [x for x in margins(cells, weights) if np.ptp(x) > 1e-15]
    shares, freedoms = [x.var(ddof=1) / len(x) for x in parts], [len(x) - 1 for x in parts]
    skews = [stats.skew(x, bias=False) if len(x) > 2 else 0.0 for x in parts]
    tail = sum(2 * skew * x.std(ddof=1) / len(x) for skew, x in zip(skews, parts, strict=True))
    error = math.sqrt(sum(shares))
    freedom = sum(shares) ** 2 / sum(s**2 / f for s, f in zip(shares, freedoms, strict=True)) if error else 1.0
    half = stats.t.ppf(0.975, freedom) * error
    return float(value), half + max(-tail, 0), half + max(tail, 0), error, freedom


def linear(cells: Sequence[Cell], weights: Sequence[float]) -> tuple[float, float, float]:
    """A contrast in points, with its interval."""
    value, down, up, _, _ = reach(cells, weights)
    return 100 * value, 100 * (value - down), 100 * (value + up)


def share(cells: Sequence[Cell]) -> tuple[float, float, float]:
    """Per cent of the second's gain over the third that the first keeps, by Fieller."""
    small, full, untrained = (np.mean([r["test"]["final"] for r in own]) for own in common(cells))
    if reach(cells, [0, 1, -1])[0] <= reach(cells, [0, 1, -1])[1]:
        return math.nan, math.nan, math.nan
    centre = float((small - untrained) / (full - untrained))

    def outside(at: float, side: int) -> float:
        value, down, up, _, _ = reach(cells, [1, -at, at - 1])
        return -(value + up) if side > 0 else value - down  # of small - at full - ...: falls as `at` rises

    ends = []
    for side in (-1, 1):
        far = next((centre + side * width for width in WIDTHS if outside(centre + side * width, side) > 0), math.nan)
        ends.append(side * math.inf if math.isnan(far) else optimize.brentq(outside, centre, far, (side,)))
    return 100 * centre, 100 * ends[0], 100 * ends[1]


WIDTHS = [0.01 * 2**power for power in range(16)]


def verdict(row: Row, cells: Sequence[Cell], criterion: Row) -> str:
    """The word that follows from the interval and the number of draws."""
    if math.isnan(row["effect"]):
        return "not comparable"
    few = any(
        len({run["draw"] for run in own}) < (FEWEST if own[0]["draw"].startswith("P") else FEWEST_SEEDS)
        for cell, own in zip(cells, common(cells), strict=True)
        if not cell.get("fixed")
    )
    bound = float(criterion["bound"])
    if few or math.isnan(row["low"]):
        return "inconclusive"
    if row["low"] > bound or row["high"] < bound:
        return "holds" if (row["high"] < bound) == (criterion["upper"] == "True") else "reversed"
    inside = criterion["margin"] and max(bound - row["low"], row["high"] - bound) < float(criterion["margin"])
    return "equivalent" if inside else "inconclusive"


def differences(archive: Path, table: Path) -> list[str]:
    """What of the table the records do not bear out; nothing where all is as printed."""
    with table.open(encoding="utf-8") as file:
        printed = [row for row in csv.DictReader(file) if row["claim"] not in paper.OF_OTHER_METRICS]
    cells = cells_of(count_failed(read(archive)))
    again, problems = list(paper.effects(cells)), []
    for row in printed:
        found = [each for each in again if (each[0], each[1]) == (row["claim"], row["models"])]
        texts = [compare(row, *each[2:]) for each in found]
        if "" in texts:
            again.remove(found[texts.index("")])
        else:
            problems.append(f"{row['claim']} ({row['measured_on']}): {'; '.join(texts) or 'not found in the records'}")
    return problems + [f"{claim} ({models}): not in the table" for claim, models, *_ in again]


def compare(printed: Row, kind: str, cells: Sequence[Cell], weights: Any) -> str:
    """How a row differs from what the records give; "" where it does not."""
    if any("final" not in run["items"] for cell in cells for run in cell["runs"]):
        return of_old_records(printed, kind, cells, weights)
    numbers = {"linear": lambda: linear(cells, weights), "share": lambda: share(cells)}
    ends = numbers[kind]() if kind in numbers else paper.ratio(cells, weights)
    row = dict(zip(("effect", "low", "high"), ends, strict=True))
    loose = 0.2 if kind == "ratio" else 1e-3
    for name, value in row.items():
        said = float(printed[name] or "nan")
        exact = name == "effect" or kind != "ratio"
        if not np.isclose(said, value, rtol=1e-3 if exact else loose, atol=2e-3 if exact else 0, equal_nan=True):
            return f"{name} is {value:.6g}, printed {said:.6g}"
    word = verdict(row, cells, printed)
    return "" if word == printed["verdict"] else f"verdict is {word}, printed {printed['verdict']}"


def of_old_records(printed: Row, kind: str, cells: Sequence[Cell], weights: Any) -> str:
    """Without outcomes by problem: nothing may be decided, and the effects of the draws alone must be as printed."""
    if printed["verdict"] not in ("inconclusive", "not comparable"):
        return "decided without outcomes by problem"
    means = [float(np.mean([run["test"]["final"] for run in own])) for own in common(cells)]
    said = float(printed["effect"] or "nan")
    if kind == "ratio" or math.isnan(said):
        return ""
    value = sum(w * m for w, m in zip(weights, means, strict=True)) if kind == "linear" else kept(*means)
    return "" if np.isclose(said, 100 * value, rtol=1e-3, atol=2e-3) else f"effect is {100 * value:.6g}, printed {said}"


def kept(small: float, full: float, untrained: float) -> float:
    """The share of the gain that is kept."""
    return (small - untrained) / (full - untrained)


def main(arguments: Sequence[str]) -> int:
    """Print what differs; the exit status."""
    if len(arguments) != 2:
        print("usage: python -m support.recompute RECORDS.tar.xz CLAIMS.csv", file=sys.stderr)
        return 2
    problems = differences(*map(Path, arguments))
    print("\n".join(problems) or "every effect, interval and verdict is as printed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
