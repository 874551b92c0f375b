"""The groups of settings: task, adapter, rollout, evaluation, tracking, packs (`model`, `algorithms` in their files).

One frozen dataclass each: type, default, meaning and role (`identity.Role`) of every setting stand at its field. Rules
are checked in `__post_init__`. The files of `conf/` state only what differs from these defaults. A `RunConfig`
(`config`) holds one of each group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Union

from tinylora.settings.choices import (
    AUTO,
    Adapter,
    Checker,
    Demonstrations,
    Solver,
    Strict,
    Template,
)
from tinylora.settings.errors import is_positive, require, require_counts
from tinylora.settings.identity import Role, setting
from tinylora.settings.paths import as_path
from tinylora.settings.rules import require_between, require_kinds, require_path, shown
from tinylora.settings.store_urls import as_store
from tinylora.settings.uses import (
    CONVERSES,
    HAS_BASIS,
    LEARNS_DEMONSTRATIONS,
    MAKES_PROBLEMS,
    NOT_SUMS,
    READS_SETS,
    READS_THE_HUB,
    SUMS,
    TASK_SAYS_LENGTH,
    TRAINS,
    TRAINS_NOTHING,
    TRAINS_ON_SETS,
)

LONGEST_NAME = 500  # characters of an experiment, which MLflow takes
AUTO_SHARE = 0.5  # share of a device's memory for the rows of a pack, where pack.memory_gib is auto
PACKS_AT_ONCE = "TINYLORA_PACKS_AT_ONCE"
"""The variable that says how many packs a job trains side by side; absent: this one alone."""
TEMPERATURES = (1e-6, 1e6)  # logits divided by less overflow in fp32
END_BIASES = (-1e4, 1e4)  # of logits: beyond it nothing changes any more
LEAST_TOP_P = 1e-6  # a smaller probability is none in fp32
CACHE_SHARE = 0.75  # share of that for keys and values; the rest is for the pass that extends them, and for choices


@dataclass(frozen=True)
class TaskConfig:
    """What is asked and how answers are judged."""

    name: str = setting("sums", Role.identity)
    """One of `tinylora.tasks.TASKS`."""
    folder: str | None = setting(None, Role.place, given=READS_SETS, enters=as_path)
    """Folder of JSON lines, one file a set (`gsm8k-train.jsonl[.gz]`); without one, question sets come from the hub.
    Generated tasks need none."""
    revision: str = setting("main", Role.identity, used=lambda run: run.task.folder is None, given=READS_THE_HUB)
    """Branch, tag or commit of the task's data sets on the hub; the commit that it resolves to is recorded."""
    training_set: str | None = setting(None, Role.identity, given=NOT_SUMS)
    """For tasks with several: which set is trained on; for `reasoning_gym`: the name of questions in `folder`."""
    template: Template = setting(Template.plain, Role.identity, given=NOT_SUMS)
    """What the prompt asks of the form of an answer, and so what strict scoring wants."""
    system_message: str | None = setting(
        None,
        Role.identity,
        used=lambda run: CONVERSES(run) and run.task.system_message is not None,
        given=CONVERSES,
    )
    """What the chat template is given as the system's message; without one, templates such as Qwen's put their own."""
    max_prompt_tokens: int | None = setting(
        None,
        Role.identity,
        used=lambda run: TRAINS_ON_SETS(run) and run.task.max_prompt_tokens is not None,
        given=TRAINS_ON_SETS,
    )
    """Questions whose prompts have more tokens are left out of training, and counted; null: none are."""
    checker: Checker = setting(Checker.numeric, Role.identity, given=READS_SETS)
    """How answers are compared; generated tasks have a check of their own."""
    strict: Strict = setting(Strict.form, Role.identity, used=READS_SETS, absent=Strict.form)
    """Which answers strict scoring takes, and so what earns a reward: those in the template's `form`, as a fair reader
    would; or those that the rule of `verl` (GSM8K) or `simplerl` (MATH) takes, to the letter."""
    generator: str | None = setting(None, Role.identity, given=MAKES_PROBLEMS)
    """For `reasoning_gym`: the generator of problems."""
    generator_options: dict[str, Any] = setting(dict, Role.identity, given=MAKES_PROBLEMS)
    """Settings of the generator, such as {min_terms: 2}."""
    demonstrations: Demonstrations = setting(Demonstrations.own, Role.lane, used=LEARNS_DEMONSTRATIONS)
    """Manner of the demonstrations for SFT: the model's `own`, a `foreign` one, or `sampled`: right answers that the
    untrained model gave. Without meaning for GRPO."""
    max_new_tokens: int = setting(64, Role.place, given=TASK_SAYS_LENGTH)
    """Longest completion that the task needs; the default of `rollout.max_new_tokens`."""

    def __post_init__(self) -> None:
        require_kinds(self, "task.")
        require_path("task.folder", self.folder)
        require_counts("task.", max_new_tokens=self.max_new_tokens)
        if self.max_prompt_tokens is not None:
            require_counts("task.", max_prompt_tokens=self.max_prompt_tokens)
        if self.name != SUMS:
            self._require_rule()

    def _require_rule(self) -> None:
        """The rule of a protocol is about one form, and the prompt must ask for it."""
        rule, strict = self.strict.template, self.strict.value
        require(
            rule in (None, self.template),
            f"task.strict={strict} task.template={self.template.value}",
            f"the rule of {strict} finds nothing but answers in the form `{rule.value if rule else ''}`",
            f"give task.template={rule.value if rule else ''}, or task.strict=form",
        )
        require(
            self.strict is not Strict.simplerl or self.checker is Checker.math,
            f"task.strict={strict} task.checker={self.checker.value}",
            "the rule of simplerl compares mathematical expressions",
            "give task.checker=math, or task.strict=form",
        )


