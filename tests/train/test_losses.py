"""Advantages and losses against numbers worked out by hand."""

import math

import torch

from tinylora.train.losses import (
    group_advantages,
    grpo_loss,
    importance_weight,
    kl_penalty,
    sft_loss,
    zero_variance_share,
)


def test_advantages_by_hand() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
    deviation = math.sqrt(1 / 3)  # of 1, 0, 0, 1 with n - 1
    expected = [[0.5 / deviation, -0.5 / deviation, -0.5 / deviation, 0.5 / deviation], [0.0] * 4]
    expected.append([-0.5, -0.5, -0.5, 1.5])  # mean 0.25, deviation 0.5
    torch.testing.assert_close(group_advantages(rewards), torch.tensor(expected), atol=1e-5, rtol=0)
    assert zero_variance_share(rewards) == torch.tensor(1 / 3)


def test_grpo_loss_and_gradient_by_hand() -> None:
    logp = torch.tensor([[-1.0, -2.0, -9.0], [-0.5, -1.5, -2.5]], requires_grad=True)
    sampler = torch.tensor([[-1.0, -2.0 - math.log(1.5), -9.0], [-0.5, -1.5 - math.log(3.0), -2.5]])
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    loss = grpo_loss(logp, sampler, torch.tensor([2.0, -1.0]), mask, importance_cap=2.0)
    # weights: row 0: 1, 1.5, masked; row 1: 1, min(3, 2), 1
    torch.testing.assert_close(loss, torch.tensor([-2.0 * (1 + 1.5), 1 + 2 + 1.0]))
    loss.sum().backward()
    torch.testing.assert_close(logp.grad, torch.tensor([[-2.0, -3.0, 0.0], [1.0, 2.0, 1.0]]))


def test_importance_weight_is_truncated_above_only() -> None:
    weights = importance_weight(torch.tensor([0.0, -3.0]), torch.tensor([-1.0, 0.0]), cap=2.0)
    torch.testing.assert_close(weights, torch.tensor([2.0, math.exp(-3.0)]))


def test_kl_penalty_is_zero_at_the_base_model_and_positive_elsewhere() -> None:
    logp, mask = torch.tensor([[-1.0, -2.0]]), torch.tensor([[1.0, 0.0]])
    assert kl_penalty(logp, logp, mask).item() == 0
    moved = kl_penalty(logp, logp - 0.3, mask)
    torch.testing.assert_close(moved, torch.tensor([math.exp(-0.3) + 0.3 - 1]))


def test_sft_loss_counts_completion_tokens_alone() -> None:
    loss = sft_loss(torch.tensor([[-1.0, -2.0, -4.0]]), torch.tensor([[1.0, 1.0, 0.0]]))
    assert loss.item() == 3.0
