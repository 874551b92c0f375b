"""The study's report from its archived records: each cell by hand, the importer, docs/study.md, the page on a phone."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import recompute, study_cells, study_store
from support.chromium import Browser, browser

from analysis import build
from analysis.page import rendering, study_page
from analysis.paper.items import ITEMS
from analysis.records import load
from tinylora.records import archive

FEW = 4  # runs that go through MLflow's client as well
Row = dict[str, Any]


PHONE = 390  # CSS pixels
OVER = """[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1
    && !e.closest(".box, svg")).map(e => e.tagName + " " + e.textContent.slice(0, 60))"""
INK = "getComputedStyle(document.body).color"
TEXT_INK = """[...document.querySelectorAll("figure svg text")].map(e => getComputedStyle(e).fill)"""
SMALLEST = """Math.min(...[...document.querySelectorAll("figure svg text")]
    .filter(e => e.textContent.trim()).map(e => e.getBoundingClientRect().height))"""


@pytest.fixture(scope="module")
def study_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the report: made once, which takes a quarter of a minute."""
    folder = tmp_path_factory.mktemp("study")
    study_store.make_store(folder / "mlflow.db")
    assert build.main(["--outputs-dir", str(folder), "--out", str(folder / "report"), "--format", "svg"]) == 0
    return folder / "report"


@pytest.fixture(scope="module")
def expected() -> list[Row]:
    with (study_cells.STUDY / "expected.csv").open() as file:
        return list(csv.DictReader(file))


SETTING = re.compile(r"-([a-z_.]+)=(.+?)(?=-[a-z_.]+=|$)")
"""A setting in a file's name, in which the runs of other files of its item differ."""


def tables(report: Path, item: str, models: set[str]) -> Iterator[tuple[Path, str, pd.DataFrame]]:
    """Every CSV of an item, and the model that it is of by its name ("" where it compares models)."""
    for path in sorted(report.glob(f"{item}*.csv")):
        if not path.stem.endswith("-table"):
            named = [model for model in models if model in path.stem]
            model = named[0] if named else next(iter(models)) if len(models) == 1 else ""
            yield path, model, pd.read_csv(path, dtype=str)


def text(value: object) -> str:
    """A place on an axis as text: a count without a point, a setting as it is."""
    if value != value:
        return ""
    return f"{float(str(value)):.0f}" if re.fullmatch(r"[0-9.e+]+", str(value)) else str(value)


@pytest.mark.parametrize(
    "item", ["figure1", "figure2", "figure4", "figure6", "figure7", "figure8", "figure9", "families", "rl-sft"]
)
def test_every_cell_is_the_one_worked_out_by_hand(item: str, study_report: Path, expected: list[Row]) -> None:
    wanted = [row for row in expected if row["item"] == item]
    models, drawn = {row["model"] for row in wanted if row["model"]}, set()
    for path, model, table in tables(study_report, item, models):
        settings = {f"{name}={value}" for name, value in SETTING.findall(path.stem)}
        own = [row for row in wanted if not row["apart"] or settings <= set(row["apart"].split())]
        for row in table.to_dict("records"):
            panel = "" if row["panel"] != row["panel"] else row["panel"]
            of = panel if panel in models else "" if item == "families" else model
            key = of, panel, row["series"], text(row["x"])
            (by_hand,) = (each for each in own if (each["model"], each["panel"], each["series"], each["x"]) == key)
            drawn.add(id(by_hand))
            same(row, by_hand, path)
    lacking = [row for row in wanted if id(row) not in drawn]
    shown = {(row["model"], row["apart"]) for row in wanted if id(row) in drawn and row["apart"]}
    for model, apart in {(row["model"], row["apart"]) for row in lacking}:  # too few runs: said, and nothing is shown
        assert (model, apart) not in shown
        assert said(study_report, item, model, apart)


