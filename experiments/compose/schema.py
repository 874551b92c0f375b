"""The settings (`tinylora.settings.config`) as Hydra's schema, and the way back from a DictConfig to a RunConfig."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override
from omegaconf import Container, DictConfig, OmegaConf

from tinylora.settings.algorithms import ALGORITHMS
from tinylora.settings.config import AlgorithmConfig, RunConfig
from tinylora.settings.errors import UsageError
from tinylora.settings.identity import content_digest
from tinylora.settings.paths import as_entered

REFERENCE = re.compile(r"\$\{(\w*)")  # the part that ${part.name} refers to; another word for ${resolver:...}


def register() -> None:
    """Make the schema known to Hydra: the root, and the algorithms, which have settings of their own."""
    root = opened(RunConfig)
    root.algorithm = opened(AlgorithmConfig)  # the base, so that any algorithm can be merged into it
    store = ConfigStore.instance()
    store.store(name="run_schema", node=root)
    for algorithm, schema in ALGORITHMS.items():
        store.store(name=f"{algorithm.value}_schema", node=opened(schema))


def to_run_config(composed: DictConfig) -> RunConfig:
    """The point that Hydra composed; beyond this file nothing sees a DictConfig. Raises UsageError."""
    return Parts(composed).point([])


class Parts:
    """What Hydra composed of some groups: the points that set values in it, each of which changes few of its parts."""

    def __init__(self, composed: DictConfig) -> None:
        self.composed = composed
        _refuse_added_settings(composed)
        self.groups = [str(name) for name in composed if isinstance(composed._get_node(name), Container)]
        self._known = dict[str, Any]()
        self._refers = {
            name: set(REFERENCE.findall(OmegaConf.to_yaml(composed._get_node(name)))) for name in self.groups
        }

    def point(self, values: Sequence[Override]) -> RunConfig:
        """The point with these values. Raises Hydra's and OmegaConf's errors, or UsageError."""
        touched = {override.key_or_group.partition(".")[0] for override in values}
        while more := {name for name in self.groups if self._depends(name, touched)} - touched:
            touched |= more
        with self._copied(touched) as node:
            ConfigLoaderImpl._apply_overrides_to_config(list(values), node)
            _refuse_added_settings(node, of=touched)
            settings = {str(name): self._object(str(name), str(name) in touched) for name in node}
        return _with_digest(as_entered(RunConfig(**settings)))

    def _depends(self, name: str, touched: Collection[str]) -> bool:
        """Whether a part refers to one that is touched, or to what is none, such as a variable of the environment."""
        return any(other in touched or other not in self.composed for other in self._refers[name])

    @contextmanager
    def _copied(self, names: Collection[str]) -> Iterator[DictConfig]:
        """Inside, parts of these names are copies, and may be changed. OmegaConf itself copies the whole alone."""
        content: dict[str, Any] = self.composed.__dict__["_content"]
        before = dict(content)
        content |= {name: copy.deepcopy(part) for name, part in before.items() if name in names}
        try:
            yield self.composed
        finally:
            content.clear()
            content.update(before)

    def _object(self, name: str, touched: bool) -> Any:
        """A setting, or a group of them, as an object; of what no value touches the one of the first point."""
        if name not in self.groups:
            return self.composed[name]
        if touched:
            return OmegaConf.to_object(self.composed._get_node(name))
        if name not in self._known:
            self._known[name] = OmegaConf.to_object(self.composed._get_node(name))
        return self._known[name]


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


def _refuse_added_settings(node: DictConfig, prefix: str = "", of: Collection[str] | None = None) -> None:
    """Hydra lets `+name=value` add what the schema does not have; `of` some of its settings (None: all)."""
    schema = OmegaConf.get_type(node)
    if not is_dataclass(schema):
        return
    known = {field.name for field in fields(schema)}
    for name in [str(name) for name in node if of is None or name in of]:
        if name not in known:
            raise UsageError(
                f"+{prefix}{name}={node[name]}",
                f"there is no setting `{prefix}{name}`, and none can be added",
                "leave it out; `python -m experiments.run --cfg job` shows all settings",
            )
        child = node._get_node(name)
        if isinstance(child, DictConfig):
            _refuse_added_settings(child, f"{prefix}{name}.")
