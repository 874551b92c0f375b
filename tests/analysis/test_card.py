"""What comes first on the page: the card of a sweep, its charts in a browser, and what the models said."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.analysis_store import STEPS, Store
from support.chromium import Browser, browser
from support.records import make_samples

from analysis import build
from analysis.page import answers, charts, rendering
from analysis.page.card import Card, _with_thirteen, make_cards
from analysis.page.report import cells_of
from analysis.records import load
from analysis.records.said import Said
from tinylora.records.samples import SAMPLES, Sample, SampleFile


def said(step: int, problem: str, right: bool, text: str, kind: str = "greedy") -> Sample:
    made, _ = make_samples(step, problems=1)
    outcome = "correct" if right else "wrong"
    return dataclasses.replace(
        made, kind=kind, problem=problem, completion=text, strict=outcome, flexible=outcome, prompt=f"{problem}="
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, empty: Path) -> Path:
    """Three sizes with two draws each; what the middle one has said is kept as MLflow's artifact."""
    made = tmp_path_factory.mktemp("sweep")
    (made / "mlflow.db").write_bytes(empty.read_bytes())
    store = Store(made / "mlflow.db")
    for u, accuracy in ((1, 0.35), (13, 0.6), (120, 0.9)):
        for seed in (0, 1):
            key = store.add(
                {"u": u, "seed": seed, "trained_values": u, "trained_bytes": 4 * u},
                accuracy=accuracy + 0.04 * seed,
                rewards=[0.1 * seed + accuracy * step / STEPS for step in range(1, STEPS + 1)],
            )
            if (u, seed) == (13, 0):
                keep(store, key, made / "said")
    return made


def keep(store: Store, key: str, place: Path) -> None:
    place.mkdir()
    file = SampleFile(place, fsync=False)
    before = [said(0, "a", False, "no <b>"), said(0, "b", True, "yes"), said(0, "c", False, "none")]
    after = [
        said(STEPS, "a", True, "a is 3"),
        said(STEPS, "b", True, "still"),
        said(STEPS, "c", True, "c: a longer one"),
    ]
    file.append([], before, edge=True, durable=True)
    for step in range(1, STEPS):
        group = (said(step, "d", kind == "best", f"{kind} <{step}>", kind) for kind in ("best", "worst"))
        file.append([dataclasses.replace(each, suite="train") for each in group], [], edge=False, durable=True)
    file.append([], after, edge=True, durable=True)
    (run,) = (each for each in store.client.search_runs([store.experiment_id]) if each.data.tags["run_key"] == key)
    artifacts = place.with_name("mlflow-artifacts") / run.info.run_id / "artifacts"
    artifacts.mkdir(parents=True)
    shutil.copy(place / SAMPLES, artifacts)


@pytest.fixture(scope="module")
def card(folder: Path) -> Card:
    records = load.load(f"sqlite:///{folder}/mlflow.db", "tinylora")
    (made,) = make_cards(*cells_of(records), records)
    return made


def test_a_card_names_the_sizes_with_the_digits_that_are_known(card: Card) -> None:
    assert card.steps == [("30.0%", "untrained"), ("37%", "1 value"), ("62%", "13 values"), ("92%", "120 values")]
    assert "13 values (52 bytes)" in card.sentence and "2 runs each" in card.sentence
    assert list(card.table["trained"]) == ["1", "13", "120"]
    assert list(card.table["trained, sampled %"]) == ["37", "62", "92"]
    assert list(card.table["runs"]) == ["2"] * 3


@pytest.mark.parametrize(
    ("sizes", "places", "found"),
    [
        ([1, 3, 11, 13, 64, 192, 1344], {0, 2, 4, 6}, {0, 3, 4, 6}),
        ([1, 3, 11, 64], {0, 1, 3}, {0, 1, 3}),
        ([13, 64, 192], {0, 2}, {0, 2}),
        ([1, 13, 64], {0, 2}, {0, 1, 2}),
    ],
)
def test_thirteen_values_are_named_where_they_were_run(sizes: list[float], places: set[int], found: set[int]) -> None:
    assert _with_thirteen(sizes, places) == found


