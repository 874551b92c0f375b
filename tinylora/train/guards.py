"""Guards: what a lane's metrics say about GRPO that cannot learn, as it happens, with the probable cause and a remedy.

    no signal        all groups of 10 steps had equal rewards, at whatever reward: there is no gradient
    nothing left     the same where nearly all answers are right: no fault
    no form          no answer of 5 steps stood in the asked-for form
    cut answers      more than 80% of the completions of 5 steps were cut before their end
    same answers     sampled completions hardly differ any more: the entropy has collapsed
    short answers    completions are a third as long as at first, and worse

A `Watch` sees the metrics of each step once. It is a function of them: one that is shown the recorded steps of a run
again stands where it stood. Each kind is said once in a run, and recorded as `warning/<kind>` at that step.
"""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from statistics import fmean

from tinylora.records.measured import MetricLine, Metrics
from tinylora.settings.choices import OnNoSignal, Strict, Template
from tinylora.settings.config import AUTO, GrpoConfig, RunConfig
from tinylora.settings.uses import SUMS, makes_problems

NO_SIGNAL_STEPS = 10  # of 16 groups each: 160 problems, for none of which one sample was better than another
STEPS = 5  # for all else: some hundred completions
NEARLY_ALL = 0.9  # reward from which a lane has learnt its task: what is left may be problems that nobody solves
CUT_SHARE = 0.8  # beyond it, less than one in five completions can earn anything
OFTEN = 0.5  # share of completions from which something is what most of them do
SAME_ENTROPY = 0.1  # nats of a whole completion: nine in ten samples say the same; healthy miniatures end at 0.3
SHORT_SHARE = 1 / 3  # of the first length: 352 runs of the study stayed above 0.4, and the 4 below it had broken
MOST_OF_CONTEXT = 0.75  # for completions; the rest is for prompts
LESS_RATE, MORE_TOKENS, MORE_SAMPLES = 5, 2, 2  # factors of remedies
ENTROPY_COEFFICIENT = 0.001  # SimpleRL's


class Kind(Enum):
    """What is wrong, as it is called in messages."""

    no_signal = "no signal"
    nothing_left = "nothing left to learn"
    no_form = "no answer in the asked-for form"
    cut = "answers are cut"
    same = "answers are all the same"
    short = "answers have become short"

    @property
    def metric(self) -> str:
        """Under which name a run records the step since which it is so."""
        return f"warning/{self.name}"


@dataclass(frozen=True)
class Alert:
    """A warning of one lane."""

    kind: Kind
    since: int
    """The first of the steps that show it."""
    numbers: str
    cause: str
    remedy: str

    @property
    def what(self) -> str:
        """What is so, since when, and by which numbers, in a line."""
        return f"{self.kind.value} since step {self.since}: {self.numbers}"

    def __str__(self) -> str:
        return f"{self.what}\n  cause:  {self.cause}\n  remedy: {self.remedy}"


