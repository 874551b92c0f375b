"""Rates chosen on some draws of P and reported on others, failed runs, edges, mixed evaluation sizes, sizes drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import made_study

from analysis import build
from analysis.page import report
from analysis.records import items, load, stores
from analysis.statistics.cells import VALIDATION
from analysis.statistics.measured import TEST
from benchmarks.report import MadeRun, write_runs


def run(draw: int, lr: float, accuracy: float, status: str = "finished", **settings: object) -> MadeRun:
    point = made_study.TINY | {"n_tie": "all"}
    made = made_study.made_run(made_study.QWEN, "sums", "grpo", point, lr, draw, 3)
    made.params.update({"projection_seed": 100 + draw, **settings})
    made.tags.update(status=status, run_key=f"{draw}-{lr}-{len(settings)}")
    for split in ("test", "validation"):
        made.metrics[f"eval/{split}/sampled_strict"] = [(0, 0.3), (3, accuracy)]
    return made


def cells(store: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    return report.cells_of(load.load(f"sqlite:///{store}", "tinylora"))


def test_a_rate_is_reported_on_the_draws_that_did_not_choose_it(store: Path) -> None:
    chosen_on = [run(draw, lr, 0.9 if lr == 0.01 else 0.5) for draw in (0, 1) for lr in (0.001, 0.01, 0.1)]
    write_runs(store, [*chosen_on, *(run(draw, 0.01, 0.6 + 0.1 * (draw == 3)) for draw in (2, 3))])
    runs, found = cells(store)
    chosen = found[found["chosen"]].iloc[0]
    assert chosen[TEST] == pytest.approx(0.65)
    assert chosen[VALIDATION] == pytest.approx(0.9)
    assert (chosen["lr"], chosen["seeds"], chosen["fresh"], chosen["edge"]) == (0.01, 2, True, False)
    assert sorted(runs.loc[runs["counted"] & (runs["lr"] == 0.01), "draw"]) == ["P102", "P103"]


def test_draws_that_ran_at_one_rate_have_no_say_in_the_choice(store: Path) -> None:
    """Else a found rate would lose by what it is reported on: here .4 on average, v .5 of a worse rate."""
    chosen_on = [run(draw, lr, 0.6 if lr == 0.01 else 0.5) for draw in (0, 1) for lr in (0.001, 0.01, 0.1)]
    write_runs(store, [*chosen_on, *(run(draw, 0.01, 0.3) for draw in range(2, 10))])
    _, found = cells(store)
    chosen = found[found["chosen"]].iloc[0]
    assert (chosen["lr"], chosen["seeds"], chosen[TEST]) == (0.01, 8, pytest.approx(0.3))
    assert list(found.sort_values("lr")["judges"]) == [2, 2, 2]


def test_a_rate_with_one_survivor_does_not_win(store: Path) -> None:
    failed = [run(draw, 0.1, 0.0, status="failed") for draw in (1, 2)]
    write_runs(store, [run(0, 0.1, 0.9), *failed, *(run(draw, 0.01, 0.71) for draw in range(3))])
    _, found = cells(store)
    by_rate = found.set_index("lr")
    assert by_rate.loc[0.1, VALIDATION] == pytest.approx((0.9 + 0.3 + 0.3) / 3)
    assert by_rate.loc[0.1, "failed"] == 2
    assert list(found.loc[found["chosen"], "lr"]) == [0.01]
    text = report.make_files(load.load(f"sqlite:///{store}", "tinylora"), formats=("svg",))["summary.md"].decode()
    assert "0.01 (at the edge)" in text
    assert "2 run(s) failed: they count with the score of the untrained model." in text
    assert "Rates chosen on the same draws" in text


def test_mixed_evaluation_sizes_are_kept_apart_and_said(store: Path) -> None:
    write_runs(store, [run(0, 0.01, 0.6), run(1, 0.01, 0.8, **{"eval.test_items": 256})])
    _, found = cells(store)
    assert sorted(found[TEST]) == pytest.approx([0.6, 0.8])
    text = report.make_files(load.load(f"sqlite:///{store}", "tinylora"), formats=("svg",))["summary.md"].decode()
    assert "Evaluated with several eval.test_items (256, 1319): these runs are kept apart" in text.replace("\\", "")


def test_sizes_that_no_run_records_are_refused(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(store, [run(0, 0.01, 0.6)])
    arguments = ["--outputs-dir", str(store.parent), "--out", str(store.parent / "out"), "--x", "degrees_of_freedom"]
    assert build.main(arguments) == 2
    assert "remedy: give --x trained_values" in " ".join(capsys.readouterr().err.split())


def test_degrees_of_freedom_are_drawn_where_asked_for(store: Path) -> None:
    made = [run(0, 0.01, 0.6, degrees_of_freedom=dof) for dof in (7, 5)]
    made += [run(1, 0.01, 0.6, degrees_of_freedom=9, precision="bf16")]
    for place, each in enumerate(made):
        each.tags["run_key"] = str(place)
        each.params.update(trained_values=(21, 3, 21)[place], n_tie=("1", "8", "1")[place])
    write_runs(store, made)
    records = load.load(f"sqlite:///{store}", "tinylora")
    data = report.make_files(records, ("figure4",), ("svg",), "degrees_of_freedom")["figure4.csv"].decode()
    assert "by degrees of freedom of the update" in data


def test_outcomes_by_problem_are_read_from_either_kind_of_store(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [
        (run(draw, 0.01, 0.5), made_study.items_file({0: 0.3, 3: 0.8}, np.random.default_rng(draw))[0])
        for draw in (0, 1)
    ]
    made_study.write_store(store, made, tmp_path / "artifacts")
    write_runs(store, [run(2, 0.01, 0.5)])
    (tmp_path / "artifacts" / made[1][0].tags["run_key"] / "items.jsonl").write_text("{}\n")
    fast = load.load(f"sqlite:///{store}", "tinylora")
    key = made[0][0].tags["run_key"]
    assert set(fast.items) == {key}
    assert any("items.jsonl that cannot be read" in note for note in fast.notes)
    final = fast.items[key].final
    assert final is not None and final.ids == "0123456789abcdef"
    expected = made_study.items_file({0: 0.3, 3: 0.8}, np.random.default_rng(0))[1][3]
    assert (final.shares["sampled_strict"].mean(), final.shares["greedy_strict"].mean()) == pytest.approx(expected)
    monkeypatch.setattr(load, "open_store", stores.ClientStore)
    slow = load.load(f"sqlite:///{store}", "tinylora")
    assert set(slow.items) == {key}
    assert np.array_equal(slow.items[key].base.shares["sampled_strict"], fast.items[key].base.shares["sampled_strict"])


def test_packed_bits_are_unpacked_in_order() -> None:
    content = b'{"step": 2, "suite": "test", "items": 3, "samples": 2, "ids": "0123456789abcdef", '
    content += b'"greedy_strict": "oA==", "greedy_flexible": "4A==", '  # 101, 111
    content += b'"sampled_strict": "2A==", "sampled_flexible": "/A=="}\n'  # 11 01 10, 11 11 11
    found = items.run_items(content, 2)
    assert found is not None and found.base is None and found.final is not None
    final = found.final
    assert list(final.shares["greedy_strict"]) == [1, 0, 1]
    assert list(final.shares["sampled_strict"]) == [1, 0.5, 0.5]


def test_a_file_that_is_cut_or_lacks_a_field_is_not_read() -> None:
    line = (
        b'{"step": 2, "suite": "test", "items": 3, "samples": 2, "ids": "0123456789abcdef", "greedy_strict": "oA=="}\n'
    )
    assert items.run_items(line, 2) is None
    assert items.run_items(line[:-1], 2) is None
