"""The schema of a run: one frozen dataclass tree, its rules, its identity.

Types, defaults and the meaning of each setting are stated here, once; the YAML groups of `conf/` state what differs.
A `RunConfig` is one point of a sweep. Which of its fields may differ between the lanes of a pack is `LANE_FIELDS`;
which of them identify the run is `RunConfig.scientific`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Union

from tinylora.settings.choices import (
    ALL,
    AUTO,
    Adapter,
    Algorithm,
    Attention,
    Checker,
    Demonstrations,
    Precision,
    Sharing,
    Solver,
    Split,
    Template,
)

__all__ = [
    "ALL",
    "AUTO",
    "Adapter",
    "AdapterConfig",
    "Algorithm",
    "AlgorithmConfig",
    "Attention",
    "Checker",
    "Demonstrations",
    "EvalConfig",
    "GrpoConfig",
    "ModelConfig",
    "PackConfig",
    "Precision",
    "RolloutConfig",
    "RunConfig",
    "SftConfig",
    "ShapeConfig",
    "Sharing",
    "Solver",
    "Split",
    "TaskConfig",
    "Template",
    "TrackingConfig",
    "as_plain",
    "flatten",
]


@dataclass(frozen=True)
class ShapeConfig:
    """The sizes of a Llama-like model (seven maps in each block), known without its files."""

    blocks: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    tied: bool
    """Whether the head is the transposed embedding."""
    context: int
    """Longest sequence, in tokens."""


@dataclass(frozen=True)
class ModelConfig:
    """The base model; frozen but for full fine-tuning."""

    name: str = "miniature-qwen2"
    """Name in the records; a shipped miniature, `smollm2-135m` from its package, or that of a model on the hub."""
    hub: str | None = None
    """Repository on the Hugging Face hub, `owner/name`, for models that do not ship with the package."""
    revision: str = "main"
    """Branch, tag or commit there; the commit that it resolves to is recorded."""
    path: str | None = None
    """Folder with config, safetensors and tokenizer; given, it replaces the named model (and names it)."""
    chat_template: str | None = None
    """Jinja file that stands in for the tokenizer's chat template (base models have none)."""
    dtype: Precision = Precision.fp32
    """Type of the base weights and of the arithmetic on them."""
    device: str = "auto"
    """`auto`: the accelerator where there is one, else `cpu`; or a torch device."""
    attention: Attention = Attention.sdpa
    """Implementation of attention."""
    gradient_checkpointing: bool = False
    """Keep one activation per block in training and compute the others again: less memory, a third more time."""
    shape: ShapeConfig | None = None
    """Its sizes, for planning without its files; the files decide when it is loaded."""
    lr_constants: dict[str, float] = field(default_factory=dict)
    """For `lr=auto`, found on validation data: c of lr = c/u for each "task/algorithm" (TinyLoRA), or the rate itself
    for "task/algorithm/adapter"."""

    @property
    def identity(self) -> str:
        """The name under which runs of this model are recorded."""
        return Path(self.path).resolve().name if self.path else self.name


