"""Models of the hub, without the hub: what is fetched and when, what the cache answers, and errors that help."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import errors
from support.packs import open_pack, point
from support.tiny_models import save_model

from tinylora.models import hub
from tinylora.models.find import MINIATURES, config_folder, resolve_folder, resolved_commit
from tinylora.models.load import load, outline
from tinylora.settings.config import ModelConfig, RolloutConfig
from tinylora.settings.errors import FailureError, TinyLoraError, UsageError
from tinylora.train import preflight
from tinylora.train.recorder import provenance

REPO, COMMIT = "owner/tiny", "c0ffee" + "0" * 34
MODEL = ModelConfig("tiny", hub=REPO, device="cpu")


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of the hub, and nothing remembered of other tests."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    hub._resolve.cache_clear()
    hub.snapshot_folder.cache_clear()
    yield tmp_path / "cache"
    hub._resolve.cache_clear()
    hub.snapshot_folder.cache_clear()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the repository: a model, and what must not be fetched."""
    folder = save_model(tmp_path_factory.mktemp("published"))
    for name in ("pytorch_model.bin", "modeling_own.py", "training_args.pt", "README.md"):
        (folder / name).write_text("must not be fetched")
    return folder


class FakeHub:
    """The three functions of huggingface_hub that are used, on a folder, in the layout of the cache."""

    def __init__(self, files: Path, cache: Path) -> None:
        self.files, self.root = files, cache / "models--owner--tiny"
        self.asked: list[str] = []
        self.failing: dict[str, Exception] = {}
        self.local = huggingface_hub.snapshot_download  # with local_files_only it asks nobody

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if what in self.failing:
            raise self.failing[what]

    def model_info(self, repo: str, *, revision: str, timeout: float, files_metadata: bool) -> SimpleNamespace:
        assert repo == REPO and timeout <= 10 and files_metadata
        self._ask("model_info")
        files = [path for path in self.files.iterdir() if path.is_file()]
        return SimpleNamespace(
            sha=COMMIT, siblings=[SimpleNamespace(rfilename=path.name, size=path.stat().st_size) for path in files]
        )

    def hf_hub_download(self, repo: str, name: str, *, revision: str, etag_timeout: float) -> str:
        self._ask("hf_hub_download")
        (self.root / "refs").mkdir(parents=True, exist_ok=True)
        (self.root / "refs" / revision).write_text(COMMIT)
        return str(self._copy(name))

    def snapshot_download(
        self, repo: str, *, revision: str, allow_patterns: list[str], local_files_only: bool = False
    ) -> str:
        if local_files_only:
            return self.local(repo, revision=revision, allow_patterns=allow_patterns, local_files_only=True)
        self._ask("snapshot_download")
        assert revision == COMMIT, "another commit than the config's"
        for path in self.files.iterdir():
            if any(fnmatch(path.name, pattern) for pattern in allow_patterns):
                self._copy(path.name)
        return str(self.root / "snapshots" / COMMIT)

    def _copy(self, name: str) -> Path:
        target = self.root / "snapshots" / COMMIT / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.files / name, target)
        return target


@pytest.fixture
def fake(published: Path, tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    files = tmp_path / "files"
    shutil.copytree(published, files)
    fake = FakeHub(files, cache_folder)
    monkeypatch.setattr(
        huggingface_hub.HfApi, "model_info", lambda self, *args, **kwargs: fake.model_info(*args, **kwargs)
    )
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fake.hf_hub_download)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    return fake


def answer(kind: type[errors.HfHubHTTPError], status: int) -> errors.HfHubHTTPError:
    """One of the hub's errors, as it raises it."""
    request = SimpleNamespace(url=f"https://huggingface.co/{REPO}")
    return kind("the hub says no", response=SimpleNamespace(headers={}, status_code=status, request=request))  # type: ignore[arg-type]


