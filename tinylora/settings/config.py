"""A run as it is asked for: `RunConfig`, one point of a sweep, with its identity.

Its groups are in `groups` and `algorithms`; which settings identify a run, and which may differ between the lanes
of a pack, stands at each setting and is read by `identity`. Most of what others need of settings is imported from here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Union

from tinylora.settings.algorithms import ALGORITHMS, AlgorithmConfig, GrpoConfig, RandomSearchConfig, SftConfig
from tinylora.settings.choices import (
    ALL,
    AUTO,
    Adapter,
    Algorithm,
    Attention,
    Checker,
    Demonstrations,
    OnNoSignal,
    Precision,
    Rounding,
    Sharing,
    Solver,
    Split,
    Strict,
    Template,
)
from tinylora.settings.errors import is_positive, require, require_counts
from tinylora.settings.groups import (
    AdapterConfig,
    EvalConfig,
    PackConfig,
    RolloutConfig,
    TaskConfig,
    TrackingConfig,
)
from tinylora.settings.identity import (
    RECIPE,
    Role,
    as_plain,
    digest,
    flatten,
    hashed_settings,
    setting,
    shared_settings,
)
from tinylora.settings.model import ModelConfig, ShapeConfig
from tinylora.settings.paths import as_path
from tinylora.settings.rates import guessed_rate, offered_rates, rate_of
from tinylora.settings.rules import LARGEST_FP32, SMALLEST_FP32, require_kinds, require_path
from tinylora.settings.seeds import stream_seed
from tinylora.settings.store_urls import STORE, url_of
from tinylora.settings.uses import (
    DRAWS_PROJECTIONS,
    FIRST_WITH_PROJECTION_SEED,
    SAMPLES_GROUPS,
    TIES_SOME,
    TRAINS,
    of_adapters,
)


@dataclass(frozen=True)
class RunConfig:
    """One point of a sweep."""

    u: int = setting(13, Role.lane, used=of_adapters("u"))
    """Trained values per group; with n_tie=all, the number of trained parameters."""
    n_tie: Union[int, str] = setting(ALL, Role.lane, used=of_adapters("n_tie"))  # noqa: UP007 - OmegaConf reads this form
    """Modules that share one v: a number, or `all`."""
    sharing: Sharing = setting(Sharing.tiled, Role.lane, used=of_adapters("sharing"), given=TIES_SOME)
    """Which modules count as neighbours when n_tie is a number."""
    precision: Precision = setting(
        Precision.fp32, Role.lane, counts_as=lambda run: run.precision if run.trains else run.model.dtype, given=TRAINS
    )
    """Type in which v is stored, and with which everything is computed."""
    rounding: Rounding = setting(Rounding.nearest, Role.lane, used=TRAINS, absent=Rounding.nearest)
    """How v comes to be of that type: `nearest` or `stochastic`, after every optimizer step; `master`: an fp32 master
    is trained with the gradient of the rounded v. Whole numbers need a master."""
    rank: int = setting(2, Role.identity, used=of_adapters("rank"))
    """Rank r of the frozen basis."""
    lr: Union[float, int, str] = setting(  # noqa: UP007 - a Union does not convert: lr=1 is an int
        AUTO, Role.lane, counts_as=lambda run: run.learning_rate, given=TRAINS
    )
    """Learning rate of Adam, or `auto`: from the model's constant c, c/(u + 8) for TinyLoRA and c itself for others.
    With algorithm=random_search it is the standard deviation of the values that are tried. `auto` counts as the number
    it resolves to, so that it is the same run as that number given by hand."""
    seed: int = setting(0, Role.lane, counts_as=lambda run: run.seed if run.trains else 0, given=TRAINS)
    """Root of all random streams of the run: data order, sampling, noise, first factors of LoRA."""
    projection_seed: Union[int, str] = setting(  # noqa: UP007 - as for n_tie
        AUTO, Role.lane, used=DRAWS_PROJECTIONS, counts_as=lambda run: run.projection_root
    )
    """Root of the projections P, or `auto`: a number of its own for each seed and model. `auto` counts as the number it
    resolves to. Recipes 1 and 2 drew P from `seed`, the same for all models."""
    steps: int = setting(60, Role.identity, counts_as=lambda run: run.training_steps, given=TRAINS)
    """Optimizer steps; of random search the candidates that are tried."""
    on_no_signal: OnNoSignal = setting(OnNoSignal.warn, Role.identity, used=SAMPLES_GROUPS, absent=OnNoSignal.warn)
    """GRPO: what is done where all groups of ten steps earn the same: `warn` says so, `stop` also ends the run as
    failed, with its last v evaluated. Which it is changes nothing for a run that has a signal."""
    model: ModelConfig = field(default_factory=ModelConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    algorithm: AlgorithmConfig = field(default_factory=GrpoConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    pack: PackConfig = field(default_factory=PackConfig)
    paper: str | None = setting(None, Role.note)
    """The preset of `conf/paper` that the point comes from; of no influence on the run."""
    outputs_dir: str = setting("outputs", Role.place, enters=as_path)
    """Folder of everything that a run writes: run folders, default MLflow store."""
    fsync: bool = setting(True, Role.place)
    """Whether states, summaries and evaluations are on the disk before the run goes on, so that a power cut loses none;
    `false` for shared disks on which this is slow."""
    recipe: int = setting(RECIPE, Role.identity, absent=1)
    """How these settings become results (see `identity`): given by the version of the code, not by hand."""

    def __post_init__(self) -> None:
        require_kinds(self)
        require_path("outputs_dir", self.outputs_dir)
        require_counts(u=self.u, rank=self.rank, steps=self.steps)
        require(
            self.n_tie == ALL or (isinstance(self.n_tie, int) and self.n_tie >= 1),
            f"n_tie={self.n_tie}",
            f"n_tie is a whole number of at least 1, or `{ALL}`",
            f"give n_tie=1 (nothing shared) up to n_tie={ALL}",
        )
        require(self.seed >= 0, f"seed={self.seed}", "a seed is a whole number of at least 0", "give seed=0 or more")
        self._require_projections()
        self._require_algorithm()
        require(
            1 <= self.recipe <= RECIPE,
            f"recipe={self.recipe}",
            f"the recipe says how settings become results; this version knows 1 to {RECIPE}",
            "leave it out, or read these records with the version that wrote them",
        )
        if self.trains:
            self._require_rate()
            self._require_rounding()
            self._require_no_bias()

    def _require_algorithm(self) -> None:
        algorithm, adapter = self.algorithm.name, self.adapter.name
        require(
            type(self.algorithm) is ALGORITHMS[algorithm],
            f"algorithm.name={algorithm.value}",
            "an algorithm comes with its own settings",
            f"give algorithm={algorithm.value}, without .name",
        )
        require(
            algorithm is not Algorithm.random_search or adapter.has_basis or not self.trains,
            f"algorithm={algorithm.value} adapter={adapter.value}",
            "it tries values around zero, where a v begins that is zero in the untrained model",
            "give adapter=tinylora or adapter=lora_xs",
        )

    def _require_no_bias(self) -> None:
        require(
            self.rollout.end_bias == 0,
            f"rollout.end_bias={self.rollout.end_bias:g} adapter={self.adapter.name.value}",
            "it is a control: what ending sooner or later does by itself, where nothing is trained",
            "give adapter=none, or leave rollout.end_bias out",
        )

    def _require_projections(self) -> None:
        root = self.projection_seed
        require(
            root == AUTO or (isinstance(root, int) and root >= 0),
            f"projection_seed={root}",
            f"a seed is a whole number of at least 0, or `{AUTO}`: from seed and model",
            f"give projection_seed={AUTO}, or projection_seed=0 or more",
        )

    def _require_rounding(self) -> None:
        precision, rounding = self.precision, self.rounding
        given = f"precision={precision.value} rounding={rounding.value}"
        require(
            precision is not Precision.fp32 or rounding is Rounding.nearest,
            given,
            "v is trained in fp32, and so nothing is rounded",
            "leave rounding out, or give precision=bf16",
        )
        require(
            not precision.whole or rounding is Rounding.master,
            given,
            "the few values of whole numbers are further apart than steps are long: v would stay where it is",
            "give rounding=master, which trains in fp32 and computes with the rounded v",
        )
        require(
            precision.whole or rounding is not Rounding.master or self.algorithm.name is not Algorithm.random_search,
            f"algorithm={self.algorithm.name.value} {given}",
            "no candidate of a random search comes from the one before, so that a master of it would change nothing",
            "give rounding=nearest or rounding=stochastic",
        )
        require(
            precision is not Precision.int1 or self.adapter.name is not Adapter.lora,
            f"adapter=lora precision={precision.value}",
            "one bit has no zero, and LoRA's factor B starts there: step 0 would not be the base model",
            "give precision=int2",
        )

    def _require_rate(self) -> None:
        known, kind = self.lr_key in self.model.lr_constants, self.adapter.name
        require(
            self.lr != AUTO or known,
            f"lr={AUTO} for model {self.model.identity} on {self.lr_key}",
            "auto needs a constant found on validation data for this model, task, algorithm and adapter",
            offered_rates(kind, self.u, self.lr_key, self.algorithm.name),
        )
        remedy = f"give lr={AUTO if known else guessed_rate(kind, self.u, self.algorithm.name)}"
        rate = self.lr if isinstance(self.lr, str) and self.lr != AUTO else self.learning_rate
        rule = f"a learning rate is a finite number above 0, or `{AUTO}`"
        require(is_positive(rate), f"lr={rate}", rule, remedy)
        within = SMALLEST_FP32 <= float(rate) <= LARGEST_FP32
        rule = f"a step is computed in fp32, which holds {SMALLEST_FP32:.3g} to {LARGEST_FP32:.3g}"
        require(within, f"lr={rate}", rule, remedy)

    @property
    def trains(self) -> bool:
        """Whether anything is trained."""
        return self.adapter.name is not Adapter.none

    @property
    def learning_rate(self) -> float:
        """The number that `lr` resolves to."""
        if not self.trains:
            return 0.0
        if self.lr != AUTO:
            return float(self.lr)
        return rate_of(self.model.lr_constants[self.lr_key], self.adapter.name, self.u)

    @property
    def projection_root(self) -> int:
        """The number that `projection_seed` resolves to; 31 bits where it is `auto`."""
        if self.recipe < FIRST_WITH_PROJECTION_SEED:
            return self.seed
        if self.projection_seed != AUTO:
            return int(self.projection_seed)
        return stream_seed(self.seed, "projection_seed", self.model.identity) >> 32

    @property
    def lr_key(self) -> str:
        """The entry of `model.lr_constants` for this task, algorithm and adapter."""
        key = f"{self.task.name}/{self.algorithm.name.value}"
        return key if self.adapter.name is Adapter.tinylora else f"{key}/{self.adapter.name.value}"

    @property
    def training_steps(self) -> int:
        """Optimizer steps of the run: none where nothing is trained."""
        return self.steps if self.trains else 0

    @cached_property
    def run_key(self) -> str:
        """Identity of the run: 12 hex digits of a hash of the scientific settings."""
        return digest(self.scientific())[:12]

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.outputs_dir) / self.run_key

    @property
    def tracking_uri(self) -> str:
        """The MLflow store: the one asked for, or SQLite under `outputs_dir`."""
        return self.tracking.uri or url_of(Path(self.outputs_dir, STORE).resolve())

    def scientific(self) -> dict[str, Any]:
        """The settings that identify the run, as plain values: those whose role says so, where the run uses them."""
        return hashed_settings(self)

    @cached_property
    def pack_key(self) -> str:
        """Equal for points that may train together: a digest of what the lanes of a pack must agree in."""
        return digest(shared_settings(self))
