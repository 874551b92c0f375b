"""A store that is opened at the first push: not before it is needed, and its errors only where nothing can follow."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.packs import point

from tinylora.records import later
from tinylora.records.later import LaterMirror
from tinylora.settings.errors import FailureError
from tinylora.settings.store_urls import STORE


def test_it_is_made_by_a_push_that_is_due_and_not_by_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = LaterMirror(point(tmp_path))
    mirror.push([])
    assert not (tmp_path / STORE).exists()
    monkeypatch.setattr(later.time, "monotonic", lambda: float("inf"))
    mirror.push([])
    assert (tmp_path / STORE).exists()


def test_one_that_cannot_be_opened_is_an_error_of_the_final_push_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / STORE).write_bytes(b"no database" * 100)
    monkeypatch.setattr(later, "SECONDS_BEFORE_THE_FIRST_PUSH", -1.0)
    mirror = LaterMirror(point(tmp_path))
    mirror.push([])
    with pytest.raises(FailureError, match="is not a database"):
        mirror.push([], final=True)