def test_a_card_without_answers_announces_none(folder: Path) -> None:
    records = load.load(f"sqlite:///{folder}/mlflow.db", "tinylora")
    (silent,) = make_cards(*cells_of(records), dataclasses.replace(records, said=Said()))
    assert silent.sheet is None and "answers" not in silent.sentence.replace("Right answers", "")


def test_answers_that_have_become_right_come_first(card: Card) -> None:
    assert card.sheet is not None
    (column,) = card.sheet.columns
    assert column.label.endswith("13 trained")
    assert [(row.place[1], row.gained) for row in card.sheet.rows] == [("a", 1), ("c", 1), ("b", 0)]
    assert [(before.completion, after.completion) for before, after in card.examples] == [
        ("no <b>", "a is 3"),
        ("none", "c: a longer one"),
    ]


def test_groups_of_training_are_shown_from_the_first_to_the_last(
    monkeypatch: pytest.MonkeyPatch, folder: Path, card: Card
) -> None:
    assert card.sheet is not None
    shown = [(group.best.completion, group.worst.completion) for group in card.sheet.groups]
    assert shown == [(f"best <{step}>", f"worst <{step}>") for step in range(1, STEPS)]
    page = rendering.rendered("answers.html.j2", sheets=[card.sheet]).decode()
    assert "best &lt;1&gt;" in page and "worst &lt;1&gt;" in page and "<1>" not in page
    monkeypatch.setattr(answers, "GROUPS", 2)
    records = load.load(f"sqlite:///{folder}/mlflow.db", "tinylora")
    (few,) = make_cards(*cells_of(records), records)
    assert few.sheet is not None and [group.best.step for group in few.sheet.groups] == [1, STEPS - 1]


def test_charts_hold_each_run_and_each_mean(card: Card) -> None:
    assert card.accuracy is not None and card.training is not None
    texts = [text for text in card.accuracy["datasets"].values() if isinstance(text, str)]
    (points,) = (text for text in texts if text.startswith("line,size,accuracy,run"))
    assert len(points.splitlines()) == 1 + 6
    (means,) = (text for text in texts if text.startswith("line,size,accuracy,low"))
    assert [line.split(",")[1:3] for line in means.splitlines()[1:]] == [["1", "0.37"], ["13", "0.62"], ["120", "0.92"]]
    (curves,) = (text for text in card.training["datasets"].values() if text.startswith("metric,curve,step,value"))
    rewards = [line.split(",") for line in curves.splitlines()[1:] if line.startswith("0,")]
    assert len(rewards) == 6 * STEPS
    ends = {float(value) for _, _, step, value in rewards if step == str(STEPS)}
    assert ends == {0.35, 0.45, 0.6, 0.7, 0.9, 1.0}


def test_long_curves_are_thinned_to_means(monkeypatch: pytest.MonkeyPatch, folder: Path, card: Card) -> None:
    monkeypatch.setattr(charts, "MOST_STEPS", 2)
    records = load.load(f"sqlite:///{folder}/mlflow.db", "tinylora")
    (thin,) = make_cards(*cells_of(records), records)
    assert thin.training is not None
    (curves,) = (text for text in thin.training["datasets"].values() if text.startswith("metric,curve,step,value"))
    rewards = [line.split(",") for line in curves.splitlines()[1:] if line.startswith("0,")]
    assert {step for _, _, step, _ in rewards} == {"2", "4"}
    assert min(float(value) for _, _, _, value in rewards) == pytest.approx(0.35 * 1.5 / 4, abs=1e-4)


