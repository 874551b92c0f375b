"""What a point costs, from its settings and the sizes of its model alone: counts of values, tokens, bytes, operations.

Nothing is loaded: `experiments.plan` uses this before anything is downloaded or trained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tinylora.adapters.tying import Groups, freedom, tie
from tinylora.models.shapes import adapted_shapes, cached_token_bytes, shape_parameters
from tinylora.settings.algorithms import samples_of
from tinylora.settings.config import (
    Adapter,
    Algorithm,
    GrpoConfig,
    Precision,
    Rounding,
    RunConfig,
    SftConfig,
    ShapeConfig,
)
from tinylora.settings.groups import CACHE_SHARE
from tinylora.settings.uses import SAMPLES_DEMONSTRATIONS, reads_questions

SUMS_PROMPT, WORD_PROBLEM = 12, 200  # tokens assumed of a prompt: a sum; a word problem in the chat template
OPTIMIZER_BYTES = 16  # per trained value: v, its gradient and Adam's two moments, fp32
MASTER_BYTES = 4  # per trained value where v is rounded from a master
# Of what a step or an evaluation holds on the host, at the least: of a token that may be sampled (its noise, number and
# log-probability, the number as an object), and of a problem (its texts). A line of metrics as it is read.
TOKEN_BYTES, PROBLEM_BYTES, LINE_BYTES = 24, 500, 2000


@dataclass(frozen=True)
class Tokens:
    """Tokens of one run."""

    sampled: int
    """In rollouts and evaluations."""
    trained: int
    """Read forward and backward, prompts included."""


def trained_values(point: RunConfig, shape: ShapeConfig) -> int:
    """How many values a point trains; of full fine-tuning without the biases, under 0.02% of a model."""
    maps, kind = adapted_shapes(shape), point.adapter.name
    if kind is Adapter.none:
        return 0
    if kind is Adapter.full:
        return shape_parameters(shape)
    if kind is Adapter.lora:
        return point.rank * sum(module.d_out + module.d_in for module in maps)
    groups = groups_of(point, shape)
    return len(groups) * (point.u if kind is Adapter.tinylora else point.rank**2)


def degrees_of_freedom(point: RunConfig, shape: ShapeConfig) -> int:
    """Rank of the map from these values to the updates of all matrices."""
    if point.adapter.name is Adapter.tinylora:
        return freedom(groups_of(point, shape), point.u, point.rank)
    return trained_values(point, shape)


def groups_of(point: RunConfig, shape: ShapeConfig) -> Groups:
    """The groups of matrices that share a v."""
    return tie([module.name for module in adapted_shapes(shape)], point.sharing, point.n_tie)


def prompt_tokens(point: RunConfig) -> int:
    """Tokens assumed of a prompt of the point's task."""
    return SUMS_PROMPT if point.task.name == "sums" else WORD_PROBLEM


def run_tokens(point: RunConfig, response: int) -> Tokens:
    """Tokens of a run whose responses are `response` tokens long; demonstrations of SFT as long as responses."""
    algorithm, settings = point.algorithm, point.eval
    passes = 0 if algorithm.name is Algorithm.random_search else point.training_steps  # with a gradient
    completions = passes * algorithm.prompts * (samples_of(algorithm) or 1)
    rolled_out = point.training_steps * algorithm.prompts * _sampled_completions(point)
    items = settings.validation_items + settings.test_items * (1 + len(settings.suites))
    # Greedy and sampled, after training; the untrained model counts once for a pack.
    evaluated = (1 + settings.samples) * items * response
    sampled = rolled_out * response
    prompts = passes * algorithm.prompts * prompt_tokens(point)  # once for all samples, which share a row
    return Tokens(sampled + evaluated, completions * response + prompts)


def _sampled_completions(point: RunConfig) -> int:
    """Completions that are sampled of each problem of a step."""
    algorithm = point.algorithm
    if isinstance(algorithm, SftConfig):
        return algorithm.attempts if SAMPLES_DEMONSTRATIONS(point) else 0
    return samples_of(algorithm)


