"""A run that is shown as done was made with the model, tokenizer and data that are asked for."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file
from support.packs import point

from experiments.compose.points import distinct
from experiments.planning.costs import plan
from experiments.sweep import run_sweep
from tinylora.models.find import MINIATURES
from tinylora.records.folder import CONFIG, Status, Unmirrored
from tinylora.settings.config import EvalConfig, GrpoConfig, ModelConfig, RunConfig, TaskConfig
from tinylora.settings.errors import UsageError

SMALL = {
    "u": 3,
    "steps": 1,
    "algorithm": GrpoConfig(prompts=1, samples=2),
    "eval": EvalConfig(test_items=1, validation_items=1),
}


def model_at(folder: Path, name: str = "miniature-qwen2") -> Path:
    shutil.copytree(MINIATURES / name, folder)
    return folder


def asked(outputs: Path, folder: Path) -> RunConfig:
    return point(outputs, model=ModelConfig(path=str(folder), device="cpu"), **SMALL)


def run(config: RunConfig) -> Status:
    (record,) = run_sweep([config], mirror=Unmirrored())
    return record.status


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An outputs_dir with a finished run of the model in one/foo beside it."""
    place = tmp_path_factory.mktemp("done")
    assert run(asked(place / "outputs", model_at(place / "one" / "foo"))) is Status.finished
    return place


@pytest.fixture
def place(done: Path, tmp_path: Path) -> Path:
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    return tmp_path


def refused(config: RunConfig, digest: str) -> None:
    """By the run itself and by its plan, which name the recorded digest and that of now."""
    recorded = yaml.safe_load((config.folder / CONFIG).read_text())["provenance"][digest]
    for start in (run, lambda asked: plan([asked])):
        with pytest.raises(UsageError, match=f"{digest} {recorded}, and this is (?!{recorded})"):
            start(config)


def test_the_same_model_elsewhere_is_the_same_run(place: Path) -> None:
    assert run(asked(place / "outputs", model_at(place / "two" / "foo"))) is Status.finished
    plan([asked(place / "outputs", place / "two" / "foo")])


def test_other_weights_under_the_same_name_are_refused(place: Path) -> None:
    other = model_at(place / "two" / "foo")
    weights = load_file(other / "model.safetensors")
    weights[max(weights)] *= 1.01
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    refused(asked(place / "outputs", other), "model_digest")


def test_another_config_of_the_same_weights_is_refused(place: Path) -> None:
    other = model_at(place / "two" / "foo")
    content = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(content | {"rms_norm_eps": 1e-3}))
    refused(asked(place / "outputs", other), "model_digest")


@pytest.mark.parametrize("name", ["tokenizer_config.json", "generation_config.json", "chat_template.jinja"])
def test_another_tokenizer_is_refused(name: str, place: Path) -> None:
    other = model_at(place / "two" / "foo")
    content = (other / name).read_text() if (other / name).exists() else ""
    (other / name).write_text(content + "\n")
    refused(asked(place / "outputs", other), "tokenizer_digest")


def test_a_folder_with_the_name_of_a_shipped_model_is_not_that_model(tmp_path: Path) -> None:
    shipped = point(tmp_path / "outputs", **SMALL)
    assert run(shipped) is Status.finished
    refused(asked(tmp_path / "outputs", model_at(tmp_path / "miniature-qwen2", "miniature-llama")), "model_digest")


def test_a_record_without_the_tokenizers_digest_says_so(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = asked(place / "outputs", place / "one" / "foo")
    written = yaml.safe_load((config.folder / CONFIG).read_text())
    del written["provenance"]["tokenizer_digest"]
    (config.folder / CONFIG).write_text(yaml.safe_dump(written, sort_keys=False))
    assert run(config) is Status.finished
    assert "1 of 1 runs have ended and do not record tokenizer_digest" in capsys.readouterr().err
    assert any("do not record tokenizer_digest" in line for line in plan([config]))


def test_other_data_under_the_same_name_is_refused(tmp_path: Path) -> None:
    for name, count in (("good", 60), ("other", 61)):
        (tmp_path / name).mkdir()
        rows = [json.dumps({"question": f"What is {n} + 1?", "answer": f"It is. #### {n + 1}"}) for n in range(count)]
        for split in ("train", "test"):
            (tmp_path / name / f"gsm8k-{split}.jsonl").write_text("\n".join(rows))
    model = model_at(tmp_path / "model")
    (model / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")

    def on(name: str) -> RunConfig:
        task = TaskConfig("gsm8k", folder=str(tmp_path / name))
        return replace(asked(tmp_path / "outputs", model), task=task)

    assert run(on("good")) is Status.finished
    refused(on("other"), "data_digest")


def test_one_sweep_cannot_have_two_models_of_one_name(tmp_path: Path) -> None:
    one, two = (asked(tmp_path, model_at(tmp_path / name / "foo")) for name in ("one", "two"))
    assert distinct([one, one]) == [one]
    with pytest.raises(UsageError, match=r"one/foo and model\.path="):
        distinct([one, two])
