"""An evaluation can be stopped in its middle: it goes on with the suite that it had come to, to the same records."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file
from support.packs import interrupt, point

from tinylora.engine import rollout
from tinylora.records.folder import STATE, RunFolder, Status, Unmirrored
from tinylora.records.items import ITEMS, read_items
from tinylora.records.progress import Silent
from tinylora.records.stopping import Stopped, StopRequest
from tinylora.settings.config import RunConfig
from tinylora.train import evaluate
from tinylora.train.found import FILE
from tinylora.train.loop import run_pack


class In(Silent):
    """Acts when the answers of the last evaluation's suite are under way, and hears which suites are evaluated."""

    def __init__(self, suite: str, act: Callable[[], None] | None) -> None:
        self.suite, self.act, self.trained, self.heard = suite, act, False, list[str]()

    def phase(self, text: str, share: float | None = None) -> None:
        """Called with what is done now."""
        self.trained |= text.startswith("training")
        if self.trained and text.startswith("evaluating"):
            if share is None:
                self.heard.append(text.split(" problems")[0].split()[-1])
            elif self.act is not None and self.heard[-1] == self.suite:
                self.act()


@pytest.fixture(autouse=True)
def told_at_every_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "SECONDS_UNTOLD", -1.0)


def points(outputs: Path) -> list[RunConfig]:
    return [point(outputs, u=13, steps=2), point(outputs, u=5, n_tie=3, seed=1, steps=2)]


def run(outputs: Path, progress: Silent, stop: StopRequest | None = None) -> None:
    run_pack(points(outputs), ["a", "b"], progress, Unmirrored(), stop)


def records(outputs: Path) -> list[object]:
    found: list[object] = []
    for config in points(outputs):
        lines = RunFolder(config).lines()
        found += [(n, v) for line in lines for n, v in line.metrics.items() if not n.startswith("time/")]
        found += [line.text() for line in read_items(config.folder / ITEMS)]
        found += load_file(config.folder / STATE)["v"].flatten().tolist()
    return found


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    outputs = tmp_path_factory.mktemp("uninterrupted")
    run(outputs, Silent())
    return records(outputs)


def test_a_stop_in_the_second_suite_keeps_the_first(uninterrupted: list[object], tmp_path: Path) -> None:
    stop = StopRequest()
    with pytest.raises(Stopped, match="near its end"):
        run(tmp_path, In("test", lambda: stop.ask("near its end")), stop)
    first, second = points(tmp_path)
    assert [RunFolder(config).status() for config in (first, second)] == [Status.cut_short] * 2
    assert (first.folder / FILE).exists() and not (second.folder / FILE).exists()
    again = In("test", None)
    run(tmp_path, again)
    assert again.heard == ["test"]
    assert records(tmp_path) == uninterrupted
    assert not list(tmp_path.glob(f"*/{FILE}"))


def test_a_stop_in_the_first_suite_and_an_interrupt_lose_nothing_else(
    uninterrupted: list[object], tmp_path: Path
) -> None:
    stop = StopRequest()
    with pytest.raises(Stopped):
        run(tmp_path, In("validation", lambda: stop.ask("near its end")), stop)
    assert not list(tmp_path.glob(f"*/{FILE}"))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, In("test", interrupt))
    again = In("test", None)
    run(tmp_path, again)
    assert again.heard == ["test"] and records(tmp_path) == uninterrupted


def test_the_untrained_model_goes_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYLORA_CACHE", str(tmp_path / "cache"))
    stop, asked = StopRequest(), list[str]()
    measure = evaluate.evaluate_suite

    def measured(pack, lanes, suite, progress, stop=None):  # type: ignore[no-untyped-def]
        asked.append(suite.name)
        if len(asked) == 2:
            stop.ask("near its end")
        return measure(pack, lanes, suite, progress, stop)

    monkeypatch.setattr(evaluate, "evaluate_suite", measured)
    with pytest.raises(Stopped):
        run(tmp_path / "o", Silent(), stop)
    assert asked == ["validation", "test"]
    run(tmp_path / "o", Silent())
    assert asked[2:] == ["test", "validation", "test"]


@pytest.mark.parametrize("damage", ["{", "[]", json.dumps({"key": "0", "suites": {}})])
def test_what_is_damaged_or_anothers_is_not_taken_up(damage: str, uninterrupted: list[object], tmp_path: Path) -> None:
    stop = StopRequest()
    with pytest.raises(Stopped):
        run(tmp_path, In("test", lambda: stop.ask("near its end")), stop)
    (path,) = tmp_path.glob(f"*/{FILE}")
    path.write_text(damage)
    again = In("test", None)
    run(tmp_path, again)
    assert again.heard == ["validation", "test"] and records(tmp_path) == uninterrupted
    assert not path.exists()