class Watch:
    """What one lane's steps have shown so far; of a lane that samples nothing to learn from, nothing."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.alerts: list[Alert] = []
        self._first: Metrics = {}
        self._steps: deque[tuple[int, Metrics]] = deque(maxlen=max(NO_SIGNAL_STEPS, STEPS))

    def see(self, step: int, metrics: Metrics) -> list[Alert]:
        """Take the metrics of the next step; returns the alerts that begin with it."""
        if not isinstance(self.config.algorithm, GrpoConfig) or "train/reward" not in metrics:
            return []
        self._first = self._first or metrics
        self._steps.append((step, metrics))
        said = {alert.kind for alert in self.alerts}
        begun = [self._alert(kind) for kind in Kind if kind not in said and self._shows(kind)]
        self.alerts += begun
        return begun

    def see_again(self, lines: Iterable[MetricLine]) -> None:
        """Take the recorded steps of a run that goes on."""
        for line in lines:
            self.see(line.step, line.metrics)

    def of_kind(self, kind: Kind) -> Alert | None:
        """The alert of this kind, where there was one."""
        return next((alert for alert in self.alerts if alert.kind is kind), None)

    @property
    def end(self) -> str | None:
        """Why the run is to end here: it has no signal, and was asked to stop then."""
        alert = self.of_kind(Kind.no_signal)
        return alert.what if alert and self.config.on_no_signal is OnNoSignal.stop else None

    def _last(self, count: int) -> list[Metrics]:
        return [metrics for _, metrics in list(self._steps)[-count:]]

    def _mean(self, name: str, count: int = STEPS) -> float:
        """Of a metric of training over the last steps; 0 where records of an earlier version lack it."""
        return fmean(metrics.get(f"train/{name}", 0.0) for metrics in self._last(count))

    def _shows(self, kind: Kind) -> bool:
        count = _steps_of(kind)
        last = self._last(count)
        if len(last) < count:
            return False
        learnt = self._mean("reward", count) >= NEARLY_ALL
        if kind in (Kind.no_signal, Kind.nothing_left):
            equal = all(metrics.get("train/zero_variance") == 1 for metrics in last)
            return equal and learnt is (kind is Kind.nothing_left)
        if kind is Kind.no_form:
            return all(metrics.get("train/outcome/no_answer") == 1 for metrics in last)
        if kind is Kind.cut:
            return all(metrics.get("train/truncated", 0.0) > CUT_SHARE for metrics in last)
        if kind is Kind.same:
            return not learnt and self._is_same()
        short = self._mean("completion_tokens") < SHORT_SHARE * self._first["train/completion_tokens"]
        return short and self._mean("reward") < self._first["train/reward"]

    def _completion_entropy(self) -> float:
        """Nats of a whole completion, over the last steps."""
        return fmean(m["train/token_entropy"] * m["train/completion_tokens"] for m in self._last(STEPS))

    def _alert(self, kind: Kind) -> Alert:
        step, _ = self._steps[-1]
        cause, settings = self._reason(kind)
        look = f"see what it says by `python -m experiments.samples {shlex.quote(str(self.config.folder))}`"
        remedy = look if settings is None else f"{look}; then give the same command with {settings}"
        if kind is Kind.nothing_left:
            remedy = "none is needed; fewer steps cost less, and a harder task could teach more"
        count = _steps_of(kind)
        return Alert(kind, step - count + 1, self._numbers(kind, count), cause, remedy)

    def _numbers(self, kind: Kind, count: int) -> str:
        reward, tokens = f"reward {self._mean('reward', count):.2f}", f"{self._mean('completion_tokens'):.0f} tokens"
        if kind in (Kind.no_signal, Kind.nothing_left):
            return f"in {count} steps all completions of a prompt were rewarded alike ({reward})"
        if kind is Kind.no_form:
            right = f"{self._mean('flexible'):.0%} are right in another form"
            return f"none in {count} steps, and {right} ({reward})"
        if kind is Kind.cut:
            limit = self.config.rollout.max_new_tokens
            return f"{self._mean('truncated'):.0%} of the completions reach {limit} tokens without an end ({reward})"
        if kind is Kind.same:
            return f"{self._completion_entropy():.2g} nats of entropy in a completion of {tokens} ({reward})"
        first = f"{self._first['train/completion_tokens']:.0f} at the first step"
        return f"{tokens} where it was {first} ({reward})"

    def _reason(self, kind: Kind) -> tuple[str, str | None]:
        """The probable cause, and the settings that would mend it (None: there are none to name)."""
        config, first, count = self.config, self._first, _steps_of(kind)
        if kind is Kind.nothing_left:
            return "nearly all answers are right, and those that are not are so in every sample", None
        if kind is Kind.same:
            return self._why_same()
        if self._mean("reward", count) < first["train/reward"] / 2:
            fell = f"the reward was {first['train/reward']:.2f} at the first step: training has broken the model"
            return f"{fell}, most often by a learning rate that is too large", self._smaller_rate()
        if kind is Kind.cut or self._mean("truncated", count) > OFTEN:
            return self._why_cut()
        if config.task.name != SUMS and self._misses_form(count):
            asked = f"the prompt asks for the form `{config.task.template.value}`"
            return f"{asked}, and the model keeps another", self._form()
        if self._is_same():
            return self._why_same()
        if kind is Kind.short:
            return "the model ends before it has answered", self._smaller_rate()
        sure = "the model solves a problem always or never: it is too hard, or the samples are too few to show both"
        return sure, self._more()

    def _why_cut(self) -> tuple[str, str | None]:
        shape, limit = self.config.model.shape, self.config.rollout.max_new_tokens
        longer = MORE_TOKENS * limit
        if shape is not None and longer > MOST_OF_CONTEXT * shape.context:
            return f"the model does not stop, and its context has no room for {longer} tokens", self._form_or_rate()
        cause = "completions end before their answer: they are longer than rollout.max_new_tokens"
        return cause, f"rollout.max_new_tokens={longer}"

    def _misses_form(self, count: int) -> bool:
        without = self._mean("outcome/no_answer", count) > OFTEN
        return without or self._mean("flexible", count) > self._mean("reward", count)

    def _is_same(self) -> bool:
        return all("train/token_entropy" in m for m in self._last(STEPS)) and self._completion_entropy() < SAME_ENTROPY

    def _why_same(self) -> tuple[str, str | None]:
        rollout = self.config.rollout
        if rollout.temperature < 1 or rollout.top_p < 1:
            narrow = f"rollout.temperature={rollout.temperature:g} rollout.top_p={rollout.top_p:g}"
            return f"{narrow} leave one likely completion of each prompt", "rollout.temperature=1 rollout.top_p=1"
        assert isinstance(self.config.algorithm, GrpoConfig)
        if self._first.get("train/zero_variance", 0.0) < 1:
            coefficient = max(ENTROPY_COEFFICIENT, MORE_SAMPLES * self.config.algorithm.entropy_coefficient)
            return "training has left one completion of each prompt", f"algorithm.entropy_coefficient={coefficient:g}"
        return "the model is sure of one completion of each prompt", f"rollout.temperature={2 * rollout.temperature:g}"

    def _form(self) -> str:
        """Another form: none at all where the check of made problems reads any, else the one that most models know."""
        task = self.config.task
        order = [Template.plain, Template.boxed] if makes_problems(task) else [Template.boxed, Template.hash]
        other = next(template for template in order if template is not task.template)
        return f"task.template={other.value}{'' if task.strict is Strict.form else ' task.strict=form'}"

    def _form_or_rate(self) -> str:
        return self._smaller_rate() if self.config.task.name == SUMS else self._form()

    def _smaller_rate(self) -> str:
        """The known rate of this model and task where that is far smaller, else a fraction of this one."""
        if self.config.lr_key in self.config.model.lr_constants:
            known = replace(self.config, lr=AUTO).learning_rate
            if known * LESS_RATE <= self.config.learning_rate:
                return "lr=auto"
        return f"lr={self.config.learning_rate / LESS_RATE:.3g}"

    def _more(self) -> str:
        assert isinstance(self.config.algorithm, GrpoConfig)
        model, task = self.config.model, self.config.task
        named = f"model={model.name}" if model.path is None else f"model.path={shlex.quote(model.path)}"
        survey = f"python -m experiments.questions survey {named} task={task.name}"
        more = f"algorithm.samples={MORE_SAMPLES * self.config.algorithm.samples}"
        return f"{more}, or with an easier task: `{survey} ...` says of which problems some samples are right"


def _steps_of(kind: Kind) -> int:
    """How many steps show it."""
    return NO_SIGNAL_STEPS if kind in (Kind.no_signal, Kind.nothing_left) else STEPS
