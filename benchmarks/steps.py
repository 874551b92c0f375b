"""A GRPO step of packs of 1 to 32 lanes v one of TRL's GRPOTrainer with PEFT's TinyLoRA, in turn in one process.

That both do the same work is shown, not said: the tokens that each samples and trains on are counted, and on the very
batch that TRL trains on, our loss must be TRL's.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch

from benchmarks.timing import Timing, timed
from benchmarks.trl_peer import train
from benchmarks.workload import LENGTHS, MINIATURE, Work, open_lanes
from tinylora.engine.rows import Completions, completion_logps, lay_out, micro_batches, numbers
from tinylora.settings.config import Precision
from tinylora.train.grpo import accumulate, grpo_step
from tinylora.train.pack import Metrics, Pack

LANES = (1, 2, 4, 8, 16, 32)
BOUND = {Precision.fp32: 1e-4, Precision.bf16: 1e-2}
"""How far the losses on one batch may be apart, by the type of the base model."""
HEADING = ("GRPO step", "seconds", "per lane", "v TRL + PEFT")


class Ours:
    """A pack that takes a step when asked, and keeps what it took and sampled."""

    def __init__(self, work: Work, lanes: int, lengths: str, outputs: Path) -> None:
        self.work, (self.pack, self.lanes) = work, open_lanes(lanes, lengths, outputs, work)
        self.rollout_s: list[float] = []
        self.seconds: list[float] = []
        self.tokens: list[float] = []  # sampled, per lane and step

    def step(self) -> None:
        """One step of all lanes."""
        metrics: list[Metrics] = []
        self.seconds.append(timed(lambda: metrics.extend(grpo_step(self.pack, self.lanes).values())))
        completions = self.work.prompts * self.work.samples
        self.tokens.append(fmean(lane["train/completion_tokens"] for lane in metrics) * completions)
        self.rollout_s.append(metrics[0]["time/rollout_s"])
        for lane in self.lanes:
            lane.step += 1


def measure(quick: bool = False) -> dict[str, Any]:
    """Seconds per step for both kinds of lengths, and the proof that the work is the same."""
    lanes, rounds = (LANES[:2], 1) if quick else (LANES, 7)
    return {lengths: measure_work(MINIATURE, lengths, lanes, rounds) for lengths in LENGTHS}


def measure_work(work: Work, lengths: str, lanes: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """Seconds per step of some packs and of the peer, in turn, `rounds` times after one to warm up."""
    with tempfile.TemporaryDirectory() as folder:
        ours = {count: Ours(work, count, lengths, Path(folder)) for count in lanes}
        peer_seconds: list[float] = []
        peer_tokens: list[float] = []
        losses: list[tuple[float, float]] = []

        def after_step(seconds: float, batch: dict[str, Any]) -> None:
            peer_seconds.append(seconds)
            peer_tokens.append(float(batch["completion_mask"].sum()))
            losses.append((batch["loss"], loss_on(ours[lanes[0]].pack, batch)))
            for pack in ours.values():
                pack.step()

        values = train(work, lengths, rounds + 1, after_step, Path(folder))
    peer = Timing(tuple(peer_seconds[1:]))  # the first round warms up
    return {
        "peer": peer.as_json() | {"tokens": fmean(peer_tokens), "trained_values": values},
        "losses_on_peer_batches": losses,
        "lanes": {
            count: Timing(tuple(pack.seconds[1:])).as_json()
            | {"tokens_per_lane": fmean(pack.tokens), "rollout_s": median(pack.rollout_s[1:])}
            for count, pack in ours.items()
        },
    }


def loss_on(pack: Pack, batch: dict[str, Any]) -> float:
    """Our GRPO loss of lane 0 on a batch of TRL's; raises AssertionError where it is another than TRL's."""
    prompts = [ids[mask > 0].tolist() for ids, mask in zip(batch["prompt_ids"], batch["prompt_mask"], strict=True)]
    tokens = [
        ids[mask > 0].tolist() for ids, mask in zip(batch["completion_ids"], batch["completion_mask"], strict=True)
    ]
    count = len(prompts)  # each completion with its prompt: TRL shuffles what it has sampled
    completions = Completions(prompts, torch.zeros(count, dtype=torch.long), tokens)
    logp = torch.zeros(len(tokens), max(map(len, tokens)))
    (rows,) = micro_batches(lay_out(completions, range(count), pack.engine.row_width), 10**9)
    with torch.no_grad(), pack.engine.adapters.rows(torch.zeros(len(rows), dtype=torch.long)):
        logp[numbers(rows)] = completion_logps(pack.engine.model, completions, rows, pack.config.rollout.temperature)
    loss = float(accumulate(pack, completions, logp, batch["advantages"])["train/loss"][0])
    bound = BOUND[pack.config.model.dtype]
    assert abs(loss - batch["loss"]) < bound, f"the same batch has the loss {batch['loss']} there and {loss} here"
    return loss


def rows(result: dict[str, Any]) -> list[list[str]]:
    """Lines of the table with HEADING."""
    return [line for lengths, found in result.items() for line in rows_of(lengths, found)]


def rows_of(what: str, found: dict[str, Any], with_rollout: bool = False) -> list[list[str]]:
    """Lines of one measurement: the peer, then each pack."""
    peer = found["peer"]["median_s"]
    blank = ["-"] if with_rollout else []
    table = [
        [
            f"TRL + PEFT, {what} lengths, {found['peer']['tokens']:.0f} tokens a lane",
            f"{peer:.2f}",
            *blank,
            f"{peer:.2f}",
            "1",
        ]
    ]
    for count, ours in found["lanes"].items():
        per_lane = ours["median_s"] / int(count)
        name = f"{count} lane{'s' if int(count) > 1 else ''}, {ours['tokens_per_lane']:.0f} tokens a lane"
        rollout = [f"{ours['rollout_s']:.2f}"] if with_rollout else []
        table.append([name, f"{ours['median_s']:.2f}", *rollout, f"{per_lane:.3f}", f"{per_lane / peer:.2f}"])
    return table