def forget() -> None:
    """As in a process started anew."""
    hub._resolve.cache_clear()
    hub.snapshot_folder.cache_clear()


def test_planning_fetches_the_config_alone(fake: FakeHub) -> None:
    assert len(outline(MODEL)) == 14
    assert fake.asked == ["model_info", "hf_hub_download"]
    assert [path.name for path in config_folder(MODEL).iterdir()] == ["config.json"]
    assert resolved_commit(MODEL) == COMMIT


def test_loading_fetches_weights_and_tokenizer_and_neither_pickles_nor_code(fake: FakeHub) -> None:
    model, tokens = load(MODEL)
    assert model.config.num_hidden_layers == 2 and tokens.eos_token == "<eos>"
    names = {path.name for path in resolve_folder(MODEL).iterdir()}
    assert names == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert fake.asked == ["model_info", "hf_hub_download", "snapshot_download"], "asked more than once in a process"


def test_other_models_have_no_commit(tmp_path: Path) -> None:
    assert resolved_commit(ModelConfig("miniature-qwen2")) is None
    assert resolved_commit(ModelConfig("tiny", hub=REPO, path=str(tmp_path))) is None


@pytest.mark.parametrize("how", ["no connection", "offline mode", "an overloaded hub"])
def test_a_cached_model_loads_without_the_hub(fake: FakeHub, how: str) -> None:
    load(MODEL)
    forget()
    fake.asked.clear()
    fake.failing["model_info"] = {
        "no connection": ConnectionError("no route to host"),
        "offline mode": errors.OfflineModeIsEnabled("offline"),
        "an overloaded hub": answer(errors.HfHubHTTPError, 503),
    }[how]
    assert load(MODEL)[0].config.num_hidden_layers == 2
    assert resolved_commit(MODEL) == COMMIT
    assert set(fake.asked) == {"model_info"}


def test_a_cached_commit_is_not_asked_for(fake: FakeHub) -> None:
    load(MODEL)
    forget()
    fake.asked.clear()
    load(ModelConfig("tiny", hub=REPO, revision=COMMIT, device="cpu"))
    assert fake.asked == []


