"""The report from records: hand-checked means, honest choices, visible gaps, the same bytes twice, errors that help."""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.analysis_store import SFT, STEPS, Store
from support.processes import run_without

from analysis import build
from analysis.page import formats, notes, rendering, report, terminal
from analysis.paper import plain_sweeps
from analysis.paper.figure_points import Made
from analysis.paper.items import ACCURACY, TRAINING, Item
from analysis.records import load
from analysis.statistics import bootstrap, grid, selection, text
from analysis.statistics import cells as stats
from analysis.statistics.measured import TEST
from analysis.statistics.rates import choose_rates

NAN = float("nan")


def cells_of(store: Store) -> tuple[load.Records, pd.DataFrame, pd.DataFrame]:
    records = load.load(store.uri, "tinylora")
    runs = stats.add_cells(stats.add_scores(records.runs, records.history), records.settings)
    cells = choose_rates(runs, stats.summarise(runs, records.settings), records.settings)
    return records, runs, cells


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture
def store(empty: Path, tmp_path: Path) -> Store:
    shutil.copy(empty, tmp_path / "mlflow.db")
    return Store(tmp_path / "mlflow.db")


@pytest.fixture(scope="module")
def sweep(empty: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep with two seeds, two precisions, both algorithms, a failed and a cut short run, and a NaN reward."""
    folder = tmp_path_factory.mktemp("sweep")
    shutil.copy(empty, folder / "mlflow.db")
    store = Store(folder / "mlflow.db")
    for seed in (0, 1):
        store.add({"u": 1, "seed": seed}, accuracy=0.4 + 0.1 * seed)
        store.add({"seed": seed}, accuracy=0.6 + 0.1 * seed, rewards=[0.3, NAN if seed else 0.4, 0.5, 0.6])
        store.add({"u": 1, "precision": "bf16", "seed": seed}, accuracy=0.35)
        store.add(SFT | {"seed": seed}, accuracy=0.4)
    store.add({"precision": "bf16"}, status="failed", reason="out of <memory> | see log")
    store.add({"precision": "bf16", "seed": 1}, status="cut short", reason="time limit")
    return folder


def test_interval_of_known_resamples() -> None:
    """Two seeds give means a, (a+b)/2, b with weights 1/4, 1/2, 1/4: the 95% interval runs from a to b."""
    low, high = bootstrap.bootstrap_interval(np.array([0.2, 0.6]))
    assert (float(low), float(high)) == (0.2, 0.6)
    low, high = bootstrap.bootstrap_interval(np.array([0.2, 0.6]), level=0.4)  # the middle half holds the mean alone
    assert (float(low), float(high)) == pytest.approx((0.4, 0.4))
    low, high = bootstrap.bootstrap_interval(np.array([0.3, 0.3, 0.3]))
    assert (float(low), float(high)) == pytest.approx((0.3, 0.3))


def test_interval_of_one_seed_is_a_gap() -> None:
    assert all(math.isnan(end) for end in bootstrap.bootstrap_interval(np.array([0.5])))
    assert all(np.isnan(end).all() for end in bootstrap.bootstrap_interval(np.ones((1, 3))))


def test_interval_needs_no_order_and_treats_steps_alike() -> None:
    values = np.array([0.1, 0.5, 0.9, 0.2])
    assert bootstrap.bootstrap_interval(values) == bootstrap.bootstrap_interval(values[::-1])
    low, high = bootstrap.bootstrap_interval(np.stack([values, values + 1], axis=1))
    assert low[1] - low[0] == pytest.approx(1)
    assert high[1] - high[0] == pytest.approx(1)


def test_cells_average_seeds_and_nothing_else(store: Store) -> None:
    for seed, accuracy in enumerate((0.4, 0.5, 0.9)):
        store.add({"seed": seed}, accuracy=accuracy)
    store.add({"rank": 4}, accuracy=0.1)
    store.add({"sharing": "structured"}, accuracy=0.2)
    store.add({"seed": 3}, status="failed", reason="diverged")
    _, runs, cells = cells_of(store)
    assert len(runs) == 6
    found = {(row["rank"], row["sharing"]): (row["seeds"], row[TEST]) for row in cells.to_dict("records")}
    assert found[2, "tiled"] == (4, pytest.approx((0.4 + 0.5 + 0.9 + 0.3) / 4))  # failed: the untrained score
    assert found[4, "tiled"] == (1, pytest.approx(0.1))
    assert found[2, "structured"] == (1, pytest.approx(0.2))


def test_lines_are_told_apart_by_what_differs(store: Store) -> None:
    for u in (1, 13):
        store.add({"u": u})
        store.add({"u": u, "rank": 4})
    records, _, cells = cells_of(store)
    named, axis = stats.name_lines(cells, records.settings)
    assert axis == "u"
    assert sorted(named["line"].unique()) == ["GRPO fp32, rank=2", "GRPO fp32, rank=4"]


def test_a_line_runs_along_the_tying_where_only_that_varies(store: Store) -> None:
    for n_tie, groups in (("all", 1), (7, 4), (1, 28)):
        store.add({"u": 1, "n_tie": n_tie, "groups": groups})
    records, _, cells = cells_of(store)
    named, axis = stats.name_lines(cells, records.settings)
    assert axis == "n_tie"
    assert list(named["line"].unique()) == ["GRPO fp32"]


def test_rates_are_chosen_on_validation_never_on_test(store: Store) -> None:
    store.add({"lr": 0.001}, accuracy=0.9, validation=0.5)
    for seed in (0, 1):
        store.add({"lr": 0.01, "seed": seed}, accuracy=0.4, validation=0.6)
    store.add({"lr": 0.1}, accuracy=0.95, validation=NAN)
    _, _, cells = cells_of(store)
    assert list(cells.loc[cells["chosen"], "lr"]) == [0.01]
    assert set(cells["rates"]) == {3}


def test_without_validation_no_rate_is_chosen(store: Store) -> None:
    for lr in (0.1, 0.01):
        store.add({"lr": lr}, validation=NAN)
    records, _, cells = cells_of(store)
    assert not cells["chosen"].any()
    assert "none is shown" in summary_of(records)
    files = report.make_files(records)
    assert "accuracy.svg" not in files
    assert b"none is shown" in files["index.html"]


def test_nan_makes_no_wrong_mean(store: Store) -> None:
    store.add({"seed": 0}, accuracy=0.4)
    key = store.add({"seed": 1}, accuracy=NAN, validation=0.4)
    records, _, cells = cells_of(store)
    assert cells[TEST].iloc[0] == pytest.approx(0.4)
    assert cells[f"{TEST} n"].iloc[0] == 1
    assert math.isnan(cells[f"{TEST} low"].iloc[0])
    assert f"test/sampled_strict at the last step (absent or NaN) in run {key}" in summary_of(records)


def test_runs_that_were_started_one_by_one_are_no_grid_with_gaps(store: Store) -> None:
    for steps, seed in ((1, 0), (2, 1), (3, 2)):
        store.add({"steps": steps, "seed": seed, "u": 10 * steps})
    page = report.make_files(load.load(store.uri, "tinylora"))["index.html"].decode()
    assert "These runs are no whole grid" in page and "Points of the grid without a finished run" not in page


def summary_of(records: load.Records) -> str:
    return report.make_files(records)["summary.md"].decode()


def test_curves_by_hand_with_gaps(store: Store) -> None:
    store.add({"seed": 0}, rewards=[0.1, 0.2, 0.3, 0.4])
    store.add({"seed": 1}, rewards=[0.3, NAN, 0.5, 0.8])
    records, runs, _ = cells_of(store)
    curve = stats.curve(runs, records.history, "train/reward")
    np.testing.assert_allclose(curve["mean"], [0.2, NAN, 0.4, 0.6])
    np.testing.assert_allclose(curve["low"], [0.1, NAN, 0.3, 0.4])
    np.testing.assert_allclose(curve["high"], [0.3, NAN, 0.5, 0.8])
    assert list(curve["step"]) == list(range(1, STEPS + 1))
    assert set(curve["n"]) == {2}
    assert stats.curve(runs, records.history, "absent").empty


def test_base_is_averaged_over_seeds_not_runs(store: Store) -> None:
    for u in (1, 4, 13):
        store.add({"u": u, "seed": 0}, base=0.3)
    store.add({"u": 1, "seed": 1}, base=0.5)
    _, runs, _ = cells_of(store)
    base = stats.base_accuracy(runs)
    assert len(base) == 1
    assert base["sampled"].iloc[0] == pytest.approx(0.4)
    assert base["greedy"].iloc[0] == pytest.approx(0.3)


def test_base_models_are_not_mixed(store: Store) -> None:
    store.add({"model.dtype": "fp32"}, base=0.3)
    store.add({"model.dtype": "bf16"}, base=0.2)
    _, runs, _ = cells_of(store)
    found = {row["extra"]: row["sampled"] for row in stats.base_accuracy(runs).to_dict("records")}
    assert found == {"dtype=bf16": 0.2, "dtype=fp32": 0.3}


def test_missing_points_have_their_reasons(sweep: Path) -> None:
    records, runs, _ = cells_of_folder(sweep)
    missing = grid.missing(runs, records.settings)
    rows = {(row["method"], row["precision"], row["u"]): row["reason"] for row in missing.to_dict("records")}
    assert rows == {
        ("GRPO", "bf16", 13): "failed: out of <memory> | see log; cut short: time limit",
        ("SFT own", "bf16", 1): "not run",
        ("SFT own", "bf16", 13): "not run",
        ("SFT own", "fp32", 1): "not run",
    }


def cells_of_folder(folder: Path) -> tuple[load.Records, pd.DataFrame, pd.DataFrame]:
    records = load.load(f"sqlite:///{folder / 'mlflow.db'}", "tinylora")
    runs = stats.add_cells(stats.add_scores(records.runs, records.history), records.settings)
    return records, runs, stats.summarise(runs, records.settings)


def test_missing_seeds_are_listed(store: Store) -> None:
    for seed in (0, 1):
        store.add({"u": 1, "seed": seed})
    store.add({"u": 13, "seed": 0})
    records, runs, _ = cells_of(store)
    assert grid.missing(runs, records.settings).to_numpy().tolist() == [["GRPO", 13, 1, "not run"]]


def test_a_missing_cell_breaks_its_line(store: Store) -> None:
    for u in (1, 4, 13):
        store.add({"u": u})
    for u in (1, 13):
        store.add({"u": u, "precision": "bf16"})
    made = made_by(store, ACCURACY)
    assert made.figure is not None
    drawn = {line.get_linestyle(): line.get_ydata() for line in made.figure.axes[0].lines if len(line.get_xdata()) == 3}
    np.testing.assert_allclose(np.asarray(drawn["-"], dtype=float), [0.5, 0.5, 0.5])
    np.testing.assert_allclose(np.asarray(drawn["--"], dtype=float), [0.5, NAN, 0.5])
    assert made.data["x"].dropna().size == 5, "a gap is no point"
    assert "A line is broken where a cell is missing." in made.notes


def made_by(store: Store, item: Item) -> Made:
    """What an item makes of the only part that it has in the store."""
    records = load.load(store.uri, "tinylora")
    runs, cells = report.cells_of(records)
    (part,) = selection.parts(selection.as_table(cells, runs, records), item.name, item.selection)
    return item.make(part)


def test_lines_that_differ_in_anything_are_drawn_apart(store: Store) -> None:
    for u, accuracy in ((1, 0.4), (13, 0.6)):
        store.add({"u": u}, accuracy=accuracy)
        store.add({"u": u, "rank": 4}, accuracy=accuracy + 0.1)
        store.add({"u": u, "rank": 4, "precision": "int4"}, accuracy=accuracy - 0.2)
    made = made_by(store, ACCURACY)
    points = made.data.dropna(subset=["x"]).set_index(["series", "x"])["mean"].to_dict()
    assert points == pytest.approx(
        {
            ("GRPO fp32, rank=2", 1): 0.4,
            ("GRPO fp32, rank=2", 13): 0.6,
            ("GRPO fp32, rank=4", 1): 0.5,
            ("GRPO fp32, rank=4", 13): 0.7,
            ("GRPO int4, rank=4", 1): 0.2,
            ("GRPO int4, rank=4", 13): 0.4,
        }
    )
    assert made.figure is not None
    lines = [line for line in made.figure.axes[0].lines if len(line.get_xdata()) == 2 and line.get_marker() != "None"]
    assert len({(line.get_color(), line.get_linestyle(), line.get_marker()) for line in lines}) == 3
    texts = {text.get_text().replace("\n", " ") for text in made.figure.axes[0].texts}
    assert texts == {"fp32, rank=2", "fp32, rank=4", "int4, rank=4", "untrained"}
    assert "GRPO" in made.figure.texts[0].get_text(), "what all lines have alike stands in the title"


def test_training_has_a_curve_for_each_cell_and_metric(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for u, precision, accuracy in ((1, "fp32", 0.3), (13, "fp32", 0.5), (13, "bf16", 0.4)):
        store.add({"u": u, "precision": precision}, accuracy=accuracy, rewards=[0.1, 0.2, NAN, u / 100])
    store.add(SFT)
    made = made_by(store, TRAINING)
    rewards = made.data[made.data["metric"] == "train/reward"]
    lines = {("GRPO bf16", 13), ("GRPO fp32", 1), ("GRPO fp32", 13)}
    assert set(zip(rewards["line"], rewards["trained_values"], strict=True)) == lines
    own = rewards[(rewards["line"] == "GRPO fp32") & (rewards["trained_values"] == 1)]
    np.testing.assert_allclose(own.sort_values("step")["mean"], [0.1, 0.2, NAN, 0.01])
    assert made.table is not None and list(made.table["train/reward, last step"]) == ["0.01", "0.13", "0.13"]
    for most, sizes in ((2, ["1, fp32", "13, fp32"]), (1, ["13, fp32"])):
        monkeypatch.setattr(plain_sweeps, "MOST_CURVES", most)
        fewer = made_by(store, TRAINING)
        assert fewer.figure is not None
        assert sorted(text.get_text() for text in fewer.figure.axes[0].texts) == sizes
        assert len(fewer.data) == len(made.data)
        assert fewer.notes == [f"Drawn: {most} of 3 cells, of the lines that are best on validation; the CSV has all."]


def test_what_only_the_untrained_model_scored_is_a_table(store: Store) -> None:
    store.add({"adapter.name": "none"}, accuracy=0.3)
    records = load.load(store.uri, "tinylora")
    files = report.make_files(records)
    assert "accuracy.svg" not in files and "training.svg" not in files
    summary = files["summary.md"].decode()
    assert "Untrained: 30.0% of the sampled test completions right" in summary
    assert "The untrained model alone: 0 trained cells" in summary


def test_latest_of_two_records_counts_and_is_noted(store: Store) -> None:
    store.add(accuracy=0.2, run_key="abcabcabcabc", end_time=3000)
    store.add(accuracy=0.7, run_key="abcabcabcabc", end_time=4000)
    store.add(accuracy=0.1, run_key="abcabcabcabc", end_time=2500)
    records, runs, cells = cells_of(store)
    assert len(runs) == 3
    assert cells["seeds"].iloc[0] == 1
    assert cells[TEST].iloc[0] == pytest.approx(0.7)
    assert "Run abcabcabcabc finished more than once" in summary_of(records)


def test_unlike_runs_are_noted(store: Store) -> None:
    store.add({"seed": 0})
    store.add({"seed": 1, "git_commit": "fffffff", "basis_digest": "other", "git_dirty": "true"})
    records, _, cells = cells_of(store)
    assert cells["seeds"].iloc[0] == 2
    summary = summary_of(records)
    assert "differ in git_commit: 0123abc (1 runs), fffffff (1 runs)" in summary
    assert "In 1 cell(s) the averaged seeds differ in basis_digest." in summary
    assert "1 of 2 runs were made with uncommitted changes" in summary


def test_warnings_of_training_are_listed_by_kind(store: Store) -> None:
    text = "{} since step {}: reward 0.00\n  cause:  the rate\n  remedy: give lr=0.1"
    both = "\n".join([text.format("no signal", 3), text.format("answers are cut", 7)])
    store.add({"seed": 0}, run_key="aaaaaaaaaaaa", warnings=both)
    store.add({"seed": 1}, run_key="bbbbbbbbbbbb", warnings=text.format("no signal", 5), status="failed")
    store.add({"seed": 2})
    summary = summary_of(cells_of(store)[0]).replace("\\", "")
    assert "Warning in runs aaaaaaaaaaaa, bbbbbbbbbbbb (2 of 3). Of aaaaaaaaaaaa: no signal since step 3" in summary
    assert "Warning in run aaaaaaaaaaaa (1 of 3). Of aaaaaaaaaaaa: answers are cut since step 7" in summary
    assert "reward 0.00; cause: the rate; remedy: give lr=0.1." in summary


def test_models_may_have_weights_of_their_own_and_runs_of_one_model_may_not() -> None:
    models, digests = ["one", "one", "other"], ["a", "a", "b"]
    runs = pd.DataFrame({"model.name": models, "model_digest": digests, "git_commit": digests, "cell": [0, 0, 1]})
    (note,) = notes._unlike_runs(runs, ("model_digest", "git_commit"))
    assert note.startswith("The averaged runs differ in git_commit: a (2 runs), b (1 runs)")
    runs["model_digest"] = ["a", "c", "b"]
    assert any("model_digest" in note for note in notes._unlike_runs(runs, ("model_digest",)))


def test_models_and_tasks_have_their_own_figures(store: Store) -> None:
    for model in ("miniature-qwen2", "miniature-llama"):
        store.add({"model.name": model})
    files = report.make_files(cells_of(store)[0])
    assert {name for name in files if name.startswith("accuracy")} == {
        f"accuracy-{model}-sums{kind}"
        for model in ("miniature-qwen2", "miniature-llama")
        for kind in (".svg", ".pdf", ".csv", "-table.csv", "-table.md", "-table.tex")
    }


ADDRESSES = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink", "https://vega.github.io/schema/vega"}
"""Names that look like addresses; nothing is loaded from them."""


def test_report_is_complete_and_the_same_twice(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        assert build.main(["--outputs-dir", str(sweep), "--out", str(tmp_path / name)]) == 0
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    drawn = {f"{name}.{kind}" for name in ("accuracy", "training", "bits") for kind in ("svg", "pdf", "csv")}
    tabled = {
        f"{name}.{kind}"
        for name in ("table1", "claims", "claims-by-model", "bits-table", "accuracy-table", "training-table")
        for kind in ("csv", "md", "tex")
    }
    assert digests(tmp_path / "one").keys() == drawn | tabled | {
        "runs.csv",
        "runs.md",
        "draws.csv",
        "summary.md",
        "index.html",
        rendering.LIBRARY,
    }
    printed = capsys.readouterr().out
    assert re.search(r"\| fp32 +\| 13 +\| \d+ +\| 65 +\| 60.0 to 70.0 +\| 2 ", printed), printed
    assert len(printed.split("report: ")[0].splitlines()) < terminal.MOST_LINES
    assert "Drawn: bits, accuracy, training." in printed
    assert printed.rstrip().endswith(f"report: {tmp_path / 'two' / 'index.html'}")
    page = (tmp_path / "one" / "index.html").read_text(encoding="utf-8")
    assert "says nothing by itself" in page
    assert "out of &lt;memory&gt;" in page
    assert "<memory>" not in page
    assert "train/reward is NaN at 1 step(s)" in page
    assert "4 points of the grid method x precision x u x seed have no finished run: listed below." in page
    assert page.count("<h4>Points of the grid without a finished run</h4>") == 1
    own = " ".join(page.partition('<h2 id="accuracy">')[2].partition("<h2")[0].split())
    assert "The command that makes" not in own and "The paper" not in own, "it is of the user's own runs"
    for detail in ("Best on validation: GRPO fp32 with 13 trained parameters", "Settings that all averaged runs share"):
        assert own.count(detail) == 1
    assert "<dt>rollout.temperature</dt><dd>1</dd>" in own and "<dt>git_commit</dt><dd>0123abc</dd>" in own
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"https?://[\w./]+", page)) <= ADDRESSES


def test_tables_show_gaps_not_zeros(sweep: Path, tmp_path: Path) -> None:
    assert build.main(["--outputs-dir", str(sweep), "--out", str(tmp_path)]) == 0
    runs = pd.read_csv(tmp_path / "runs.csv")
    assert len(runs) == 10
    assert runs.loc[runs["status"] == "cut short", TEST].isna().all()
    assert list(runs.loc[runs["status"] == "failed", TEST]) == pytest.approx([0.3])  # the untrained score
    accuracy = pd.read_csv(tmp_path / "accuracy.csv")
    grpo = accuracy[(accuracy["series"] == "GRPO fp32") & (accuracy["trained_values"] == 13)].iloc[0]
    assert (grpo["mean"], grpo["low"], grpo["high"], grpo["n_seeds"]) == pytest.approx((0.65, 0.6, 0.7, 2))
    failed = accuracy[(accuracy["precision"] == "bf16") & (accuracy["trained_values"] == 13)]
    assert list(failed["mean"]) == pytest.approx([0.3])
    assert not ((accuracy["series"] == "SFT own fp32") & (accuracy["trained_values"] == 1)).any()
    assert "out of \\<memory> \\| see log" in (tmp_path / "runs.md").read_text(encoding="utf-8")


def test_markdown_and_percent() -> None:
    assert text.percent(0.5781) == "57.8"
    assert text.percent(NAN) == text.GAP
    table = pd.DataFrame({"a": ["x|y", "two\nlines"], "b": ["1", "22"]})
    assert formats.to_markdown(table).splitlines()[2:] == ["| x\\|y      | 1   |", "| two lines | 22  |"]


def fails(capsys: pytest.CaptureFixture[str], status: int, words: str, *arguments: str) -> None:
    assert build.main(list(arguments)) == status
    printed = capsys.readouterr()
    assert words in printed.err
    assert "rule:" in printed.err
    assert "remedy:" in printed.err
    assert not printed.out


def test_bad_stores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    fails(capsys, 2, "no such file", "--outputs-dir", str(tmp_path / "none"), "--out", out)
    assert not (tmp_path / "none").exists()
    (tmp_path / "empty.db").touch()
    fails(capsys, 2, "no MLflow tables", "--uri", f"sqlite:///{tmp_path / 'empty.db'}", "--out", out)
    assert (tmp_path / "empty.db").stat().st_size == 0
    (tmp_path / "text.db").write_text("not a database, but long enough to look at")
    fails(capsys, 2, "not a database", "--uri", f"sqlite:///{tmp_path / 'text.db'}", "--out", out)
    fails(capsys, 1, "nowhere", "--uri", "nowhere://x", "--out", out)
    assert not list((tmp_path / "out").iterdir())


def test_unreachable_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    fails(capsys, 1, "http://127.0.0.1:9", "--uri", "http://127.0.0.1:9", "--out", str(tmp_path))


def test_experiments_without_a_finished_run(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, 1, "no finished run (runs there: none)", "--uri", store.uri, "--out", str(tmp_path / "out"))
    store.add(status="failed", reason="diverged")
    fails(capsys, 1, "no finished run (runs there: 1 failed)", "--uri", store.uri, "--out", str(tmp_path / "out"))
    fails(capsys, 2, "there: Default, tinylora", "--uri", store.uri, "--experiment", "no", "--out", str(tmp_path / "o"))


def test_unwritable_folder_and_no_half_report(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    fails(capsys, 2, "--out", "--outputs-dir", str(sweep), "--out", str(tmp_path / "file"))
    out = tmp_path / "out"
    (out / "runs.csv").mkdir(parents=True)  # cannot be replaced by a file
    with pytest.raises(build.UsageError):
        build.write_files(out, {"runs.csv": b"", "absent/summary.md": b""})
    assert os.listdir(out) == ["runs.csv"]


def test_command_line_without_torch(sweep: Path, tmp_path: Path) -> None:
    done = run_without("torch", "analysis.build", "--outputs-dir", str(sweep), "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_runs_of_another_recipe_are_never_averaged_with_older_ones(store: Store) -> None:
    """Records from before recipes do not say theirs: it is the first."""
    store.add({"seed": 0}, accuracy=0.4)
    store.add({"seed": 1, "recipe": 1}, accuracy=0.6)
    store.add({"seed": 0, "recipe": 2}, accuracy=0.9)
    _, _, cells = cells_of(store)
    found = {row["recipe"]: (row["seeds"], row[TEST]) for row in cells.to_dict("records")}
    assert found == {"1": (2, pytest.approx(0.5)), "2": (1, pytest.approx(0.9))}
