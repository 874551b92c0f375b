"""Runs with the same settings that were made with other files are never pooled; damaged folders are shown as that."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from support.analysis_store import Store, create_store
from support.packs import open_pack, point
from support.records import make_folder

from analysis import build
from analysis.page import report
from analysis.records import load
from analysis.statistics import cells as stats
from analysis.statistics import grid
from analysis.statistics.measured import TEST
from tinylora.records.folder import SUMMARY
from tinylora.train.recorder import provenance


@pytest.fixture
def store(empty_store: Path, tmp_path: Path) -> Store:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    create_store(tmp_path / "mlflow.db")
    return Store(tmp_path / "mlflow.db")


def cells_of(store: Store) -> tuple[load.Records, pd.DataFrame]:
    records = load.load(store.uri, "tinylora")
    runs = stats.add_cells(stats.add_scores(records.runs, records.history), records.settings)
    return records, stats.summarise(runs, records.settings)


@pytest.mark.parametrize("digest", ["model_digest", "tokenizer_digest", "form_digest", "data_digest", "prompt_digest"])
def test_seeds_with_other_digests_are_other_cells(digest: str, store: Store) -> None:
    for u in (1, 13):
        for seed, (value, accuracy) in enumerate((("1111", 0.4), ("1111", 0.6), ("2222", 0.9))):
            store.add({"u": u, "seed": seed, digest: value}, accuracy=accuracy)
    records, cells = cells_of(store)
    name = f"made_with.{digest}"
    assert name in records.settings
    found = {(row["u"], row[name]): (row["seeds"], row[TEST]) for row in cells.to_dict("records")}
    assert found == {
        (u, value): (seeds, pytest.approx(mean))
        for u in (1, 13)
        for value, seeds, mean in (("1111", 2, 0.5), ("2222", 1, 0.9))
    }
    (note,) = [note for note in records.notes if digest in note]
    assert "1111 in 4 run(s), 2222 in 2 run(s)" in note
    files = report.make_files(records)
    assert (
        f"{digest.replace('_', ' ')}=1111" in files["summary.md"].decode()
        or f"{name}=1111" in files["summary.md"].decode()
    )
    page = files["index.html"].decode()
    assert page.count("<td>1111</td>") > 0 and page.count("<td>2222</td>") > 0
    runs = stats.add_cells(stats.add_scores(records.runs, records.history), records.settings)
    missing = grid.missing(runs, records.settings)
    assert missing.empty, "nobody asked for each point with each model"


def test_the_untrained_model_of_other_files_is_another(store: Store) -> None:
    for seed, (value, base) in enumerate((("1111", 0.2), ("2222", 0.8))):
        store.add({"seed": seed, "model_digest": value}, base=base)
    records = load.load(store.uri, "tinylora")
    base = stats.base_accuracy(stats.add_scores(records.runs, records.history))
    assert {row["extra"]: row["sampled"] for row in base.to_dict("records")} == {
        "model digest=1111": pytest.approx(0.2),
        "model digest=2222": pytest.approx(0.8),
    }


def test_two_records_of_one_run_with_other_models_are_both_shown(store: Store) -> None:
    for value, accuracy in (("1111", 0.3), ("2222", 0.8)):
        store.add({"model_digest": value}, accuracy=accuracy, run_key="abcabcabcabc")
    store.add({"model_digest": "2222"}, accuracy=0.6, run_key="abcabcabcabc", end_time=9000)
    records, cells = cells_of(store)
    assert sorted(cells[TEST]) == [pytest.approx(0.3), pytest.approx(0.6)]
    averaged = records.runs[records.runs["averaged"]]
    assert sorted(averaged["run_key"]) == ["abcabcabcabc (1111)", "abcabcabcabc (2222)"]
    assert any("finished more than once" in note for note in records.notes)
    summary = report.make_files(records)["summary.md"].decode()
    assert "30.0" in summary and "60.0" in summary


def test_a_digest_that_old_records_lack_is_that_of_the_one_known(store: Store) -> None:
    store.add({"seed": 0})
    store.add({"seed": 1, "tokenizer_digest": "1111"})
    records, cells = cells_of(store)
    assert list(cells["seeds"]) == [2]
    (note,) = records.notes
    assert "1 run(s)" in note and "tokenizer_digest (absent)" in note and "1111" in note
    store.add({"seed": 2, "tokenizer_digest": "2222"})
    records, cells = cells_of(store)
    found = dict(zip(cells["made_with.tokenizer_digest"], cells["seeds"], strict=True))
    assert found == {"1111": 1, "2222": 1, "absent": 1}


def test_digests_that_settings_explain_tell_nothing_apart(store: Store) -> None:
    store.add({"seed": 0, "task.name": "sums", "data_digest": "1111"})
    store.add({"seed": 0, "task.name": "gsm8k", "data_digest": "2222"})
    store.add({"seed": 0, "model.name": "other", "model_digest": "3333"})
    records, _ = cells_of(store)
    assert not [name for name in records.settings if name.startswith("made_with.")] and not records.notes


def test_a_damaged_folder_is_shown_and_not_averaged(
    outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = [make_folder(outputs, (0.1, 0.2 + seed / 10), seed=seed) for seed in (0, 1, 2)]
    report_of = ["--outputs-dir", str(outputs), "--out", str(tmp_path / "report"), "--format", "svg"]
    assert build.main(report_of) == 0
    new = make_folder(outputs, (0.1, 0.2), seed=3)
    (kept[0].path / SUMMARY).write_text("{")
    (new.path / "config.yaml").write_text("{")
    capsys.readouterr()
    assert build.main(report_of) == 0
    printed = capsys.readouterr()
    runs = pd.read_csv(tmp_path / "report" / "runs.csv").set_index("run_key")
    for folder, name in ((kept[0], SUMMARY), (new, "config.yaml")):
        key = folder.config.run_key
        assert runs.loc[key, "status"] == "damaged" and name in runs.loc[key, "reason"]
        assert not runs.loc[key, "averaged"]
        assert f"run {key} is damaged" in printed.out and f"not imported into MLflow: {key}: " in printed.err
        assert key in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert runs["averaged"].sum() == 2
    assert "2 damaged, 2 finished" in printed.out


def test_a_report_says_where_several_versions_of_the_checker_judged(store: Store) -> None:
    for seed, version in enumerate(({"checker_version": "2"}, {"checker_version": "2"}, {})):
        store.add({"seed": seed, **version})
    records, cells = cells_of(store)
    assert list(cells["seeds"]) == [3] and "checker_version" in records.provenance
    summary = report.make_files(records)["summary.md"].decode()
    assert "several versions of the checker: 2 (2 runs), not recorded (1 runs)" in summary


def test_one_version_of_the_checker_is_no_note(store: Store) -> None:
    for seed in range(2):
        store.add({"seed": seed, "checker_version": "2"})
    records, _ = cells_of(store)
    assert "several versions of the checker" not in report.make_files(records)["summary.md"].decode()


def test_runs_with_another_strict_rule_are_other_cells(store: Store) -> None:
    store.add({"seed": 0})
    store.add({"seed": 0, "task.strict": "verl"})
    _, cells = cells_of(store)
    assert sorted(cells["task.strict"]) == ["form", "verl"]


def test_nothing_that_a_run_was_made_with_is_a_setting(tmp_path: Path) -> None:
    """Else runs of one cell would be apart by what they happened to be made with."""
    pack, (lane,) = open_pack([point(tmp_path)])
    noted = {*provenance(pack, lane), "model_commit", "model_file", "model_file_sha256"} - {"scale_model"}
    assert not set(load._settings(sorted(noted)))
