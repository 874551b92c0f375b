"""Base models: what is adapted in each family, loading, and an error that helps for each way a folder can be wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import transformers
from support.packs import point
from support.tiny_models import TOKENS, at, save_model, save_tokenizer

from tinylora.models.find import MINIATURES, digest, resolve_folder
from tinylora.models.load import (
    context_length,
    known_tokenizer,
    load,
    outline,
    parameter_count,
    require_context,
    resolve_device,
)
from tinylora.settings.config import Attention, ModelConfig, Precision, RolloutConfig, RunConfig
from tinylora.settings.errors import FailureError, UsageError
from tinylora.settings.files import CACHE_VARIABLE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_model(tmp_path / "tiny")


def test_a_loaded_model_is_frozen_in_evaluation_mode_and_pads_on_the_left(folder: Path) -> None:
    model, tokens = load(at(folder))
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert (tokens.padding_side, tokens.pad_token) == ("left", "<eos>")
    batch = tokens(["w2 w3 w4", "w5"], padding=True, return_tensors="pt")
    assert batch["input_ids"].tolist() == [[2, 3, 4], [1, 1, 5]]
    logits = model(**batch).logits  # (2, 3, V)
    torch.testing.assert_close(logits[1, -1], model(input_ids=torch.tensor([[5]])).logits[0, -1])


def test_a_pad_token_that_transformers_adds_beyond_the_embeddings_is_not_used(tmp_path: Path) -> None:
    assert load(at(save_model(tmp_path, "Qwen2")))[1].pad_token_id < TOKENS


def test_the_tokenizers_own_pad_token_is_kept(folder: Path) -> None:
    save_tokenizer(folder, eos_token="<eos>", pad_token="w2")
    assert load(at(folder))[1].pad_token == "w2"


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [(Precision.fp32, torch.float32), (Precision.bf16, torch.bfloat16), (Precision.fp16, torch.float16)],
)
def test_the_type_of_the_weights_is_the_one_asked_for(folder: Path, precision: Precision, dtype: torch.dtype) -> None:
    model, _ = load(at(folder, dtype=precision))
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}


def test_tied_parameters_count_once(folder: Path) -> None:
    model, _ = load(at(folder))
    names = {name: parameter.numel() for name, parameter in model.named_parameters(remove_duplicate=False)}
    assert parameter_count(model) == sum(names.values())
    model.lm_head.weight = model.get_input_embeddings().weight
    assert parameter_count(model) == sum(names.values()) - names["lm_head.weight"]


def test_the_digest_follows_config_and_weights_and_nothing_else(folder: Path) -> None:
    before = digest(folder)
    assert len(before) == 16
    assert int(before, 16) >= 0
    (folder / "README.md").write_text("a note")
    (folder / "pretraining-state.safetensors").write_bytes(b"not weights of the model")
    assert digest(folder) == before
    weights = folder / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(bytes(changed))
    assert digest(folder) != before
    changed[-1] ^= 1
    weights.write_bytes(bytes(changed))
    assert digest(folder) == before
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    assert digest(folder) != before


def test_shipped_models_go_by_name_and_wrong_names_are_told_the_right_ones() -> None:
    for path in MINIATURES.iterdir():
        if (path / "config.json").exists():
            assert resolve_folder(ModelConfig(name=path.name)) == path
    with pytest.raises(UsageError, match="smollm2-135m"):
        resolve_folder(ModelConfig(name="miniature-gpt9"))
    with pytest.raises(UsageError, match="no shipped model"):
        resolve_folder(ModelConfig(name="../tasks"))


def test_smollm2_comes_from_the_cache_and_without_it_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ModelConfig(name="smollm2-135m")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr("tinylora.models.smollm2.PACKAGE", "a_package_that_is_not_installed")
    with pytest.raises(UsageError, match="make smollm2"):
        resolve_folder(config)
    folder = save_model(tmp_path / "smollm2-135m")
    assert resolve_folder(config) == folder


def test_a_damaged_package_file_fails_cleanly_and_leaves_nothing_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, cache = tmp_path / "damaged_smollm2", tmp_path / "cache"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('the package must not be imported')")
    (package / "model.gguf").write_bytes(b"GGUF and then nothing")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    monkeypatch.setattr("tinylora.models.smollm2.PACKAGE", package.name)
    with pytest.raises(FailureError, match=r"model\.gguf"):
        resolve_folder(ModelConfig(name="smollm2-135m"))
    assert list(cache.iterdir()) == []
    assert package.name not in sys.modules
    cache.rmdir()
    cache.write_text("a file where the cache folder should be")
    with pytest.raises(FailureError, match=CACHE_VARIABLE):
        resolve_folder(ModelConfig(name="smollm2-135m"))


def test_what_lacks_config_or_safetensors_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        load(at(tmp_path / "absent"))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UsageError, match="pickled"):
        outline(at(folder))
    (folder / "config.json").unlink()
    with pytest.raises(UsageError, match=r"config\.json"):
        outline(at(folder))


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"model_type": "no-such-model"}',
        '{"model_type": "t5"}',
        '{"model_type": "llama", "hidden_size": "x"}',
        '{"model_type": "llama", "hidden_size": 7, "num_attention_heads": 2}',
    ],
)
def test_a_config_that_describes_no_causal_model_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(UsageError, match=r"config\.json"):
        outline(at(folder))


def test_code_in_a_model_folder_is_not_run(folder: Path) -> None:
    (folder / "custom.py").write_text("raise SystemExit('this code must not run')")
    settings = {"model_type": "own", "auto_map": {"AutoConfig": "custom.C", "AutoModelForCausalLM": "custom.M"}}
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UsageError):
        load(at(folder))


def test_quantised_weights_are_refused(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    settings["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UsageError, match="quantised"):
        load(at(folder))


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_weights_that_are_cut_short_are_refused(folder: Path, keep: int) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(UsageError, match="cannot be read"):
        load(at(folder))


def test_missing_weights_are_not_replaced_by_random_numbers(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"num_hidden_layers": 3, "layer_types": None}))
    with pytest.raises(UsageError, match=r"model\.layers\.2"):
        load(at(folder))


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"intermediate_size": 20}))
    with pytest.raises(UsageError, match="weights"):
        load(at(folder))


def test_a_tokenizer_that_is_missing_damaged_or_too_large_is_refused(folder: Path) -> None:
    save_tokenizer(folder, tokens=TOKENS + 1)
    with pytest.raises(UsageError, match="the model embeds 16"):
        load(at(folder))
    save_tokenizer(folder, pad_token="w2")
    with pytest.raises(UsageError, match="eos"):
        load(at(folder))
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(UsageError, match="tokenizer"):
        load(at(folder))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UsageError, match="tokenizer"):
        load(at(folder))


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "cpu:x", "meta", ""])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"device={name}"):
        resolve_device(name)


def test_auto_is_the_accelerator_where_there_is_one() -> None:
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu").type == "cpu"


CHATML = "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}<assistant>"


def test_a_template_file_stands_in_for_the_tokenizers(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "chat.jinja").write_text(CHATML)
    _, tokens = load(at(folder, chat_template=str(tmp_path / "chat.jinja")))
    text = tokens.apply_chat_template([{"role": "user", "content": "2+2"}], tokenize=False)
    assert text == "<user>2+2<assistant>"


def test_a_template_file_that_is_absent_or_broken_is_refused(folder: Path, tmp_path: Path) -> None:
    absent = at(folder, chat_template=str(tmp_path / "absent.jinja"))
    for refuse in (outline, load):
        with pytest.raises(UsageError, match=r"absent\.jinja"):
            refuse(absent)
    (tmp_path / "broken.jinja").write_text("{% for message in messages %}")
    with pytest.raises(UsageError, match="Jinja"):
        load(at(folder, chat_template=str(tmp_path / "broken.jinja")))


@pytest.mark.parametrize("attention", Attention)
def test_the_implementation_of_attention_is_the_one_asked_for(folder: Path, attention: Attention) -> None:
    model, _ = load(at(folder, attention=attention))
    assert model.config._attn_implementation == attention.value


def test_a_family_without_the_implementation_of_attention_is_refused_and_told_which_to_take(tmp_path: Path) -> None:
    save_model(tmp_path, "Gemma2")  # its scores are capped, which sdpa does not do
    for refuse in (outline, load):
        with pytest.raises(UsageError, match=r"model\.attention=eager"):
            refuse(at(tmp_path))
    load(at(tmp_path, attention=Attention.eager))


@pytest.mark.parametrize(
    "settings",
    [
        transformers.LlamaConfig(max_position_embeddings=32),
        transformers.GPT2Config(n_positions=32),
        transformers.Gemma3Config(text_config={"max_position_embeddings": 32}),
    ],
)
def test_the_context_is_that_of_the_language_model(settings: transformers.PreTrainedConfig) -> None:
    assert context_length(settings) == 32


def test_a_model_of_any_length_names_no_context() -> None:
    assert context_length(transformers.BloomConfig()) is None


def test_prompt_and_completion_must_fit_the_context(folder: Path, tmp_path: Path) -> None:
    def config(new: int) -> RunConfig:
        return point(tmp_path, model=at(folder), lr=0.1, rollout=RolloutConfig(max_new_tokens=new))

    require_context(config(20), longest_prompt=12)
    with pytest.raises(UsageError, match=r"rollout\.max_new_tokens to 19 or less"):
        require_context(config(20), longest_prompt=13)
    with pytest.raises(UsageError, match="shorter prompts"):
        require_context(config(20), longest_prompt=32)


def test_shards_that_the_index_names_must_be_there(folder: Path) -> None:
    shards = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(shards))
    with pytest.raises(UsageError, match="model-00002-of-00002"):
        outline(at(folder))


@pytest.mark.parametrize(("value", "words"), [(float("nan"), "NaN"), (float("inf"), "infinite")])
def test_weights_that_are_no_numbers_are_named(value: float, words: str, tmp_path: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(save_model(tmp_path / "whole"))
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = value
    save_model(tmp_path / "spoilt")
    model.save_pretrained(tmp_path / "spoilt")
    with pytest.raises(UsageError, match=rf"model\.layers\.1\.mlp\.up_proj\.weight holds {words}"):
        load(at(tmp_path / "spoilt"))
    load(at(tmp_path / "whole"))


def test_weights_whose_sum_overflows_are_numbers(tmp_path: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(save_model(tmp_path))
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[:] = 3e38
    model.save_pretrained(tmp_path)
    load(at(tmp_path))


def test_a_tokenizer_is_read_once_as_long_as_its_files_stay(tmp_path: Path) -> None:
    save_model(tmp_path)
    first = known_tokenizer(at(tmp_path))
    assert known_tokenizer(at(tmp_path)) is first and load(at(tmp_path))[1] is first
    save_tokenizer(tmp_path, tokens=9)
    assert known_tokenizer(at(tmp_path)) is not first
