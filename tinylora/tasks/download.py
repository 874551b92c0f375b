"""Data sets from the Hugging Face hub, or from the cache of what came from there; no code from the hub is run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinylora.settings.errors import FailureError, TinyLoraError, UsageError
from tinylora.tasks.sources import Source

SECONDS = 10  # that the hub has to answer the first question
_COMMIT = re.compile(r"[0-9a-f]{40}")


def fetch(name: str, source: Source, revision: str) -> tuple[Sequence[Mapping[str, Any]], str | None]:
    """The rows of a set as the hub has them, and the commit that they are from (None: not known).

    Raises FailureError at once where the hub does not answer; UsageError where it has no such set, revision or
    column, or where HF_HUB_OFFLINE is set and the set is not in the cache.
    """
    commit = _resolve(name, source, revision)
    data = _load(name, source, commit or revision)
    missing = [column for column in source.columns if column not in data.column_names]
    if missing:
        raise UsageError(
            f"data set {name} from {source.repository} on the hub",
            f"it must have the columns {', '.join(source.columns)}, and has {', '.join(data.column_names)}",
            f"give task.revision=<commit> of a version that has them, or {_folder(name)}",
        )
    found = commit or _cached_commit(data)
    if found is not None and _COMMIT.fullmatch(revision) and found != revision:  # a cache is not asked for revisions
        raise UsageError(
            f"data set {name} with task.revision={revision}",
            f"HF_HUB_OFFLINE is set, and the cache holds {found}",
            f"unset HF_HUB_OFFLINE, or give task.revision={found}",
        )
    return data, found


def _resolve(name: str, source: Source, revision: str) -> str | None:
    """The commit of a revision, by one request without retries: `load_dataset` would try a dead hub for 20 s."""
    from huggingface_hub import HfApi, is_offline_mode
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    if is_offline_mode() or Path(source.repository).is_dir():
        return None
    given = f"data set {name} from {source.repository} on the hub, task.revision={revision}"
    try:
        commit: str | None = HfApi().dataset_info(source.repository, revision=revision, timeout=SECONDS).sha
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise UsageError(
            given,
            f"the hub has no such repository or revision: {_first_line(error)}",
            f"give task.revision=main, log in where the set asks for it, or {_folder(name)}",
        ) from error
    except Exception as error:  # of httpx or huggingface_hub, from name resolution to a full quota
        raise FailureError(
            given,
            f"the hub does not answer: {type(error).__name__}: {_first_line(error)}",
            f"{_folder(name)}; or set HF_HUB_OFFLINE=1, where the set is in the cache",
        ) from error
    return commit


def _load(name: str, source: Source, revision: str) -> Any:
    import datasets

    datasets.disable_progress_bars()
    files = {source.split: source.file} if source.file is not None else None
    try:
        return datasets.load_dataset(
            source.repository, source.config, split=source.split, revision=revision, data_files=files
        )
    except Exception as error:  # of datasets, huggingface_hub, fsspec, pyarrow or httpx
        raise _not_loaded(name, source, error) from error


def _not_loaded(name: str, source: Source, error: Exception) -> TinyLoraError:
    from huggingface_hub import is_offline_mode

    given = f"data set {name} from {source.repository} on the hub"
    if is_offline_mode():
        return UsageError(
            f"{given}, without task.folder",
            f"HF_HUB_OFFLINE is set, and the cache does not hold it: {_first_line(error)}",
            f"{_folder(name)}, or unset HF_HUB_OFFLINE",
        )
    return FailureError(
        given,
        f"it could not be loaded: {type(error).__name__}: {_first_line(error)}",
        f"try again, give another task.revision, or {_folder(name)}",
    )


def _cached_commit(data: Any) -> str | None:
    """The commit that a cached set is from: `datasets` names its folder after it."""
    parts = [part for file in data.cache_files for part in Path(file["filename"]).parts]
    return next((part for part in reversed(parts) if _COMMIT.fullmatch(part)), None)


def _folder(name: str) -> str:
    return f"give task.folder=<folder> with {name}.jsonl[.gz]"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
