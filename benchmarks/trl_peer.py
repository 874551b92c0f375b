"""The standard stack on the same work: TRL's GRPOTrainer with PEFT's TinyLoRA, thirteen values tied over all maps."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from benchmarks.workload import SIZES, TINY_RATE, Work
from tinylora.models.find import resolve_folder
from tinylora.models.load import TORCH_DTYPE
from tinylora.settings.errors import UsageError
from tinylora.tasks import Task
from tinylora.tasks.problem import Problem


def require_peers() -> None:
    """Raise UsageError where TRL or PEFT is not installed."""
    try:
        import peft  # noqa: F401
        import trl  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"a benchmark beside peers without {error.name}",
            "the peers that are measured are installed with the extra `bench`",
            "run `make bench`, or pip install -e .[bench]",
        ) from error


def train(
    work: Work, lengths: str, steps: int, after_step: Callable[[float, dict[str, Any]], None], folder: Path
) -> int:
    """Train for some steps; `after_step` is told the seconds of each and the batch that it trained on.

    The batch is the trainer's own, with its loss as "loss". Returns the number of trained values.
    """
    require_peers()
    from peft import TinyLoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOTrainer

    last: dict[str, Any] = {}
    task, folder_of_model = work.task_for(lengths), resolve_folder(work.points(1, lengths, folder)[0].model)
    tokenizer = AutoTokenizer.from_pretrained(folder_of_model, padding_side="left")
    problems = _asked(task, tokenizer, work.prompts, steps)
    types = {"dtype": TORCH_DTYPE[work.dtype], "attn_implementation": work.attention.value}

    class Trainer(GRPOTrainer):  # type: ignore[misc]
        def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
            loss = super()._compute_loss(model, inputs)
            last.update(inputs, loss=float(loss))
            return loss

    trainer = Trainer(
        model=AutoModelForCausalLM.from_pretrained(folder_of_model, **types),
        reward_funcs=_reward(task, problems),
        args=_settings(work, lengths, steps, folder),
        train_dataset=_prompts(problems),
        processing_class=tokenizer,
        peft_config=TinyLoraConfig(r=2, u=SIZES[0], weight_tying=1.0, target_modules="all-linear"),
        callbacks=[_watch(after_step, last)],
    )
    with redirect_stdout(sys.stderr):  # where its log belongs
        trainer.train()
    return _trained_values(trainer.model)


def _watch(after_step: Callable[[float, dict[str, Any]], None], last: dict[str, Any]) -> Any:
    """The callback that tells the seconds of each step, and the batch that it trained on."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        def on_step_begin(self, *arguments: Any, **keywords: Any) -> None:
            self.started = time.perf_counter()

        def on_step_end(self, *arguments: Any, **keywords: Any) -> None:
            after_step(time.perf_counter() - self.started, last)

    return Watch()


def _trained_values(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _prompts(problems: Mapping[str, Problem]) -> Any:
    from datasets import Dataset

    return Dataset.from_list([{"prompt": question} for question in problems])


def _asked(task: Task, tokenizer: Any, prompts: int, steps: int) -> dict[str, Problem]:
    """The problems of all steps by what the model reads, as text."""
    problems = [problem for step in range(steps) for problem in task.batch(0, step + 1, prompts)]
    texts = [task.prompt(problem) for problem in problems]
    if task.chat:
        messages = [[{"role": "user", "content": text}] for text in texts]
        texts = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return dict(zip(texts, problems, strict=True))


def _reward(task: Task, problems: Mapping[str, Problem]) -> Callable[..., list[float]]:
    def reward(prompts: Sequence[str], completions: Sequence[str], **keywords: Any) -> list[float]:
        scores = task.score_all([problems[question] for question in prompts], completions)
        return [score.reward for score in scores]

    return reward


def _settings(work: Work, lengths: str, steps: int, folder: Path) -> Any:
    from trl import GRPOConfig

    return GRPOConfig(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=work.prompts * work.samples,
        num_generations=work.samples,
        max_completion_length=work.tokens,
        temperature=work.temperature_of(lengths),
        beta=0.0,
        learning_rate=TINY_RATE,
        generation_kwargs={"min_new_tokens": work.tokens} if lengths == "full" else None,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        shuffle_dataset=False,
        dataloader_pin_memory=False,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
