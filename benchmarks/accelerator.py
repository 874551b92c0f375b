"""The engine on an accelerator: `python -m benchmarks.accelerator --model qwen2.5-7b --lanes 1,4,21`.

Models have the shape of real ones and random weights, on which speed does not depend, so nothing is downloaded; the
basis is random too. Needs torch, transformers, peft and this project. For each number of lanes, in bf16:

    tokens per second of a rollout, v the floor of the memory's bandwidth: every token reads all weights and its
    keys and values once (the bandwidth is measured, by copying)
    seconds and peak memory of a GRPO step, v transformers' `generate` and a step of PEFT's TinyLoRA
    memory that each lane beyond those of the first pack adds for good

And the time to attach: the basis of one matrix of each of the model's shapes times how many there are, v PEFT's.

`--model tiny` shows on any machine that all of it runs.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

from benchmarks.attach import measure_shapes
from benchmarks.timing import Timing, alternate, machine, markdown, timed
from benchmarks.workload import SIZES, TINY_RATE, DrawnRewards
from tinylora.adapters.basis import Basis, Factors
from tinylora.adapters.lane import LaneSpec
from tinylora.adapters.tinylora import TinyLora
from tinylora.engine.engine import build_engine
from tinylora.engine.known_layouts import layout_of
from tinylora.engine.memory import cached_token_bytes
from tinylora.engine.ranks import Ranks
from tinylora.engine.rollout import left_pad, roll_out
from tinylora.engine.rows import Completions, completion_logps, lay_out, micro_batches, numbers
from tinylora.engine.sampling import Request, Sampling
from tinylora.models.find import MINIATURES
from tinylora.models.form import form_of
from tinylora.models.load import parameter_count, resolve_device
from tinylora.models.maps import adapted_modules, weight_of
from tinylora.settings.config import GrpoConfig, ModelConfig, Precision, RolloutConfig, RunConfig
from tinylora.settings.paths import absolute
from tinylora.tasks import Task
from tinylora.tasks.problem import Problem
from tinylora.tasks.sums import SumsTask
from tinylora.train.grpo import grpo_step
from tinylora.train.losses import grpo_loss
from tinylora.train.pack import LaneRun, Pack, open_lane

PROMPTS, SAMPLES, PROMPT_TOKENS = 16, 4, 128
MODELS: dict[str, PretrainedConfig] = {
    "qwen2.5-7b": Qwen2Config(
        vocab_size=152064,
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        max_position_embeddings=32768,
    ),
    "smollm2-135m": LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    ),
    "tiny": Qwen2Config(
        vocab_size=500,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
    ),
}
HEADING = ("bf16", "tokens/s", "share of floor", "GRPO step, s", "per lane, s", "peak GiB", "MiB per added lane")


class LongPrompts(DrawnRewards):
    """Prompts of 128 tokens."""

    def prompt(self, problem: Problem) -> str:
        """The problem, again and again, cut at 128 characters: the tokenizer makes each of them a token."""
        return (problem.question * PROMPT_TOKENS)[:PROMPT_TOKENS]


def random_model(name: str, device: torch.device) -> PreTrainedModel:
    """A model of this shape with random weights, in bf16."""
    torch.manual_seed(0)
    with device:
        model: PreTrainedModel = AutoModelForCausalLM.from_config(MODELS[name], dtype=torch.bfloat16)
    model.eval()
    return model.requires_grad_(False)


def open_lanes(model: PreTrainedModel, lanes: int, new_tokens: int) -> tuple[Pack, list[LaneRun]]:
    """A pack on a random basis, in which every completion has `new_tokens` tokens."""
    configs = [
        RunConfig(
            u=SIZES[lane % len(SIZES)],
            seed=lane,
            lr=TINY_RATE,
            algorithm=GrpoConfig(prompts=PROMPTS, samples=SAMPLES),
            rollout=RolloutConfig(max_new_tokens=new_tokens),
            model=ModelConfig(dtype=Precision.bf16),
        )
        for lane in range(lanes)
    ]
    factors = {}
    for name, module in adapted_modules(model).items():
        u, v = (torch.linalg.qr(torch.randn(size, 2))[0] for size in weight_of(module).shape)
        factors[name] = Factors(u, torch.ones(2), v)
    basis = Basis(2, factors)
    adapters = TinyLora(model, basis, [LaneSpec.of(config) for config in configs])
    tokenizer = AutoTokenizer.from_pretrained(MINIATURES / "miniature-qwen2", padding_side="left")
    layout = layout_of(configs[0].model)
    engine = build_engine(model, tokenizer, frozenset(), adapters, layout, configs[0], Ranks())
    engine = replace(engine, context=None)
    runs = [open_lane(adapters, index, config, f"lane {index}") for index, config in enumerate(configs)]
    return Pack(
        configs[0],
        engine,
        cast(Task, LongPrompts(SumsTask())),
        form_of(ModelConfig(), tokenizer, chat=False),
        runs,
        basis,
        "random",
        "random",
    ), runs


def detach(pack: Pack) -> None:
    """Give the model back as it was."""
    assert isinstance(pack.engine.adapters, TinyLora)
    pack.engine.adapters.detach()


def measure(model: PreTrainedModel, lanes: int, new_tokens: int, rounds: int, bandwidth: float) -> dict[str, Any]:
    """Rollout and step of a pack; the adapters are gone afterwards."""
    before = _allocated()
    pack, runs = open_lanes(model, lanes, new_tokens)
    prompts = pack.encode_prompts([problem for run in runs for problem in pack.task.batch(run.config.seed, 1, PROMPTS)])
    rows = len(prompts) * SAMPLES
    lane_of_prompt = torch.arange(lanes).repeat_interleave(PROMPTS)
    request = Request(prompts, lane_of_prompt, torch.rand(rows, new_tokens), Sampling(new_tokens), SAMPLES)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    timings = alternate(
        {"rollout": lambda: roll_out(pack.engine, request), "step": lambda: grpo_step(pack, runs)}, rounds
    )
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    held = _allocated() - before
    detach(pack)
    cached = rows * (PROMPT_TOKENS + new_tokens / 2) * cached_token_bytes(model)
    floor = new_tokens * (parameter_count(model) * model.dtype.itemsize + cached) / bandwidth
    return {name: timing.as_json() for name, timing in timings.items()} | {
        "peak_bytes": peak,
        "held_bytes": held,
        "tokens_per_s": rows * new_tokens / timings["rollout"].median,
        "share_of_floor": floor / timings["rollout"].median,
    }


def _allocated() -> int:
    return torch.cuda.memory_allocated() if torch.cuda.is_available() else 0


def lend_to_peer(model: PreTrainedModel) -> Any:
    """The model with a PEFT adapter, until it is unloaded.

    PEFT's own initialisation decomposes every weight, hours at this size: its factors are replaced by random ones.
    """
    from peft import TinyLoraConfig, get_peft_model
    from peft.tuners.tinylora import layer

    def random_factors(self: Any, adapter_name: str, r: int, fan_in_fan_out: bool) -> None:
        weight = self.get_base_layer().weight
        self.tinylora_A[adapter_name] = torch.randn(r, weight.shape[1], dtype=weight.dtype, device=weight.device)
        self.tinylora_B[adapter_name] = torch.randn(weight.shape[0], r, dtype=weight.dtype, device=weight.device)
        self.r[adapter_name] = r

    settings = TinyLoraConfig(r=2, u=SIZES[0], weight_tying=1.0, target_modules="all-linear")
    with patch.object(layer.TinyLoraLayer, "_init_svd", random_factors):
        return get_peft_model(model, settings)


def measure_peer(model: PreTrainedModel, new_tokens: int, rounds: int) -> dict[str, Any]:
    """`generate` and one GRPO step of a single PEFT adapter on the same work, with our loss; the weights are lent."""
    pack, _ = open_lanes(model, 1, new_tokens)
    detach(pack)
    prompts = pack.encode_prompts(pack.task.batch(0, 1, PROMPTS))
    peer = lend_to_peer(model)
    ids, mask = left_pad([prompt for prompt in prompts for _ in range(SAMPLES)], pack.engine.pad_token, model.device)
    advantages = torch.randn(len(ids), device=model.device)

    def step() -> None:
        with torch.no_grad():
            sampled = peer.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=True,
                top_k=0,
                max_new_tokens=new_tokens,
                min_new_tokens=new_tokens,
            )
        tokens = sampled[:, ids.shape[1] :].tolist()
        completions = Completions(prompts, torch.zeros(len(prompts), dtype=torch.long), tokens)
        for batch in micro_batches(lay_out(completions, range(PROMPTS), width=0), pack.engine.limits.pass_tokens):
            logp = completion_logps(model, completions, batch)
            loss = grpo_loss(logp, logp.detach(), advantages[numbers(batch)], torch.ones_like(logp), 2.0)
            (loss.sum() / sum(map(len, tokens))).backward()

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    timing = alternate({"step": step}, rounds)["step"]
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    peer.unload()
    return {"step": timing.as_json(), "peak_bytes": peak}


def copy_bandwidth(device: torch.device) -> float:
    """Bytes per second that are read and written when a large tensor is copied."""
    source = torch.empty(2**30 if device.type == "cuda" else 2**26, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = [timed(lambda: target.copy_(source)) for _ in range(10)]
    return 2 * source.numel() / Timing(tuple(seconds[2:])).median


def rows(result: dict[str, Any]) -> list[list[str]]:
    """Lines of the table with HEADING."""
    table = []
    fewest, first = next(iter(result["lanes"].items()))
    for lanes, found in result["lanes"].items():
        step, peak = found["step"]["median_s"], found["peak_bytes"] / 2**30
        numbers = [f"{found['tokens_per_s']:,.0f}", f"{found['share_of_floor']:.2f}", f"{step:.2f}"]
        added = (found["held_bytes"] - first["held_bytes"]) / max(1, int(lanes) - int(fewest)) / 2**20
        table.append([f"{lanes} lanes", *numbers, f"{step / int(lanes):.3f}", f"{peak:.1f}", f"{added:.3f}"])
    peer = result["peer"]
    step, peak = peer["step"]["median_s"], peer["peak_bytes"] / 2**30
    return [*table, ["generate + PEFT, 1 adapter", "", "", f"{step:.2f}", f"{step:.3f}", f"{peak:.1f}", ""]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one model; every finished number of lanes is written to the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accelerator", description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="smollm2-135m")
    parser.add_argument("--lanes", default="1,4,21", help="packs to measure, with commas between")
    parser.add_argument("--new-tokens", type=int, default=256, help="length of every completion")
    parser.add_argument("--rounds", type=int, default=3, help="counted repetitions")
    parser.add_argument("--out", type=Path, default=Path("reports/accelerator.json"), help="file for the numbers")
    given = parser.parse_args(arguments)
    out = absolute(given.out, "--out")
    device = resolve_device("auto")
    model, bandwidth = random_model(given.model, device), copy_bandwidth(device)
    result: dict[str, Any] = {"machine": machine(), "model": given.model, "bandwidth": bandwidth, "lanes": {}}
    out.parent.mkdir(parents=True, exist_ok=True)
    shapes = Counter((shape[0], shape[1]) for shape in (weight_of(m).shape for m in adapted_modules(model).values()))
    for lanes in map(int, given.lanes.split(",")):
        result["lanes"][lanes] = measure(model, lanes, given.new_tokens, given.rounds, bandwidth)
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    result["peer"] = measure_peer(model, given.new_tokens, given.rounds)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    result["attach"] = attach = measure_shapes(shapes, device)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{given.model} on {result['machine']}, {bandwidth / 1e9:.0f} GB/s\n")
    print(markdown(HEADING, rows(result)))
    seconds = f"{attach['ours_s']:.3g} s, PEFT {attach['peer_s']:.3g} s"
    print(f"\nattaching to {attach['matrices']} matrices (one of each shape, times their number): {seconds}")


if __name__ == "__main__":
    main()
