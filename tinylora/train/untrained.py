"""The evaluation of the untrained model, measured once for all runs of a machine: remembered in its cache folder.

Every pack begins with it, and v = 0 whatever is trained later. What is remembered is taken where all that it depends on
is the same, these sources and the machine included, so that records are the same bit for bit. The folder can be removed
at any time.
"""

from __future__ import annotations

import hashlib
import json
import platform
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import tinylora
from tinylora import answers
from tinylora.records.items import parse_items
from tinylora.records.progress import Progress
from tinylora.records.samples import parse_sample
from tinylora.settings.config import flatten
from tinylora.settings.files import cache_folder
from tinylora.settings.identity import hashed_settings
from tinylora.settings.remembered import recall_file, remember_file
from tinylora.train.evaluate import Evaluation, evaluate
from tinylora.train.pack import Pack

FOLDER = "untrained"  # below the cache folder of the machine
GROUPS = ("model", "task", "rollout", "eval", "adapter", "rank")  # the settings that it depends on, but for OF_TRAINING
OF_TRAINING = ("task.demonstrations", "eval.every")
PACKAGES = ("torch", "transformers", "tokenizers", "sympy", "math-verify", "reasoning-gym")
"""What computes, reads and judges; those that are not installed count, too."""


def evaluate_untrained(pack: Pack, lane: int, progress: Progress) -> Evaluation | None:
    """The evaluation of a lane before its first step, remembered or measured; None where it fails, as in `evaluate`."""
    path = cache_folder() / FOLDER / f"{key_of(pack)}.json"
    known = pack.engine.ranks.first(lambda: _recall(path))
    if known is not None:
        progress.phase("the untrained model: evaluated before on this machine, remembered")
        return known
    found = evaluate(pack, [lane], progress).get(lane)
    if found is not None and pack.engine.ranks.leads and not found.unsure:
        _remember(path, found)
    return found


def key_of(pack: Pack) -> str:
    """16 hex digits over all that the evaluation of the untrained model depends on."""
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


def _remember(path: Path, found: Evaluation) -> None:
    samples = [asdict(sample) for sample in found.samples]
    plain = {"metrics": found.metrics, "items": [line.text() for line in found.items], "samples": samples}
    remember_file(path, plain)


def _recall(path: Path) -> Evaluation | None:
    """What a file remembers; None where it is absent or damaged."""
    plain = recall_file(path)
    try:
        items, wrong = parse_items("".join(plain["items"]).encode())
        samples = [parse_sample(sample) for sample in plain["samples"]]
        metrics = {str(name): float(value) for name, value in plain["metrics"].items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return None if wrong else Evaluation(metrics, items, samples)