def test_columns_are_a_few_from_the_smallest_to_the_largest(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(answers, "MOST_COLUMNS", 2)
    records = load.load(f"sqlite:///{folder}/mlflow.db", "tinylora")
    (few,) = make_cards(*cells_of(records), records)
    assert few.sheet is not None and len(few.examples) == 2  # the one whose answers are shown is always among them


def test_without_samples_there_is_no_page_of_answers(store: Path, tmp_path: Path) -> None:
    Store(store).add()
    assert build.main(["--outputs-dir", str(store.parent), "--out", str(tmp_path / "r"), "--format", "svg"]) == 0
    assert not (tmp_path / "r" / rendering.ANSWERS).exists()
    assert rendering.ANSWERS not in (tmp_path / "r" / rendering.PAGE).read_text(encoding="utf-8")


def test_single_items_leave_the_whole_report_as_it_is(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "r"
    assert build.main(["--outputs-dir", str(folder), "--out", str(out), "--format", "svg"]) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert build.main(["--outputs-dir", str(folder), "--out", str(out), "--format", "svg", "--only", "claims"]) == 0
    after = {path.name: path.read_bytes() for path in out.iterdir()}
    assert after.keys() - before.keys() == {rendering.ONLY}
    assert all(after[name] == content for name, content in before.items())


def test_a_sweep_that_was_moved_keeps_its_answers(folder: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(folder, tmp_path / "moved")  # the store names the places where everything was
    assert build.main(["--outputs-dir", str(moved), "--out", str(tmp_path / "r"), "--format", "svg"]) == 0
    assert "a is 3" in (tmp_path / "r" / rendering.ANSWERS).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def opened(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Browser, Path]]:
    out = tmp_path_factory.mktemp("report")
    assert build.main(["--outputs-dir", str(folder), "--out", str(out), "--format", "svg"]) == 0
    with browser(tmp_path_factory.mktemp("profile")) as window:
        yield window, out


@pytest.mark.chromium
def test_the_page_can_be_asked(opened: tuple[Browser, Path]) -> None:
    window, out = opened
    window.open(out / rendering.PAGE, 1400, dark=False)
    window.until("document.querySelectorAll('.chart svg').length === 2")
    shown: Any = window.evaluate("document.body.innerText")
    assert window.evaluate("document.querySelectorAll('#list-of-runs a[href^=\"answers.html#\"]').length") == 1
    assert re.search(r"62%\s+13 values", shown) and "a is 3" in shown and "no <b>" in shown
    column = "[...document.querySelectorAll('#list-of-runs tbody tr')].map(row => row.cells[0].textContent)"
    keys: Any = window.evaluate(column)
    window.evaluate("document.querySelector('#list-of-runs th button').click()")
    assert window.evaluate(column) == sorted(keys)
    window.evaluate("document.querySelector('#list-of-runs th button').click()")
    assert window.evaluate(column) == sorted(keys, reverse=True)
    ask = "const box = document.getElementById('runs-with'); box.value = '%s'; box.dispatchEvent(new Event('input'))"
    seen = "[...document.querySelectorAll('#list-of-runs tbody tr')].filter(row => !row.hidden).length"
    for words, count in ((f"{keys[0]} finished", 1), ("no such run", 0), ("", len(keys))):
        window.evaluate(ask.replace("const box", "var box") % words)
        assert window.evaluate(seen) == count
    assert window.errors() == []


@pytest.mark.chromium
@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("page", [rendering.PAGE, rendering.ANSWERS])
def test_both_pages_fit(page: str, dark: bool, width: int, opened: tuple[Browser, Path]) -> None:
    window, out = opened
    window.open(out / page, width, dark)
    if page == rendering.PAGE:
        window.until("document.querySelectorAll('.chart svg').length === 2")
    assert window.evaluate("document.documentElement.scrollWidth") <= width
    assert window.errors() == []
    ink, paper = (window.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
    assert (
        (sum(map(int, ink.strip("rgb()").split(","))) > 382)
        == dark
        != (sum(map(int, paper.strip("rgb()").split(","))) > 382)
    )
