"""Sampled tokens per second v transformers' `generate`, and trained ones v a plain pass over the base model.

Both sides sample 512 completions (4 lanes x 16 prompts x 8 samples) in one batch; `generate` has no adapter to carry.
A trained token is one of a completion; the plain pass is a forward and backward pass of the base model, without any
adapter, over the same completions, one to a row behind its prompt, longest first, as much at once as ours takes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import alternate
from benchmarks.workload import LENGTHS, MINIATURE, open_lanes
from tinylora.engine.rollout import left_pad, roll_out
from tinylora.engine.rows import Completions, completion_logits, lay_out, micro_batches
from tinylora.engine.sampling import Request, Sampling
from tinylora.train.grpo import accumulate
from tinylora.train.pack import Pack

LANES = 4
HEADING = ("tokens per second", "ours", "peer", "ratio")


def measure(quick: bool = False) -> dict[str, Any]:
    """Tokens per second of both, for both kinds of lengths."""
    return {lengths: _measure(lengths, 1 if quick else LANES, 2 if quick else 5) for lengths in LENGTHS}


def _measure(lengths: str, lanes: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        pack, runs = open_lanes(lanes, lengths, Path(folder))
    problems = [problem for run in runs for problem in pack.task.batch(run.config.seed, 1, MINIATURE.prompts)]
    prompts = pack.encode_prompts(problems)
    lane_of_prompt = torch.arange(lanes).repeat_interleave(MINIATURE.prompts)
    rows = len(prompts) * MINIATURE.samples
    noise = torch.rand((rows, MINIATURE.tokens), generator=torch.Generator().manual_seed(0))
    sampling = Sampling(MINIATURE.tokens, pack.config.rollout.temperature)
    request = Request(prompts, lane_of_prompt, noise, sampling, MINIATURE.samples)
    rollout = roll_out(pack.engine, request)
    completions = rollout.completions(prompts, lane_of_prompt)
    advantages = torch.randn(rows, generator=torch.Generator().manual_seed(0))  # no group is left out
    generated: list[int] = []
    timings = alternate(
        {
            "rollout": lambda: roll_out(pack.engine, request),
            "generate": lambda: generated.append(_generate(pack, prompts, lengths == "full")),
            "train": lambda: accumulate(pack, completions, rollout.logp, advantages),
            "plain pass": _plain_pass(pack, completions),
        },
        rounds,
    )
    tokens = int(rollout.lengths.sum())
    wanted = range(len(prompts))
    read = {
        name: sum(row.length for row in lay_out(completions, wanted, width))
        for name, width in (("train", pack.engine.row_width), ("plain pass", 0))
    }
    counted = dict.fromkeys(timings, tokens) | {"generate": sum(generated) // len(generated)}
    return {
        name: timing.as_json() | {"tokens": counted[name], "tokens_per_s": counted[name] / timing.median}
        for name, timing in timings.items()
    } | {"rows": rows, "tokens_read": read}


def _generate(pack: Pack, prompts: list[list[int]], full: bool) -> int:
    """Sample with transformers; returns how many tokens, each completion up to its end token."""
    repeated = [prompt for prompt in prompts for _ in range(MINIATURE.samples)]
    ids, mask = left_pad(repeated, pack.engine.pad_token, pack.engine.model.device)
    minimum = MINIATURE.tokens if full else None
    with torch.inference_mode():
        sampled = pack.engine.model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=True,
            top_k=0,
            max_new_tokens=MINIATURE.tokens,
            min_new_tokens=minimum,
            temperature=pack.config.rollout.temperature,
        )  # type: ignore[operator]
    new = sampled[:, ids.shape[1] :]
    ended = (new == pack.form.end).cumsum(1)
    return int(((ended == 0) | ((ended == 1) & (new == pack.form.end))).sum())


def _plain_pass(pack: Pack, completions: Completions) -> Callable[[], None]:
    """Forward and backward of the base model over all completions, each in a row of its own."""
    rows = lay_out(completions, range(len(completions.prompts)), width=0)
    batches = micro_batches(rows, pack.engine.limits.pass_tokens)
    embeddings = pack.engine.model.get_input_embeddings()

    def let_gradients_through(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output.detach().requires_grad_()

    def run() -> None:
        handle = embeddings.register_forward_hook(let_gradients_through)
        for batch in batches:
            completion_logits(pack.engine.model, completions, batch)[0].logsumexp(-1).sum().backward()
        handle.remove()

    return run


def rows(result: dict[str, Any]) -> list[list[str]]:
    """Lines of the table with HEADING."""
    table = []
    for lengths, found in result.items():
        for what, ours, peer in (("sampled", "rollout", "generate"), ("trained", "train", "plain pass")):
            mine, other = found[ours]["tokens_per_s"], found[peer]["tokens_per_s"]
            name = f"{what}, {found['rows']} rows, {lengths} lengths, v {peer}"
            table.append([name, f"{mine:,.0f}", f"{other:,.0f}", f"{mine / other:.2f}"])
        mine, other = found["tokens_read"]["train"], found["tokens_read"]["plain pass"]
        table.append([f"(tokens read to train, {lengths} lengths)", f"{mine:,}", f"{other:,}", f"{mine / other:.2f}"])
    return table
