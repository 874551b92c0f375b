"""The ways of training, each with settings of its own: GRPO, SFT, and random search, which is a control.

One frozen dataclass each, as in `groups`. A `RunConfig` (`config`) holds one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tinylora.settings.choices import Algorithm, Reward
from tinylora.settings.errors import require, require_counts
from tinylora.settings.identity import Role, setting
from tinylora.settings.rules import LARGEST_FP32, require_between, require_kinds
from tinylora.settings.uses import SAMPLES_DEMONSTRATIONS, TRAINS


def _algorithm_name(run: Any) -> str:
    return str(run.algorithm.name.value) if run.trains else "none"


@dataclass(frozen=True)
class AlgorithmConfig:
    """The settings that all algorithms share."""

    name: Algorithm = setting(Algorithm.grpo, Role.identity, counts_as=_algorithm_name, given=TRAINS)
    """`grpo`, `sft` or `random_search`."""
    prompts: int = setting(16, Role.identity, used=TRAINS)
    """Problems per lane and step."""

    def __post_init__(self) -> None:
        require_kinds(self, "algorithm.")
        require_counts("algorithm.", prompts=self.prompts)


@dataclass(frozen=True)
class GrpoConfig(AlgorithmConfig):
    """Group-relative policy optimisation (paper section 4): one optimizer step per batch of rollouts."""

    samples: int = setting(8, Role.identity, used=TRAINS)
    """Completions per problem: the group that normalises the advantages."""
    kl_coefficient: float = setting(0.0, Role.identity, used=TRAINS)
    """Weight of the KL penalty to the base model (v = 0); the paper uses 0 on GSM8K, 0.001 on MATH."""
    entropy_coefficient: float = setting(0.0, Role.identity, used=TRAINS, absent=0.0)
    """Weight of the mean entropy of the policy's next token, which is subtracted from the loss. The paper names none;
    SimpleRL's default is 0.001."""
    importance_cap: float = setting(2.0, Role.identity, used=TRAINS)
    """Upper bound of the token-level importance weight p_train / p_sampler."""
    reward: Reward = setting(Reward.correct, Role.identity, used=TRAINS, absent=Reward.correct)
    """`correct`: 1 for an answer that is strictly right. Controls: `form`, 1 for any answer in the asked-for form;
    `shuffled`, the rewards of the right answers dealt out anew among the completions of a lane's step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.samples >= 2,
            f"algorithm.samples={self.samples}",
            "GRPO compares the samples of a group",
            "give algorithm.samples=2 or more",
        )
        most, remedy = LARGEST_FP32, "give algorithm.kl_coefficient=0, which leaves the penalty out"
        require_between("algorithm.kl_coefficient", self.kl_coefficient, 0, most, remedy)
        remedy = "give algorithm.entropy_coefficient=0, which leaves the term out"
        require_between("algorithm.entropy_coefficient", self.entropy_coefficient, 0, most, remedy)
        given, remedy = f"algorithm.importance_cap={self.importance_cap}", "give algorithm.importance_cap=2"
        require(0 < self.importance_cap <= most, given, f"the importance cap is above 0, at most {most:g}", remedy)


@dataclass(frozen=True)
class SftConfig(AlgorithmConfig):
    """Supervised fine-tuning: next-token loss on demonstrations, one per problem."""

    name: Algorithm = setting(Algorithm.sft, Role.identity, counts_as=_algorithm_name, given=TRAINS)
    prompts: int = setting(64, Role.identity, used=TRAINS)
    attempts: int = setting(8, Role.identity, used=SAMPLES_DEMONSTRATIONS)
    """With task.demonstrations=sampled: completions of each problem, of which the first right one demonstrates it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_counts("algorithm.", attempts=self.attempts)


@dataclass(frozen=True)
class RandomSearchConfig(AlgorithmConfig):
    """A control without any gradient: each step tries a random v, normal with the standard deviation `lr` around zero.

    A candidate is worth its mean reward on validation problems, the same ones with the same sampling noise each time;
    v is the best one so far. At equal effort with GRPO: steps * prompts * samples completions.
    """

    name: Algorithm = setting(Algorithm.random_search, Role.identity, counts_as=_algorithm_name, given=TRAINS)
    prompts: int = setting(16, Role.identity, used=TRAINS)
    """Validation problems, the first ones, on which every candidate is tried."""
    samples: int = setting(8, Role.identity, used=TRAINS)
    """Completions per problem."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_counts("algorithm.", samples=self.samples)


ALGORITHMS: dict[Algorithm, type[AlgorithmConfig]] = {
    Algorithm.grpo: GrpoConfig,
    Algorithm.sft: SftConfig,
    Algorithm.random_search: RandomSearchConfig,
}
"""The settings that each algorithm comes with."""


def samples_of(algorithm: AlgorithmConfig) -> int:
    """Completions of each problem of a step that are rewarded: 0 of SFT, which rewards none."""
    return algorithm.samples if isinstance(algorithm, GrpoConfig | RandomSearchConfig) else 0
