"""The miniatures: how they are made, and that the shipped ones are what the demo needs."""

import argparse
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from experiments import miniatures
from tinylora.models.find import MINIATURES
from tinylora.models.load import load, outline
from tinylora.models.maps import adapted_modules
from tinylora.settings.config import ModelConfig


def arguments(out: Path) -> argparse.Namespace:
    return argparse.Namespace(family="qwen2", rows=8, seed=0, save_every=2, out=out)


def test_an_interrupted_pretraining_continues_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(miniatures, "measure", partial(miniatures.measure, items=32))
    monkeypatch.setattr(miniatures, "LESSONS", (miniatures.Lesson(3, 3e-3, 0.2), miniatures.Lesson(5, 1e-3, 0.0)))
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    miniatures.pretrain(arguments(whole))

    def stop_after_saving(*state: object) -> None:
        original(*state)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    original = miniatures.save_state
    with monkeypatch.context() as patched:
        patched.setattr(miniatures, "save_state", stop_after_saving)
        with pytest.raises(KeyboardInterrupt):
            miniatures.pretrain(arguments(halves))
    capsys.readouterr()
    miniatures.pretrain(arguments(halves))
    assert "step 2/5" not in capsys.readouterr().out, "steps that were saved were done again"
    one, other = (load_file(folder / "model.safetensors") for folder in (whole, halves))
    assert all(torch.equal(one[name], other[name]) for name in one)
    curve = json.loads((halves / "pretraining.json").read_text())["curve"]
    assert [point["step"] for point in curve] == [2, 4, 5]
    assert not list(halves.glob("*state*"))


@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_the_shipped_miniatures_have_something_to_elicit(family: str) -> None:
    """They sample a right answer sometimes, and mostly when they work the sum out, at each level."""
    config = ModelConfig(f"miniature-{family}", device="cpu")
    model, tokens = load(config)
    measured = miniatures.measure(model, tokens, seed=1, items=512)  # type: ignore[arg-type]
    assert 0.2 < measured["sampled_accuracy"] < 0.55
    assert measured["accuracy_when_worked"] > 0.8
    assert measured["accuracy_when_short"] < measured["accuracy_when_worked"] - 0.4
    assert measured["accuracy_level_1"] > measured["accuracy_level_4"]
    assert len(adapted_modules(model)) == len(outline(config)) == 21
    assert model.config.head_dim == 32


def test_both_families_share_one_tokenizer_and_a_training_record() -> None:
    folders = [MINIATURES / f"miniature-{family}" for family in miniatures.FAMILIES]
    assert len({(folder / "tokenizer.json").read_bytes() for folder in folders}) == 1
    for folder in folders:
        record = json.loads((folder / "pretraining.json").read_text())
        assert record["command"].startswith("python -m experiments.pretrain --family")
        assert 300_000 < record["parameters"] < 400_000
        assert record["curve"][-1]["step"] == miniatures.LESSONS[-1].last
