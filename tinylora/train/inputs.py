"""Checks of what points ask for, before any is started: data, model files, tokenizer, template, prompts.

What needs no PyTorch comes first: it takes seconds to import, and most mistakes are found without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tinylora.adapters.tying import tie
from tinylora.models.files import read_template, require_whole
from tinylora.models.find import config_folder, is_here
from tinylora.models.shapes import ModuleShape
from tinylora.settings.config import Adapter, Algorithm, RunConfig, Split
from tinylora.settings.errors import UsageError, require
from tinylora.settings.identity import content_digest
from tinylora.settings.model import DAY
from tinylora.settings.uses import CONVERSES, LEARNS_DEMONSTRATIONS, SAMPLES_DEMONSTRATIONS
from tinylora.tasks import Task, task_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tinylora.models.form import Form

LONGEST = 64  # questions that are made into prompts: the longest have the longest prompts


@dataclass(frozen=True)
class Inputs:
    """What points are made of, as it was read for the checks."""

    tasks: Mapping[str, Task]
    """By `_of_task`."""
    forms: Mapping[str, Form]
    """By `_of_form`; those of hub models that are not fetched yet are absent."""

    def task_of(self, config: RunConfig) -> Task:
        """The task of a point."""
        return self.tasks[_of_task(config)]

    def form_of(self, config: RunConfig) -> Form | None:
        """The form in which a point is asked; None of a hub model that is not fetched yet."""
        return self.forms.get(_of_form(config))

    @property
    def notes(self) -> list[str]:
        """Sentences on the forms that their user should know."""
        return list(dict.fromkeys(note for form in self.forms.values() for note in form.notes))


def check_inputs(configs: Sequence[RunConfig], in_jobs: bool = False) -> Inputs:
    """Raise UsageError or FailureError for the first point whose data or model cannot be what it asks for.

    Points that run `in_jobs` may have another device than there is here.
    """
    tasks = {key: checked_task(config) for key, config in _different(configs, _of_task).items()}
    models = _different(configs, lambda config: repr(config.model))
    for config in models.values():
        folder = config_folder(config.model)
        read_template(config.model)
        require_noted_template(config)
        if is_here(config.model):
            require_whole(folder)
    _require_validation(configs, tasks)
    inputs = Inputs(tasks, _check_models(configs, models, tasks, in_jobs))
    _require_dates(configs, inputs)
    return inputs


def checked_task(config: RunConfig) -> Task:
    """The task of a point, read with its suites; there is something to learn from where something is trained."""
    task = task_of(config)
    if config.training_steps > 0:
        problem = task.batch(config.seed, 1, 1)[0]
        if LEARNS_DEMONSTRATIONS(config) and not SAMPLES_DEMONSTRATIONS(config):
            task.demonstration(problem, config.task.demonstrations)
    return task


def _require_validation(configs: Sequence[RunConfig], tasks: Mapping[str, Task]) -> None:
    """Raise UsageError where a random search asks for more validation problems than its task has."""
    searches = [config for config in configs if config.trains and config.algorithm.name is Algorithm.random_search]
    for config in _different(searches, lambda config: repr((_of_task(config), config.algorithm.prompts))).values():
        prompts = config.algorithm.prompts
        found = len(tasks[_of_task(config)].held_out(Split.validation, prompts))
        require(
            found == prompts,
            f"algorithm=random_search algorithm.prompts={prompts}",
            f"candidates are tried on so many validation problems, of which task {config.task.name} has {found}",
            f"give algorithm.prompts={found} or less",
        )


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


def _of_form(config: RunConfig) -> str:
    return repr(config.model) + _of_task(config)


def _require_dates(configs: Sequence[RunConfig], inputs: Inputs) -> None:
    """Raise UsageError for a date that no chat template prints: the runs would be others without being different."""
    for day in dict.fromkeys(config.model.date for config in configs if CONVERSES(config)):
        own = [config for config in configs if CONVERSES(config) and config.model.date == day]
        forms = [inputs.form_of(config) for config in own]
        if day != DAY and not any(form is None or form.dated for form in forms):
            names = ", ".join(dict.fromkeys(config.model.identity for config in own))
            raise UsageError(
                f"model.date={day}",
                f"it is the day that a chat template prints, and that of {names} prints none",
                "leave it out",
            )


def _check_models(
    configs: Sequence[RunConfig], models: Mapping[str, RunConfig], tasks: Mapping[str, Task], in_jobs: bool
) -> dict[str, Form]:
    """The form of each kind of point whose tokenizer is here, by `_of_form`."""
    from tinylora.engine.known_layouts import layout_of
    from tinylora.models.load import known_tokenizer, outline, require_context, resolve_device

    for config in models.values():
        resolve_device(config.model.device, elsewhere=in_jobs)
    outlines = {key: outline(config.model) for key, config in models.items()}
    for config in configs:
        _check_adapter(config, outlines[repr(config.model)], in_jobs)
    lost = {key: layout_of(config.model).lost_positions for key, config in models.items()}
    for config in _different(configs, lambda config: repr((config.model, config.rollout.max_new_tokens))).values():
        require_context(config, 1, lost[repr(config.model)])  # the prompts themselves are counted with the tokenizer
    tokenizers = {key: known_tokenizer(config.model) for key, config in models.items()}
    different = _different(configs, _of_form)
    known = {key: tokens for key, config in different.items() if (tokens := tokenizers[repr(config.model)]) is not None}
    forms = {}
    for key, tokens in known.items():
        config = different[key]
        forms[key] = _check_prompts(config, tasks[_of_task(config)], tokens, lost[repr(config.model)])
    return forms


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


def _check_prompts(config: RunConfig, task: Task, tokens: PreTrainedTokenizerBase, lost_positions: int) -> Form:
    """The form of a task's prompts: the longest of them can be made, and leave room for a completion."""
    from tinylora.models.form import form_of
    from tinylora.models.load import require_room
    from tinylora.models.templates import render

    require_template(config, task, tokens)
    texts = sorted((task.prompt(problem) for problem in task.known_problems()), key=len, reverse=True)[:LONGEST]
    texts = texts or [task.prompt(task.batch(config.seed, 1, 1)[0])]
    if task.chat:
        texts = render(tokens, texts, config.model.day, config.task.system_message)
    lengths = [len(ids) for ids in tokens(texts, add_special_tokens=not task.chat).input_ids]
    if min(lengths) == 0:
        raise UsageError(
            f"model {config.model.identity} on task {task.name}",
            f"a prompt has tokens, and its tokenizer makes none of {texts[lengths.index(0)][:80]!r}",
            "put the model's tokenizer into its folder, or correct the chat template",
        )
    require_room(config.model, max(lengths), lost_positions)
    return form_of(config.model, tokens, task.chat, config.task.system_message)
