"""What GRPO rewards: right answers, any answer in the asked-for form, or completions drawn at random."""

from __future__ import annotations

from pathlib import Path

import torch
from support.packs import open_pack, point

from tinylora.answers.rewards import Outcome, Score
from tinylora.settings.choices import Reward
from tinylora.settings.config import GrpoConfig
from tinylora.train import grpo

OUTCOMES = [Outcome.correct, Outcome.wrong, Outcome.no_answer, Outcome.correct, Outcome.timeout, Outcome.wrong] * 4
SCORES = [Score(strict, Outcome.correct) for strict in OUTCOMES]
RIGHT = torch.tensor([1.0, 0, 0, 1, 0, 0] * 4).view(2, 3, 4)


def rewards(tmp_path: Path, reward: Reward, seeds: tuple[int, int] = (0, 1), step: int = 0) -> torch.Tensor:
    settings = GrpoConfig(prompts=3, samples=4, reward=reward)
    _, lanes = open_pack([point(tmp_path, u=1, seed=seed, algorithm=settings) for seed in seeds])
    for lane in lanes:
        lane.step = step
    return grpo._rewards(settings, lanes, SCORES)


def test_right_answers_or_any_answer_in_the_form(tmp_path: Path) -> None:
    assert torch.equal(rewards(tmp_path, Reward.correct), RIGHT)
    in_form = torch.tensor([1.0, 1, 0, 1, 1, 1] * 4).view(2, 3, 4)
    assert torch.equal(rewards(tmp_path, Reward.form), in_form)


def test_shuffled_rewards_are_as_many_drawn_by_lane_and_step_alone(tmp_path: Path) -> None:
    first = rewards(tmp_path, Reward.shuffled)
    assert torch.equal(first.sum((1, 2)), RIGHT.sum((1, 2)))
    assert not torch.equal(first[0], RIGHT[0])
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first, rewards(tmp_path, Reward.shuffled))
    assert torch.equal(first.flip(0), rewards(tmp_path, Reward.shuffled, seeds=(1, 0)))
    assert not torch.equal(first, rewards(tmp_path, Reward.shuffled, step=1))


def test_a_run_that_rewards_right_answers_is_the_run_that_it_was(tmp_path: Path) -> None:
    plain = point(tmp_path)
    assert plain.run_key == point(tmp_path, algorithm=GrpoConfig(prompts=4, samples=4, reward=Reward.correct)).run_key
    keys = {point(tmp_path, algorithm=GrpoConfig(prompts=4, samples=4, reward=reward)).run_key for reward in Reward}
    assert len(keys) == 3
