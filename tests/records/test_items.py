"""The outcomes of problems in a run folder: what is written is read, and they agree with the metrics or are damaged."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.records import make_items, metrics_of

from tinylora.records.damage import damage_of
from tinylora.records.folder import ITEMS, DamagedError, RunFolder, Status
from tinylora.records.items import FIRST_RECIPE, GREEDY, SAMPLED, ids_of, lines_with_items, parse_items, read_items
from tinylora.settings.config import RunConfig
from tinylora.settings.errors import UsageError

SUITES = ("validation", "test")


def make_run(outputs: Path, status: Status | None = Status.finished) -> RunFolder:
    """A run of one step, evaluated before and after."""
    folder = RunFolder(RunConfig(lr=0.01, steps=1, outputs_dir=str(outputs)))
    folder.path.mkdir(parents=True)
    digests = ("model_digest", "data_digest", "prompt_digest")
    folder.describe(dict.fromkeys(digests, "aaaa"))
    for step in (0, 1):
        items = make_items(step, SUITES)
        folder.append_items(items)
        folder.append(step, {name: value for item in items for name, value in metrics_of(item).items()})
    if status is not None:
        folder.conclude(status, None, {})
    return folder


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    found = read_items(folder.path / ITEMS)
    made = [item for step in (0, 1) for item in make_items(step, SUITES)]
    assert [(item.step, item.suite, item.ids) for item in found] == [(item.step, item.suite, item.ids) for item in made]
    for item, wanted in zip(found, made, strict=True):
        for name in (*GREEDY, *SAMPLED):
            assert getattr(item, name).dtype == np.bool_
            assert np.array_equal(getattr(item, name), getattr(wanted, name))
    assert damage_of(folder) is None


def test_the_line_is_the_one_that_other_programs_read() -> None:
    (item,) = make_items(3, items=2, samples=2)
    item.greedy_strict[:], item.sampled_strict[:] = [True, False], [[False, True], [True, True]]
    plain = json.loads(item.text())
    assert list(plain) == ["step", "suite", "items", "samples", "ids", *GREEDY, *SAMPLED]
    assert (plain["step"], plain["suite"], plain["items"], plain["samples"]) == (3, "test", 2, 2)
    assert (plain["greedy_strict"], plain["sampled_strict"]) == ("gA==", "cA=="), "1000 0000 and 0111 0000"


def test_ids_are_of_problems_in_their_order() -> None:
    assert re.fullmatch("[0-9a-f]{16}", ids_of(["a", "b"]))
    assert len({ids_of(["a", "b"]), ids_of(["b", "a"]), ids_of(["ab"]), ids_of(["a"])}) == 4


def test_a_file_that_is_not_there_or_not_whole_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"from recipe {FIRST_RECIPE} on"):
        read_items(tmp_path / ITEMS)
    (tmp_path / ITEMS).write_text(make_items(0)[0].text()[:-9])
    with pytest.raises(DamagedError, match="last line is cut"):
        read_items(tmp_path / ITEMS)


def with_field(name: str, value: object) -> Callable[[str], str]:
    def change(text: str) -> str:
        first, *others = text.splitlines(keepends=True)
        return json.dumps(json.loads(first) | {name: value}) + "\n" + "".join(others)

    return change


DAMAGES: dict[str, Callable[[str], str]] = {
    "another step": with_field("step", 1),
    "another suite": with_field("suite", "test"),
    "other bits": with_field("sampled_strict", "AAAAAAA="),
    "too few bits": with_field("greedy_flexible", "AA=="),
    "bits beyond the last": with_field("greedy_strict", "//8="),
    "no base64": with_field("greedy_strict", "?!"),
    "a number for bits": with_field("greedy_strict", 3),
    "other ids": with_field("ids", "xyz"),
    "no items": with_field("items", 0),
    "very many samples": with_field("samples", 2**60),
    "a switch for a number": with_field("items", True),
    "a field more": with_field("more", 1),
    "no lines": lambda text: "",
    "a line less": lambda text: "".join(text.splitlines(keepends=True)[:-1]),
    "lines in another order": lambda text: "".join(text.splitlines(keepends=True)[::-1]),
    "a line more": lambda text: text + text.splitlines()[-1] + "\n",
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_run_that_has_ended_is_damaged_where_its_outcomes_are_not_those_of_its_metrics(
    name: str, tmp_path: Path
) -> None:
    folder = make_run(tmp_path)
    path = folder.path / ITEMS
    path.write_text(DAMAGES[name](path.read_text()))
    assert ITEMS in (damage_of(folder) or "")


def test_only_runs_of_earlier_recipes_may_lack_them(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    (folder.path / ITEMS).unlink()
    lines = folder.lines()
    assert lines_with_items(folder.path, lines, FIRST_RECIPE - 1) == (2, None)
    assert lines_with_items(folder.path, lines, FIRST_RECIPE) == (0, "it is missing")
    assert lines_with_items(folder.path, [], FIRST_RECIPE) == (0, None), "a run that failed before it was evaluated"


def test_outcomes_of_steps_that_are_made_again_are_dropped(tmp_path: Path) -> None:
    folder = make_run(tmp_path, status=None)
    with (folder.path / ITEMS).open("a") as file:
        file.write('{"step": 2, "su')
    folder.drop_after(0)
    assert [(item.step, item.suite) for item in read_items(folder.path / ITEMS)] == [(0, suite) for suite in SUITES]
    folder.drop_after(-1)
    assert parse_items((folder.path / ITEMS).read_bytes()) == ([], None)
