"""Controls in the report: what stands beside GRPO to explain its gain, and is never taken for it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import recompute, recompute_claims, study_cells
from support.study_store import RECIPE_1
from test_paper_report import csv, files_of, read, run

from analysis.page import report
from analysis.statistics.cells import base_accuracy
from benchmarks.report import MadeRun, write_runs

OF_GRPO = {"algorithm.kl_coefficient": "0.0", "algorithm.importance_cap": "2.0"}
THIRTEEN = {"u": "13", "n_tie": "all"}


def grpo(accuracy: float, settings: dict[str, str] | None = None, **others: Any) -> MadeRun:
    return run(THIRTEEN | OF_GRPO | (settings or {}), accuracy, **others)


def searched(accuracy: float, settings: dict[str, str] | None = None, **others: Any) -> MadeRun:
    made = run(THIRTEEN | (settings or {}), accuracy, algorithm="random_search", **others)
    made.params["algorithm.samples"] = 4
    del made.params["task.demonstrations"]
    return made


def untrained(bias: float | None, accuracy: float, validation: float) -> MadeRun:
    biased = {} if bias is None else {"rollout.end_bias": str(bias)}
    made = run({"adapter.name": "none", "n_tie": "", "u": "", "rank": "", "sharing": ""} | biased, lr=0.0, steps=0)
    for name, value in (("test", accuracy), ("validation", validation)):
        made.metrics[f"eval/{name}/sampled_strict"] = [(0, value)]
    return made


def best(accuracy: float = 0.7) -> list[MadeRun]:
    return [searched(accuracy, lr=0.01, seed=seed) for seed in (0, 1)]


def test_random_search_is_a_line_beside_the_rewards(store: Path) -> None:
    runs = [grpo(0.8), grpo(0.6, {"algorithm.reward": "form"}), *best(0.55)]
    runs += [searched(accuracy, lr=lr) for accuracy, lr in ((0.5, 0.003), (0.52, 0.03))]
    write_runs(store, runs)
    files = files_of(store, "controls")
    data = csv(files, "controls").set_index("series")["mean"].to_dict()
    assert data == {
        "random search": pytest.approx(0.55),
        "reward: correct": pytest.approx(0.8),
        "reward: form": pytest.approx(0.6),
        "untrained": pytest.approx(0.5),
    }
    table = pd.read_csv(io.BytesIO(files["controls-table.csv"]))
    assert "random search" in set(table["method"])


def test_random_search_needs_no_other_reward_beside_it(store: Path) -> None:
    write_runs(store, [grpo(0.8), *best()])
    assert set(csv(files_of(store, "controls"), "controls")["series"]) == {
        "random search",
        "reward: correct",
        "untrained",
    }


def test_grpo_with_other_settings_of_its_own_is_another_line(store: Path) -> None:
    write_runs(store, [grpo(0.8), grpo(0.7, {"algorithm.kl_coefficient": "0.1"}), *best()])
    series = set(csv(files_of(store, "controls"), "controls")["series"])
    assert series == {
        "random search",
        "reward: correct, kl_coefficient=0",
        "reward: correct, kl_coefficient=0.1",
        "untrained",
    }


def test_the_best_bias_on_validation_is_a_level_and_the_untrained_model_stays_itself(store: Path) -> None:
    runs = [grpo(0.8), *best(), untrained(None, 0.5, 0.5)]
    runs += [untrained(-2.0, 0.9, 0.1), untrained(1.0, 0.54, 0.56), untrained(4.0, 0.2, 0.2)]
    write_runs(store, runs)
    data = csv(files_of(store, "controls"), "controls").set_index("series")["mean"]
    assert data["untrained"] == pytest.approx(0.5)
    assert data[[name for name in data.index if "end bias" in name]].to_dict() == {
        "untrained, end bias 1": pytest.approx(0.54)
    }
    rest = csv(files_of(store, "accuracy"), "accuracy")
    levels = rest[rest["series"].str.startswith("untrained")].set_index("series")["mean"]
    assert list(levels.index) == [f"untrained, end bias={bias}" for bias in (-2.0, 1.0, 4.0)]  # the rest is shown above
    assert levels["untrained, end bias=-2.0"] == pytest.approx(0.9)
    made = report.make_report(read(store))
    (card,) = made.cards
    assert card.steps[0] == ("50.0%", "untrained")
    assert base_accuracy(made.scored)["sampled"].iloc[0] == pytest.approx(0.5)


def test_no_figure_claim_or_card_of_the_paper_takes_random_search_for_grpo(store: Path, tmp_path: Path) -> None:
    tied = [{"u": "1", "n_tie": tie} for tie in ("1", "8", "all")]
    plain = [run(OF_GRPO | point, 0.6 + 0.01 * seed, seed=seed) for point in tied for seed in (0, 1)]
    plain += [run(point, 0.55, algorithm="sft", seed=seed) for point in tied for seed in (0, 1)]
    plain += [run(OF_GRPO | {"adapter.name": "lora_xs", "rank": "8"}, 0.7, seed=seed) for seed in (0, 1)]
    plain += [grpo(0.7, seed=seed) for seed in (0, 1)]
    other = tmp_path / "other.db"
    other.write_bytes(store.read_bytes())
    write_runs(store, plain)
    write_runs(other, [*plain, *best(0.99), *(searched(0.98, point, seed=seed) for point in tied for seed in (0, 1))])
    without, beside = files_of(store), files_of(other)
    kept = [name for name in without if name.endswith((".csv", ".svg")) and not name.startswith(("runs", "draws"))]
    apart = ("controls", "accuracy", "training")
    kept = [name for name in kept if not name.startswith(apart)]
    assert {"claims.csv", "figure1.csv", "rl-sft.csv"} <= set(kept)
    assert [name for name in kept if without[name] != beside[name]] == []
    cards = [report.make_report(read(path)).cards[0] for path in (store, other)]
    assert cards[0].steps == cards[1].steps


def test_claims_that_are_worked_out_again_leave_controls_out() -> None:
    cells = recompute.cells_of(recompute.count_failed(recompute.read(RECIPE_1)))
    trained = [cell for cell in cells if cell["settings"]["adapter.name"] == "tinylora"]
    as_search = [
        cell | {"key": "", "settings": {**cell["settings"], "algorithm.name": "random_search"}}
        for cell in trained
        if cell["settings"]["algorithm.name"] == "grpo"
    ]
    assert as_search and all(study_cells.is_control(cell["settings"]) for cell in as_search)

    def found(of: list[recompute.Cell]) -> list[str]:
        effects = recompute_claims.effects(of)
        return [
            f"{claim} {models} {kind} {[cell.get('key') for cell in own]}" for claim, models, kind, own, _ in effects
        ]

    assert found(cells) == found([*cells, *as_search]) != []
