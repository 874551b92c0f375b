"""A GRPO step of packs of 1 to 32 lanes v one of TRL's GRPOTrainer with PEFT's TinyLoRA, in turn in one process.

That both do the same work is shown, not said: the tokens that each samples and trains on are counted, and on the very
batch that TRL trains on, our loss must be TRL's.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.timing import Timing, timed
from benchmarks.trl_peer import train
from benchmarks.workload import LENGTHS, PROMPTS, SAMPLES, DrawnRewards, open_lanes
from tinylora.engine.rows import Completions, completion_logps, lay_out, micro_batches, numbers
from tinylora.tasks.sums import SumsTask
from tinylora.train.grpo import accumulate, grpo_step
from tinylora.train.pack import Metrics, Pack

LANES = (1, 2, 4, 8, 16, 32)
HEADING = ("GRPO step", "seconds", "per lane", "v TRL + PEFT")


class Ours:
    """A pack that takes a step when asked, and keeps what it took and sampled."""

    def __init__(self, lanes: int, lengths: str, outputs: Path) -> None:
        self.pack, self.lanes = open_lanes(lanes, lengths, outputs)
        self.seconds: list[float] = []
        self.tokens: list[float] = []  # sampled, per lane and step

    def step(self) -> None:
        """One step of all lanes."""
        metrics: list[Metrics] = []
        self.seconds.append(timed(lambda: metrics.extend(grpo_step(self.pack, self.lanes).values())))
        self.tokens.append(fmean(lane["train/completion_tokens"] for lane in metrics) * PROMPTS * SAMPLES)
        for lane in self.lanes:
            lane.step += 1


def measure(quick: bool = False) -> dict[str, Any]:
    """Seconds per step for both kinds of lengths, and the proof that the work is the same."""
    return {lengths: _measure(lengths, LANES[:2] if quick else LANES, 1 if quick else 7) for lengths in LENGTHS}


def _measure(lengths: str, lanes: tuple[int, ...], rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        ours = {count: Ours(count, lengths, Path(folder)) for count in lanes}
        peer_seconds: list[float] = []
        peer_tokens: list[float] = []
        losses: list[tuple[float, float]] = []

        def after_step(seconds: float, batch: dict[str, Any]) -> None:
            peer_seconds.append(seconds)
            peer_tokens.append(float(batch["completion_mask"].sum()))
            losses.append((batch["loss"], loss_on(ours[lanes[0]].pack, batch)))
            for pack in ours.values():
                pack.step()

        task = DrawnRewards() if lengths == "full" else SumsTask()
        values = train(task, lengths, rounds + 1, after_step, Path(folder))
    peer = Timing(tuple(peer_seconds[1:]))  # the first round warms up
    return {
        "peer": peer.as_json() | {"tokens": fmean(peer_tokens), "trained_values": values},
        "losses_on_peer_batches": losses,
        "lanes": {
            count: Timing(tuple(pack.seconds[1:])).as_json() | {"tokens_per_lane": fmean(pack.tokens)}
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
    assert abs(loss - batch["loss"]) < 1e-4, f"the same batch has the loss {batch['loss']} there and {loss} here"
    return loss


def rows(result: dict[str, Any]) -> list[list[str]]:
    """Lines of the table with HEADING."""
    table = []
    for lengths, found in result.items():
        peer = found["peer"]["median_s"]
        what = f"{lengths} lengths, {found['peer']['tokens']:.0f} tokens a lane"
        table.append([f"TRL + PEFT, {what}", f"{peer:.2f}", f"{peer:.2f}", "1"])
        for count, ours in found["lanes"].items():
            per_lane = ours["median_s"] / int(count)
            name = f"{count} lane{'s' if int(count) > 1 else ''}, {ours['tokens_per_lane']:.0f} tokens a lane"
            table.append([name, f"{ours['median_s']:.2f}", f"{per_lane:.3f}", f"{per_lane / peer:.2f}"])
    return table