def operations(point: RunConfig, shape: ShapeConfig, tokens: Tokens) -> float:
    """Floating-point operations: 2 per parameter and token forward, as many for the gradient of the activations.

    Full fine-tuning takes as many again for the gradients of the weights, and a KL term one more pass forward.
    """
    algorithm = point.algorithm
    passes = 3 if point.adapter.name is Adapter.full else 2
    if isinstance(algorithm, GrpoConfig) and algorithm.kl_coefficient > 0:
        passes += 1
    return 2.0 * shape_parameters(shape) * (tokens.sampled + passes * tokens.trained)


def lane_bytes(point: RunConfig, shape: ShapeConfig) -> int:
    """Bytes that each lane adds: its values, their gradient and moments, and TinyLoRA's projections."""
    each = OPTIMIZER_BYTES + (MASTER_BYTES if point.rounding is Rounding.master else 0)
    return each * trained_values(point, shape) + projection_bytes(point, shape)


def projection_bytes(point: RunConfig, shape: ShapeConfig) -> int:
    """Bytes of P (M, u, r, r), fp32, of one lane."""
    if point.adapter.name is not Adapter.tinylora:
        return 0
    return 4 * len(adapted_shapes(shape)) * point.u * point.rank**2


def drawing_bytes(point: RunConfig, shape: ShapeConfig) -> int:
    """Bytes beyond those while a lane is made: the projections of all maps are drawn, then put together."""
    return projection_bytes(point, shape)


def step_bytes(point: RunConfig) -> int:
    """Bytes that a step of one lane holds on the host at the least: problems, and completions at their longest."""
    algorithm = point.algorithm
    if not point.trains:
        return 0
    sampled = _sampled_completions(point) * point.rollout.max_new_tokens
    return algorithm.prompts * (PROBLEM_BYTES + sampled * TOKEN_BYTES)


def evaluation_bytes(point: RunConfig) -> int:
    """The same for an evaluation: of problems that are made, and of one of a set that is there already."""
    settings, one = point.eval, point.rollout.max_new_tokens * TOKEN_BYTES
    few = (1 + max(settings.samples, settings.samples_per_item)) * one
    if reads_questions(point.task):
        return few
    made = max(settings.test_items, settings.validation_items) * (PROBLEM_BYTES + (1 + settings.samples) * one)
    return max(made, few if settings.suites else 0)


def record_bytes(point: RunConfig) -> int:
    """Bytes of a run's metrics, which are read as a whole at its end."""
    return point.training_steps * LINE_BYTES


def row_bytes(point: RunConfig, shape: ShapeConfig) -> int:
    """Bytes of the keys and values of one row at its longest."""
    return (prompt_tokens(point) + point.rollout.max_new_tokens) * cached_token_bytes(shape, point.model.dtype)


def weight_bytes(point: RunConfig, shape: ShapeConfig) -> int:
    """Bytes of the base model's weights."""
    return shape_parameters(shape) * point.model.dtype.size


def fits_narrower(point: RunConfig, shape: ShapeConfig, room: float) -> bool:
    """Whether the weights would fit into some bytes in bf16, and are of a wider type."""
    wider = point.model.dtype.size > Precision.bf16.size
    return wider and shape_parameters(shape) * Precision.bf16.size <= room


def rows_bytes(point: RunConfig, shape: ShapeConfig) -> int:
    """Bytes of the keys and values of all rows of a lane's step at their longest."""
    algorithm = point.algorithm
    rows = algorithm.prompts * (samples_of(algorithm) or 1)
    return rows * row_bytes(point, shape)


def lanes_at_once(point: RunConfig, shape: ShapeConfig, budget: float) -> int:
    """Lanes, at least one, of which all rows of a step fit into a budget of memory (bytes) at once."""
    return max(1, int(budget * CACHE_SHARE // (rows_bytes(point, shape) + lane_bytes(point, shape))))


def turns(point: RunConfig, shape: ShapeConfig, budget: float) -> int:
    """How often a budget of memory (bytes) is filled by the rows of one lane's step, if all were at their longest."""
    return max(1, math.ceil(rows_bytes(point, shape) / (budget * CACHE_SHARE)))
