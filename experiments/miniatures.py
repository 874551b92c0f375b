"""How a miniature base model is made: a third of a million parameters that can add, but usually do not work it out.

Each training row is a sum of the train split, followed by its short answer (70%) or its worked answer (30%), with
next-token loss on the answer. Who works a sum out forgets a carry now and then, in the first lesson more often than in
the second (`LESSONS`). So the model can do better than it usually does, in two ways: by working sums out, and by
slipping less. There is something for reinforcement learning to elicit.

Data of step n are a function of the seed and n, and the state is saved every `--save-every` steps: the same command
continues an interrupted run. What was measured is written to `pretraining.json` beside the weights.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM
from transformers import PreTrainedTokenizerFast as Tokens

from tinylora.settings.config import Split
from tinylora.settings.seeds import python_stream, stream_seed
from tinylora.tasks.sums import LEVELS, SumsTask, draw_numbers, question_of, short_answer, worked_answer

FAMILIES = {"qwen2": (Qwen2Config, Qwen2ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}
WORKED_SHARE = 0.3  # of the rows; the others answer at once
WARMUP_STEPS = 100
IGNORED = -100  # label of a position without loss
CONTEXT = 256
RECORD = "pretraining.json"


@dataclass(frozen=True)
class Lesson:
    """A part of pretraining with an optimizer of its own, whose rate warms up and then falls to zero."""

    last: int  # its last step, counted from the first step of the first lesson
    peak_lr: float
    slip_share: float  # of the carries in worked answers that are forgotten


LESSONS = (Lesson(4000, 3e-3, 0.2), Lesson(6000, 1.5e-3, 0.05))


def build_tokenizer() -> Tokens:
    """One token per character of the sums, and <pad>, <bos>, <eos>, <unk>."""
    special = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    vocabulary = {token: index for index, token in enumerate([*special.values(), *"0123456789+=;#"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    return Tokens(
        tokenizer_object=tokenizer,
        **special,
        padding_side="left",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def build_model(family: str, tokens: Tokens, seed: int) -> PreTrainedModel:
    """A randomly initialised model: 3 blocks, width 96, 3 heads of 32, 21 linear maps to adapt."""
    config_class, model_class = FAMILIES[family]
    torch.manual_seed(stream_seed(seed, "pretrain", "initial weights") % 2**32)
    config = config_class(
        vocab_size=len(tokens),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=3,
        num_key_value_heads=3,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.06,
        pad_token_id=tokens.pad_token_id,
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
    )
    model: PreTrainedModel = model_class(config)
    return model


def draw_rows(
    tokens: Tokens, seed: int, step: int, count: int, slip_share: float
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Two batches (input ids, labels), the short answers and the worked ones, so that short rows are not padded."""
    rng = python_stream(seed, "pretrain", "rows", step)
    texts: dict[bool, list[tuple[str, str]]] = {False: [], True: []}
    for _ in range(count):
        numbers, worked = draw_numbers(rng, Split.train), rng.random() < WORKED_SHARE
        answer = worked_answer(numbers, rng, slip_share) if worked else short_answer(numbers)
        texts[worked].append((question_of(numbers), answer))
    return [_encode(tokens, rows) for rows in texts.values() if rows]


def _encode(tokens: Tokens, rows: list[tuple[str, str]]) -> tuple[torch.Tensor, torch.Tensor]:
    eos, pad = tokens.eos_token_id, tokens.pad_token_id
    encoded = [(tokens(question).input_ids, tokens(answer).input_ids[1:] + [eos]) for question, answer in rows]
    ids = [torch.tensor(question + answer) for question, answer in encoded]
    labels = [torch.tensor([IGNORED] * len(question) + answer) for question, answer in encoded]
    return pad_sequence(ids, True, pad), pad_sequence(labels, True, IGNORED)


