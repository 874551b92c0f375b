"""The schema of a run: one frozen dataclass tree, its rules, its identity.

Types, defaults and the meaning of each setting are stated here, once; the YAML groups of `conf/` state what differs.
A `RunConfig` is one point of a sweep. Which of its fields may differ between the lanes of a pack is `LANE_FIELDS`;
which of them identify the run is `RunConfig.scientific`.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Union

from tinylora.errors import UsageError

ALL = "all"  # n_tie: every adapted module shares one v
AUTO = "auto"  # lr: the constant of the model, task and algorithm, divided by u


class Precision(Enum):
    """A floating-point type, of the stored v (`precision`) or of the base model (`model.dtype`)."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"

    @property
    def size(self) -> int:
        """Bytes per value."""
        return 4 if self is Precision.fp32 else 2


class Sharing(Enum):
    """Which modules share a v: neighbours in depth (tiled) or neighbours of one type (structured)."""

    tiled = "tiled"
    structured = "structured"


class Algorithm(Enum):
    """How v is trained."""

    grpo = "grpo"
    sft = "sft"


class Adapter(Enum):
    """What is trained."""

    tinylora = "tinylora"


class Solver(Enum):
    """How the truncated SVD is computed: a checked randomised solver, or the full decomposition."""

    fast = "fast"
    exact = "exact"


class Demonstrations(Enum):
    """Whose manner the SFT demonstrations are written in: the model's own, or a foreign one."""

    own = "own"
    foreign = "foreign"


class Split(Enum):
    """The part of a task's problems: learning rates are chosen on validation, never on test."""

    train = "train"
    validation = "validation"
    test = "test"


class Checker(Enum):
    """How answers are compared with the gold: as exact numbers, or as mathematical expressions of any kind."""

    numeric = "numeric"
    math = "math"


class Template(Enum):
    r"""The format that a prompt asks the final answer to have: `\boxed{...}`, `#### ...`, or none in particular."""

    boxed = "boxed"
    hash = "hash"
    plain = "plain"


@dataclass(frozen=True)
class ModelConfig:
    """The frozen base model."""

    name: str = "miniature-qwen2"
    """Name in the records; a shipped miniature, or `smollm2-135m` from its package."""
    path: str | None = None
    """Folder with config, safetensors and tokenizer; given, it replaces the named model (and names it)."""
    dtype: Precision = Precision.fp32
    """Type of the base weights and of the arithmetic on them."""
    device: str = "auto"
    """`auto`: the accelerator where there is one, else `cpu`; or a torch device."""
    lr_constants: dict[str, float] = field(default_factory=dict)
    """For `lr=auto`: the constant c of lr = c/u for each "task/algorithm", found on validation data."""

    @property
    def identity(self) -> str:
        """The name under which runs of this model are recorded."""
        return Path(self.path).resolve().name if self.path else self.name


@dataclass(frozen=True)
class TaskConfig:
    """What is asked and how answers are judged."""

    name: str = "sums"
    """`sums` (generated) or `gsm8k` (read from `folder`)."""
    folder: str | None = None
    """Folder of JSON lines (gsm8k-train.jsonl[.gz], gsm8k-test.jsonl[.gz]); generated tasks have none."""
    demonstrations: Demonstrations = Demonstrations.own
    """Manner of the demonstrations for SFT; without meaning for GRPO."""
    max_new_tokens: int = 64
    """Longest completion that the task needs; the default of `rollout.max_new_tokens`."""


@dataclass(frozen=True)
class AlgorithmConfig:
    """The settings that GRPO and SFT share."""

    name: Algorithm = Algorithm.grpo
    """`grpo` or `sft`."""
    prompts: int = 16
    """Problems per lane and step."""


@dataclass(frozen=True)
class GrpoConfig(AlgorithmConfig):
    """Group-relative policy optimisation (paper section 4): one optimizer step per batch of rollouts."""

    samples: int = 8
    """Completions per problem: the group that normalises the advantages."""
    kl_coefficient: float = 0.0
    """Weight of the KL penalty to the base model (v = 0); the paper uses 0 on GSM8K, 0.001 on MATH."""
    importance_cap: float = 2.0
    """Upper bound of the token-level importance weight p_train / p_sampler."""


@dataclass(frozen=True)
class SftConfig(AlgorithmConfig):
    """Supervised fine-tuning: next-token loss on demonstrations, one per problem."""

    name: Algorithm = Algorithm.sft
    prompts: int = 64


@dataclass(frozen=True)
class AdapterConfig:
    """The trained part."""

    name: Adapter = Adapter.tinylora
    """`tinylora`: delta W = U Sigma (sum_i v_i P_i) V^T."""
    solver: Solver = Solver.fast
    """Truncated SVD of the weights: `fast` (checked, falls back to exact) or `exact`."""


