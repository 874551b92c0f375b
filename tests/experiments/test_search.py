"""`lr=search`: which rates are tried, what they are chosen by, and how the command goes on from its records."""

from __future__ import annotations

import itertools
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from support.records import append_evaluation

from experiments import plan, run, search
from experiments.compose.points import compose
from experiments.found import at_found_rates
from tinylora.records.folder import RunFolder, RunRecord, Status
from tinylora.settings.config import Adapter, AdapterConfig, ModelConfig, RunConfig, TaskConfig
from tinylora.settings.errors import FailureError, UsageError
from tinylora.settings.rates import guess_of
from tinylora.settings.rules import LARGEST_FP32

METRIC = search.METRIC
BASE = 0.25
MIDDLE = compose(["u=1", "lr=auto"]).points[0].learning_rate
FIRST = search.first_rates(MIDDLE)
BEYOND = float(f"{3 * FIRST[2]:.3g}")


def end(point: RunConfig, score: float | None, base: float = BASE) -> None:
    """Write the folder of a run that ended with this accuracy; None: it failed."""
    folder = RunFolder(point)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.describe({})
    append_evaluation(folder, 0, base)
    if score is None:
        folder.conclude(Status.failed, "the loss is nan", {})
    else:
        append_evaluation(folder, 1, score)
        folder.conclude(Status.finished, None, {})


def peak(at: float) -> Callable[[float], float]:
    """Accuracies by rate that fall on both sides of a rate."""
    return lambda rate: 0.9 - 0.1 * abs(math.log(rate / at, 3))


def searched(
    score: Callable[[float], float], rates: Sequence[float], untrained: float = 0.0
) -> dict[float, float | None]:
    """All that is tried from some rates on."""
    tried: dict[float, float | None] = {rate: score(rate) for rate in rates}
    while new := search.next_rates(tried, untrained):
        assert not set(new) & set(tried)
        tried |= {rate: score(rate) for rate in new}
    return tried


@pytest.mark.parametrize(("at", "tried"), [(1e-3, 3), (3e-3, 4), (2.7e-2, 6), (1.1e-4, 5)])
def test_the_grid_grows_at_an_edge_until_the_best_is_inside(at: float, tried: int) -> None:
    found = searched(peak(at), search.first_rates(1e-3))
    assert len(found) == tried
    assert search.best_is_inside(found)
    assert search.best_rate(found) == pytest.approx(at, rel=0.3)
    ordered = sorted(found)
    assert all(b / a == pytest.approx(3, rel=0.02) for a, b in itertools.pairwise(ordered)), "no halving"


def test_an_edge_that_is_as_good_as_the_best_is_not_inside() -> None:
    plateau = lambda rate: 0.9 if 1e-3 <= rate < 1e-2 else 0.2  # noqa: E731
    found = searched(plateau, search.first_rates(1e-3))
    assert search.best_is_inside(found) and search.best_rate(found) == 1e-3
    assert max(found) > 1e-2


def test_a_search_ends_where_all_rates_are_alike_or_no_number() -> None:
    flat = searched(lambda rate: 0.5, search.first_rates(1e-3))
    assert len(flat) == search.MOST_RATES and not search.best_is_inside(flat)
    rising = searched(lambda rate: rate, search.first_rates(LARGEST_FP32 / 5))
    assert max(rising) <= LARGEST_FP32 and not search.best_is_inside(rising)


def test_the_best_of_rates_that_all_do_harm_is_not_what_was_searched_for() -> None:
    """A small rise among rates that are all too large, as SFT on foreign demonstrations had it in the study."""
    score = lambda rate: 0.44 + 0.02 * (rate > 5e-5) if rate < 1e-4 else 0.01 + 0.005 * (3e-3 < rate < 9e-3)  # noqa: E731
    first = [2e-3, 6e-3, 1.8e-2]
    assert search.best_is_inside({rate: score(rate) for rate in first})
    found = searched(score, first, untrained=0.44)
    assert search.best_is_inside(found, 0.44)
    assert 5e-5 < search.best_rate(found) < 1e-4
    assert searched(lambda rate: 0.42 + 0.01 * (rate == 6e-3), first, untrained=0.44) == pytest.approx(
        {2e-3: 0.42, 6e-3: 0.43, 1.8e-2: 0.42}
    ), "a little below is noise"
    assert len(searched(lambda rate: 0.1, first, untrained=0.44)) == search.MOST_RATES


