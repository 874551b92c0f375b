"""GGUF files as models: what they hold is what is loaded, once; what is no such file is refused in three parts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.gguf_file import write_gguf
from support.packs import open_pack, point

from experiments.compose.models import model_words
from tinylora.models.find import resolve_folder
from tinylora.models.gguf import gguf_folder, made_from
from tinylora.models.load import load
from tinylora.settings.config import ModelConfig
from tinylora.settings.errors import FailureError, UsageError
from tinylora.settings.files import CACHE_VARIABLE
from tinylora.settings.paths import as_model_path
from tinylora.train.recorder import provenance

SUM = torch.tensor([[1, 5, 6, 14, 7, 8, 15]])  # <bos>12+34=


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def at(path: Path) -> ModelConfig:
    return ModelConfig(path=str(path), device="cpu")


@pytest.mark.parametrize(("kind", "head", "off"), [("F32", None, 1e-5), ("Q8_0", None, 0.3), ("Q4_0", "Q8_0", 4.0)])
def test_what_a_file_holds_is_what_is_loaded(kind: str, head: str | None, off: float, tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", kind, head=head)
    model, tokens = load(at(tmp_path / "tiny.gguf"))
    original, _ = load(ModelConfig(device="cpu"))
    with torch.no_grad():
        difference = (model(SUM).logits[..., :18] - original(SUM).logits).abs().max()
    assert difference < off
    assert tokens("12+34=").input_ids == SUM[0, 1:].tolist()
    assert (tokens.eos_token, tokens.pad_token) == ("<eos>", "<pad>")
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert model.config.tie_word_embeddings


def test_a_head_that_is_another_matrix_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinylora.models.gguf.ONE_MATRIX", 1e-6)
    write_gguf(tmp_path / "tiny.gguf", "Q4_0", head="F32")
    model, _ = load(at(tmp_path / "tiny.gguf"))
    assert model.get_input_embeddings().weight is not model.get_output_embeddings().weight


def test_it_is_converted_once_and_the_record_names_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cache: Path
) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    folder = resolve_folder(at(tmp_path / "tiny.gguf"))
    assert "converting tiny.gguf once" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "tiny.gguf").rename(tmp_path / "other" / "tiny.gguf")
    assert resolve_folder(at(tmp_path / "other" / "tiny.gguf")) == folder
    assert capsys.readouterr().err == ""
    assert folder.parent == cache / "gguf"
    pack, (lane,) = open_pack([point(tmp_path / "outputs", model=at(tmp_path / "other" / "tiny.gguf"))])
    recorded = provenance(pack, lane)
    assert made_from(folder).items() <= recorded.items()
    assert recorded["model_file"] == "tiny.gguf"
    assert recorded["model_file_sha256"].startswith(folder.name.split("-")[1])
    assert lane.config.model.identity == "tiny.gguf"


def test_other_content_under_the_same_name_is_another_model(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    first = resolve_folder(at(tmp_path / "tiny.gguf"))
    write_gguf(tmp_path / "tiny.gguf", "Q8_0")
    assert resolve_folder(at(tmp_path / "tiny.gguf")) != first


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: path.write_bytes(b""), "begins with GGUF"),
        (lambda path: path.write_bytes(b"PK\x03\x04 and more"), "begins with GGUF"),
        (lambda path: path.write_bytes(b"GGUF and then nothing"), "one whole causal language model"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5000]), "one whole causal language model"),
        (lambda path: path.write_bytes(path.read_bytes()[:900]), "one whole causal language model"),
        (lambda path: write_gguf(path, architecture="nobody-knows-it"), "one whole causal language model"),
        (lambda path: write_gguf(path, architecture="clip"), "one whole causal language model"),
    ],
)
def test_what_is_no_whole_known_model_is_refused(
    spoil: Callable[[Path], object], said: str, tmp_path: Path, cache: Path
) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path)
    spoil(path)
    with pytest.raises(UsageError, match=said) as raised:
        resolve_folder(at(path))
    assert str(path) in raised.value.given
    assert "give another .gguf file" in raised.value.remedy
    assert list(cache.glob("gguf/*")) == []


def test_a_link_keeps_its_name_whatever_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    write_gguf(tmp_path / "tiny.gguf")
    (tmp_path / "tiny.gguf").rename(tmp_path / "blobs" / "ab12")
    (tmp_path / "tiny.gguf").symlink_to(tmp_path / "blobs" / "ab12")
    config = ModelConfig(path=as_model_path(str(tmp_path / "blobs" / ".." / "tiny.gguf"), "model.path"), device="cpu")
    assert config.path == str(tmp_path / "tiny.gguf")
    assert config.identity == "tiny.gguf"
    assert made_from(resolve_folder(config))["model_file"] == "tiny.gguf"


def test_a_long_name_is_no_trouble(tmp_path: Path) -> None:
    write_gguf(tmp_path / f"{'x' * 249}.gguf")
    assert resolve_folder(at(tmp_path / f"{'x' * 249}.gguf")).is_dir()
    with pytest.raises(UsageError, match="a name in it 255"):
        resolve_folder(at(tmp_path / f"{'x' * 300}.gguf"))


def test_what_a_killed_conversion_has_left_is_removed(tmp_path: Path, cache: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    folder = resolve_folder(at(tmp_path / "tiny.gguf"))
    shutil.rmtree(folder)
    old, new = (cache / "gguf" / f"{folder.name}-{name}" for name in ("old", "new"))
    for left in (old, new):
        left.mkdir()
    os.utime(old, (1, 1))
    assert resolve_folder(at(tmp_path / "tiny.gguf")) == folder
    assert sorted(path.name for path in (cache / "gguf").iterdir()) == [folder.name, new.name]


def test_one_part_of_several_is_refused_with_how_to_join_them(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny-00001-of-00003.gguf")
    with pytest.raises(UsageError, match="join the parts"):
        resolve_folder(at(tmp_path / "tiny-00001-of-00003.gguf"))


def test_without_the_packages_that_read_it_the_error_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.utils.import_utils.is_gguf_available", lambda: False)
    write_gguf(tmp_path / "tiny.gguf")
    with pytest.raises(UsageError, match=r"tinylora\[tasks\]"):
        resolve_folder(at(tmp_path / "tiny.gguf"))


def test_a_cache_that_cannot_be_written_to_is_named(tmp_path: Path, cache: Path) -> None:
    cache.write_text("a file where the cache folder should be")
    write_gguf(tmp_path / "tiny.gguf")
    with pytest.raises(FailureError, match=CACHE_VARIABLE):
        gguf_folder(tmp_path / "tiny.gguf", "model.path")


def test_a_file_given_as_the_model_is_its_path(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    assert model_words(str(tmp_path / "tiny.gguf")) == f"model.path={tmp_path / 'tiny.gguf'}"
    (tmp_path / "tiny.txt").write_text("no model")
    assert model_words(str(tmp_path / "tiny.txt")) is None