@dataclass(frozen=True)
class RolloutConfig:
    """How completions are sampled, in training and in the sampled evaluation."""

    max_new_tokens: int = 64
    """Longest completion, in tokens."""
    temperature: float = 1.0
    """Softmax temperature of the samples."""
    top_p: float = 1.0
    """Nucleus sampling: the smallest set of tokens with this probability; 1 samples from all."""


@dataclass(frozen=True)
class EvalConfig:
    """Evaluation on the fixed validation and test problems."""

    every: int = 0
    """Steps between evaluations during training; 0: only before and after."""
    test_items: int = 256
    """Test problems."""
    validation_items: int = 128
    """Validation problems, for choosing learning rates."""


@dataclass(frozen=True)
class TrackingConfig:
    """Where MLflow keeps the records."""

    uri: str | None = None
    """MLflow tracking URI; null: an SQLite store in `outputs_dir`."""
    experiment: str = "tinylora"
    """MLflow experiment."""


@dataclass(frozen=True)
class PackConfig:
    """How points are put together."""

    max_lanes: int = 32
    """Most lanes in one pack."""
    memory_gib: Union[float, int, str] = AUTO  # noqa: UP007 - as for lr
    """Memory (GiB) for rows that are decoded or trained at once, beside the model; `auto`: half of the device's."""


