"""What a run was made with, by digests: runs of one `run_key` may differ in it, and are then not the same run.

The settings name models and data, and a name can come to hold other files. What must agree for results to be put
together is told by digests in the record. Old records lack some of them: what is not known contradicts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DIGESTS = ("model_digest", "tokenizer_digest", "form_digest", "data_digest", "prompt_digest")
"""In the provenance of a run, and among its parameters in MLflow."""


def contradictions(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The digests that two records both know and in which they differ, with both values."""
    known = [name for name in DIGESTS if one.get(name) is not None and other.get(name) is not None]
    return [f"{name} {one[name]} and {other[name]}" for name in known if str(one[name]) != str(other[name])]