def same(row: Row, by_hand: Row, path: Path) -> None:
    """What a table says of a cell is what was worked out by hand."""
    for column in ("mean", "low", "high", "flexible", "n", "lr"):
        named = "n_seeds" if column == "n" else column
        if named in row:
            wanted = pytest.approx(number(by_hand[column]), rel=1e-5, nan_ok=True)
            assert number(row[named]) == wanted, (path.stem, row["series"], row["x"], column)


def said(report: Path, item: str, model: str, apart: str) -> bool:
    """Whether the page names runs that an item does not draw: those of a model and some settings."""
    page = " ".join((report / "index.html").read_text(encoding="utf-8").split())
    (title,) = (each.title for each in ITEMS if each.name == item)
    names = rf"\b{model}(?:, [a-z0-9-]+)?, sums((?:, [^(),:]+=[^(),:]+)*) \(scale model\): "
    parts = re.findall(names, page.partition(f'id="{item}"')[2].partition("<h2")[0])
    return title in waiting(report) or any(set(part.split(", ")[1:]) <= set(apart.split()) for part in parts)


def number(given: object) -> float:
    return float(str(given)) if given == given and given != "" else math.nan


def test_models_of_one_size_have_no_figure_3(study_report: Path) -> None:
    assert not list(study_report.glob("figure3*"))
    assert "one value of model.parameters" in waiting(study_report)


def test_gains_are_those_by_hand(study_report: Path, expected: list[Row]) -> None:
    wanted = [row for row in expected if row["item"] == "table2"]
    rows = {}
    for row in wanted:
        (term,) = re.findall(rf"{study_cells.ENTROPY}=(\S+)", row["apart"])
        rows[row["model"], term, row["panel"], row["series"], row["x"]] = number(row["mean"])
    assert len(rows) == len(wanted)
    found = {}
    for path, model, table in tables(study_report, "table2", {key[0] for key in rows}):
        term = dict(SETTING.findall(path.stem))[study_cells.ENTROPY]
        for row in table[table["adapter"] != "none"].to_dict("records"):
            for column in ("average", "gain kept"):
                found[model, term, column, row["adapter"], text(row["trained_values"])] = number(row[column])
    assert found == pytest.approx(rows, rel=1e-5, nan_ok=True)


def test_effects_and_verdicts_of_the_claims_are_those_of_other_code(study_report: Path) -> None:
    assert recompute.differences(study_store.ARCHIVE, study_report / "claims.csv") == []


def waiting(report: Path) -> str:
    page = " ".join((report / "index.html").read_text(encoding="utf-8").split())
    return page.partition('id="waiting"')[2]


def test_an_item_without_runs_says_what_makes_them(study_report: Path) -> None:
    page, later = (study_report / "index.html").read_text(encoding="utf-8"), waiting(study_report)
    for item in ITEMS:
        drawn = any(study_report.glob(f"{item.name}*.csv"))
        assert drawn == (f'<h2 id="{item.name}">' in page)
        if item.rest:
            assert item.title not in later  # that other items show every run is no gap
        elif not drawn:
            assert item.title in later
            assert item.command.replace("&", "&amp;") in later


def test_what_no_figure_of_sizes_shows_is_the_bits_of_one_size_and_the_end_biases(study_report: Path) -> None:
    tables = pd.concat(pd.read_csv(path) for path in study_report.glob("accuracy-*-table.csv"))
    untrained = tables["method"] == "untrained"
    assert set(tables.loc[~untrained, "method"]) == {"GRPO"} and set(tables.loc[~untrained, "trained"]) == {13}
    assert sorted(tables.loc[~untrained, "rounding"]) == ["master"] * 5 + ["nearest"] * 4 + ["stochastic"]
    biases = tables.loc[untrained, "rollout.end_bias"].dropna().astype(float)
    assert {-4, -2, -1, 1, 2, 4} <= set(biases)


