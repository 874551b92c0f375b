"""Where a run comes from: versions, commit, digests. Recorded, never part of its identity."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import version
from typing import Any

import tinylora
from tinylora.models.find import MINIATURES, resolved_commit
from tinylora.models.load import parameter_count
from tinylora.records.source import git_state
from tinylora.train.pack import LaneRun, Pack


def provenance(pack: Pack, lane: LaneRun) -> dict[str, Any]:
    """Plain values that say what exactly a lane's run was made with, and how much it trains."""
    adapter = pack.engine.adapters.lane(lane.index)
    commit = resolved_commit(lane.config.model)
    shipped = lane.config.model.path is None and (MINIATURES / lane.config.model.name).exists()
    return {
        "trained_values": adapter.trained_values,
        "trained_bytes": adapter.trained_bytes,
        "modules": len(pack.engine.adapters.names),
        "groups": len(getattr(adapter, "groups", pack.engine.adapters.names)),
        "lr_setting": lane.config.lr,
        "model.parameters": parameter_count(pack.engine.model),
        "model_digest": pack.model_digest,
        **({} if commit is None else {"model_commit": commit}),
        **({} if pack.basis is None else {"basis_digest": pack.basis.digest}),
        "data_digest": pack.task.data_digest,
        "prompt_digest": pack.task.prompt_digest,
        "data_commits": dict(pack.task.data_commits),
        "data_notes": list(pack.task.notes),
        "scale_model": shipped,
        **git_state(),
        **_versions(),
    }


@cache
def _versions() -> dict[str, Any]:
    numbers = {"tinylora": tinylora.__version__, "python": platform.python_version()}
    numbers |= {name: version(name) for name in ("torch", "transformers")}
    return {f"version.{name}": number for name, number in numbers.items()}
