"""The report in a real browser, on a phone, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.chromium import Browser, browser

pytestmark = pytest.mark.chromium
PHONE = 390  # CSS pixels
OVER = """[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1
    && !e.closest(".box, svg")).map(e => e.tagName + " " + e.textContent.slice(0, 60))"""
INK = "getComputedStyle(document.body).color"
TEXT_INK = """[...document.querySelectorAll("figure svg text")].map(e => getComputedStyle(e).fill)"""
SMALLEST = """Math.min(...[...document.querySelectorAll("figure svg text")]
    .filter(e => e.textContent.trim()).map(e => e.getBoundingClientRect().height))"""


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True])
def test_the_report_reads_on_a_phone(dark: bool, phone: Browser, study_report: Path) -> None:
    page = study_report / "index.html"
    phone.open(page, PHONE, dark)
    assert phone.errors() == []
    assert phone.requests() == [page.resolve().as_uri()]  # nothing but the page itself
    assert phone.evaluate("innerWidth") == PHONE
    assert phone.evaluate(OVER) == []
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE
    phone.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE, "with everything unfolded"
    figures: int = phone.evaluate("document.querySelectorAll('figure').length")
    assert figures == phone.evaluate("document.querySelectorAll('figure > svg').length") > 0
    assert phone.evaluate("document.querySelectorAll('img, link, script, iframe').length") == 0
    assert phone.evaluate(SMALLEST) > 8  # pixels: a label can still be read


@pytest.mark.parametrize("dark", [False, True])
def test_figures_take_the_pages_colours(dark: bool, phone: Browser, study_report: Path) -> None:
    phone.open(study_report / "index.html", PHONE, dark)
    ink: Any = phone.evaluate(INK)
    assert (sum(map(int, ink.strip("rgb()").split(","))) > 382) == dark
    assert ink in phone.evaluate(TEXT_INK)
    assert "rgb(0, 0, 0)" not in phone.evaluate(TEXT_INK)  # black on a dark page cannot be read
