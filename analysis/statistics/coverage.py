"""How often the intervals hold the truth, by simulation: with few draws, of one mode or two, at floor and ceiling.

    python -m analysis.statistics.coverage [--repeats 2000] [--draws draws.csv]

Each trial makes up two cells: draws of P from a distribution of accuracies, and for each problem four completions that
are right with a probability of draw and problem. The second cell is the first distribution again (an effect of zero),
on the same draws and problems. With `--draws`, a file of a report (`draws.csv`: cell, draw, accuracy), the
distributions are those of the cells with at least eight draws, smoothed by a little noise.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.statistics.bootstrap import bootstrap_interval
from analysis.statistics.crossed import Array, Cell, crossed
from tinylora.settings.errors import TinyLoraError, UsageError
from tinylora.settings.paths import absolute
from tinylora.settings.streams import printing

Draw = Callable[[np.random.Generator, int], Array]
"""Accuracies of n draws of P."""
ITEMS, SAMPLES = 512, 4
SPREAD = 1.5  # standard deviation of the difficulty of problems, in logits
SMOOTHING = 0.01
MOST = 0.995
FEWEST_FITTED = 8  # draws of a cell whose distribution is taken as one
COUNTS: tuple[int, ...] = (3, 5, 8, 10, 16)
OF_REPORTS: tuple[int, ...] = (8, 16)
"""Numbers of draws, for made-up distributions and for those of a report."""
TRUTH = 200_000  # draws of which the true mean is taken
SEED = 26


def two_modes(share: float, low: float = 0.2, high: float = 0.8) -> Draw:
    """A switch: a share of the draws works, the others do not."""
    return lambda rng, n: np.where(rng.random(n) < share, high, low) + 0.03 * rng.standard_normal(n)


DISTRIBUTIONS: dict[str, Draw] = {
    "normal, sd 5 points": lambda rng, n: 0.6 + 0.05 * rng.standard_normal(n),
    "normal, sd 15 points": lambda rng, n: 0.5 + 0.15 * rng.standard_normal(n),
    "two modes, 50:50": two_modes(0.5),
    "two modes, 70:30": two_modes(0.3),
    "two modes, 85:15": two_modes(0.15),
    "ceiling (a half of the draws)": lambda rng, n: np.minimum(0.97, 0.97 + 0.1 * rng.standard_normal(n)),
    "floor (a half of the draws)": lambda rng, n: np.maximum(0.05, 0.05 + 0.1 * rng.standard_normal(n)),
}


def trial(rng: np.random.Generator, draw: Draw, n: int) -> tuple[Cell, Cell]:
    """Two cells of n draws, the same problems."""
    difficulty = SPREAD * rng.standard_normal(ITEMS)
    names = tuple(f"{place:04d}" for place in range(n))
    cells = []
    for _ in range(2):
        accuracy = np.clip(draw(rng, n), 1 - MOST, MOST)
        chance = expit(logit(accuracy)[:, None] + difficulty)
        items = rng.binomial(SAMPLES, chance) / SAMPLES
        cells.append(Cell(names, names, items.mean(axis=1), items, "made"))
    return cells[0], cells[1]


def logit(share: Array) -> Array:
    """log(p / (1 - p))"""
    return np.asarray(np.log(share / (1 - share)))


def expit(value: Array) -> Array:
    """1 / (1 + e^-x)"""
    return np.asarray(1 / (1 + np.exp(-value)))


def true_mean(draw: Draw) -> float:
    """The accuracy expected of a new draw on new problems."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    accuracy = np.clip(draw(rng, TRUTH), 1 - MOST, MOST)
    return float(expit(logit(accuracy) + SPREAD * rng.standard_normal(TRUTH)).mean())


def coverage(draw: Draw, n: int, repeats: int) -> dict[str, float]:
    """Shares of the trials whose interval holds the truth: of one mean, of a difference, of the plain bootstrap's."""
    rng = np.random.Generator(np.random.PCG64((SEED, n)))
    truth, hits = true_mean(draw), np.zeros(3)
    for _ in range(repeats):
        first, second = trial(rng, draw, n)
        intervals = (
            (crossed([first]).contrast([1]).interval(), truth),
            (crossed([first, second]).contrast([1, -1]).interval(), 0.0),
            (bootstrap_interval(first.scores - second.scores), 0.0),
        )
        hits += np.array([float(low <= value <= high) for (low, high), value in intervals])
    return dict(zip(("mean", "difference", "plain bootstrap"), hits / repeats, strict=True))


def table(distributions: dict[str, Draw], counts: Sequence[int], repeats: int) -> pd.DataFrame:
    """One row for each distribution and number of draws, in per cent."""
    rows = [
        {"draws of P": name, "n": n} | {of: f"{100 * share:.1f}" for of, share in coverage(draw, n, repeats).items()}
        for name, draw in distributions.items()
        for n in counts
    ]
    return pd.DataFrame(rows)


def fitted(draws: pd.DataFrame) -> dict[str, Draw]:
    """The distributions of the cells of `draws` (columns cell, draw, accuracy) that have enough of them."""

    def smoothed(values: Array) -> Draw:
        return lambda rng, n: rng.choice(values, n) + SMOOTHING * rng.standard_normal(n)

    means = draws.groupby(["cell", "draw"], sort=True)["accuracy"].mean()
    groups = {str(cell): own.to_numpy(dtype=float) for cell, own in means.groupby("cell", sort=True)}
    return {cell: smoothed(values) for cell, values in groups.items() if len(values) >= FEWEST_FITTED}


def read_draws(path: Path) -> pd.DataFrame:
    """The draws of a report. UsageError where the file is not one of them."""
    try:
        draws = pd.read_csv(path)
        if not {"cell", "draw", "accuracy"} <= set(draws) or not np.isfinite(draws["accuracy"].to_numpy(float)).all():
            raise ValueError("its columns are not cell, draw, accuracy (numbers)")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--draws {path}: {error}", "it is the draws.csv of a report", "make one with python -m analysis.build"
        ) from error
    return draws


def main(arguments: list[str] | None = None) -> int:
    """Print the table; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m analysis.statistics.coverage", description="Coverage, simulated.")
    parser.add_argument("--repeats", type=int, default=2000, help="trials of each row (default: %(default)s)")
    parser.add_argument("--draws", help="draws.csv of a report: its distributions in place of made-up ones")
    options = parser.parse_args(arguments)
    try:
        distributions, counts = DISTRIBUTIONS, COUNTS
        if options.draws is not None:
            distributions, counts = fitted(read_draws(absolute(options.draws, "--draws"))), OF_REPORTS
        error = math.sqrt(0.95 * 0.05 / max(options.repeats, 1))
        print(table(distributions, counts, options.repeats).to_markdown(index=False, disable_numparse=True))
        print(f"\nin per cent of {options.repeats} trials; standard error {100 * error:.1f}")
    except TinyLoraError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(printing(main))
