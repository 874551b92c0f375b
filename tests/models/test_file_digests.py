"""Digests that are remembered: right after every change, and without reading what has not changed."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from tinylora.models import file_digests
from tinylora.models.file_digests import REMEMBERED, file_digest
from tinylora.settings.files import CACHE_VARIABLE


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(file_digests, "SETTLED", -1e9)  # as if all files had been there for long
    return tmp_path / "cache"


def right(path: Path) -> bool:
    return file_digest(path, remember=True) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_has_not_changed_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    assert right(path)
    known = file_digest(path)
    monkeypatch.setattr(file_digests.hashlib, "file_digest", lambda *_: pytest.fail("it was read again"))
    assert file_digest(path, remember=True) == known


@pytest.mark.parametrize("way", ["written", "replaced", "copied with its times", "touched back"])
def test_a_file_of_the_same_size_that_has_changed_is_read(way: str, tmp_path: Path) -> None:
    path, other = tmp_path / "weights", tmp_path / "other"
    path.write_bytes(b"one")
    before = path.stat()
    assert right(path)
    other.write_bytes(b"two")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    if way == "replaced":
        other.replace(path)
    elif way == "copied with its times":
        shutil.copy2(other, path)
    else:
        path.write_bytes(b"two")
        if way == "touched back":
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert right(path)


def test_a_file_that_has_changed_just_now_is_not_remembered(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_digests, "SETTLED", 60)
    (tmp_path / "weights").write_bytes(b"one")
    assert right(tmp_path / "weights") and not (cache / REMEMBERED).exists()


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"[]", b'{"x": 3}', b"\xff"])
def test_damaged_memory_is_forgotten(content: bytes, cache: Path, tmp_path: Path) -> None:
    cache.mkdir()
    (cache / REMEMBERED).write_bytes(content)
    (tmp_path / "weights").write_bytes(b"one")
    assert right(tmp_path / "weights") and right(tmp_path / "weights")


def test_a_cache_that_cannot_be_written_to_does_not_matter(cache: Path, tmp_path: Path) -> None:
    cache.write_text("a file in its place")
    (tmp_path / "weights").write_bytes(b"one")
    assert right(tmp_path / "weights")
