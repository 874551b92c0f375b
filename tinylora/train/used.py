"""Adapters that are there, opened to be used: of runs at one of their steps, adapter files, PEFT folders that we wrote.

Adapters that differ in lane fields alone are lanes of one pack, as in training, and so are asked in one batch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save

from tinylora.adapters.adapter_file import AdapterFile, Tensors, read_adapter_file, read_safetensors, same_spectrum
from tinylora.adapters.lane import LaneSpec
from tinylora.adapters.tinylora import TinyLora
from tinylora.records.choice import chosen_v
from tinylora.records.damage import require_whole
from tinylora.records.folder import ADAPTER, RunFolder
from tinylora.records.kept import KeptV
from tinylora.records.progress import Progress
from tinylora.settings.config import Adapter, AdapterConfig, GrpoConfig, RunConfig, TrackingConfig
from tinylora.settings.errors import UsageError, require
from tinylora.settings.tensor_files import with_digest
from tinylora.train.kept import hold_kept
from tinylora.train.pack import Pack, load_pack

PEFT_SETTINGS, PEFT_TENSORS = "adapter_config.json", "adapter_model.safetensors"
PEFT_PREFIX = "base_model.model."


@dataclass(frozen=True)
class Used:
    """An adapter to be used."""

    name: str
    """For messages."""
    folder: Path
    """Of the run, or that in which the file lies."""
    config: RunConfig
    """What it is computed and asked with. Of its training nothing is left."""
    content: KeptV | Tensors
    made_with: Mapping[str, str]
    """What is known of the model: its digest, of TinyLoRA files its spectrum."""
    step: int | None = None
    """Of v in its run; None for files."""

    @property
    def file(self) -> str | None:
        """16 hex digits over the tensors of a file; None for a run."""
        if self.step is not None or isinstance(self.content, KeptV):
            return None
        header, tensors = with_digest(save(self.content))
        return hashlib.sha256(header + bytes(tensors)).hexdigest()[:16]


def of_run(folder: RunFolder, step: str, name: str, config: RunConfig) -> Used:
    """The adapter of a run at a step (a number, `last` or `best`), with the settings of `config`: its own, or changed.

    Raises UsageError where the run has no v of that step, DamagedError where its folder cannot be trusted.
    """
    require_whole(folder)
    number, kept = chosen_v(folder, step)
    described = folder.described()
    assert described is not None, "a run that has a v has begun"
    made_with = {"model_digest": str(described["provenance"].get("model_digest", ""))}
    content = read_adapter_file(folder.path / ADAPTER).tensors if kept is None else kept
    return Used(name, folder.path, untrained(config), content, made_with, number)


def of_file(path: Path, config: RunConfig) -> Used:
    """The adapter in a file, on the model and with the settings of `config`. Raises UsageError where it is none."""
    found = read_adapter_file(path)
    return Used(str(path), path.parent, _made_as(found, untrained(config)), found.tensors, found.header)


def of_peft(folder: Path, config: RunConfig) -> Used:
    """The LoRA in a PEFT folder, as `save_peft` writes it. Raises UsageError where it is another kind of folder."""
    given = f"PEFT folder {folder}"
    rule = "it must hold a LoRA as tinylora.adapters.attach.save_peft writes it: lora_alpha = r, no bias, every map"
    remedy = "give a folder that save_peft wrote, or an adapter.safetensors"
    try:
        settings = json.loads((folder / PEFT_SETTINGS).read_bytes())
        rank, scaled = settings["r"], settings["lora_alpha"] != settings["r"]
        plain = settings["peft_type"] == "LORA" and settings["bias"] == "none" and not scaled
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(given, rule, remedy) from error
    require(plain and type(rank) is int and rank >= 1, given, rule, remedy)
    tensors, _ = read_safetensors(folder / PEFT_TENSORS)
    require(all(name.startswith(PEFT_PREFIX) for name in tensors), given, rule, remedy)
    content = {name.removeprefix(PEFT_PREFIX): tensor for name, tensor in tensors.items()}
    spec = LaneSpec(1, kind=Adapter.lora)
    made = _made_as(AdapterFile(spec, content, {"rank": str(rank)}), untrained(config))
    return Used(str(folder), folder, made, content, {})


def untrained(config: RunConfig) -> RunConfig:
    """The settings of a run without those of its training, in which adapters that are used together may differ."""
    return replace(
        config,
        lr=config.learning_rate if config.trains else config.lr,
        projection_seed=config.projection_root,
        steps=1,
        algorithm=GrpoConfig(),
        eval=replace(config.eval, every=0),
        tracking=TrackingConfig(),
        paper=None,
    )


def _made_as(found: AdapterFile, config: RunConfig) -> RunConfig:
    """The settings with which the adapter of a file is made."""
    spec, factors = found.spec, [len(tensor) for name, tensor in found.tensors.items() if "lora_A" in name]
    rank = int(found.header.get("rank", factors[0] if factors else config.rank))  # LoRA's factors say it
    changes: dict[str, Any] = {name: getattr(spec, name) for name in ("u", "n_tie", "sharing", "precision", "rounding")}
    changes |= {name: getattr(spec, name) for name in ("seed", "recipe", "projection_seed")}
    return replace(config, adapter=AdapterConfig(spec.kind), rank=rank, lr=1.0, **changes)


def open_used(adapters: Sequence[Used], progress: Progress) -> Pack:
    """A pack with a lane for each adapter, in order, which holds its v; their `pack_key`s are the same.

    Raises UsageError where an adapter is of another model.
    """
    pack = load_pack([used.config for used in adapters], [used.name for used in adapters], progress)
    for used, lane in zip(adapters, pack.lanes, strict=True):
        _require_model(used, pack)
        lane.step = used.step or 0
        if isinstance(used.content, KeptV):
            hold_kept(lane.adapter, used.content)
            continue
        try:
            lane.adapter.hold_tensors(used.content)
        except ValueError as error:
            raise _other_model(used, str(error)) from error
    pack.engine.adapters.round()
    return pack


def _require_model(used: Used, pack: Pack) -> None:
    """Raise UsageError where an adapter was trained on another model, as far as its record says."""
    adapters, digest = pack.engine.adapters, used.made_with.get("model_digest")
    if used.step is None and "spectrum" in used.made_with and isinstance(adapters, TinyLora):
        if not same_spectrum(used.made_with, adapters):
            raise _other_model(used, "the singular values of its weights are not those of this model")
    elif digest and digest != pack.model_digest:
        raise _other_model(
            used, f"it was trained on the model with the digest {digest}, and this is {pack.model_digest}"
        )


def _other_model(used: Used, why: str) -> UsageError:
    return UsageError(
        f"adapter {used.name} on {used.config.model.identity}",
        f"an adapter is of the model that it was trained on: {why}",
        "give that model: model=<name>, or model.path=<folder>",
    )
