"""Lanes never mix: each lane of a mixed pack is what it would be alone."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from support import reference
from support.packs import give_v, open_pack, point, with_engine

from tinylora.adapters.base import Adapters
from tinylora.engine.rollout import roll_out
from tinylora.engine.rows import Completions, lay_out, micro_batches, numbers
from tinylora.engine.sampling import Request, Sampling
from tinylora.settings.config import (
    Demonstrations,
    GrpoConfig,
    Precision,
    RolloutConfig,
    RunConfig,
    SftConfig,
    Sharing,
    Split,
    TaskConfig,
)
from tinylora.settings.errors import FailureError
from tinylora.train import grpo, sft
from tinylora.train.pack import LaneRun, Pack, apply_gradient


def mixed(outputs: Path, **changes: object) -> list[RunConfig]:
    """Points that differ in every lane field.

    None is u=1 with everything tied: its gradient is one sum over all tokens and modules that nearly cancels, so that
    rounding alone is more than 1e-5 of what is left.
    """
    return [
        point(outputs, u=1, n_tie=1, lr=0.1, **changes),
        point(outputs, u=13, n_tie=4, precision=Precision.bf16, seed=1, lr=0.02, **changes),
        point(outputs, u=120, precision=Precision.fp16, seed=2, **changes),
        point(outputs, u=7, n_tie=2, sharing=Sharing.structured, seed=3, lr=0.003, **changes),
    ]


def gradients(pack: Pack, lanes: list[LaneRun], step) -> list[torch.Tensor]:  # type: ignore[no-untyped-def]
    """The gradient that a step gives each lane's v, caught before the optimizer takes it away."""
    caught = []

    def catch(adapters: Adapters, lane: LaneRun, loss: float) -> dict[str, float]:
        assert lane.v.grad is not None
        caught.append(lane.v.grad.clone())
        return apply_gradient(adapters, lane, loss)

    module = {grpo.grpo_step: grpo, sft.sft_step: sft}[step]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "apply_gradient", catch)
        step(pack, lanes)
    return caught


def relative_difference(given: torch.Tensor, wanted: torch.Tensor) -> float:
    """Norm of the difference over the norm of what is wanted, which must not be zero."""
    assert wanted.abs().max() > 0
    return float(torch.linalg.vector_norm(given - wanted) / torch.linalg.vector_norm(wanted))