@dataclass(frozen=True)
class RunConfig:
    """One point of a sweep."""

    u: int = 13
    """Trained values per group; with n_tie=all, the number of trained parameters."""
    n_tie: Union[int, str] = ALL  # noqa: UP007 - OmegaConf reads this form
    """Modules that share one v: a number, or `all`."""
    sharing: Sharing = Sharing.tiled
    """Which modules count as neighbours when n_tie is a number."""
    precision: Precision = Precision.fp32
    """Type in which v is stored: rounded to it after every optimizer step."""
    rank: int = 2
    """Rank r of the frozen basis."""
    lr: Union[float, int, str] = AUTO  # noqa: UP007 - a Union does not convert: lr=1 is an int
    """Learning rate of Adam, or `auto`: c/u with the model's constant."""
    seed: int = 0
    """Root of all random streams of the run: projections, data order, sampling."""
    steps: int = 60
    """Optimizer steps."""
    model: ModelConfig = field(default_factory=ModelConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    algorithm: AlgorithmConfig = field(default_factory=GrpoConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    pack: PackConfig = field(default_factory=PackConfig)
    outputs_dir: str = "outputs"
    """Folder of everything that a run writes: run folders, basis cache, default MLflow store."""

    def __post_init__(self) -> None:
        _require_at_least_one(self)
        _require_tying(self.n_tie)
        _require_learning_rate(self)
        _require_sampling(self)
        if self.seed < 0:
            raise UsageError(f"seed={self.seed}", "a seed is a whole number of at least 0", "give seed=0 or more")
        memory = self.pack.memory_gib
        if memory != AUTO and (isinstance(memory, str) or not (math.isfinite(memory) and memory > 0)):
            raise UsageError(f"pack.memory_gib={memory}", f"a finite number of GiB above 0, or `{AUTO}`",
                             f"give pack.memory_gib={AUTO}")  # fmt: skip
        if self.eval.every < 0:
            raise UsageError(f"eval.every={self.eval.every}", "it counts steps; 0 means only before and after",
                             "give eval.every=0 or more")  # fmt: skip

    @property
    def learning_rate(self) -> float:
        """The number that `lr` resolves to."""
        if self.lr != AUTO:
            return float(self.lr)
        return self.model.lr_constants[self.lr_key] / self.u

    @property
    def lr_key(self) -> str:
        """The entry of `model.lr_constants` for this task and algorithm."""
        return f"{self.task.name}/{self.algorithm.name.value}"

    @property
    def run_key(self) -> str:
        """Identity of the run: 12 hex digits of a hash of the scientific settings."""
        return _digest(self.scientific())[:12]

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.outputs_dir) / self.run_key

    @property
    def tracking_uri(self) -> str:
        """The MLflow store: the one asked for, or SQLite under `outputs_dir`."""
        return self.tracking.uri or f"sqlite:///{(Path(self.outputs_dir) / 'mlflow.db').resolve()}"

    def scientific(self) -> dict[str, Any]:
        """The settings that identify the run, as plain values.

        Left out: where things lie (folders, tracking, device), how points are packed, and what the algorithm does not
        use. `lr=auto` stands as the number it resolves to, so that it is the same run as that number given by hand.
        """
        plain = as_plain(self)
        for group in ("outputs_dir", "tracking", "pack"):
            del plain[group]
        plain["lr"] = self.learning_rate
        plain["model"] = {"name": self.model.identity, "dtype": self.model.dtype.value}
        del plain["task"]["folder"], plain["task"]["max_new_tokens"]
        if self.algorithm.name is Algorithm.grpo:
            del plain["task"]["demonstrations"]
        return plain

    def pack_key(self) -> str:
        """Equal for points that may train together: all that must agree between the lanes of a pack."""
        plain = as_plain(self)
        for name in LANE_FIELDS:
            group, _, leaf = name.rpartition(".")
            del (plain[group] if group else plain)[leaf]
        return _digest(plain)


LANE_FIELDS = ("u", "n_tie", "sharing", "precision", "lr", "seed", "task.demonstrations", "model.lr_constants")
"""Settings that may differ between the lanes of one pack."""


def as_plain(config: RunConfig) -> dict[str, Any]:
    """The whole config as nested plain values (enums by name), ready for YAML or JSON."""
    return asdict(config, dict_factory=lambda items: {k: v.value if isinstance(v, Enum) else v for k, v in items})


def flatten(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level with dotted names: {"model.name": ...}."""
    flat: dict[str, Any] = {}
    for name, value in plain.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _digest(plain: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _require_at_least_one(config: RunConfig) -> None:
    counts = {
        "u": config.u,
        "rank": config.rank,
        "steps": config.steps,
        "algorithm.prompts": config.algorithm.prompts,
        "task.max_new_tokens": config.task.max_new_tokens,
        "rollout.max_new_tokens": config.rollout.max_new_tokens,
        "eval.test_items": config.eval.test_items,
        "eval.validation_items": config.eval.validation_items,
        "pack.max_lanes": config.pack.max_lanes,
    }
    for name, value in counts.items():
        if value < 1:
            raise UsageError(f"{name}={value}", "it counts things and must be at least 1", f"give {name}=1 or more")


def _require_tying(n_tie: int | str) -> None:
    if n_tie != ALL and not (isinstance(n_tie, int) and n_tie >= 1):
        raise UsageError(f"n_tie={n_tie}", f"n_tie is a whole number of at least 1, or `{ALL}`",
                         f"give n_tie=1 (nothing shared) up to n_tie={ALL}")  # fmt: skip


def _require_learning_rate(config: RunConfig) -> None:
    lr = config.lr
    if lr == AUTO:
        if config.lr_key not in config.model.lr_constants:
            raise UsageError(
                f"lr={AUTO} for model {config.model.identity} on {config.lr_key}",
                "auto needs a constant found on validation data for this model, task and algorithm",
                "give lr=<number> (the step in R grows with u: a rate of c/u suits all sizes), "
                f"or set model.lr_constants in conf/model for {config.lr_key}",
            )
        lr = config.learning_rate
    if isinstance(lr, str) or not (math.isfinite(lr) and lr > 0):
        raise UsageError(f"lr={lr}", f"a learning rate is a finite number above 0, or `{AUTO}`", f"give lr={AUTO}")


def _require_sampling(config: RunConfig) -> None:
    rollout, algorithm = config.rollout, config.algorithm
    if isinstance(algorithm, GrpoConfig) is not (algorithm.name is Algorithm.grpo):
        raise UsageError(f"algorithm.name={algorithm.name.value}", "an algorithm comes with its own settings",
                         f"give algorithm={algorithm.name.value}, without .name")  # fmt: skip
    if not rollout.temperature > 0:
        raise UsageError(f"rollout.temperature={rollout.temperature}", "samples need a temperature above 0",
                         "give rollout.temperature=1.0; greedy accuracy is measured in any case")  # fmt: skip
    if not 0 < rollout.top_p <= 1:
        raise UsageError(f"rollout.top_p={rollout.top_p}", "a probability above 0 and at most 1",
                         "give rollout.top_p=1.0 to sample from all tokens")  # fmt: skip
    if not isinstance(algorithm, GrpoConfig):
        return
    if algorithm.samples < 2:
        raise UsageError(f"algorithm.samples={algorithm.samples}", "GRPO compares the samples of a group",
                         "give algorithm.samples=2 or more")  # fmt: skip
    if algorithm.kl_coefficient < 0 or not algorithm.importance_cap > 0:
        raise UsageError(
            f"algorithm.kl_coefficient={algorithm.kl_coefficient} algorithm.importance_cap={algorithm.importance_cap}",
            "the KL coefficient is at least 0, the importance cap above 0",
            "give algorithm.kl_coefficient=0 algorithm.importance_cap=2",
        )
