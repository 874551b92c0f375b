"""Evaluates adapters that are there, and writes down what they are worth (`records.evaluations`).

All adapters of a pack answer a suite in one batch. After each suite the result of each adapter is on the disk, so that
whatever ends this in the middle costs one suite of one pack.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tinylora import answers
from tinylora.models.find import digest, resolve_folder, tokenizer_digest
from tinylora.records.evaluations import Evaluated, add_evaluation, read_evaluations
from tinylora.records.progress import Progress
from tinylora.records.source import git_state
from tinylora.settings.config import RunConfig, flatten
from tinylora.settings.errors import UsageError
from tinylora.settings.identity import digest as digest_of_settings
from tinylora.settings.identity import hashed_settings
from tinylora.tasks import Task, task_of
from tinylora.tasks.problem import Suite
from tinylora.train.evaluate import evaluate_suite
from tinylora.train.used import Used, open_used

OWN = ("validation", "test")
"""The suites that a task has by itself; all others are given as eval.suites."""
GROUPS = ("model", "task", "rollout")  # of the settings, those that an evaluation depends on


@dataclass(frozen=True)
class Asked:
    """One suite, to be answered by one adapter."""

    used: Used
    suite: Suite
    settings: dict[str, Any]
    made_with: dict[str, Any]

    @property
    def key(self) -> str:
        """12 hex digits over all that the result depends on beside v."""
        return digest_of_settings({"settings": self.settings, "made_with": self.made_with})[:12]

    def found(self) -> Evaluated | None:
        """Its result, where it is there."""
        lines = read_evaluations(self.used.folder)
        same = (self.key, self.suite.name, self.used.step, self.used.file)
        return next((line for line in lines if (line.key, line.suite, line.step, line.file) == same), None)


def ask(adapters: Sequence[Used], names: Sequence[str] | None) -> list[Asked]:
    """What some adapters are to answer: of the suites of their settings those of these names (None: all).

    Raises UsageError where a suite is not there, or cannot be read.
    """
    tasks: dict[str, Task] = {}
    models: dict[str, dict[str, str]] = {}
    asked = []
    for used in adapters:
        config = used.config
        read = repr((config.task, config.eval.suites))
        tasks[read] = tasks.get(read) or task_of(config)
        known = repr((config.model, config.recipe))
        models[known] = models.get(known) or _of_model(config)
        made_with = models[known] | {"prompt_digest": tasks[read].prompt_digest, "checker_version": answers.VERSION}
        suites = {suite.name: suite for suite in tasks[read].suites(config.eval)}
        for name in suites if names is None else dict.fromkeys(names):
            if name not in suites:
                raise UsageError(
                    f"eval.suites with {name}, of {used.name}",
                    f"the sets of its task and settings are {', '.join(suites)}",
                    "give some of these, or further sets that task.folder or the hub has",
                )
            asked.append(_asked(used, suites[name], made_with))
    return asked


def _asked(used: Used, suite: Suite, made_with: dict[str, Any]) -> Asked:
    settings = {name: group for name, group in hashed_settings(used.config).items() if name in GROUPS}
    samples = max(suite.samples, used.config.eval.samples)
    problems = json.dumps([(each.id, each.question, each.answer) for each in suite.problems])
    of_suite = hashlib.sha256(problems.encode()).hexdigest()[:16]
    return Asked(used, suite, flatten(settings) | {"eval.samples": samples}, made_with | {"suite_digest": of_suite})


def _of_model(config: RunConfig) -> dict[str, str]:
    folder = resolve_folder(config.model)
    of_tokenizer = tokenizer_digest(folder, config.recipe, remember=True)
    return {"model_digest": digest(folder, remember=True), "tokenizer_digest": of_tokenizer}


def evaluate_pack(asked: Sequence[Asked], progress: Progress) -> list[str]:
    """Find out and write down what is asked of adapters that fit into one pack; returns sentences on those that failed.

    Raises UsageError where an adapter is of another model.
    """
    adapters = list({id(each.used): each.used for each in asked}.values())
    lanes = {id(used): lane for lane, used in enumerate(adapters)}
    pack = open_used(adapters, progress)
    by_suite: dict[str, list[Asked]] = {}
    for each in asked:
        by_suite.setdefault(each.suite.name, []).append(each)
    for same in by_suite.values():
        _, measured = evaluate_suite(pack, [lanes[id(each.used)] for each in same], same[0].suite, progress)
        for each in same:
            lane = lanes[id(each.used)]
            if lane not in measured or pack.lanes[lane].failure is not None:
                continue
            (outcomes,) = measured[lane].items
            made_with = each.made_with | {"form_digest": pack.form.digest, **git_state()}
            what = (each.used.step, each.used.file, each.key, each.settings, made_with)
            add_evaluation(each.used.folder, Evaluated(round(time.time(), 3), *what, measured[lane].metrics, outcomes))
    return [f"{lane.label}: {lane.failure}" for lane in pack.lanes if lane.failure is not None]