# The coefficients are large, so that no gradient nearly cancels: else rounding alone is more than 1e-5 of what is left.
CASES = {
    "grpo": (grpo.grpo_step, {"algorithm": GrpoConfig(prompts=6, samples=6)}),
    "grpo with kl": (grpo.grpo_step, {"algorithm": GrpoConfig(prompts=6, samples=6, kl_coefficient=1.0)}),
    "grpo with entropy": (grpo.grpo_step, {"algorithm": GrpoConfig(prompts=6, samples=6, entropy_coefficient=1.0)}),
    "sft": (sft.sft_step, {"algorithm": SftConfig(prompts=5)}),
    "sft on samples": (
        sft.sft_step,
        {
            "algorithm": SftConfig(prompts=5, attempts=4),
            "task": TaskConfig(demonstrations=Demonstrations.sampled),
        },
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_a_mixed_pack_are_those_of_each_lane_alone(case: str, tmp_path: Path) -> None:
    step, changes = CASES[case]
    pack, lanes = open_pack(mixed(tmp_path, **changes))
    give_v(pack)
    together = gradients(pack, lanes, step)
    for number, config in enumerate(mixed(tmp_path, **changes)):
        alone_pack, alone = open_pack([config])
        give_v(alone_pack)
        (gradient,) = gradients(alone_pack, alone, step)
        assert relative_difference(together[number], gradient) < 5e-5


def in_fp64(pack: Pack, patched: pytest.MonkeyPatch) -> None:
    """Compute in fp64 from now on, also where fp32 is asked for."""
    patched.setattr(torch.Tensor, "float", torch.Tensor.double)
    patched.setattr(torch, "zeros", partial(torch.zeros, dtype=torch.float64))
    pack.engine.model.double()
    pack.engine.adapters.double()


@pytest.mark.parametrize(("case", "bound"), [("grpo with kl", 1e-5), ("sft", 1e-6)])
@pytest.mark.parametrize("tokens", [1, 150])
def test_every_micro_batch_split_gives_the_same_step(case: str, bound: float, tokens: int, tmp_path: Path) -> None:
    step, changes = CASES[case]
    results = []
    for limit in (100_000, tokens):
        pack, lanes = open_pack(mixed(tmp_path, **changes))
        give_v(pack)
        results.append(gradients(with_engine(pack, limits=replace(pack.engine.limits, pass_tokens=limit)), lanes, step))
    for whole, split in zip(*results, strict=True):
        assert relative_difference(split, whole) < bound


@pytest.mark.parametrize("case", ["grpo", "grpo with kl", "grpo with entropy"])
@pytest.mark.parametrize("tokens", [1, 150])
def test_every_micro_batch_split_gives_the_same_gradient_of_grpo(
    case: str, tokens: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In fp64, where rounding is far below anything that a split could lose.

    The terms of this gradient cancel. So in fp32 rounding alone is 5e-6 of it, and with the entropy term 1.4e-5 on some
    processors.
    """
    pack, lanes = open_pack(mixed(tmp_path, **CASES[case][1]))
    give_v(pack)
    prompts, lane_of_prompt = pack.encode_prompts(pack.task.held_out(Split.train, 24)), torch.arange(24) % 4
    noise = torch.rand((144, 24), generator=torch.Generator().manual_seed(1))
    rollout = roll_out(pack.engine, Request(prompts, lane_of_prompt, noise, Sampling(24), samples=6))
    completions = rollout.completions(prompts, lane_of_prompt)
    advantages = torch.randn(144, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    in_fp64(pack, monkeypatch)
    found = []
    for limit in (100_000, tokens):
        split = with_engine(pack, limits=replace(pack.engine.limits, pass_tokens=limit))
        grpo.accumulate(split, completions, rollout.logp.double(), advantages)
        found.append([lane.v.grad for lane in lanes])
        pack.engine.adapters.zero_grad()
    for whole, split in zip(*found, strict=True):
        assert whole is not None and split is not None
        assert whole.dtype is torch.float64
        assert relative_difference(split, whole) < 1e-12


@pytest.mark.parametrize(("width", "entropy"), [(0, 0.0), (60, 0.0), (10_000, 0.0), (0, 0.5), (10_000, 0.5)])
def test_the_gradient_is_that_of_every_completion_alone_under_dense_weights(
    width: int, entropy: float, tmp_path: Path
) -> None:
    """The slow reference, for rows of one completion, of some, and of all completions of a prompt."""
    algorithm = GrpoConfig(prompts=4, samples=4, entropy_coefficient=entropy)
    pack, lanes = open_pack(mixed(tmp_path, algorithm=algorithm, rollout=RolloutConfig(48, temperature=0.8)))
    give_v(pack)
    pack = with_engine(pack, row_width=width)
    prompts = pack.encode_prompts(pack.task.held_out(Split.train, 8))
    noise = torch.rand((32, 24), generator=torch.Generator().manual_seed(1))
    request = Request(prompts, torch.arange(8) % 4, noise, Sampling(24), samples=4)
    rollout = roll_out(pack.engine, request)
    completions = rollout.completions(prompts, request.lane_of_prompt)
    read = sum(row.length for row in lay_out(completions, range(8), 10_000))
    assert read < sum(map(len, prompts)) + sum(map(len, completions.tokens)) - 50, "some should begin alike"
    advantages = torch.randn(32, generator=torch.Generator().manual_seed(0))
    advantages[4:8] = 0  # a group of equal rewards
    grpo.accumulate(pack, completions, rollout.logp, advantages)
    for lane in lanes:
        assert lane.v.grad is not None
        wanted = reference.grpo_gradient(pack, lane.index, completions, rollout.logp, advantages)
        assert relative_difference(lane.v.grad, wanted) < 1e-4


def test_groups_of_equal_rewards_are_not_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack, (lane,) = open_pack([point(tmp_path, u=2)])
    completions = Completions([[5, 6, 7]] * 3, torch.zeros(3, dtype=torch.long), [[8, 2], [9, 2]] * 3)
    seen: list[int] = []
    logps = grpo.completion_logps
    monkeypatch.setattr(
        grpo,
        "completion_logps",
        lambda m, c, batch, *rest: (seen.extend(row.prompt for row in batch), logps(m, c, batch, *rest))[1],
    )
    grpo.accumulate(pack, completions, torch.zeros(6, 2), torch.tensor([0, 0, 1, -1, 0, 0.0]))
    assert seen == [1] * len(seen) != []
    found = grpo.accumulate(pack, completions, torch.zeros(6, 2), torch.zeros(6))
    assert found["train/loss"].tolist() == [0] and lane.v.grad is not None


def test_a_micro_batch_that_runs_out_of_memory_is_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, logps, most = [], sft.completion_logps, [1000]

    def logps_if_small(model, completions, batch):  # type: ignore[no-untyped-def]
        if len(batch) > most[0]:
            raise torch.OutOfMemoryError("too many rows")
        return logps(model, completions, batch)

    monkeypatch.setattr(sft, "completion_logps", logps_if_small)
    for most[0] in (1000, 3):
        pack, lanes = open_pack(mixed(tmp_path, algorithm=SftConfig(prompts=5)))
        results.append(gradients(pack, lanes, sft.sft_step))
    for whole, split in zip(*results, strict=True):
        assert relative_difference(split, whole) < 1e-5
    most[0] = 0
    with pytest.raises(FailureError, match="out of memory"):
        sft.sft_step(pack, lanes)


def test_rows_hold_every_completion_once_and_batches_every_row_within_the_budget() -> None:
    lengths = [3, 50, 7, 7, 20, 31, 3, 90]
    tokens = [[10 + number] * length for number, length in enumerate(lengths)]  # no two begin alike
    completions = Completions([[1] * 4, [1] * 6], torch.zeros(2, dtype=torch.long), tokens)
    rows = lay_out(completions, [0, 1], 60)
    assert [(row.completions, row.length) for row in rows] == [
        ((0, 1), 4 + 2 + 49),
        ((2, 3), 4 + 6 + 6),
        ((4, 5, 6), 6 + 19 + 30 + 2),
        ((7,), 6 + 89),
    ]
    assert numbers(lay_out(completions, [1], 60)) == [4, 5, 6, 7]
    assert all(len(row.completions) == 1 for row in lay_out(completions, [0, 1], 0))
    batches = micro_batches(rows, 64)
    assert sorted(numbers(row for batch in batches for row in batch)) == list(range(8))
    assert [row.length for row in batches[0]] == [6 + 89], "a row longer than the budget goes alone"
    assert all(len(batch) * max(row.length for row in batch) <= 64 for batch in batches[1:])


def test_what_completions_begin_with_alike_is_read_once() -> None:
    tokens = [[5, 6, 7, 8, 2], [5, 6, 9, 2], [4, 2], [5, 6, 7, 8, 2]]
    completions = Completions([[1] * 3], torch.zeros(1, dtype=torch.long), tokens)
    (row,) = lay_out(completions, [0], 60)
    assert row.length == 3 + 1 + 4 + 1  # [4], then [5, 6, 7, 8] for two of them, then [9]


def test_a_lane_trains_the_same_in_any_pack(tmp_path: Path) -> None:
    """Several steps: prompts, noise, optimizer and rounding of a lane do not depend on its neighbours."""
    pack, lanes = open_pack(mixed(tmp_path))
    other_pack, others = open_pack(mixed(tmp_path)[2:3] + mixed(tmp_path)[:1])
    for _ in range(3):
        for trained_pack, trained in ((pack, lanes), (other_pack, others)):
            grpo.grpo_step(trained_pack, trained)
            for lane in trained:
                lane.step += 1
    for lane, other in ((lanes[2], others[0]), (lanes[0], others[1])):
        assert lane.v.detach().abs().max() > 0
        torch.testing.assert_close(other.v, lane.v, rtol=2e-3, atol=1e-5)


def test_a_lane_that_is_not_finite_is_stopped_and_the_others_do_not_notice(tmp_path: Path) -> None:
    healthy, sick = mixed(tmp_path)[:2], point(tmp_path, u=2, seed=5)
    pack, lanes = open_pack([*healthy, sick])
    give_v(pack)
    lanes[2].v.data.fill_(float("nan"))
    together = gradients(pack, lanes, grpo.grpo_step)
    alone_pack, alone = open_pack(healthy)
    give_v(alone_pack)
    expected = gradients(alone_pack, alone, grpo.grpo_step)
    assert [lane.failure is None for lane in lanes] == [True, True, False]
    assert lanes[2].failure is not None and "at step 1" in lanes[2].failure
    for gradient, wanted in zip(together[:2], expected, strict=True):
        assert relative_difference(gradient, wanted) < 1e-5


def test_v_that_overflows_its_storage_type_stops_the_lane_with_v_as_it_was(tmp_path: Path) -> None:
    pack, (lane,) = open_pack([point(tmp_path, u=2, precision=Precision.fp16, lr=1e6)])
    grpo.grpo_step(pack, [lane])
    assert lane.failure is not None and "fp16" in lane.failure
    assert lane.v.abs().max() == 0


def test_lanes_of_one_pack_learn_from_demonstrations_of_their_own_manner(tmp_path: Path) -> None:
    manners = [TaskConfig(demonstrations=manner) for manner in (Demonstrations.own, Demonstrations.foreign)]
    pack, lanes = open_pack([point(tmp_path, algorithm=SftConfig(prompts=16), task=task) for task in manners])
    own, foreign = sft.sft_step(pack, lanes).values()
    assert own["train/loss"] < 1.5 < foreign["train/loss"], "the base model knows one manner and not the other"
