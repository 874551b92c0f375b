"""A pack: an engine, a task, and the lanes that are trained together; and what each lane owns."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch
from transformers import PreTrainedModel

from tinylora.adapters.base import Adapters
from tinylora.adapters.basis import Basis
from tinylora.adapters.basis_cache import FOLDER, cached_basis
from tinylora.adapters.full import OwnModel
from tinylora.adapters.lane import Lane, LaneSpec
from tinylora.adapters.lora import Lora
from tinylora.adapters.noise import torch_stream
from tinylora.adapters.tinylora import TinyLora
from tinylora.answers.rewards import Score
from tinylora.engine.engine import Engine, advice_for, build_engine
from tinylora.engine.known_layouts import layout_of
from tinylora.engine.layout import Reading
from tinylora.engine.ranks import Ranks
from tinylora.models.find import digest, resolve_folder, tokenizer_digest
from tinylora.models.form import Form, form_of
from tinylora.models.load import load
from tinylora.models.maps import adapted_modules, weight_of
from tinylora.records.progress import Progress
from tinylora.records.samples import Sample
from tinylora.settings.config import Adapter, RunConfig
from tinylora.settings.files import cache_folder
from tinylora.settings.uses import TRAINS_ON_SETS
from tinylora.tasks import Task, task_of
from tinylora.tasks.problem import Problem
from tinylora.tasks.question_sets import QuestionTask
from tinylora.train.guards import Watch
from tinylora.train.inputs import require_template

Metrics = dict[str, float]
LaneMetrics = dict[int, Metrics]
"""Metrics by the index of the lane that they are of."""


@dataclass
class LaneRun:
    """One point's place in a pack: its configuration, v, optimizer, counter and fate."""

    index: int  # its number in the adapters
    config: RunConfig
    label: str
    adapter: Lane
    optimizer: torch.optim.Adam
    watch: Watch  # what its steps have shown
    step: int = 0  # optimizer steps done
    tokens_sampled: int = 0  # in the rollouts of these steps
    tokens_trained: int = 0  # completion tokens that had a part in their gradients
    failure: str | None = None  # why it was stopped
    best_reward: float | None = None  # of a random search: the mean reward of v, which is its best candidate so far
    samples: Sequence[Sample] = ()  # what is kept of the completions of its newest training step

    @property
    def v(self) -> torch.nn.Parameter:
        """The trained values: TinyLoRA's (K, u), or those of another adapter."""
        return self.adapter.v

    @property
    def tokens_so_far(self) -> Metrics:
        """Tokens of all its steps, by which different algorithms are compared at equal effort."""
        return {"train/tokens_sampled": self.tokens_sampled, "train/tokens_trained": self.tokens_trained}

    @property
    def done(self) -> bool:
        """Whether all its steps are trained."""
        return self.step >= self.config.training_steps


@dataclass(frozen=True)
class Judged:
    """The verdict on a completion, and its text where that is kept."""

    score: Score
    text: str | None


