"""`experiments.export`: every form computes what the run's adapter does at that step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.packs import open_pack, point
from transformers import AutoModelForCausalLM, AutoTokenizer

from experiments import export
from tinylora.adapters.attach import load
from tinylora.models.find import MINIATURES
from tinylora.records.folder import Unmirrored
from tinylora.records.kept import read_kept
from tinylora.records.progress import Silent
from tinylora.settings.config import Adapter, AdapterConfig, EvalConfig, RunConfig
from tinylora.train.kept import hold_kept
from tinylora.train.loop import run_pack

FOLDER = MINIATURES / "miniature-qwen2"
SMALL = EvalConfig(every=1, test_items=2, validation_items=2, samples=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    config = point(tmp_path_factory.mktemp("trained"), steps=2, lr=0.2, eval=SMALL)
    run_pack([config], ["a"], Silent(), Unmirrored())
    return config


def logits(model: torch.nn.Module) -> torch.Tensor:
    asked = AutoTokenizer.from_pretrained(FOLDER)(["12+7+35="], return_tensors="pt").input_ids
    with torch.no_grad():
        found: torch.Tensor = model(asked).logits
    return found


def expected(config: RunConfig, step: int) -> torch.Tensor:
    """The logits of the base model with the merged weights of what was kept at a step."""
    pack, (lane,) = open_pack([config])
    hold_kept(lane.adapter, next(kept for kept in read_kept(config.folder) if kept.step == step))
    model = AutoModelForCausalLM.from_pretrained(FOLDER)
    model.load_state_dict(model.state_dict() | pack.engine.adapters.merged_weights(0))
    return logits(model)


def test_every_form_is_the_model_of_that_step(run: RunConfig, tmp_path: Path) -> None:
    for step in ("1", "last"):
        wanted = expected(run, 1 if step == "1" else 2)
        target = tmp_path / step
        for form in export.FORMS:
            assert export.main([str(run.folder), str(target / form), "--form", form, "--step", step]) == 0
        of_file = AutoModelForCausalLM.from_pretrained(FOLDER)
        load(of_file, target / "adapter")
        merged = AutoModelForCausalLM.from_pretrained(target / "merged")
        for model in (of_file, merged):
            assert torch.allclose(logits(model), wanted, atol=1e-4)
        assert AutoTokenizer.from_pretrained(target / "merged")("1+2=").input_ids
        assert {path.name for path in (target / "peft").iterdir()} == {
            "adapter_config.json",
            "adapter_model.safetensors",
        }
        assert not torch.allclose(logits(AutoModelForCausalLM.from_pretrained(FOLDER)), wanted, atol=1e-2)


def test_what_cannot_be_written_is_refused(run: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lora = point(tmp_path / "lora", steps=1, eval=SMALL, adapter=AdapterConfig(Adapter.lora))
    run_pack([lora], ["a"], Silent(), Unmirrored())
    (tmp_path / "there").write_text("mine")
    for words, says in (
        ((run.folder, tmp_path / "there"), "nothing is written over"),
        ((run.folder, tmp_path / "new", "--step", 7), "of this run 0, 1, 2"),
        ((lora.folder, tmp_path / "new", "--form", "peft"), "made of TinyLoRA and LoRA-XS"),
    ):
        assert export.main([str(word) for word in words]) == 2
        err = capsys.readouterr().err
        assert says in err and "  rule:   " in err and "  remedy: " in err
    assert not (tmp_path / "new").exists() and (tmp_path / "there").read_text() == "mine"
    assert export.main([str(lora.folder), str(tmp_path / "new")]) == 0