def test_a_model_that_is_cached_in_part_does_not_pass_for_whole(fake: FakeHub) -> None:
    outline(MODEL)
    forget()
    fake.failing["model_info"] = errors.OfflineModeIsEnabled("offline")
    with pytest.raises(UsageError, match="the whole model is not cached"):
        outline(MODEL)
    folder = fake.root / "snapshots" / COMMIT
    shutil.copy(fake.files / "model.safetensors", folder / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(UsageError, match="the whole model is not cached"):
        outline(MODEL)


def test_offline_with_nothing_cached_says_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE=1") as caught:
        outline(MODEL)
    assert "model.path=" in caught.value.remedy


GATED, ABSENT = answer(errors.GatedRepoError, 403), answer(errors.RepositoryNotFoundError, 404)
CASES: dict[str, tuple[str, Exception, type[TinyLoraError], str]] = {
    "gated": ("hf_hub_download", GATED, UsageError, "hf auth login"),
    "gated, found out by the weights": ("snapshot_download", GATED, UsageError, f"https://huggingface.co/{REPO}"),
    "absent": ("model_info", ABSENT, UsageError, "no such repository"),
    "no such revision": ("model_info", answer(errors.RevisionNotFoundError, 404), UsageError, "model.revision=main"),
    "malformed name": ("model_info", errors.HFValidationError("a/b/c"), UsageError, "<owner>/<name>"),
    "refused token": ("hf_hub_download", answer(errors.HfHubHTTPError, 403), UsageError, "refuses access"),
    "offline": ("model_info", errors.OfflineModeIsEnabled("offline"), UsageError, "HF_HUB_OFFLINE"),
    "no connection": ("model_info", ConnectionError("no route to host"), FailureError, "no route to host"),
    "no answer": ("model_info", TimeoutError(), FailureError, "TimeoutError"),
    "overloaded": ("model_info", answer(errors.HfHubHTTPError, 503), FailureError, "model.path="),
    "cut off": ("hf_hub_download", errors.LocalEntryNotFoundError("an error happened"), FailureError, "connection"),
    "disk full": ("snapshot_download", OSError(errno.ENOSPC, "No space left on device"), FailureError, "HF_HOME"),
    "disk full, in other words": ("snapshot_download", RuntimeError("No space left (os 28)"), FailureError, "HF_HOME"),
    "cache not ours": (
        "snapshot_download",
        PermissionError(errno.EACCES, "denied"),
        FailureError,
        "could not be written",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_the_hub_refuses_is_explained_in_three_parts(fake: FakeHub, case: str) -> None:
    where, error, kind, words = CASES[case]
    fake.failing[where] = error
    with pytest.raises(kind) as caught:
        load(MODEL)
    assert words in str(caught.value)
    assert REPO in caught.value.given and caught.value.rule and caught.value.remedy
    assert len(fake.asked) == len(set(fake.asked)), "tried again"
    if where != "snapshot_download":
        with pytest.raises(kind):
            outline(MODEL)


@pytest.mark.parametrize(("removed", "words"), [("model.safetensors", "pickled"), ("config.json", "config.json")])
def test_a_repository_without_what_is_needed_is_refused_before_anything_is_fetched(
    fake: FakeHub, removed: str, words: str
) -> None:
    (fake.files / removed).unlink()
    with pytest.raises(UsageError, match=words):
        outline(MODEL)
    assert fake.asked == ["model_info"]


def test_a_model_larger_than_the_disk_is_refused_before_it_is_fetched(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinylora.models.hub.shutil.disk_usage", lambda folder: SimpleNamespace(free=100))
    with pytest.raises(FailureError, match="GB are free"):
        load(MODEL)
    assert "snapshot_download" not in fake.asked


def test_an_error_is_not_remembered(fake: FakeHub) -> None:
    fake.failing["model_info"] = ConnectionError()
    with pytest.raises(FailureError):
        outline(MODEL)
    fake.failing.clear()
    assert len(outline(MODEL)) == 14


def test_a_hub_model_is_not_recorded_under_the_name_of_a_shipped_one() -> None:
    with pytest.raises(UsageError, match=r"model\.name"):
        outline(ModelConfig(hub=REPO))


def test_a_sweep_with_a_gated_model_is_refused_before_anything_is_started(fake: FakeHub, outputs: Path) -> None:
    fake.failing["hf_hub_download"] = GATED
    with pytest.raises(UsageError, match="licence"):
        preflight.check([point(outputs), point(outputs, model=MODEL, lr=0.1)])
    assert not list(outputs.glob("*/config.yaml")), "a run was started"


def test_a_sweep_with_completions_beyond_the_models_context_is_refused(fake: FakeHub, outputs: Path) -> None:
    long = RolloutConfig(max_new_tokens=32)
    with pytest.raises(UsageError, match="at most 32 tokens"):
        preflight.check([point(outputs, model=MODEL, lr=0.1, rollout=long)])
    preflight.check([point(outputs, model=MODEL, lr=0.1, rollout=RolloutConfig(max_new_tokens=31))])
    assert "snapshot_download" not in fake.asked, "weights were fetched before the queue"


def test_a_run_records_the_commit_of_its_model(fake: FakeHub, outputs: Path) -> None:
    fake.files = MINIATURES / "miniature-qwen2"
    pack, (lane,) = open_pack([point(outputs, model=MODEL)])
    recorded = provenance(pack, lane)
    assert (recorded["model_commit"], recorded["scale_model"]) == (COMMIT, False)
    shipped, (lane,) = open_pack([point(outputs)])
    assert "model_commit" not in provenance(shipped, lane)
    assert provenance(shipped, lane)["model_digest"] == recorded["model_digest"]