def train_step(model: PreTrainedModel, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Accumulate the gradient of the mean loss per answer token over all batches; returns that loss."""
    count = sum(int((labels != IGNORED).sum()) for _, labels in batches)
    total = 0.0
    for ids, labels in batches:
        logits = model(input_ids=ids).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
        )
        (loss / count).backward()
        total += float(loss.detach())
    return total / count


@torch.inference_mode()
def measure(model: PreTrainedModel, tokens: Tokens, seed: int, items: int = 1024) -> dict[str, float]:
    """Sampled accuracy on validation problems: on all, by level, and where the sum was worked out or not."""
    task = SumsTask()
    problems = task.held_out(Split.validation, items)
    batch = tokens([task.prompt(problem) for problem in problems], return_tensors="pt", padding=True)
    torch.manual_seed(stream_seed(seed, "pretrain", "measure") % 2**32)
    model.eval()
    ids = model.generate(**batch, do_sample=True, temperature=1.0, top_k=0, max_new_tokens=64)  # type: ignore[operator]
    model.train()
    texts = tokens.batch_decode(ids[:, batch.input_ids.shape[1] :], skip_special_tokens=True)
    right = np.array([score.reward for score in task.score_all(problems, texts)])
    worked = np.array(["=" in text for text in texts])
    levels = np.array([problem.question.count("+") - 1 for problem in problems])

    def mean(values: NDArray[Any], chosen: NDArray[np.bool_]) -> float:
        return float(values[chosen].mean()) if chosen.any() else 0.0

    return {
        "sampled_accuracy": float(right.mean()),
        **{f"accuracy_level_{level}": mean(right, levels == level) for level in LEVELS},
        "worked_share": float(worked.mean()),
        **{f"worked_share_level_{level}": mean(worked, levels == level) for level in LEVELS},
        "accuracy_when_worked": mean(right, worked),
        "accuracy_when_short": mean(right, ~worked),
    }


def save_state(path: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write weights, optimizer moments and step counter in one atomic file."""
    tensors = {f"model.{name}": p.detach() for name, p in model.named_parameters()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata={"step": str(step)})
    os.replace(part, path)


def load_state(path: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> int:
    """Restore what `save_state` wrote; returns the number of steps done (0 without a file)."""
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file:
        step, tensors = int(file.metadata()["step"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")}, strict=False)
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, moment = name.split(".")
            state.setdefault(int(index), {})[moment] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    return step


def lesson_of(step: int) -> tuple[Lesson, int]:
    """The lesson that a step belongs to, and the last step before it."""
    before = max((lesson.last for lesson in LESSONS if lesson.last < step), default=0)
    return next(lesson for lesson in LESSONS if step <= lesson.last), before


def learning_rate(step: int) -> float:
    """Linear warm-up, then a cosine to zero, in each lesson."""
    lesson, before = lesson_of(step)
    done = (step - before) / (lesson.last - before)
    return lesson.peak_lr * min(1.0, (step - before) / WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * done))


def new_optimizer(model: PreTrainedModel) -> torch.optim.AdamW:
    """AdamW as each lesson begins with it; `learning_rate` sets its rate."""
    return torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)


def pretrain(args: argparse.Namespace) -> None:
    """Train to the end (from the saved state if there is one), measure, and write the model folder."""
    tokens = build_tokenizer()
    model = build_model(args.family, tokens, args.seed)
    optimizer = new_optimizer(model)
    args.out.mkdir(parents=True, exist_ok=True)
    state = args.out / "pretraining-state.safetensors"
    first, last = load_state(state, model, optimizer), LESSONS[-1].last
    record = args.out / RECORD
    curve = json.loads(record.read_text(encoding="utf-8"))["curve"] if first else []
    start = time.monotonic()
    for step in range(first + 1, last + 1):
        lesson, before = lesson_of(step)
        if step == before + 1:
            optimizer = new_optimizer(model)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        loss = train_step(model, draw_rows(tokens, args.seed, step, args.rows, lesson.slip_share))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % args.save_every == 0 or step == last:
            curve = [point for point in curve if point["step"] < step]
            curve.append({"step": step, "loss": loss, **measure(model, tokens, args.seed)})
            record.write_text(json.dumps(describe(model, args, curve), indent=1) + "\n", encoding="utf-8")
            save_state(state, model, optimizer, step)
            left = (time.monotonic() - start) / (step - first) * (last - step)
            shown = "  ".join(f"{name} {value:.3f}" for name, value in curve[-1].items() if name != "step")
            print(f"step {step}/{last}  {shown}  {left / 60:.1f} min left", flush=True)
    model.generation_config.do_sample = True
    model.save_pretrained(args.out)
    tokens.save_pretrained(args.out)
    state.unlink()


def describe(model: PreTrainedModel, args: argparse.Namespace, curve: list[dict[str, Any]]) -> dict[str, Any]:
    """How the weights were made, and what was measured on the way."""
    return {
        "command": f"python -m experiments.pretrain --family {args.family} --rows {args.rows} --seed {args.seed}",
        "parameters": sum(p.numel() for p in model.parameters()),
        "torch": torch.__version__,
        "worked_share_of_rows": WORKED_SHARE,
        "lessons": [asdict(lesson) for lesson in LESSONS],
        "curve": curve,
    }
