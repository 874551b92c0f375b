"""The untrained model is evaluated once: what is remembered is what would be measured, and of nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from support.packs import open_pack, point, with_engine

from tinylora.records.progress import Silent
from tinylora.settings.config import (
    Adapter,
    AdapterConfig,
    Attention,
    EvalConfig,
    ModelConfig,
    Precision,
    RolloutConfig,
    SftConfig,
    Sharing,
)
from tinylora.settings.files import cache_folder
from tinylora.train import evaluation_key, untrained
from tinylora.train.evaluate import Evaluation, evaluate
from tinylora.train.evaluation_key import key_of
from tinylora.train.pack import Pack
from tinylora.train.untrained import evaluate_untrained


class Heard(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def phase(self, text: str, share: float | None = None) -> None:
        """What is going on."""
        self.said.append(text)

    def measured(self) -> bool:
        """Whether there was an evaluation since the last time this was asked."""
        found = any(text.startswith("evaluating") for text in self.said)
        self.said.clear()
        return found


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYLORA_CACHE", str(tmp_path / "cache"))


def opened(outputs: Path, **changes: Any) -> Pack:
    return open_pack([point(outputs, **changes)])[0]


def same(one: Evaluation | None, other: Evaluation | None) -> bool:
    assert one is not None and other is not None
    lines = [[line.text() for line in each.items] for each in (one, other)]
    samples = [list(map(asdict, each.samples)) for each in (one, other)]
    return (one.metrics, lines[0], samples[0]) == (other.metrics, lines[1], samples[1])


def test_what_is_remembered_is_what_is_measured_whatever_is_trained(tmp_path: Path) -> None:
    heard = Heard()
    first = evaluate_untrained(opened(tmp_path, u=13), 0, heard)
    assert heard.measured()
    for pack in (
        opened(tmp_path, u=13),
        opened(tmp_path, u=1, n_tie=2, sharing=Sharing.structured, seed=7, lr=1.0, precision=Precision.bf16),
        opened(tmp_path, steps=50, algorithm=SftConfig(prompts=5)),
        open_pack([point(tmp_path, u=4, seed=3), point(tmp_path, u=5)])[0],
    ):
        assert same(first, evaluate_untrained(pack, 0, heard))
        assert not heard.measured()
        assert same(first, evaluate(pack, [0], heard)[0])
        assert heard.measured()


@pytest.mark.parametrize(
    "changes",
    [
        {"eval": EvalConfig(test_items=7, validation_items=4)},
        {"eval": EvalConfig(test_items=6, validation_items=4, samples=2)},
        {"rollout": RolloutConfig(max_new_tokens=20)},
        {"rollout": RolloutConfig(max_new_tokens=48, temperature=0.5)},
        {"model": ModelConfig(name="miniature-llama", device="cpu")},
        {"model": ModelConfig(dtype=Precision.bf16, device="cpu")},
        {"model": ModelConfig(attention=Attention.eager, device="cpu")},
        {"rank": 1},
        {"adapter": AdapterConfig(Adapter.full), "lr": 1e-4},
    ],
)
def test_what_it_depends_on_makes_another(changes: dict[str, Any], tmp_path: Path) -> None:
    assert key_of(opened(tmp_path)) == key_of(opened(tmp_path))
    assert key_of(opened(tmp_path)) != key_of(opened(tmp_path, **changes))


def test_a_bias_of_the_end_tokens_makes_another(tmp_path: Path) -> None:
    nothing = {"adapter": AdapterConfig(Adapter.none)}
    keys = {
        key_of(opened(tmp_path, rollout=RolloutConfig(max_new_tokens=48, end_bias=bias), **nothing))
        for bias in (0.0, 1.0, -1.0)
    }
    assert len(keys) == 3 and key_of(opened(tmp_path, **nothing)) in keys


def test_problems_model_machine_and_sources_make_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = opened(tmp_path)
    keys = {key_of(pack), key_of(replace(pack, model_digest="other")), key_of(replace(pack, tokenizer_digest="other"))}
    keys.add(key_of(with_engine(pack, limits=replace(pack.engine.limits, rows=3))))
    for name, other in (("_machine", lambda _: "other"), ("_version", lambda _: "0"), ("SOURCES", "other")):
        with monkeypatch.context() as patched:
            patched.setattr(evaluation_key, name, other)
            keys.add(key_of(pack))
    suites = type(pack.task).suites

    def another(task: Any, settings: Any) -> Any:
        """The same questions, of which one has another answer."""
        first, *rest = suites(task, settings)
        return [replace(first, problems=[replace(first.problems[0], answer="0"), *first.problems[1:]]), *rest]

    monkeypatch.setattr(type(pack.task), "suites", another)
    keys.add(key_of(pack))
    assert len(keys) == 8


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-9],
        lambda content: b"[]",
        lambda content: content.replace(b"greedy_strict", b"greedy_other"),
        lambda content: json.dumps(json.loads(content) | {"samples": [{"step": 0}]}).encode(),
        lambda content: json.dumps(json.loads(content) | {"metrics": {"eval/test/sampled_strict": None}}).encode(),
    ],
)
def test_a_damaged_file_is_measured_and_written_anew(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    pack, heard = opened(tmp_path), Heard()
    first = evaluate_untrained(pack, 0, heard)
    (file,) = (cache_folder() / untrained.FOLDER).iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    heard.measured()
    assert same(first, evaluate_untrained(pack, 0, heard))
    assert heard.measured()
    assert file.read_bytes() == whole


def test_without_a_place_for_it_it_is_measured(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the place of the folder")
    heard = Heard()
    pack = open_pack([point(tmp_path, adapter=AdapterConfig(Adapter.none))])[0]
    for _ in range(2):
        assert evaluate_untrained(pack, 0, heard) is not None
        assert heard.measured()


def test_neither_a_failure_nor_an_outcome_of_the_moment_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack, heard = opened(tmp_path), Heard()
    timed_out = Evaluation({}, [], [], ["test"])
    for found in ({}, {0: timed_out}):
        monkeypatch.setattr(untrained, "evaluate", lambda *_, found=found: found)
        assert evaluate_untrained(pack, 0, heard) == found.get(0)
        assert not (cache_folder() / untrained.FOLDER).exists()