@dataclass(frozen=True)
class Pack:
    """An engine with what is asked of it: a task, the form of its texts as tokens, and the lanes."""

    config: RunConfig  # any lane's: they agree on all that is not a lane field
    engine: Engine
    task: Task
    form: Form
    lanes: Sequence[LaneRun]
    basis: Basis | None  # of adapters that are made of one
    model_digest: str
    tokenizer_digest: str

    def encode_prompts(self, problems: Sequence[Problem]) -> list[list[int]]:
        """The tokens of problems' prompts, in the chat template where the task is a conversation."""
        return self.form.prompts([self.task.prompt(problem) for problem in problems])

    def encode_completions(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of demonstrations, each with the end token."""
        return self.form.completions(texts)

    def decode(self, completions: Sequence[Sequence[int]]) -> list[str]:
        """The texts of completions, without the tokens that end them."""
        return self.form.decode(completions)

    def score(self, problems: Sequence[Problem], completions: Sequence[Sequence[int]]) -> list[Score]:
        """The verdicts on completions, each of which answers the problem at its place; the ranks share the work."""
        return [judged.score for judged in self.judge(problems, completions, kept=())]

    def judge(
        self, problems: Sequence[Problem], completions: Sequence[Sequence[int]], kept: Collection[int]
    ) -> list[Judged]:
        """The same, with the texts of those completions that are `kept`, by their places."""

        def judge(share: Sequence[tuple[Problem, Sequence[int], bool]]) -> list[Judged]:
            texts = self.decode([tokens for _, tokens, _ in share])
            scores = self.task.score_all([problem for problem, *_ in share], texts)
            return [
                Judged(score, text if keeps else None)
                for score, text, (*_, keeps) in zip(scores, texts, share, strict=True)
            ]

        keeps = [place in kept for place in range(len(problems))]
        return self.engine.ranks.share(list(zip(problems, completions, keeps, strict=True)), judge)


def load_pack(
    configs: Sequence[RunConfig], labels: Sequence[str], progress: Progress, ranks: Ranks | None = None
) -> Pack:
    """Load what the points share (model, task, basis), with a lane for each point, before its first step.

    `labels` are the short names of the lanes.
    """
    config, ranks = configs[0], ranks or Ranks()
    assert len({c.pack_key for c in configs}) == 1, "the points of a pack differ in more than lane fields"
    progress.phase(f"loading {config.model.identity}")
    folder = resolve_folder(config.model)
    model, tokenizer = load(config.model)
    task = task_of(config)
    require_template(config, task, tokenizer)
    form = form_of(config.model, tokenizer, task.chat, config.task.system_message)
    if config.task.max_prompt_tokens is not None and isinstance(task, QuestionTask) and TRAINS_ON_SETS(config):
        task.leave_out_long(config.task.max_prompt_tokens, lambda texts: list(map(len, form.prompts(texts))))
    for note in (*task.notes, *form.notes, *filter(None, [advice_for(model)])):
        progress.phase(note)
    model_digest = digest(folder)
    weights = {name: weight_of(module) for name, module in adapted_modules(model).items()}
    basis = None
    if config.adapter.name.has_basis:
        with ranks.leader_first():  # the others then find it in the cache
            basis = _basis_of(config, weights, model_digest, progress)
    adapters, layout = make_adapters(configs, model, weights, basis), layout_of(config.model)
    if layout.reading is not Reading.padded:
        progress.phase(f"rollouts of {config.model.identity} are slow: {layout.reading.words}")
    engine = build_engine(model, tokenizer, form.end_tokens, adapters, layout, config, ranks)
    lanes = [open_lane(engine.adapters, *lane) for lane in zip(count(), configs, labels, strict=False)]
    return Pack(config, engine, task, form, lanes, basis, model_digest, tokenizer_digest(folder, config.recipe))


def prepare_basis(config: RunConfig, progress: Progress) -> None:
    """Compute the basis of a point's adapter into the cache of the machine, where it is not there yet."""
    progress.phase(f"loading {config.model.identity}")
    model, _ = load(config.model)
    weights = {name: weight_of(module) for name, module in adapted_modules(model).items()}
    _basis_of(config, weights, digest(resolve_folder(config.model)), progress)


def _basis_of(config: RunConfig, weights: Mapping[str, torch.Tensor], model_digest: str, progress: Progress) -> Basis:
    cache, earlier = cache_folder() / FOLDER, Path(config.outputs_dir) / FOLDER
    return cached_basis(weights, config.rank, config.adapter.solver, cache, model_digest, progress.phase, earlier)


def make_adapters(
    configs: Sequence[RunConfig], model: PreTrainedModel, weights: Mapping[str, torch.Tensor], basis: Basis | None
) -> Adapters:
    """The trained part of some points on one model, whose adapted `weights` (d_out, d_in) go by name."""
    config, specs, names = configs[0], [LaneSpec.of(config) for config in configs], list(weights)
    if basis is not None:
        return TinyLora(model, basis, specs)
    if config.adapter.name is Adapter.lora:
        shapes = {name: (weight.shape[0], weight.shape[1]) for name, weight in weights.items()}
        return Lora(model, shapes, config.rank, specs)
    assert len(configs) == 1, "it has a model of its own"
    return OwnModel(model, names, specs[0])


def open_lane(adapters: Adapters, index: int, config: RunConfig, label: str) -> LaneRun:
    """A lane before its first step, with Adam on its v."""
    adapter = adapters.lane(index)
    return LaneRun(index, config, label, adapter, torch.optim.Adam([adapter.v], lr=config.learning_rate), Watch(config))


def apply_gradient(adapters: Adapters, lane: LaneRun, loss: float) -> dict[str, float]:
    """One optimizer step of one lane; a lane whose loss, gradient or v is not finite is stopped, with v as it was.

    Returns the lane's loss, gradient norm and the norm of v after the step.
    """
    assert lane.v.grad is not None, "no gradient has reached this lane"
    norm = float(torch.linalg.vector_norm(lane.v.grad))
    before = lane.adapter.unrounded.clone()
    for what, value in (("loss", loss), ("gradient norm", norm)):
        if not math.isfinite(value):
            lane.failure = f"the {what} is {value} at step {lane.step + 1}"
    if lane.failure is None:
        adapters.step(lane.index, lane.optimizer, torch_stream(lane.config.seed, "rounding", lane.step + 1))
        if not bool(torch.isfinite(lane.v).all()):
            lane.failure = f"v is not finite at step {lane.step + 1} (stored as {lane.config.precision.value})"
            lane.adapter.hold(before)
            adapters.round()
    lane.optimizer.zero_grad(set_to_none=True)
    v_norm = float(torch.linalg.vector_norm(lane.v.detach()))
    return {"train/loss": loss, "train/grad_norm": norm, "train/v_norm": v_norm}
