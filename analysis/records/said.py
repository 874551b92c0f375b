"""What the models of some runs have said: their samples.jsonl.gz (`tinylora.records.samples`), read when asked for.

Runs from before this file was written lack it, and so may any whose room was needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tinylora.records.samples import SAMPLES, Sample, parse_members


class Artifacts(Protocol):
    """Where artifacts are read from: a store of `analysis.records.stores`."""

    def artifacts(self, run_ids: Sequence[str], name: str) -> Iterator[bytes | None]:
        """An artifact of each of these runs; None where a run has none of this name."""


@dataclass(frozen=True)
class Said:
    """The completions that runs have recorded."""

    store: Artifacts | None = None
    ids: Mapping[str, str] = field(default_factory=dict)
    """The id in the store, by run_key."""

    def of(self, keys: Sequence[str]) -> dict[str, list[Sample]]:
        """The samples of those of these runs that have some that can be read."""
        if self.store is None:
            return {}
        known = [key for key in keys if key in self.ids]
        contents = self.store.artifacts([self.ids[key] for key in known], SAMPLES)
        found = {key: _parse(content) for key, content in zip(known, contents, strict=True)}
        return {key: samples for key, samples in found.items() if samples}


def _parse(content: bytes | None) -> list[Sample]:
    members, wrong = parse_members(content or b"")
    return [] if wrong else [sample for member in members for sample in member.samples]
