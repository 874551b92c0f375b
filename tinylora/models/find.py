"""Where a base model lies: in the package, in a folder or GGUF file that the user names, on the Hugging Face hub, or in
SmolLM2's package. A model is a folder with config.json, model*.safetensors and a tokenizer; a GGUF file is made one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from tinylora.models import hub, smollm2
from tinylora.models.file_digests import file_digest
from tinylora.models.files import require_files
from tinylora.models.gguf import gguf_folder, is_gguf
from tinylora.models.hub import WEIGHTS
from tinylora.settings.config import RECIPE, ModelConfig
from tinylora.settings.errors import UsageError

MINIATURES = Path(__file__).parent / "miniatures"


def resolve_folder(config: ModelConfig) -> Path:
    """The folder of the model, checked for its files.

    A hub model is fetched where the cache lacks it; a GGUF file is converted on first use, in a minute. Raises
    UsageError where there is no such model, FailureError where the hub or the disk fails.
    """
    if config.path is not None:
        folder, named = path_folder(config.path), f"model.path={config.path}"
    elif config.hub is not None:
        folder, named = hub.snapshot_folder(_hub_of(config), config.revision), f"model.hub={config.hub}"
    else:
        folder, named = _named_folder(config.name), f"model.name={config.name}"
    require_files(folder, named)
    return folder


def path_folder(path: str) -> Path:
    """The model folder that `model.path` names: itself, or that of a GGUF file."""
    return gguf_folder(Path(path), f"model.path={path}") if is_gguf(Path(path)) else Path(path)


def config_folder(config: ModelConfig) -> Path:
    """A folder with the model's config.json: that of `resolve_folder`, but no weights of a hub model are fetched."""
    if config.path is None and config.hub is not None:
        return hub.config_folder(_hub_of(config), config.revision)
    return resolve_folder(config)


def is_here(config: ModelConfig) -> bool:
    """Whether the weights of a model are on this machine: those of a hub model may not be fetched yet."""
    return any(config_folder(config).glob(WEIGHTS))


def resolved_commit(config: ModelConfig) -> str | None:
    """The commit that a hub model's revision resolves to, one for the whole process; None for other models."""
    return config_folder(config).name if config.path is None and config.hub is not None else None


def digest(folder: Path, remember: bool = False) -> str:
    """16 hex digits over config.json and the weight files, names and contents: the identity of the model.

    With `remember` files that have not changed are not read again (`file_digest`).
    """
    return _digest_of(folder, [folder / "config.json", *sorted(folder.glob(WEIGHTS))], remember)


def tokenizer_digest(folder: Path, recipe: int = RECIPE, remember: bool = False) -> str:
    """16 hex digits over what else decides how texts become tokens and where they end: all but config and weights.

    Records of recipe 1 have a digest over fewer kinds of files. That of a folder without the others is the same.
    """
    patterns = hub.SAYINGS if recipe == 1 else [*hub.SAYINGS, *hub.MORE_SAYINGS]
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return _digest_of(folder, sorted(found), remember)


def _digest_of(folder: Path, paths: Sequence[Path], remember: bool) -> str:
    state = hashlib.sha256()
    for path in paths:
        state.update(f"{path.relative_to(folder)} {file_digest(path, remember)}\n".encode())
    return state.hexdigest()[:16]


def _named_folder(name: str) -> Path:
    known = _shipped()
    if name not in known:
        raise UsageError(
            f"model.name={name}",
            "no shipped model has this name",
            f"give one of: {', '.join(known)}; or model.hub=<owner>/<name>, or model.path=<folder>",
        )
    return smollm2.smollm2_folder() if name == smollm2.NAME else MINIATURES / name


def _shipped() -> list[str]:
    return [*sorted(path.name for path in MINIATURES.iterdir() if path.is_dir()), smollm2.NAME]


def _hub_of(config: ModelConfig) -> str:
    """The repository of a hub model, which must not be recorded under the name of a shipped one."""
    assert config.hub is not None
    if config.name in _shipped():
        raise UsageError(
            f"model.hub={config.hub} with model.name={config.name}",
            "a run is recorded under the model's name, and this is that of another model, which ships with the package",
            "give model.name=<name for the records> too",
        )
    return config.hub
