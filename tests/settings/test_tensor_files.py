"""Safetensors files with a digest: every flipped bit is noticed, and equal contents are equal bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from tinylora.settings.files import write_atomically
from tinylora.settings.tensor_files import is_whole, read_metadata, with_digest

TENSORS = {"v": torch.arange(6.0).view(2, 3), "adam_step": torch.tensor(3.0)}
METADATA = {name: name * 2 for name in ("step", "spec", "format", "rank")}


def content() -> bytes:
    return b"".join(with_digest(save(TENSORS, metadata=METADATA)))


def test_equal_contents_are_equal_bytes() -> None:
    assert len({content() for _ in range(20)}) == 1


def test_a_file_is_read_by_the_library_with_all_that_was_put_in(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, with_digest(save(TENSORS, metadata=METADATA)))
    assert is_whole(path) and {**METADATA, "digest": read_metadata(path)["digest"]} == read_metadata(path)
    assert all(torch.equal(tensor, TENSORS[name]) for name, tensor in load_file(path).items())


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """By the digest, or by the library; but for those in the digest's own name, with which nothing else has changed."""
    path, whole = tmp_path / "file", content()
    for place in range(0, len(whole) * 8, 3):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        if is_whole(path) and b'"digest"' in damaged:
            with pytest.raises(SafetensorError):
                load_file(path)


@pytest.mark.parametrize("damaged", [b"", b"12345", b"\xff" * 40, b"[" * 200_000])
def test_what_is_no_such_file_is_not_whole_and_has_no_metadata(damaged: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(damaged)
    for path in (tmp_path / "file", tmp_path / "absent", tmp_path):
        assert not is_whole(path)
        with pytest.raises((OSError, ValueError, RecursionError)):
            read_metadata(path)


@pytest.mark.parametrize("damaged", [content()[:-1], content() + b"0"])
def test_a_file_that_is_cut_or_longer_is_not_whole(damaged: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(damaged)
    assert not is_whole(tmp_path / "file") and read_metadata(tmp_path / "file")["step"] == METADATA["step"]


def test_a_file_of_an_earlier_version_has_no_digest_and_is_trusted(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(save(TENSORS, metadata=METADATA))
    assert is_whole(tmp_path / "file")
