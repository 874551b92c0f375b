"""Data sets from the hub, which a local folder stands in for: columns, commits, and what is said when it fails."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tinylora.settings.config import Checker, Split, TaskConfig, Template
from tinylora.settings.errors import FailureError, UsageError
from tinylora.tasks import download, load_task
from tinylora.tasks.question_sets import QuestionTask
from tinylora.tasks.reading import read_set
from tinylora.tasks.sources import SOURCES

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def stand_in(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    """Put rows into a folder that is the repository of a set from now on."""
    source = SOURCES[name]
    repository = folder / name
    file = repository / (source.file or f"{source.split}.jsonl")
    file = file.with_suffix(".jsonl")
    file.parent.mkdir(parents=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    local_file = str(file.relative_to(repository)) if source.file else None
    local = replace(source, repository=str(repository), config=None, file=local_file)
    monkeypatch.setitem(SOURCES, name, local)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_gsm8k_from_the_hub_is_gsm8k_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name, count in (("gsm8k-train", 120), ("gsm8k-test", 5)):
        rows = [{"question": f"Twice {n}?", "answer": f"It is {2 * n}.\n#### {2 * n}"} for n in range(count)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        stand_in(monkeypatch, tmp_path / "hub", name, rows)
    from_folder = load_task(TaskConfig("gsm8k", folder=str(folder)))
    from_hub = load_task(TaskConfig("gsm8k"))
    assert from_hub.batch(0, 1, 50) == from_folder.batch(0, 1, 50)
    assert from_hub.data_digest == from_folder.data_digest
    assert from_folder.data_commits == {}
    assert from_hub.data_commits == {"gsm8k-train": "unknown", "gsm8k-test": "unknown"}


def test_columns_of_the_hub_are_put_under_our_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, tmp_path, "math500", [{"problem": "1+1?", "answer": "2", "unique_id": "test/algebra/1.json"}])
    stand_in(monkeypatch, tmp_path, "olympiadbench", [{"question": "x?", "final_answer": ["$2$"]}])
    stand_in(monkeypatch, tmp_path, "amc23", [{"question": "y?", "answer": 27.0}])
    stand_in(
        monkeypatch,
        tmp_path,
        "math-train",
        [
            {"problem": "z?", "solution": r"It is $\boxed{\frac{\sqrt{3}}{2}}$."},
            {"problem": "w?", "solution": r"So $\boxed 9$."},
            {"problem": "v?", "solution": "Nobody knows."},
        ],
    )
    nested = {"question": "u?", "answer": "5"}
    stand_in(monkeypatch, tmp_path, "simplerl-math-level3to5", [{"extra_info": nested}])
    found = {name: read_set(name, None, "main").rows for name in SOURCES if (tmp_path / name).is_dir()}
    assert [(row.id, row.answer) for row in found["math500"]] == [("test/algebra/1.json", "2")]
    assert [(row.id, row.answer) for row in found["olympiadbench"]] == [("olympiadbench/0", "$2$")]
    assert found["amc23"][0].answer == "27.0"
    assert [row.answer for row in found["math-train"]] == [r"\frac{\sqrt{3}}{2}", "9", None]
    assert found["math-train"][0].solution is not None
    row = found["simplerl-math-level3to5"][0]
    assert (row.id, row.question, row.answer) == ("simplerl-math-level3to5/0", "u?", "5")


def test_a_set_without_the_columns_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, tmp_path, "aime24", [{"problem": "1+1?", "solution": "2"}])
    with pytest.raises(UsageError, match=r"problem, answer, and has problem, solution(.|\n)*task\.folder"):
        read_set("aime24", None, "main")


def test_offline_asks_nobody_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("the hub was asked"))
    with pytest.raises(UsageError, match=r"HF_HUB_OFFLINE(.|\n)*task\.folder=<folder> with math500\.jsonl"):
        load_task(TaskConfig("math500", template=Template.boxed, checker=Checker.math))


def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def dataset_info(self: object, repository: str, **settings: Any) -> None:
        asked.append((repository, settings["revision"], settings["timeout"]))
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.is_offline_mode", lambda: False)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", dataset_info)
    with pytest.raises(FailureError, match=r"Name or service not known(.|\n)*task\.folder") as caught:
        read_set("aime24", None, "v2")
    assert "HF_HUB_OFFLINE=1" in caught.value.remedy
    assert asked == [("HuggingFaceH4/aime_2024", "v2", download.SECONDS)]


def test_what_is_loaded_is_the_commit_that_the_revision_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    loaded = []

    def load_dataset(repository: str, config: str | None, **settings: Any) -> Any:
        loaded.append((repository, config, settings))
        return datasets.Dataset.from_list([{"problem": f"{n}?", "answer": str(n)} for n in range(3)])

    monkeypatch.setattr("huggingface_hub.is_offline_mode", lambda: False)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: SimpleNamespace(sha=COMMIT))
    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    task = load_task(TaskConfig("aime24", revision="v2"))
    assert isinstance(task, QuestionTask)
    assert task.data_commits == {"aime24": COMMIT}
    assert len(task.held_out(Split.test, 9)) == 3
    assert loaded == [("HuggingFaceH4/aime_2024", None, {"split": "train", "revision": COMMIT, "data_files": None})]


def test_a_cache_that_holds_another_commit_than_the_asked_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cached(list[dict[str, str]]):
        column_names = ("problem", "answer")
        cache_files = ({"filename": f"/cache/aime_2024/default/0.0.0/{COMMIT}/aime_2024-train.arrow"},)

    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: Cached([{"problem": "1?", "answer": "1"}]))
    assert read_set("aime24", None, "main").commit == COMMIT
    with pytest.raises(UsageError, match=COMMIT):
        read_set("aime24", None, "f" * 40)
