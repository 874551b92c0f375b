"""Checks of what points ask for, before any is started: data, model files, tokenizer, template, prompts.

What needs no PyTorch comes first: it takes seconds to import, and most mistakes are found without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tinylora.adapters.tying import tie
from tinylora.models.files import read_template, require_whole
from tinylora.models.find import config_folder
from tinylora.models.hub import WEIGHTS
from tinylora.models.shapes import ModuleShape
from tinylora.settings.config import Adapter, Algorithm, RunConfig
from tinylora.settings.errors import UsageError, require
from tinylora.settings.identity import content_digest
from tinylora.tasks import Task, task_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LONGEST = 64  # questions that are made into prompts: the longest have the longest prompts


def check_inputs(configs: Sequence[RunConfig], in_jobs: bool = False) -> Callable[[RunConfig], Task]:
    """Raise UsageError or FailureError for the first point whose data or model cannot be what it asks for.

    Points that run `in_jobs` may have another device than there is here. Returns what gives the task of a point, which
    has been read.
    """
    tasks = {key: checked_task(config) for key, config in _different(configs, _of_task).items()}
    models = _different(configs, lambda config: repr(config.model))
    for config in models.values():
        folder = config_folder(config.model)
        read_template(config.model)
        require_noted_template(config)
        if any(folder.glob(WEIGHTS)):  # else it is of the hub and not fetched yet
            require_whole(folder)
    _check_models(configs, models, tasks, in_jobs)
    return lambda config: tasks[_of_task(config)]


def checked_task(config: RunConfig) -> Task:
    """The task of a point, read with its suites; there is something to learn from where something is trained."""
    task = task_of(config)
    if config.training_steps > 0:
        problem = task.batch(config.seed, 1, 1)[0]
        if config.algorithm.name is Algorithm.sft:
            task.demonstration(problem, config.task.demonstrations)
    return task


def require_noted_template(config: RunConfig) -> None:
    """Raise UsageError where the template's content is not the one that was noted as the point was composed."""
    template, noted = config.model.chat_template, config.model.chat_template_digest
    if template is not None and noted is not None and (found := content_digest(Path(template))) != noted:
        raise UsageError(
            f"model.chat_template={template}",
            f"the content of this file counts: it was {noted} when the run was asked for, and is {found} now",
            "restore it, or give the command again, which then asks for another run",
        )


def require_template(config: RunConfig, task: Task, tokens: PreTrainedTokenizerBase) -> None:
    """Raise UsageError where the task is a conversation and the tokenizer has no template of one."""
    if task.chat and not tokens.chat_template:
        raise UsageError(
            f"model {config.model.identity} on task {task.name}",
            "the task is a conversation and needs the model's chat template, which its tokenizer lacks",
            "take an instruction-tuned model, or add chat_template.jinja to the model folder",
        )


def _different(configs: Sequence[RunConfig], key: Callable[[RunConfig], str]) -> dict[str, RunConfig]:
    """One point of each key."""
    return {key(config): config for config in reversed(configs)}


def _of_task(config: RunConfig) -> str:
    """Another seed or number of problems is nothing new to a task."""
    asked = (config.task, config.eval.suites, config.algorithm.name, config.training_steps > 0)
    return repr(asked)


def _check_models(
    configs: Sequence[RunConfig], models: Mapping[str, RunConfig], tasks: Mapping[str, Task], in_jobs: bool
) -> None:
    from tinylora.models.load import known_tokenizer, outline, require_context, resolve_device

    for config in models.values():
        resolve_device(config.model.device, elsewhere=in_jobs)
    outlines = {key: outline(config.model) for key, config in models.items()}
    for config in configs:
        _check_adapter(config, outlines[repr(config.model)], in_jobs)
    for config in _different(configs, lambda config: repr((config.model, config.rollout.max_new_tokens))).values():
        require_context(config, longest_prompt=1)  # the prompts themselves are counted with the tokenizer
    tokenizers = {key: known_tokenizer(config.model) for key, config in models.items()}
    for config in _different(configs, lambda config: repr(config.model) + _of_task(config)).values():
        tokens = tokenizers[repr(config.model)]
        if tokens is not None:
            _check_prompts(config, tasks[_of_task(config)], tokens)


def _check_adapter(config: RunConfig, maps: Sequence[ModuleShape], in_jobs: bool) -> None:
    if not config.adapter.name.has_basis:
        return
    tie([module.name for module in maps], config.sharing, config.n_tie)
    smallest = min(min(module.d_out, module.d_in) for module in maps)
    if config.rank > smallest:
        raise UsageError(
            f"rank={config.rank}",
            f"the smallest side of an adapted weight of {config.model.identity} is {smallest}, and no basis has more",
            f"give rank={smallest} or less",
        )
    if config.adapter.name is Adapter.tinylora:
        needed = 2 * 4 * len(maps) * config.u * config.rank**2  # fp32, as they are drawn and then put together
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        require(
            in_jobs or needed <= memory,
            f"u={config.u} rank={config.rank}",
            f"the projections of {len(maps)} maps take {needed / 1e9:,.1f} GB, and this machine has {memory / 1e9:.1f}",
            "give a smaller u",
        )


def _check_prompts(config: RunConfig, task: Task, tokens: PreTrainedTokenizerBase) -> None:
    """The longest prompts of a task can be made, and leave room for a completion."""
    from tinylora.models.load import require_room
    from tinylora.models.templates import render

    require_template(config, task, tokens)
    texts = sorted((task.prompt(problem) for problem in task.known_problems()), key=len, reverse=True)[:LONGEST]
    texts = texts or [task.prompt(task.batch(config.seed, 1, 1)[0])]
    if task.chat:
        texts = render(tokens, texts)
    lengths = [len(ids) for ids in tokens(texts, add_special_tokens=not task.chat).input_ids]
    if min(lengths) == 0:
        raise UsageError(
            f"model {config.model.identity} on task {task.name}",
            f"a prompt has tokens, and its tokenizer makes none of {texts[lengths.index(0)][:80]!r}",
            "put the model's tokenizer into its folder, or correct the chat template",
        )
    require_room(config.model, max(lengths))
