"""Group-normalised advantages (GRPO, paper section 4)."""

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