@dataclass(frozen=True)
class TaskConfig:
    """What is asked and how answers are judged."""

    name: str = "sums"
    """One of `tinylora.tasks.TASKS`."""
    folder: str | None = None
    """Folder of JSON lines, one file a set (`gsm8k-train.jsonl[.gz]`); without one, data come from the hub."""
    revision: str = "main"
    """Branch, tag or commit of the task's data sets on the hub; the commit that it resolves to is recorded."""
    training_set: str | None = None
    """For tasks with several: which set is trained on; for `reasoning_gym`: the name of questions in `folder`."""
    template: Template = Template.plain
    """What the prompt asks of the form of an answer, and so what strict scoring wants."""
    checker: Checker = Checker.numeric
    """How answers are compared; generated tasks have a check of their own."""
    generator: str | None = None
    """For `reasoning_gym`: the generator of problems."""
    generator_options: dict[str, Any] = field(default_factory=dict)
    """Settings of the generator, such as {min_terms: 2}."""
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
    """`tinylora`: delta W = U Sigma (sum_i v_i P_i) V^T; `lora_xs`: U Sigma R V^T; `lora`: B A; `full`: all weights;
    `none`: nothing is trained, the model is evaluated."""
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
    suites: list[str] = field(default_factory=list)
    """Further evaluation sets by name, such as [gsm8k, aime24]; `test_items` problems of each at most."""
    samples_per_item: int = 8
    """Completions per problem in the sampled evaluation of small sets (AIME, AMC): avg@k and pass@k."""


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

    max_lanes: Union[int, str] = 32  # noqa: UP007 - as for n_tie
    """Most lanes in one pack; `auto`: as many as `memory_gib` holds with all rows of a step at once. More lanes need no
    more memory (rows wait for others to end), but gain little."""
    memory_gib: Union[float, int, str] = AUTO  # noqa: UP007 - as for lr
    """Memory (GiB) of each process for rows that are decoded or trained at once, beside the model; `auto`: half of the
    device's. Where max_lanes=auto and jobs are submitted from a machine without their GPU, it must be a number, or
    launcher.memory_gb given for jobs without GPU."""


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
    paper: str | None = None
    """The preset of `conf/paper` that the point comes from; of no influence on the run."""
    outputs_dir: str = "outputs"
    """Folder of everything that a run writes: run folders, basis cache, default MLflow store."""

    def __post_init__(self) -> None:
        from tinylora.settings import rules  # which are about this class

        rules.check(self)

    @property
    def learning_rate(self) -> float:
        """The number that `lr` resolves to."""
        if self.adapter.name is Adapter.none:
            return 0.0
        if self.lr != AUTO:
            return float(self.lr)
        constant = self.model.lr_constants[self.lr_key]
        return constant / self.u if self.adapter.name is Adapter.tinylora else constant

    @property
    def lr_key(self) -> str:
        """The entry of `model.lr_constants` for this task, algorithm and adapter."""
        key = f"{self.task.name}/{self.algorithm.name.value}"
        return key if self.adapter.name is Adapter.tinylora else f"{key}/{self.adapter.name.value}"

    @property
    def training_steps(self) -> int:
        """Optimizer steps of the run: none where nothing is trained."""
        return 0 if self.adapter.name is Adapter.none else self.steps

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
        for group in ("outputs_dir", "tracking", "pack", "paper", *UNUSED[self.adapter.name]):
            del plain[group]
        plain["model"] = {"name": self.model.identity, "dtype": self.model.dtype.value}
        if self.model.hub and not self.model.path:
            plain["model"]["revision"] = self.model.revision
        if self.model.chat_template is not None:
            plain["model"]["chat_template"] = _content_digest(Path(self.model.chat_template))
        del plain["task"]["folder"], plain["task"]["max_new_tokens"]
        if self.task.folder is not None:
            del plain["task"]["revision"]
        if self.algorithm.name is Algorithm.grpo or self.adapter.name is Adapter.none:
            del plain["task"]["demonstrations"]
        if not self.adapter.name.has_basis:
            del plain["adapter"]["solver"]
        if self.adapter.name is Adapter.none:
            plain |= {"precision": self.model.dtype.value, "seed": 0, "algorithm": {"name": "none"}}
        return plain | {"lr": self.learning_rate, "steps": self.training_steps}

    def pack_key(self) -> str:
        """Equal for points that may train together: all that must agree between the lanes of a pack."""
        plain = as_plain(self)
        for name in LANE_FIELDS:
            group, _, leaf = name.rpartition(".")
            del (plain[group] if group else plain)[leaf]
        return _digest(plain)


LANE_FIELDS = (
    "u",
    "n_tie",
    "sharing",
    "precision",
    "lr",
    "seed",
    "task.demonstrations",
    "model.lr_constants",
    "model.shape",
    "paper",
)
"""Settings that may differ between the lanes of one pack."""

UNUSED: dict[Adapter, tuple[str, ...]] = {
    Adapter.tinylora: (),
    Adapter.lora_xs: ("u",),
    Adapter.lora: ("u", "n_tie", "sharing"),
    Adapter.full: ("u", "n_tie", "sharing", "rank"),
    Adapter.none: ("u", "n_tie", "sharing", "rank"),
}
"""Settings that an adapter does not use: they are no part of its runs' identity."""


def as_plain(config: RunConfig) -> dict[str, Any]:
    """The whole config as nested plain values (enums by name), ready for YAML or JSON."""
    return asdict(config, dict_factory=lambda items: {k: v.value if isinstance(v, Enum) else v for k, v in items})


def flatten(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level with dotted names, lists as text: {"model.name": ..., "eval.suites": "gsm8k"}."""
    flat: dict[str, Any] = {}
    for name, value in plain.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = ",".join(map(str, value)) if isinstance(value, list) else value
    return flat


def _content_digest(path: Path) -> str:
    """12 hex digits of what a file holds; its name where there is none, which is said when the model is looked at."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else str(path)


def _digest(plain: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
