"""A plan is of the model that is asked for and of a device that is named: sizes, type, what fits and why not, lanes."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from experiments.compose.points import compose
from experiments.plan import main as plan_main
from experiments.planning.devices import DEVICES, GIB, KEPT_UP, Device, find_device
from experiments.planning.estimate import lanes_at_once, rows_bytes
from experiments.run import main as run_main
from tinylora.models import hub
from tinylora.models.shapes import shape_of_folder
from tinylora.settings.choices import Precision
from tinylora.settings.config import RunConfig

COMMIT = "c0ffee" + "0" * 34
LARGE = {  # a model of 70 billion parameters, as its config.json says
    "model_type": "llama",
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_attention_heads": 64,
    "num_hidden_layers": 80,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
SEVEN = "+protocol=gsm8k_grpo model=qwen2.5-7b-instruct"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a repository, owner/Large-70B, in an empty cache; the hub may not be asked."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    hub._resolve.cache_clear()
    repository = tmp_path / "cache" / "models--owner--Large-70B"
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return folder


def put(folder: Path, **changes: Any) -> None:
    (folder / "config.json").write_text(json.dumps(LARGE | changes))


def planned(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert plan_main(line.split()) == 0
    return capsys.readouterr().out


def refused(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert plan_main(line.split()) == 2
    output, message = capsys.readouterr()
    assert output == "", "something was planned"
    return message


def one(line: str) -> RunConfig:
    (point,) = compose(line.split()).points
    return point


def test_a_repository_says_what_its_model_is(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(cache)
    model = one("model.hub=owner/Large-70B lr=1e-4").model
    assert (model.name, model.hub, model.dtype) == ("large-70b", "owner/Large-70B", Precision.bf16)
    assert model.shape == shape_of_folder(cache) and model.lr_constants == {}
    assert "model large-70b: 70,553,706,496 parameters in bf16" in planned("model.hub=owner/Large-70B lr=1e-4", capsys)
    assert "lr=auto for model large-70b" in refused("model.hub=owner/Large-70B", capsys)


def test_what_is_given_by_hand_counts(cache: Path) -> None:
    put(cache, torch_dtype=None, dtype="float16")
    given = one("model.hub=owner/Large-70B model.name=mine model.dtype=fp32 lr=1").model
    assert (given.name, given.dtype) == ("mine", Precision.fp32)
    assert one("model.hub=owner/Large-70B lr=1").model.dtype is Precision.fp16
    put(cache, torch_dtype=None)
    assert one("model.hub=owner/Large-70B lr=1").model.dtype is Precision.fp32, "which transformers takes then"


def test_a_preset_is_that_of_the_repository_and_not_of_the_default_model(cache: Path) -> None:
    put(cache)
    points = compose(["+paper=figure8", "model.hub=owner/Large-70B", "lr=1e-4", "seed=0"]).points
    assert len(points) == 16 and {point.model.name for point in points} == {"large-70b"}
    assert {point.task.name for point in points} == {"gsm8k"}, "on a miniature it would be in small"


def test_a_sweep_over_repositories(cache: Path) -> None:
    put(cache)
    points = compose(["-m", "model.hub=owner/Large-70B,Qwen/Qwen2.5-7B-instruct", "lr=1"][1:]).points
    assert [point.model.name for point in points] == ["large-70b", "qwen2.5-7b-instruct"]
    assert points[1].model.shape == one("model=qwen2.5-7b-instruct lr=1").model.shape, "its file says it, offline too"


def test_offline_without_a_cached_config_nothing_is_planned(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused("model.hub=owner/Large-70B lr=1e-4", capsys)
    assert "HF_HUB_OFFLINE=1" in message and "nor is its config.json cached" in message


def test_a_config_of_another_kind_has_no_sizes_to_plan_with(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(cache, model_type="gemma2")
    assert one("model.hub=owner/Large-70B lr=1").model.shape is None
    message = refused("model.hub=owner/Large-70B lr=1", capsys)
    (offered,) = re.findall(r"such as (model=\S+)", message)
    assert "parameters in" in planned(f"{offered} lr=1", capsys)


def test_two_models_are_refused(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(cache)
    message = refused("model.hub=owner/Large-70B model=smollm2-135m lr=1", capsys)
    assert "give model.hub=owner/Large-70B without model=smollm2-135m" in message
    assert "give model.hub=<owner>/<name>" in refused("model=hub lr=1", capsys)
    assert one("model=hub model.hub=owner/Large-70B lr=1").model.name == "large-70b"


def test_the_shown_settings_are_those_of_the_point(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(cache)
    monkeypatch.setattr(sys, "argv", ["run.py", "model.hub=owner/Large-70B", "lr=1", "--cfg", "job"])
    assert run_main() == 0
    shown = capsys.readouterr().out
    assert "  name: large-70b\n" in shown and "  dtype: bf16\n" in shown and "    blocks: 80\n" in shown


def test_what_does_not_fit_is_named_and_not_counted(capsys: pytest.CaptureFixture[str]) -> None:
    line = f"{SEVEN} lr=1e-5 seed=0 --device a100-40"
    alone = planned(f"{line} adapter=tinylora", capsys)
    both = planned(f"{line} adapter=tinylora,full", capsys)
    assert "does not fit" not in alone
    (said,) = [line for line in both.splitlines() if line.startswith("does not fit: ")]
    assert (
        said.startswith("does not fit: 1 point: adapter=full: weights 14.2 GiB,") and "A100 40 GB has 39.0 GiB" in said
    )
    assert said.endswith("take another adapter than full or --device h200-141")
    hours = [re.findall(r"^hours: about (\S+),", text, re.M) for text in (alone, both)]
    assert hours[0] == hours[1] and len(hours[0]) == 1
    assert "does not fit" not in planned(f"{line.partition(' --')[0]} adapter=full --device h200-141", capsys)


def test_where_nothing_fits_there_are_no_hours(capsys: pytest.CaptureFixture[str]) -> None:
    shown = planned("model=qwen2.5-7b-instruct lr=1 u=1,13 model.dtype=fp32 --device l4-24", capsys)
    assert "does not fit: 2 points: weights 28.4 GiB" in shown and "take model.dtype=bf16" in shown
    assert "hours: none" in shown and "tokens" not in shown
    narrow = planned("model=qwen2.5-7b-instruct lr=1 u=1,13 --device l4-24 --device-gib 8", capsys)
    assert "does not fit: 2 points" in narrow and "model.dtype=bf16" not in narrow


def test_a_remedy_for_memory_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    line = "model=qwen2.5-7b-instruct task=gsm8k lr=1e-5 --device l4-24"
    (given,) = re.findall(r"give (pack\.memory_gib=\S+)", planned(line, capsys))
    assert "pack.memory_gib" not in planned(f"{line} {given}", capsys)
    for gib in (20.05, 20.17, 20.31, 23.99):  # whatever is left, what is said to fit does
        (given,) = re.findall(r"give (pack\.memory_gib=\S+)", planned(f"{line} --device-gib {gib}", capsys))
        assert "pack.memory_gib" not in planned(f"{line} --device-gib {gib} {given}", capsys)
    line = "-m model=qwen2.5-7b-instruct adapter=lora rank=64 seed=range(0,32) lr=1e-5 --device h100-80"
    (given,) = re.findall(r"does not fit: .* give (pack\.max_lanes=\d+)", planned(line, capsys))
    assert "does not fit" not in planned(f"{line} {given}", capsys)


def test_lanes_and_their_memory_in_one_unit(capsys: pytest.CaptureFixture[str]) -> None:
    shown = planned(f"-m {SEVEN} u=13 lr=1e-5 seed=range(0,8) rollout.max_new_tokens=512 --device h100-80", capsys)
    point = compose(f"{SEVEN} u=13 lr=1e-5 seed=0 rollout.max_new_tokens=512".split()).points[0]
    assert point.model.shape is not None
    at_once = lanes_at_once(point, point.model.shape, 79 / 2 * GIB)
    assert at_once == int(79 / 2 * GIB * 0.75 // rows_bytes(point, point.model.shape))
    assert f"lanes: 8 in the largest pack; the rows of {at_once} at once, at their longest, in the 39.5 GiB" in shown
    assert "weights 14.2 GiB" in shown and " rows at once" not in shown
    assert re.findall(r"[\d.]+ GB\b", shown.replace("H100 80 GB", "")) == []
    long = planned(f"-m {SEVEN} u=13 lr=1e-5 seed=0 --device h100-80", capsys)
    assert "the rows of one in 2 turns" in long, "256 rows of 4,296 tokens, 57,344 bytes each: 58.7 GiB in 29.6"


@pytest.mark.parametrize("name", DEVICES)
def test_the_hours_of_a_device_are_those_of_a_share_of_its_peak(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    device = DEVICES[name]
    assert device.peak is not None
    shown = planned(f"model=qwen2.5-0.5b-instruct lr=1 --device {name}", capsys)
    (hours,) = re.findall(r"hours: about (\S+), not measured", shown)
    (given,) = re.findall(
        r"hours: about (\S+),", planned(f"model=qwen2.5-0.5b-instruct lr=1 --tflops {KEPT_UP * device.peak}", capsys)
    )
    assert hours == given and f"of the {device.peak:g} that are documented of {device.name}" in shown
    assert device.gib <= int(name.rpartition("-")[2])


@pytest.mark.parametrize(
    ("said", "peak"),
    [("NVIDIA H100 80GB HBM3, 81559", 989.0), ("NVIDIA L40S, 46068", 362.0), ("NVIDIA GeForce RTX 4090, 24564", 165.0)],
)
def test_the_device_that_is_here_is_known_by_its_name(
    said: str, peak: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho '{said}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    name, mib = said.split(", ")
    assert find_device() == Device(name, float(mib) / 1024, True, peak)
    tool.write_text("#!/bin/sh\necho 'Another Card, 1024'\n")
    assert find_device() == Device("Another Card", 1.0, True, None)


def test_an_unknown_device_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        plan_main(["--device", "h100", "u=1"])
    assert ended.value.code == 2 and "h100-80" in capsys.readouterr().err
