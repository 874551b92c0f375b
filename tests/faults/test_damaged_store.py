"""A damaged mlflow.db is named by every command, none of them hangs, and it is made again from the run folders."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import attempts
from faults.outcome import differences
from faults.sweep import Sweep

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[: len(content) // 3],
    "text": lambda content: b"no store at all\n" * 100,
    "pages of NUL bytes": lambda content: content[:4096] + bytes(len(content) - 4096),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_store_is_named_and_made_again(
    name: str, sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "SECONDS", 60.0)
    folder, warm = tmp_path / "case", sweep.warm
    shutil.copytree(sweep.wanted, folder)
    outputs = folder / "outputs"
    (outputs / "mlflow.db").write_bytes(DAMAGES[name]((outputs / "mlflow.db").read_bytes()))
    words = ["--outputs-dir", str(outputs)]
    for done in (warm.attempt(folder), warm.attempt(folder, job="experiments.sync", words=words)):
        assert done.status == 1 and "mlflow.db" in done.said and "--rebuild" in done.said, (done.status, done.said)
        assert "Traceback" not in done.said, done.said
    made = warm.attempt(folder, job="experiments.sync", words=["--rebuild", *words])
    assert made.status == 0, made.said
    for beside in [*outputs.glob("mlflow.db.damaged*"), *outputs.glob(".sync.lock")]:
        beside.unlink()
    assert not (wrong := differences(outputs, sweep.wanted / "outputs")), wrong