def test_scores_that_are_not_known_come_first() -> None:
    tried = {1e-3: 0.1, 3e-3: None, 9e-3: 0.3}
    assert search.next_rates(tried) == [3e-3]
    assert not search.best_is_inside(tried)


def points_in(folder: Path, **changes: object) -> list[RunConfig]:
    settings = {"lr": 1.0, "outputs_dir": str(folder), "steps": 1} | changes
    return [RunConfig(u=u, seed=seed, **settings) for u in (1, 13) for seed in (0, 1)]  # type: ignore[arg-type]


def test_points_that_differ_in_their_draws_share_a_rate(tmp_path: Path) -> None:
    model = ModelConfig(lr_constants={"sums/grpo": 0.042})
    groups = search.groups_of(points_in(tmp_path, model=model))
    assert [group.label for group in groups] == ["u=1", "u=13"]
    assert [len(group.points) for group in groups] == [2, 2]
    assert [group.middle for group in groups] == pytest.approx([0.042 / 9, 0.002])
    assert search.first_rates(groups[1].middle) == [0.000667, 0.002, 0.006]


@pytest.mark.parametrize("kind", [Adapter.tinylora, Adapter.lora_xs, Adapter.lora, Adapter.full])
def test_a_model_without_a_constant_has_a_fixed_middle(kind: Adapter, tmp_path: Path) -> None:
    (group,) = search.groups_of([RunConfig(lr=1.0, adapter=AdapterConfig(kind), task=TaskConfig("gsm8k"))])
    assert group.middle == guess_of(kind)


