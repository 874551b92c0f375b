"""The arithmetic behind the paper's tables: Table 2 of the paper's own scores, sizes for equal accuracy, verdicts."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from analysis.page import findings, formats
from analysis.paper import claims, parameter_counts, ratios, six_benchmarks, verdicts
from analysis.paper import published as paper
from analysis.paper.conf_files import shape_of
from analysis.paper.effect import FEWEST_DRAWS, Effect
from analysis.paper.effects import too_short_to_stall
from analysis.statistics import agreement, bootstrap, compare, coverage
from analysis.statistics.crossed import Cell, crossed, share_interval, share_of_gain

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


def test_sizes_are_compared_of_the_updates_that_both_were_trained_with() -> None:
    updates = pd.DataFrame(
        {"adapter.name": ["tinylora"] * 4 + ["full"], "u": [1, 4, 16, 13, NAN], "n_tie": ["all", "all", 1, "all", None]}
    )
    rl, sft = updates.assign(cell=range(5)), updates.drop(index=[1, 2]).assign(cell=range(5, 8), sharing="tiled")
    (_, one), (_, two) = ratios.alike(("GRPO", rl), ("SFT", sft))
    assert (list(one["cell"]), list(two["cell"])) == ([0, 3, 4], [5, 6, 7])
    (_, none), _ = ratios.alike(("GRPO", rl[1:3]), ("SFT", sft))
    assert none.empty


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


def cell(draws: str, scores: list[float], items: np.ndarray | None = None, seeds: str = "") -> Cell:
    names = tuple(draws.split())
    return Cell(names, tuple(seeds.split()) or names, np.array(scores), items, "ids" if items is not None else "")


def test_a_difference_is_paired_in_the_draws_that_both_have() -> None:
    first, second = cell("a b c", [0.2, 0.5, 0.9]), cell("a b c d", [0.1, 0.4, 0.8, 0.0])
    estimate = crossed([first, second]).contrast([1, -1])
    assert (estimate.value, estimate.error) == pytest.approx((0.1, 0.0), abs=1e-9)
    apart = crossed([first, cell("d e f", [0.1, 0.4, 0.8])]).contrast([1, -1])
    assert apart.error == pytest.approx(math.sqrt(first.scores.var(ddof=1) / 3 + np.var([0.1, 0.4, 0.8], ddof=1) / 3))


def test_one_mean_is_students_t_with_a_longer_tail_on_the_skewed_side() -> None:
    scores = [0.1, 0.4, 0.7]
    low, high = crossed([cell("a b c", scores)]).contrast([1]).interval()
    theirs = stats.t.interval(0.95, 2, np.mean(scores), stats.sem(scores))
    assert (low, high) == pytest.approx(theirs)
    skewed = [0.1, 0.1, 0.2, 0.9]
    estimate = crossed([cell("a b c d", skewed)]).contrast([1])
    low, high = estimate.interval()
    theirs = stats.t.interval(0.95, 3, np.mean(skewed), stats.sem(skewed))
    tail = 2 * stats.skew(skewed, bias=False) * np.std(skewed, ddof=1) / 4
    assert (low, high) == pytest.approx((theirs[0], theirs[1] + tail))
    assert estimate.p_value(high) == pytest.approx(0.05)
    assert estimate.p_value(low) == pytest.approx(0.05)
    assert math.isnan(crossed([cell("a", [0.5])]).contrast([1]).interval()[0])


def test_seeds_and_problems_add_to_the_error() -> None:
    items = np.array([[1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 1.0, 1.0]])
    scores = list(items.mean(axis=1))
    two = cell("a a b b", scores, items, seeds="0 1 0 1")
    variances = [np.array([0.375, 0.75]), np.array([0.625, 0.5]), items.mean(axis=0)]
    error = math.sqrt(sum(values.var(ddof=1) / len(values) for values in variances))
    assert crossed([two]).contrast([1]).error == pytest.approx(error)
    means = bootstrap.resampled_means([two])[:, 0]
    assert means.mean() == pytest.approx(0.5625, abs=0.02)
    assert means.std() == pytest.approx(error, rel=0.5)


def test_the_share_of_a_gain_is_fiellers() -> None:
    found = crossed([cell("a b c", [0.5, 0.6, 0.7]), cell("a b c", [0.8, 0.9, 1.0]), Cell((), (), np.array([0.3]))])
    assert share_of_gain(found) == pytest.approx(0.5)
    low, high = share_interval(found)
    for end in (low, high):
        assert found.contrast((1.0, -end, end - 1.0)).p_value(0) == pytest.approx(0.05, abs=1e-6)
    assert low < 0.5 < high


def test_one_draw_has_a_share_without_interval_and_no_gain_has_none() -> None:
    one, full, untrained = cell("a", [0.5]), cell("a", [0.8]), Cell((), (), np.array([0.3]))
    gains, none = crossed([one, full, untrained]), crossed([one, untrained, untrained])
    assert share_of_gain(gains) == pytest.approx(0.4)
    assert math.isnan(share_of_gain(none))
    assert all(map(math.isnan, (*share_interval(gains), *share_interval(none))))


@pytest.mark.parametrize("name", ["normal, sd 5 points", "two modes, 70:30", "ceiling (a half of the draws)"])
def test_intervals_hold_the_truth_with_eight_draws(name: str) -> None:
    found = coverage.coverage(coverage.DISTRIBUTIONS[name], FEWEST_DRAWS, 150)
    assert min(found["mean"], found["difference"]) > 0.93 - 0.05  # two standard errors of 150 trials
    assert found["plain bootstrap"] < found["difference"]


def test_coverage_of_the_draws_of_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"a b,P{place},0.{place}" for place in range(1, 9)] + ["few,P1,0.5"]
    (tmp_path / "draws.csv").write_text("\n".join(["cell,draw,accuracy", *rows]))
    assert coverage.main(["--repeats", "2", "--draws", str(tmp_path / "draws.csv")]) == 0
    printed = capsys.readouterr().out
    assert "a b" in printed
    assert "few" not in printed
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    assert coverage.main(["--draws", str(tmp_path / "other.csv")]) == 2
    assert "remedy:" in capsys.readouterr().err


def effect(low: float, high: float, draws: int = 8, **others: Any) -> Effect:
    return Effect("", (), (low + high) / 2, low, high, lambda bound: 0.01, 16, draws, **others)


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (effect(0.1, 3), verdicts.HOLDS),
        (effect(-3, -0.1), verdicts.REVERSED),
        (effect(-1.9, 1.9), verdicts.EQUIVALENT),
        (effect(-1.9, 2.1), verdicts.INCONCLUSIVE),
        (effect(0.1, 3, draws=7), verdicts.INCONCLUSIVE),
        (effect(0.1, 3, undecided="no outcomes"), verdicts.INCONCLUSIVE),
        (effect(0.1, 3, incomparable="one engine"), verdicts.NOT_COMPARABLE),
        (effect(NAN, NAN), verdicts.INCONCLUSIVE),
    ],
)
def test_the_printed_interval_decides(found: Effect, word: str) -> None:
    criterion = claims.Criterion("", 0, " points", margin=2)
    judged = verdicts.judge(criterion, found)
    assert judged.word == word
    assert math.isnan(judged.p) == bool(
        found.undecided or found.incomparable or found.draws < 8 or found.low != found.low
    )


def test_an_upper_bound_holds_below_it() -> None:
    criterion = claims.Criterion("", 5, " points", upper=True)
    assert verdicts.judge(criterion, effect(2, 4)).word == verdicts.HOLDS
    assert verdicts.judge(criterion, effect(6, 8)).word == verdicts.REVERSED
    assert verdicts.judge(criterion, effect(4, 6)).word == verdicts.INCONCLUSIVE
    assert verdicts.judge(claims.Criterion("", 10, claims.TIMES), effect(11, math.inf)).word == verdicts.HOLDS


def test_effects_of_one_claim_are_told_apart_wherever_they_are_named() -> None:
    claim = next(claim for claim in claims.CLAIMS if claim.criterion.unit == claims.TIMES)
    measured = [
        ("tiny, sums, steps=60 (scale model): SFT own v GRPO at 61.0%", "tiny", effect(0.5, 0.9)),
        ("tiny, sums, steps=60 (scale model): SFT foreign v GRPO", "tiny", effect(NAN, NAN, incomparable="no gain")),
        ("tiny, sums, steps=300 (scale model): SFT own v GRPO at 70.0%", "tiny", effect(2, 4)),
        ("big, sums, steps=60 (scale model): SFT own v GRPO at 61.0%", "big", effect(0.5, 0.9)),
    ]
    found = [replace(each, of=of, models=(model,)) for of, model, each in measured]
    checked = [(claim, [verdicts.judge(claim.criterion, each) for each in found])]
    (row,) = verdicts.claims_by_model(checked).to_dict("records")
    assert row["big"] == "0.7 times (0.5 to 0.9): reversed"
    assert row["tiny"].split("; ") == [
        "steps=60 SFT own v GRPO at 61.0%: 0.7 times (0.5 to 0.9): reversed",
        "steps=60 SFT foreign v GRPO: not comparable (no gain)",
        "steps=300 SFT own v GRPO at 70.0%: 3 times (2 to 4): reversed",
    ]
    decided, others, _ = findings.findings(checked, scale_model=True)
    assert [of for _, _, of in decided.claims] == [
        "big; tiny: steps=60 SFT own v GRPO at 61.0%, steps=300 SFT own v GRPO at 70.0%"
    ]
    assert [of for _, _, of in others.claims] == ["tiny: steps=60 SFT foreign v GRPO"]


def test_how_many_draws_would_do() -> None:
    criterion = claims.Criterion("", 0, " points")
    assert verdicts.draws_that_do(criterion, effect(-1, 3)) == 32  # half as wide: four times as many
    assert verdicts.draws_that_do(criterion, effect(-2, 2)) > verdicts.MOST_DRAWS
    assert "about 32 would do" in verdicts.judge(criterion, effect(-1, 3)).text


def test_holms_adjustment_by_hand() -> None:
    assert verdicts.holm([0.01, NAN, 0.04, 0.03]) == pytest.approx([0.03, NAN, 0.06, 0.06], nan_ok=True)


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


@pytest.mark.parametrize(
    ("precision", "steps", "said"),
    [
        ("bf16", 60, "256 rates"),
        ("bf16", 255, "256 rates"),
        ("bf16", 256, ""),
        ("fp16", 256, "2048 rates"),
        ("2", 1, ""),
    ],
)
def test_a_comparison_of_precisions_says_where_its_runs_are_too_short_to_stall(
    precision: str, steps: int, said: str
) -> None:
    part: Any = SimpleNamespace(runs=pd.DataFrame({"cell": [1, 2, 3], "steps": [5, steps, 9000]}))
    notes = too_short_to_stall(part, precision, [1, 2])
    assert [note.endswith(f"{said} or more") for note in notes] == ([True] if said else [])
    if precision == "bf16":  # what the note says, of the type itself
        large, step = torch.tensor(256.0, dtype=torch.bfloat16), torch.tensor(1.0, dtype=torch.bfloat16)
        assert large + step == large and (large / 2 + step) > large / 2


def test_notes_stand_beside_verdicts_wherever_they_are_printed() -> None:
    claim = claims.CLAIMS[0]
    effect = Effect("a", ("a",), 0.2, -0.1, 0.5, lambda bound: 0.01, 16, FEWEST_DRAWS, notes=("its runs are short",))
    found = [verdicts.Verdict(effect, verdicts.EQUIVALENT, "", 0.01)]
    (row,) = verdicts.claims_by_model([(claim, found)]).to_dict("records")
    assert row["a"].endswith("equivalent [its runs are short]")
    assert "(a; its runs are short)" in findings.findings([(claim, found)], scale_model=False)[0].sentence


def test_further_draws_agree_or_not_whatever_their_intervals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["claim", "measured_on", "effect", "bound", "upper", "margin", "verdict", "notes"]
    study = [
        ("a", "x", 6.0, 5.0, False, None, "holds"),
        ("b", "x", 6.0, 5.0, True, None, "reversed"),
        ("c", "x", 0.2, 0.0, False, 1.0, "equivalent"),
        ("d", "x", 9.0, 5.0, False, None, "inconclusive"),
        ("e", "x", 9.0, 5.0, False, None, "holds"),
        ("g", "x", 9.0, 5.0, False, None, "holds"),
        ("f", "SFT own v GRPO at 61.0%", 0.7, 100.0, False, None, "reversed"),
    ]
    again = {"a": 5.1, "b": 4.0, "c": -0.9, "d": 9.0, "f": 0.9, "g": 9.0}  # e was not measured again
    notes = {"g": f"a rate at the edge of its grid; {agreement.SAME_DRAWS}"}  # nor g on other draws
    for name, effects in (("study", {}), ("again", again)):
        rows = [(*row[:2], effects.get(row[0], row[2]), *row[3:]) for row in study if not effects or row[0] in effects]
        rows = [(row[0], row[1].replace("61.0", "58.3") if effects else row[1], *row[2:]) for row in rows]
        rows = [(*row, notes.get(row[0]) if effects else None) for row in rows]
        pd.DataFrame(rows, columns=names).to_csv(tmp_path / f"{name}.csv", index=False)
    paths = [str(tmp_path / "study.csv"), str(tmp_path / "again.csv")]
    assert agreement.main(paths) == 0
    assert "3 of 4 decided verdicts agree" in capsys.readouterr().out
    (tmp_path / "again.csv").write_text("claim,effect\n")
    assert agreement.main(paths) == 2
    assert "it lacks bound, margin" in capsys.readouterr().err
