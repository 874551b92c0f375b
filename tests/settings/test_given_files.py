"""Files that people give are read with limits, and what is wrong with them is one sentence."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from tinylora.settings.given_files import MIB, Unreadable, json_of, read_regular, text_of, unzipped


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "zeros", tmp_path):
        with pytest.raises(Unreadable, match="no regular file"):
            read_regular(path, MIB)
    with pytest.raises(Unreadable, match="No such file"):
        read_regular(tmp_path / "absent", MIB)


def test_no_more_is_read_than_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * MIB)
    assert len(read_regular(path, MIB)) == MIB
    path.write_bytes(b"x" * (MIB + 1))
    with pytest.raises(Unreadable, match="larger than 1 MiB"):
        read_regular(path, MIB)


def test_an_archive_that_holds_far_more_than_its_size_is_not_decompressed_to_its_end() -> None:
    assert unzipped(gzip.compress(b"x" * MIB), 64 * MIB) == b"x" * MIB
    with pytest.raises(Unreadable, match="more than 64 MiB"):
        unzipped(gzip.compress(b"\0" * (80 * MIB)), 1024 * MIB)
    with pytest.raises(Unreadable, match="to its end"):
        unzipped(gzip.compress(os.urandom(1000))[:500], MIB)


def test_texts_are_utf_8_with_or_without_a_mark() -> None:
    assert text_of(b"\xef\xbb\xbfone") == text_of(b"one") == "one"
    with pytest.raises(Unreadable, match="UTF-8"):
        text_of(b"\xff\xfeo\0")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ("{", "not JSON"),
        ("1" * 5000, "not JSON"),
    ],
)
def test_what_is_no_json_is_said_so(text: str, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        json_of(text)
