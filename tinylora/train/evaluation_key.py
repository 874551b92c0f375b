"""All that an evaluation depends on beside v, as a key: these sources, their versions and the machine included.

Where two keys are the same, so are the records, bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import tinylora
from tinylora import answers
from tinylora.settings.config import flatten
from tinylora.settings.identity import hashed_settings
from tinylora.train.pack import Pack

GROUPS = ("model", "task", "rollout", "eval", "adapter", "rank")  # the settings that it depends on, but for OF_TRAINING
OF_TRAINING = ("task.demonstrations", "eval.every")
PACKAGES = ("torch", "transformers", "tokenizers", "sympy", "math-verify", "reasoning-gym")
"""What computes, reads and judges; those that are not installed count, too."""


def key_of(pack: Pack) -> str:
    """16 hex digits over all that an evaluation depends on beside v."""
    settings = flatten(hashed_settings(pack.config))
    asked = [
        (suite.name, suite.samples, pack.encode_prompts(suite.problems), list(map(repr, suite.problems)))
        for suite in pack.task.suites(pack.config.eval)
    ]
    made_of = {
        "settings": {n: settings[n] for n in settings if n.split(".")[0] in GROUPS and n not in OF_TRAINING},
        "model": (pack.model_digest, pack.tokenizer_digest, pack.form.digest, pack.config.model.attention.value),
        "asked": (pack.task.data_digest, pack.task.prompt_digest, asked),
        "checker": answers.VERSION,
        "at once": (repr(pack.engine.limits), pack.engine.row_width, pack.engine.ranks.count),
        "machine": _machine(pack.engine.model.device),
        "versions": (platform.python_version(), *map(_version, PACKAGES), SOURCES),
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


def _machine(device: torch.device) -> tuple[str | int, ...]:
    """What computes, on which rounding depends."""
    if device.type == "cuda":
        return platform.node(), torch.cuda.get_device_name(device)
    return platform.node(), _processor(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()


def _processor() -> str:
    """Its name, where the system says it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _sources() -> str:
    """A digest of the files of this package."""
    digest = hashlib.sha256()
    folder = Path(tinylora.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


SOURCES = _sources()  # of the code that runs, even where it is changed meanwhile
