"""Advantages and losses, as pure functions: from rewards to advantages, from log-probabilities to a number each.

All tensors are (b, T) over the tokens of a batch's completions unless said otherwise; `mask` is 1.0 where a completion
has a token. The caller divides each loss by the token count of its lane's whole optimizer step and adds up, so that no
split into micro-batches changes the gradient (token-level mean, as in verl and DAPO).
"""

from __future__ import annotations

import torch

EPSILON = 1e-6  # added to the standard deviation, so that a group of equal rewards has advantage 0


def group_advantages(rewards: torch.Tensor) -> torch.Tensor:
    """(reward - group mean) / (group standard deviation + epsilon) for rewards (P, G); the same shape."""
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred / (rewards.std(dim=1, keepdim=True) + EPSILON)


def zero_variance_share(rewards: torch.Tensor) -> float:
    """The fraction of groups of rewards (P, G) whose rewards are all equal: they teach nothing."""
    return float((rewards == rewards[:, :1]).all(dim=1).float().mean())


def grpo_loss(
    logp_train: torch.Tensor,
    logp_sampler: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    importance_cap: float,
) -> torch.Tensor:
    """Policy-gradient loss summed over each completion's tokens, (b,); `advantages` is (b,).

    With one optimizer step per batch the policy ratio is 1 and PPO's clip never acts; what is left of it is the
    gradient of log p. Tokens are weighted by min(p_train / p_sampler, cap), truncated importance sampling (paper
    section 4), since the sampler's arithmetic is not the trainer's.
    """
    weight = importance_weight(logp_train.detach(), logp_sampler, importance_cap)
    ratio = (logp_train - logp_train.detach()).exp()  # 1, with the gradient of log p
    return -(weight * advantages[:, None] * ratio * mask).sum(1)


def importance_weight(logp_train: torch.Tensor, logp_sampler: torch.Tensor, cap: float) -> torch.Tensor:
    """min(p_train / p_sampler, cap), per token."""
    return (logp_train - logp_sampler).exp().clamp(max=cap)


def kl_penalty(logp_train: torch.Tensor, logp_base: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """KL(policy || base) summed over each completion's tokens, (b,), by the low-variance estimator exp(d) - d - 1."""
    difference = logp_base - logp_train
    return ((difference.exp() - difference - 1) * mask).sum(1)


def sft_loss(logp_train: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood summed over each completion's tokens, (b,)."""
    return -(logp_train * mask).sum(1)
