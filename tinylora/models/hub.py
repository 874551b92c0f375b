"""Models of the Hugging Face hub: their config for planning, their files for loading, and errors that help.

Only configs, safetensors, tokenizers and chat templates are fetched: nothing pickled and no code. What is fetched lies
in the hub's own cache (HF_HOME), one folder for each commit, and serves without a connection from then on. A revision
is resolved once in a process, so that all of a process uses one commit of a model.
"""

from __future__ import annotations

import errno
import re
import shutil
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tinylora.settings.errors import FailureError, TinyLoraError, UsageError, first_line
from tinylora.settings.given_files import MIB, json_of, read_regular, text_of

WEIGHTS = "model*.safetensors"
SAYINGS = [  # what decides how texts become tokens and where they end, in the first versions of this package
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "*.jinja",
]
MORE_SAYINGS = [  # and what else transformers reads for it: other vocabularies, templates beside the default one
    "tokenizer.*.json",
    "tokenizer.model.*",
    "tekken.json",
    "*.tiktoken",
    "tiktoken.model",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.model",
    "sentencepiece.bpe.model",
    "spm.model",
    "spm_char.model",
    "source.spm",
    "target.spm",
    "bpe.codes",
    "dict.txt",
    "vocab-src.json",
    "vocab-tgt.json",
    "target_vocab.json",
    "entity_vocab.json",
    "prophetnet.tokenizer",
    "byte_maps.json",
    "emoji.json",
    "normalizer.json",
    "word_shape.json",
    "word_pronunciation.json",
    "additional_chat_templates/*.jinja",
]
FILES = ["config.json", "model*.safetensors*", *SAYINGS, *MORE_SAYINGS]
LARGEST_INDEX = 64 * MIB
TIMEOUT = 10.0  # seconds for an answer: what cannot be reached is said at once
_ELSEWHERE = "model.path=<folder> takes a model fetched on another machine"


def config_folder(repo: str, revision: str) -> Path:
    """The folder, named by the commit, that holds at least config.json; no weights are fetched.

    Raises UsageError where the repository is absent, gated, without safetensors or without the revision, and
    FailureError where the hub cannot be reached and the cache does not hold the whole model.
    """
    return _resolve(repo, revision)[0]


def config_file(repo: str, revision: str) -> Path:
    """config.json of a repository: that of `config_folder`, or where the hub does not give it, what the cache holds.

    Raises what `config_folder` raises where the cache does not hold it either.
    """
    try:
        return config_folder(repo, revision) / "config.json"
    except TinyLoraError as error:
        cached = huggingface_hub.try_to_load_from_cache(repo, "config.json", revision=revision)
        if isinstance(cached, str):
            return Path(cached)
        rule = f"{error.rule}; nor is its config.json cached, from which its sizes follow"
        raise type(error)(error.given, rule, error.remedy) from error


@cache
def snapshot_folder(repo: str, revision: str) -> Path:
    """The folder, named by the commit, that holds config, weights and tokenizer, fetched where the cache lacks them.

    Raises what `config_folder` raises, and FailureError where the disk is full.
    """
    folder, files = _resolve(repo, revision)
    if files:  # else the hub is out of reach, and the cached model whole
        _require_space(repo, folder, files)
        try:
            huggingface_hub.snapshot_download(repo, revision=folder.name, allow_patterns=FILES)
        except Exception as error:  # the classes depend on the HTTP library beneath
            raise _explained(error, repo, revision) from error
    return folder


