"""The arithmetic behind the paper's tables: Table 2 of the paper's own scores, sizes for equal accuracy, verdicts."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from analysis.page import formats
from analysis.paper import claims, parameter_counts, six_benchmarks, verdicts
from analysis.paper import published as paper
from analysis.paper.conf_files import shape_of
from analysis.paper.effects import Effect
from analysis.statistics import bootstrap, compare

NAN = float("nan")
GAINS = {  # Table 2's last column, by model and trained values
    "qwen2.5-3b-instruct": {16: 29, 63: 47, 252: 80, 504: 88, 8064: 82, 129024: 93},
    "qwen2.5-7b-instruct": {13: 66, 49: 62, 196: 87, 392: 95, 6272: 91, 100352: 96},
    "qwen2.5-math-7b": {196: 29, 392: 70, 6272: 70, 100352: 80},
}


@pytest.mark.parametrize("model", GAINS)
def test_table_2_of_the_papers_scores_is_the_papers(model: str) -> None:
    scores = paper.table2(model)
    printed = 100 * scores["average"]
    table = six_benchmarks.layout(scores, list(paper.TABLE_2_SETS.values()))
    assert list(table["average"]) == pytest.approx(list(printed), abs=1e-9)
    ours = six_benchmarks.layout(scores.drop(columns="average"), list(paper.TABLE_2_SETS.values()))["average"]
    exact = 100 * scores[list(paper.TABLE_2_SETS.values())].mean(axis=1)
    halves = (exact - printed).abs() > 0.05 - 1e-9  # an average of rounded scores that ends in 5: printed either way
    assert list(ours[~halves]) == pytest.approx(list(printed[~halves]), abs=1e-9)
    assert (ours - printed).abs().max() < 0.1 + 1e-9
    text = six_benchmarks.as_text(table, "paper").set_index("trained")["gain kept %"]
    assert text["untrained"] == "0"
    assert text["full"] == "100"
    assert {size: int(text[f"{size:,}"]) for size in GAINS[model]} == GAINS[model]


def test_sizes_for_equal_accuracy_by_hand() -> None:
    sizes = np.array([1.0, 10.0, 100.0])
    rows = np.array([[0.2, 0.4, 0.8], [0.2, 0.1, 0.3], [0.9, 0.9, 0.9]])
    found = compare.size_reaching(sizes, rows, np.array([0.6, 0.25, 0.5]))
    assert found == pytest.approx([10**1.5, 10**1.5, 1.0])
    assert np.isinf(compare.size_reaching(sizes, rows[:1], np.array([0.9])))
    ratio = compare.size_ratio((sizes, rows[:1]), (10 * sizes, rows[:1]), np.array([0.6]))
    assert ratio == pytest.approx([10.0])
    never = compare.size_ratio((sizes, rows[:1]), (sizes, rows[1:2]), np.array([0.6]))
    assert np.isinf(never).all()
    assert compare.ratio_interval((sizes, rows[:1]), (10 * sizes, rows[:1]), np.array([0.6])) == pytest.approx((10, 10))
    both = compare.ratio_interval((sizes, rows[2:]), (10 * sizes, rows[2:]), np.array([0.6]))
    assert both == (0.0, math.inf)  # each needs its smallest size or less: nothing is known
    assert list(compare.smallest_reaching(sizes, rows[:1], 0.5)) == [10.0]
    assert list(compare.smallest_reaching(sizes, rows[:1], 0.9)) == [100.0]


def test_rounding_is_that_of_print() -> None:
    assert compare.printed_percent(3.003 / 6) == 50.1  # 50.05 in binary is a little less
    assert compare.printed_percent(0.40349) == 40.3
    assert math.isnan(compare.printed_percent(NAN))
    assert math.isnan(compare.gain_kept(0.5, 0.5, 0.5))


def test_cells_of_the_same_seeds_are_resampled_together() -> None:
    first, second = pd.Series([0.9, 0.2, 0.5], index=[2, 0, 1]), pd.Series([0.1, 0.4, 0.8], index=[0, 1, 2])
    _, low, high = compare.difference([first], [second])
    assert (low, high) == pytest.approx((0.1, 0.1))  # by seed 0.2 - 0.1, 0.5 - 0.4, 0.9 - 0.8
    _, low, high = compare.difference([first], [second.rename({2: 3})])
    assert (low, high) == pytest.approx((-0.4, 0.6), abs=0.15)  # not the same seeds: drawn by themselves
    _, low, high = compare.difference([first.to_numpy()], [second.to_numpy()])
    assert high - low > 0.5


def test_difference_of_pairs_by_hand() -> None:
    first, second = [np.array([0.4, 0.6]), np.array([0.8, 0.8])], [np.array([0.3, 0.3]), np.array([0.7, 0.7])]
    effect, low, high = compare.difference(first, second)
    assert effect == pytest.approx(0.15)  # (0.2 + 0.1) / 2
    assert (low, high) == pytest.approx((0.1, 0.2))
    assert math.isnan(compare.difference(first, [np.array([0.3]), np.array([0.7])])[1])


@pytest.mark.parametrize(
    ("low", "high", "seeds", "verdict"),
    [
        (54, 60, 3, verdicts.HOLDS),
        (53, 60, 3, verdicts.OPEN),
        (53, 60, 5, verdicts.HOLDS),
        (40, 60, 3, verdicts.OPEN),
        (54, 60, 2, verdicts.OPEN),
        (NAN, NAN, 3, verdicts.OPEN),
        (54, math.inf, 3, verdicts.HOLDS),
    ],
)
def test_verdicts(low: float, high: float, seeds: int, verdict: str) -> None:
    claim = claims.CLAIMS[0]
    assert (claim.criterion.bound, claim.criterion.upper) == (50, False)
    assert verdicts.verdict(claim.criterion, Effect("", (), 55, low, high, 9, seeds)) == verdict
    assert verdicts.verdict(claim.criterion, Effect("", (), 41, 40, 43, 9, 3)) == verdicts.FAILS


def test_an_interval_over_few_seeds_is_as_wide_as_students() -> None:
    values = np.array([0.2, 0.5, 0.6, 0.9])
    spread = 1.959964 * values.std() / math.sqrt(4)  # what a bootstrap would give, were the means normal
    low, high = bootstrap.widened(values.mean(), values.mean() - spread, values.mean() + spread, 4)
    half = 3.182446 * values.std(ddof=1) / math.sqrt(4)  # Student's t, 3 degrees of freedom
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half))
    assert bootstrap.widened(1.0, 0.5, math.inf, 3)[1] == math.inf


def test_verdicts_on_factors_are_by_their_logarithms() -> None:
    claim = next(
        claim for claim in claims.CLAIMS if claim.criterion.unit == claims.TIMES and claim.criterion.bound == 10
    )
    assert (
        verdicts.verdict(claim.criterion, Effect("", (), 40, 30, 60, 9, 3)) == verdicts.HOLDS
    )  # 40 (30 / 40)^2.7 = 18
    assert verdicts.verdict(claim.criterion, Effect("", (), 40, 20, 60, 9, 3)) == verdicts.OPEN
    assert verdicts.verdict(claim.criterion, Effect("", (), 2, 0, 3, 9, 3)) == verdicts.FAILS
    assert verdicts.verdict(claim.criterion, Effect("", (), math.inf, 11, math.inf, 9, 3)) == verdicts.HOLDS


def test_verdict_of_an_upper_bound() -> None:
    claim = next(claim for claim in claims.CLAIMS if claim.criterion.upper and claim.criterion.bound == 5)
    assert verdicts.verdict(claim.criterion, Effect("", (), 3, 2.5, 3.5, 9, 3)) == verdicts.HOLDS
    assert verdicts.verdict(claim.criterion, Effect("", (), 8, 7, 9, 9, 3)) == verdicts.FAILS
    assert verdicts.verdict(claim.criterion, Effect("", (), 5, 4, 6, 9, 3)) == verdicts.OPEN


def test_table_1_counts_are_the_papers() -> None:
    shape = shape_of("qwen2.5-7b-instruct")
    assert shape is not None
    here = parameter_counts.parameter_formulas("qwen2.5-7b-instruct", shape).set_index("method")["here"]
    assert here["LoRA"].startswith("2,523,136 (r=1)")
    assert "7,615,487,488 in all" in here["full fine-tuning"]
    assert here["TinyLoRA"] == "196 (u=1, n_tie=1), 13 (u=1, n_tie=16)"


def test_latex_is_escaped_and_ruled() -> None:
    text = formats.to_latex(pd.DataFrame({"a_b": ["50% & more"], "n": ["1,000"]}), "Of n_tie")
    assert r"\begin{tabular}{lr}" in text
    assert r"a\_b & n \\" in text
    assert r"50\% \& more & 1,000 \\" in text
    assert r"\caption{Of n\_tie}" in text
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