def test_a_bulk_store_is_what_the_importer_writes(
    tmp_path: Path, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report of the study is made from a store written in bulk: some runs of it go through MLflow's client.

    A report imports run folders before it reads, and says so when the store lacks some of them.
    """
    runs = archive.read(study_store.ARCHIVE)
    keys = sorted(runs)[:: max(1, len(runs) // FEW)][:FEW]
    for key in keys:
        (outputs / key).mkdir()
        for name, content in runs[key].items():
            (outputs / key / name).write_bytes(content)
    for lacking in (True, False):
        assert build.main(["--outputs-dir", str(outputs), "--out", str(tmp_path / "report"), "--only", "table1"]) == 0
        printed = capsys.readouterr()
        line = f"importing {len(keys)} runs of {outputs} into MLflow (as experiments.sync does)\n"
        assert printed.out.startswith(line) == lacking
        assert "not imported" not in printed.err
    (tmp_path / "bulk").mkdir()
    study_store.make_store(tmp_path / "bulk" / "mlflow.db", only=keys)
    slow, fast = (load.load(f"sqlite:///{folder}/mlflow.db", "tinylora") for folder in (outputs, tmp_path / "bulk"))
    columns = [name for name in slow.runs.columns if name not in ("run_id", "started", "ended")]
    assert list(slow.runs["run_key"]) == keys
    pd.testing.assert_frame_equal(slow.runs[columns], fast.runs[columns])
    pd.testing.assert_frame_equal(slow.history, fast.history)
    assert (slow.settings, slow.provenance, slow.notes) == (fast.settings, fast.provenance, fast.notes)


def test_the_document_shows_the_studys_claims_and_figures(study_report: Path) -> None:
    text = study_page.DOCUMENT.read_text(encoding="utf-8")
    assert study_page.between_marks(text, study_page.shown(study_report)) == text, "make study-records"
    assert "scale models" in " ".join(text.split())
    for model, built in study_page.figures(study_report).items():
        kept = study_page.STUDY / f"figure1-{model}.svg"
        assert kept.stat().st_size < 150_000
        assert labels(kept) == labels(built), "make study-records"


def labels(svg: Path) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)<", svg.read_text(encoding="utf-8"))


def test_expected_numbers_belong_to_the_archived_records(tmp_path: Path) -> None:
    study_cells.write(tmp_path / "expected.csv")
    again, kept = (
        (tmp_path / "expected.csv").read_text(encoding="utf-8"),
        (study_cells.STUDY / "expected.csv").read_text(encoding="utf-8"),
    )
    assert again == kept, "make study-records"


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.chromium
@pytest.mark.parametrize("dark", [False, True])
def test_the_report_reads_on_a_phone(dark: bool, phone: Browser, study_report: Path) -> None:
    page = study_report / "index.html"
    phone.open(page, PHONE, dark)
    assert phone.errors() == []
    parts = (page, page.with_name(rendering.LIBRARY))
    assert phone.requests() == [part.resolve().as_uri() for part in parts]  # nothing but what lies in the folder
    phone.until("document.querySelectorAll('.chart svg').length === document.querySelectorAll('.chart').length")
    assert phone.evaluate("innerWidth") == PHONE
    assert phone.evaluate(OVER) == []
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE
    phone.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE, "with everything unfolded"
    figures: int = phone.evaluate("document.querySelectorAll('figure').length")
    assert figures == phone.evaluate("document.querySelectorAll('figure > svg').length") > 0
    assert phone.evaluate("document.querySelectorAll('img, link, iframe').length") == 0
    assert phone.evaluate(SMALLEST) > 8  # pixels: a label can still be read


@pytest.mark.chromium
@pytest.mark.parametrize("dark", [False, True])
def test_figures_take_the_pages_colours(dark: bool, phone: Browser, study_report: Path) -> None:
    phone.open(study_report / "index.html", PHONE, dark)
    ink: Any = phone.evaluate(INK)
    assert (sum(map(int, ink.strip("rgb()").split(","))) > 382) == dark
    assert ink in phone.evaluate(TEXT_INK)
    assert "rgb(0, 0, 0)" not in phone.evaluate(TEXT_INK)  # black on a dark page cannot be read