def missing_weights(folder: Path) -> list[str]:
    """Weight files that a folder should hold and does not: the shards that its index names, or any at all."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return [] if any(folder.glob(WEIGHTS)) else [WEIGHTS]
    try:
        content = json_of(text_of(read_regular(index, LARGEST_INDEX)))
        named = {str(name) for name in content["weight_map"].values()}
    except (ValueError, LookupError, TypeError, AttributeError):
        return [index.name]  # damaged
    return sorted(name for name in named if not (folder / name).is_file())


@cache  # of answers; an error is not kept
def _resolve(repo: str, revision: str) -> tuple[Path, dict[str, int]]:
    """The commit's folder with config.json, and the sizes of the files to fetch: none where the hub does not answer."""
    whole = _cached(repo, revision)
    if whole is not None and re.fullmatch("[0-9a-f]{40}", revision):
        return whole, {}  # a commit does not change
    try:
        info = huggingface_hub.HfApi().model_info(repo, revision=revision, timeout=TIMEOUT, files_metadata=True)
    except Exception as error:  # as in `snapshot_folder`
        if whole is not None:
            return whole, {}
        raise _explained(error, repo, revision) from error
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    _require_files(repo, set(sizes))
    try:  # by name, not by commit: so the cache knows which commit the name stands for
        config = huggingface_hub.hf_hub_download(repo, "config.json", revision=revision, etag_timeout=TIMEOUT)
    except Exception as error:  # a gated repository lists its files and gives none
        raise _explained(error, repo, revision) from error
    wanted = {name: size for name, size in sizes.items() if any(fnmatch(name, pattern) for pattern in FILES)}
    return Path(config).parent, wanted


def _cached(repo: str, revision: str) -> Path | None:
    """The whole model in the cache, without asking the hub."""
    try:
        found = huggingface_hub.snapshot_download(repo, revision=revision, allow_patterns=FILES, local_files_only=True)
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    folder = Path(found)
    return folder if (folder / "config.json").is_file() and not missing_weights(folder) else None


def _require_files(repo: str, names: set[str]) -> None:
    if "config.json" not in names:
        raise UsageError(
            f"model.hub={repo}",
            "a model has a config.json, and this repository has none",
            "give a repository in the format of transformers",
        )
    if not any(Path(name).match(WEIGHTS) and "/" not in name for name in names):
        raise UsageError(
            f"model.hub={repo}",
            f"weights are read from {WEIGHTS} only (pickled ones can run code), and this repository has none",
            "give a revision or a repository with safetensors",
        )


def _require_space(repo: str, folder: Path, files: dict[str, int]) -> None:
    needed = sum(size for name, size in files.items() if not (folder / name).is_file())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise FailureError(
            f"model.hub={repo}",
            f"its files need {needed / 1e9:.1f} GB more, and {free / 1e9:.1f} GB are free at {constants.HF_HUB_CACHE}",
            "free the space, or set HF_HOME=<folder on a larger disk>",
        )


def _explained(error: Exception, repo: str, revision: str) -> TinyLoraError:
    """What an error of the hub means to the person who asked for the model."""
    page = f"https://huggingface.co/{repo}"
    given = f"model.hub={repo}"
    login = f"accept the licence at {page} and log in with `hf auth login`; or {_ELSEWHERE}"
    if isinstance(error, GatedRepoError):
        return UsageError(given, "its files are given only to those who have accepted its licence", login)
    if isinstance(error, RevisionNotFoundError):
        return UsageError(
            f"{given} model.revision={revision}",
            "it has no such branch, tag or commit",
            f"give model.revision=main, or one that {page}/commits/main lists",
        )
    if isinstance(error, RepositoryNotFoundError | HFValidationError):
        return UsageError(
            given,
            "the hub has no such repository, or it is private",
            "give model.hub=<owner>/<name> as the hub spells it; private: `hf auth login`",
        )
    if isinstance(error, HfHubHTTPError) and getattr(error.response, "status_code", None) in (401, 403):
        return UsageError(given, f"the hub refuses access: {first_line(error)}", login)
    if isinstance(error, OfflineModeIsEnabled):
        return UsageError(
            f"{given} with HF_HUB_OFFLINE=1",
            f"the hub may not be asked, and the whole model is not cached in {constants.HF_HUB_CACHE}",
            f"unset HF_HUB_OFFLINE, or set HF_HOME=<folder that holds it>; {_ELSEWHERE}",
        )
    return _failure(error, given)


def _failure(error: Exception, given: str) -> FailureError:
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
    if full or isinstance(error, PermissionError):
        return FailureError(
            given,
            f"its files could not be written to {constants.HF_HUB_CACHE}: {first_line(error)}",
            "free the space, or set HF_HOME=<folder on a larger disk>",
        )
    return FailureError(
        given,
        f"the hub could not be reached or did not answer: {type(error).__name__}: {first_line(error)}",
        f"check the connection and run again; or {_ELSEWHERE}",
    )
