"""GRPO steps of a language model, SmolLM2-135M-Instruct (`make smollm2`), v TRL's with PEFT's TinyLoRA: not by default.

As `steps`, in fp32 and bf16, on sums of two or three digits: 8 prompts x 8 completions of at most 24 tokens. In bf16
both compute attention by separate products, which is faster on a processor.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from benchmarks.steps import measure_work, rows_of
from benchmarks.timing import markdown
from benchmarks.workload import LENGTHS, SMOLLM2
from tinylora.settings.choices import Attention, Precision

LANES = {"natural": (1, 4, 12), "full": (1, 4)}
ATTENTION = {Precision.fp32: Attention.sdpa, Precision.bf16: Attention.eager}
ROUNDS = 3
HEADING = ("GRPO step of SmolLM2", "seconds", "of it rollout", "per lane", "v TRL + PEFT")


def measure(quick: bool = False) -> dict[str, Any]:
    """Seconds per step for both types and both kinds of lengths; what is found is printed as it comes."""
    found: dict[str, Any] = {}
    for dtype, attention in ATTENTION.items():
        for lengths in LENGTHS:
            work = replace(SMOLLM2, dtype=dtype, attention=attention)
            lanes, rounds = (LANES[lengths][:1], 1) if quick else (LANES[lengths], ROUNDS)
            name = f"{dtype.value}, {lengths}"
            found[name] = measure_work(work, lengths, lanes, rounds)
            print(markdown(HEADING, rows({name: found[name]})), file=sys.stderr, flush=True)
    return found


def rows(result: dict[str, Any]) -> list[list[str]]:
    """Lines of the table with HEADING."""
    return [line for what, found in result.items() for line in rows_of(what, found, with_rollout=True)]