def test_each_round_is_one_sweep_of_all_groups_and_the_records_say_where_it_stands(tmp_path: Path) -> None:
    asked = points_in(tmp_path)
    scores = {1: peak(1e-3), 13: peak(9e-3)}
    rounds: list[list[tuple[int, float]]] = []
    while (found := search.standing(asked)).points:
        assert len(rounds) < 3
        rounds.append([(point.u, point.lr) for point in found.points if point.seed == 0])
        half = found.points[: len(found.points) // 2]
        for point in half:
            end(point, scores[point.u](float(point.lr)))
        assert search.standing(asked).points == found.points, "packs keep their lanes until the round is over"
        for point in found.points[len(half) :]:
            end(point, scores[point.u](float(point.lr)))
    low, middle, high = search.first_rates(1e-3)
    assert rounds == [
        [(u, rate) for u in (1, 13) for rate in (low, middle, high)],
        [(13, 0.009)],
        [(13, 0.027)],
    ]
    assert [search.best_rate(tried) for tried in found.tried.values()] == [0.001, 0.009]


@pytest.mark.parametrize("grid", [[1e-4, 1e-3, 2e-3], [0.005, 0.001, 0.02, 0.5]])
def test_a_search_goes_on_from_the_rates_that_have_run(grid: list[float], tmp_path: Path) -> None:
    """So an edge of a user's own grid is left, and a model's constant may change while a search is under way."""
    asked = points_in(tmp_path)[:2]
    for rate, point in itertools.product(grid, asked):
        end(replace(point, lr=rate), peak(2e-3)(rate))
    end(replace(asked[0], lr=1.0, seed=7), 0.9)  # another draw: no part of the search
    tried = set(grid)
    while (found := search.standing(asked)).points:
        new = {float(point.lr) for point in found.points}
        assert not new & tried and all(3 * max(tried) >= rate >= min(tried) / 3.01 for rate in new)
        tried |= new
        for point in found.points:
            end(point, peak(2e-3)(float(point.lr)))
    assert set(grid) <= tried == set(found.tried[next(iter(found.tried))])
    assert all(map(search.best_is_inside, found.tried.values()))


def test_two_rates_that_have_run_are_too_few_to_begin_with(tmp_path: Path) -> None:
    asked = points_in(tmp_path)[:2]
    for rate, point in itertools.product([1e-4, 2e-4], asked):
        end(replace(point, lr=rate), 0.5)
    assert {point.lr for point in search.standing(asked).points} == set(search.first_rates(1e-3))


def test_a_failed_run_counts_as_the_untrained_model(tmp_path: Path) -> None:
    one, other = points_in(tmp_path)[:2]
    end(one, 0.75)
    end(other, None)
    assert search.accuracy([one, other]) == (0.75 + BASE) / 2


def test_what_trains_nothing_runs_once_and_is_not_searched(tmp_path: Path) -> None:
    untrained = RunConfig(adapter=AdapterConfig(Adapter.none), outputs_dir=str(tmp_path))
    found = search.standing([*points_in(tmp_path)[:1], untrained])
    assert len(found.points) == 4 and len(found.tried) == 1


class Trained:
    """Stands in for the training: writes how runs end, by their rate."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, score: Callable[[float], float | None]) -> None:
        self.score, self.rates = score, list[list[float]]()
        monkeypatch.setattr("tinylora.train.preflight.check", lambda configs, in_jobs: [])
        monkeypatch.setattr("tinylora.train.loop.run_pack", self.run_pack)

    def run_pack(self, configs: Sequence[RunConfig], *_: object) -> list[RunRecord]:
        self.rates.append([float(config.lr) for config in configs])
        for config in configs:
            if not RunFolder(config).path.exists():
                end(config, self.score(float(config.lr)))
        return [RunFolder(config).record(skipped=False) for config in configs]


def call(monkeypatch: pytest.MonkeyPatch, line: str) -> int:
    monkeypatch.setattr(sys, "argv", ["run.py", *line.split()])
    return run.main()


def test_the_command_searches_until_the_best_is_inside_and_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    trained = Trained(monkeypatch, lambda rate: None if rate > FIRST[2] else peak(FIRST[2])(rate))
    line = "-m u=1 lr=search seed=0,1 steps=1"
    assert call(monkeypatch, line) == 0
    assert trained.rates == [[rate for rate in FIRST for _ in range(2)], [BEYOND, BEYOND]]
    output = capsys.readouterr().out
    assert re.search(rf"adapter=tinylora +{FIRST[2]:g} +2", output) and "seed=100" in output
    assert not any("search" in path.read_text() for path in tmp_path.rglob("*.json"))
    trained.rates.clear()
    assert call(monkeypatch, line) == 0, "the same command again finds all that it needs"
    assert trained.rates == []


def test_a_search_that_finds_no_inside_rate_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Trained(monkeypatch, lambda rate: 0.5)
    assert call(monkeypatch, "u=13,1 lr=search steps=1") == 1
    message = capsys.readouterr().err.splitlines()[-3:]
    assert message[0].startswith("error: lr=search found no best rate for 2 groups: u=13: ")
    assert message[1].startswith("  rule:") and message[2].startswith("  remedy:")


def test_a_preset_whose_grid_lists_rates_searches_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trained = Trained(monkeypatch, peak(FIRST[1]))
    line = "+paper=figure4 model=miniature-qwen2 precision=fp32 n_tie=16 sharing=tiled u=1 lr=search seed=0 steps=1"
    assert call(monkeypatch, line) == 0
    assert trained.rates == [FIRST]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("lr=search,1e-3", ["lr=search,1e-3", "lr=1e-3,1e-2"]),
        ("lr=search lr=1e-3", ["lr is given twice"]),
        ("lr=search hydra/launcher=basic", ["lr=search with hydra/launcher=basic"]),
        ("lr=search adapter=none", ["lr=search", "trained"]),
    ],
)
def test_what_cannot_be_searched_is_refused(
    line: str, named: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, line) == 2
    message = capsys.readouterr().err
    assert all(name in message for name in named) and len(message.splitlines()) == 3
    assert list(tmp_path.iterdir()) == []


def test_jobs_are_submitted_round_by_round_and_the_next_command_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    submitted: list[list[RunConfig]] = []
    monkeypatch.setattr(
        "experiments.jobs.submit.submit_sweep", lambda points, kind, settings: submitted.append(list(points))
    )
    line = "-m u=1 lr=search steps=1 hydra/launcher=local launcher.cpus=1"
    assert call(monkeypatch, line) == 0
    assert [point.lr for point in submitted[0]] == FIRST
    assert "-m u=1 lr=search steps=1 hydra/launcher=local" in capsys.readouterr().out
    for point in submitted[0]:
        end(point, peak(FIRST[2])(float(point.lr)))
    assert call(monkeypatch, line) == 0
    assert [point.lr for point in submitted[1]] == [BEYOND]
    end(submitted[1][0], 0.1)
    assert call(monkeypatch, line) == 0
    assert len(submitted) == 2 and f"{FIRST[2]:g}" in capsys.readouterr().out


def test_an_error_that_leaves_runs_unfinished_is_not_passed_over(tmp_path: Path) -> None:
    def launch(points: Sequence[RunConfig]) -> None:
        end(points[0], 0.5)
        raise FailureError("a disk", "it is full", "make room")

    with pytest.raises(FailureError, match="a disk"):
        search.search_rates(points_in(tmp_path), launch)


def test_the_plan_of_a_search_is_its_next_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["-m", "u=1", "steps=1", "lr=search", "--write", "points.json"]
    assert plan.main(words) == 0
    assert "3 points in 1 pack" in capsys.readouterr().out
    assert Path("points.json").read_text().count('"lr": 0.') == 3
    for rate in FIRST:
        end(RunConfig(u=1, lr=rate, steps=1, outputs_dir=str(tmp_path / "outputs")), peak(FIRST[1])(rate))
    assert plan.main(words[:4]) == 0
    assert "lr=search is over" in capsys.readouterr().out


def found_rates(folder: Path, seeds: str) -> list[tuple[int, float | int | str]]:
    composition = compose(["u=1,13", "lr=found", "steps=1", f"seed={seeds}", f"outputs_dir={folder}"])
    return [(point.u, point.lr) for point in at_found_rates(composition.points)]


def test_other_draws_are_trained_at_the_rates_that_were_found(tmp_path: Path) -> None:
    for u, at in ((1, 1e-3), (13, 9e-3)):
        for rate in (3e-4, 1e-3, 3e-3, 9e-3, 2.7e-2):
            for seed in (0, 1):
                end(RunConfig(u=u, lr=rate, seed=seed, steps=1, outputs_dir=str(tmp_path)), peak(at)(rate))
    assert found_rates(tmp_path, "2,3") == [(1, 1e-3), (1, 1e-3), (13, 9e-3), (13, 9e-3)]
    end(RunConfig(u=1, lr=1e-3, seed=2, steps=1, outputs_dir=str(tmp_path)), 0.0)  # what is reported chooses nothing
    end(RunConfig(u=1, lr=3e-4, seed=3, steps=1, outputs_dir=str(tmp_path)), 1.0)
    assert found_rates(tmp_path, "2") == [(1, 1e-3), (13, 9e-3)]


def test_rates_that_no_search_has_found_are_asked_for(tmp_path: Path) -> None:
    for rate in (1e-3, 3e-3, 9e-3):
        end(
            RunConfig(u=1, lr=rate, seed=0, steps=1, outputs_dir=str(tmp_path)), peak(9e-3)(rate)
        )  # the best is at the edge
    with pytest.raises(UsageError, match=r"lr=found for 2 groups: u=1; u=13"):
        found_rates(tmp_path, "2")
