"""The settings (`tinylora.settings.config`) as Hydra's schema, and the way back from a DictConfig to a RunConfig."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from tinylora.settings.algorithms import ALGORITHMS
from tinylora.settings.config import AlgorithmConfig, RunConfig
from tinylora.settings.errors import UsageError
from tinylora.settings.identity import content_digest
from tinylora.settings.paths import as_entered


def register() -> None:
    """Make the schema known to Hydra: the root, and the algorithms, which have settings of their own."""
    root = opened(RunConfig)
    root.algorithm = opened(AlgorithmConfig)  # the base, so that any algorithm can be merged into it
    store = ConfigStore.instance()
    store.store(name="run_schema", node=root)
    for algorithm, schema in ALGORITHMS.items():
        store.store(name=f"{algorithm.value}_schema", node=opened(schema))


def to_run_config(composed: DictConfig) -> RunConfig:
    """The point that Hydra composed; beyond this function nothing sees a DictConfig. Raises UsageError."""
    _refuse_added_settings(composed)
    config = OmegaConf.to_object(composed)
    assert isinstance(config, RunConfig)
    return _with_digest(as_entered(config))


def _with_digest(config: RunConfig) -> RunConfig:
    """The same point with a digest of its template's content, where there is one that can be read."""
    model = config.model
    if model.chat_template is None or model.chat_template_digest is not None:
        return config
    digest = content_digest(Path(model.chat_template))
    if digest == model.chat_template:  # it cannot be read, which the check of the model says
        return config
    return replace(config, model=replace(model, chat_template_digest=digest))


def opened(schema: Any) -> DictConfig:
    """The schema as a node that overrides can change: OmegaConf makes frozen dataclasses read-only."""
    node: DictConfig = schema if isinstance(schema, DictConfig) else OmegaConf.structured(schema)
    OmegaConf.set_readonly(node, None)
    for name in node:
        child = node._get_node(name)
        if isinstance(child, DictConfig):
            opened(child)
            if not is_dataclass(OmegaConf.get_type(child)):  # a mapping, whose names are the user's
                OmegaConf.set_struct(child, False)
    return node


def _refuse_added_settings(node: DictConfig, prefix: str = "") -> None:
    """Hydra lets `+name=value` add what the schema does not have."""
    schema = OmegaConf.get_type(node)
    if not is_dataclass(schema):
        return
    known = {field.name for field in fields(schema)}
    for name in map(str, node):
        if name not in known:
            raise UsageError(
                f"+{prefix}{name}={node[name]}",
                f"there is no setting `{prefix}{name}`, and none can be added",
                "leave it out; `python -m experiments.run --cfg job` shows all settings",
            )
        child = node._get_node(name)
        if isinstance(child, DictConfig):
            _refuse_added_settings(child, f"{prefix}{name}.")