@dataclass(frozen=True)
class AdapterConfig:
    """The trained part."""

    name: Adapter = setting(Adapter.tinylora, Role.identity)
    """`tinylora`: delta W = U Sigma (sum_i v_i P_i) V^T; `lora_xs`: U Sigma R V^T; `lora`: B A; `full`: all weights;
    `none`: nothing is trained, the model is evaluated."""
    solver: Solver = setting(Solver.fast, Role.identity, used=HAS_BASIS)
    """Truncated SVD of the weights: `fast` (checked, falls back to exact) or `exact`."""

    def __post_init__(self) -> None:
        require_kinds(self, "adapter.")


@dataclass(frozen=True)
class RolloutConfig:
    """How completions are sampled, in training and in the sampled evaluation."""

    max_new_tokens: int = setting(64, Role.identity)
    """Longest completion, in tokens."""
    temperature: float = setting(1.0, Role.identity)
    """Softmax temperature of the samples."""
    top_p: float = setting(1.0, Role.identity)
    """Nucleus sampling: the smallest set of tokens with this probability; 1 samples from all."""
    end_bias: float = setting(0.0, Role.identity, used=TRAINS_NOTHING, absent=0.0)
    """A control, of the untrained model alone: added to the logits of all end tokens, sampled and greedy, before the
    temperature. So it says what ending sooner (above 0) or later would gain without any training."""

    def __post_init__(self) -> None:
        require_kinds(self, "rollout.")
        require_counts("rollout.", max_new_tokens=self.max_new_tokens)
        remedy = "give rollout.temperature=1.0; greedy accuracy is measured in any case"
        require_between("rollout.temperature", self.temperature, *TEMPERATURES, remedy)
        remedy = "give rollout.top_p=1.0 to sample from all tokens"
        require_between("rollout.top_p", self.top_p, LEAST_TOP_P, 1, remedy)
        remedy = "give rollout.end_bias=0, which leaves the logits as they are"
        require_between("rollout.end_bias", self.end_bias, *END_BIASES, remedy)


@dataclass(frozen=True)
class EvalConfig:
    """Evaluation on the fixed validation and test problems."""

    every: int = setting(0, Role.identity, given=TRAINS)
    """Steps between evaluations during training; 0: only before and after."""
    test_items: int = setting(1024, Role.identity)
    """Test problems."""
    validation_items: int = setting(256, Role.identity)
    """Validation problems, for choosing learning rates."""
    suites: list[str] = setting(list, Role.identity)
    """Further evaluation sets by name, such as [gsm8k, aime24]; `test_items` problems of each at most."""
    samples: int = setting(4, Role.identity, absent=1)
    """Completions per problem in the sampled evaluation of every set: avg@k and pass@k."""
    samples_per_item: int = setting(8, Role.identity, given=READS_SETS)
    """The same of small sets (AIME, AMC), where it is more than `samples`."""

    def __post_init__(self) -> None:
        require_kinds(self, "eval.")
        named = all(isinstance(name, str) for name in self.suites)
        require(named, f"eval.suites={self.suites}", "it lists names of evaluation sets", "give eval.suites=[aime24]")
        require_counts(
            "eval.",
            test_items=self.test_items,
            validation_items=self.validation_items,
            samples=self.samples,
            samples_per_item=self.samples_per_item,
        )
        rule = "it counts steps; 0 means only before and after"
        require(self.every >= 0, f"eval.every={self.every}", rule, "give eval.every=0 or more")


@dataclass(frozen=True)
class TrackingConfig:
    """Where MLflow keeps the records."""

    uri: str | None = setting(None, Role.place, enters=as_store)
    """MLflow tracking URI: of a server, or sqlite:///<path>; null: an SQLite store in `outputs_dir`."""
    experiment: str = setting("tinylora", Role.place)
    """MLflow experiment."""

    def __post_init__(self) -> None:
        require_kinds(self, "tracking.")
        given, rule = f"tracking.experiment={shown(self.experiment)}", f"a name of MLflow's has at most {LONGEST_NAME}"
        fits = len(self.experiment) <= LONGEST_NAME
        require(fits, given, f"{rule} characters", "give tracking.experiment=<shorter name>")


@dataclass(frozen=True)
class PackConfig:
    """How points are put together."""

    max_lanes: Union[int, str] = setting(32, Role.place)  # noqa: UP007 - as for n_tie
    """Most lanes in one pack; `auto`: as many as `memory_gib` holds with all rows of a step at once. More lanes need no
    more memory (rows wait for others to end), but gain little."""
    memory_gib: Union[float, int, str] = setting(AUTO, Role.place)  # noqa: UP007 - as for lr
    """Memory (GiB) of each process for rows that are decoded or trained at once, beside the model; `auto`: half of the
    device's. With max_lanes=auto, jobs on a GPU that this machine
    lacks need a number here; jobs without a GPU need this or launcher.memory_gb."""

    def __post_init__(self) -> None:
        require_kinds(self, "pack.")
        require(
            self.memory_gib == AUTO or is_positive(self.memory_gib),
            f"pack.memory_gib={self.memory_gib}",
            f"a finite number of GiB above 0, or `{AUTO}`",
            f"give pack.memory_gib={AUTO}",
        )
        require(
            self.max_lanes == AUTO or (not isinstance(self.max_lanes, str) and self.max_lanes >= 1),
            f"pack.max_lanes={self.max_lanes}",
            f"it counts things and must be at least 1, or `{AUTO}`",
            "give pack.max_lanes=1 or more",
        )
