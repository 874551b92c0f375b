"""The named choices of a run: what a setting may be, where it is one of a few words."""

from __future__ import annotations

from enum import Enum

ALL = "all"  # n_tie: every adapted module shares one v
AUTO = "auto"  # lr: by the constant of the model, task and algorithm; projection_seed: from the seed
SCALE_BITS = 32  # of the scale of whole numbers, one for a lane


class Precision(Enum):
    """A type, of the stored v (`precision`) or of the base model (`model.dtype`, which is a floating-point type).

    Whole numbers have one scale for a lane (see `adapters.rounding`).
    """

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"
    int8 = "int8"
    int4 = "int4"
    int2 = "int2"
    int1 = "int1"

    @property
    def bits(self) -> int:
        """Bits per value."""
        return int(self.value.lstrip("bfpint"))

    @property
    def size(self) -> int:
        """Bytes per value of a floating-point type."""
        return self.bits // 8

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers times a scale."""
        return self.value.startswith("int")

    @property
    def largest(self) -> int:
        """The largest whole number of a type that has zero: as far from it as the smallest."""
        return int(2 ** (self.bits - 1)) - 1

    def bits_of(self, count: int) -> int:
        """Bits of `count` stored values, with their scale."""
        return count * self.bits + (SCALE_BITS if self.whole and count else 0)


class Rounding(Enum):
    """How v comes to be of its storage type: rounded after every step to the nearest value, or to one of the two
    neighbours by chance; or rounded from an fp32 master, which is what is trained."""

    nearest = "nearest"
    stochastic = "stochastic"
    master = "master"


class OnNoSignal(Enum):
    """What is done about a run all of whose samples earn the same for steps: it is said, or the run ends, too."""

    warn = "warn"
    stop = "stop"


class Sharing(Enum):
    """Which modules share a v: neighbours in depth (tiled) or neighbours of one type (structured)."""

    tiled = "tiled"
    structured = "structured"


class Algorithm(Enum):
    """How v is trained, or found without training."""

    grpo = "grpo"
    sft = "sft"
    random_search = "random_search"


class Reward(Enum):
    """What GRPO rewards: the right answer, or less, to see what a gain is made of."""

    correct = "correct"
    form = "form"
    shuffled = "shuffled"


class Adapter(Enum):
    """What is trained."""

    tinylora = "tinylora"
    lora_xs = "lora_xs"
    lora = "lora"
    full = "full"
    none = "none"

    @property
    def has_basis(self) -> bool:
        """Whether its update is made of the frozen factors U, Sigma, V of each weight."""
        return self in (Adapter.tinylora, Adapter.lora_xs)

    @property
    def has_rank(self) -> bool:
        """Whether `rank` has a meaning for it."""
        return self in (Adapter.tinylora, Adapter.lora_xs, Adapter.lora)

    @property
    def packs(self) -> bool:
        """Whether points of it train together as lanes: they need the same frozen model."""
        return self.has_rank

    @property
    def unused(self) -> tuple[str, ...]:
        """Names of the settings that have no meaning for it, and so no part in the identity of its runs."""
        used = {
            "u": self is Adapter.tinylora,
            "projection_seed": self is Adapter.tinylora,
            "n_tie": self.has_basis,
            "sharing": self.has_basis,
            "rank": self.has_rank,
        }
        return tuple(name for name, is_used in used.items() if not is_used)


class Solver(Enum):
    """How the truncated SVD is computed: a checked randomised solver, or the full decomposition."""

    fast = "fast"
    exact = "exact"


class Demonstrations(Enum):
    """Whose manner the SFT demonstrations are written in: the model's own, a foreign one, that of its own samples."""

    own = "own"
    foreign = "foreign"
    sampled = "sampled"
    """Right answers among those that the untrained model gives: rejection sampling."""


class Checker(Enum):
    """How answers are compared with the gold: as exact numbers, or as mathematical expressions of any kind."""

    numeric = "numeric"
    math = "math"


class Template(Enum):
    r"""The format that a prompt asks the final answer to have: `\boxed{...}`, `#### ...`, or none in particular."""

    boxed = "boxed"
    hash = "hash"
    plain = "plain"


class Strict(Enum):
    """What strict scoring takes: the template's form, read fairly, or the rule of a protocol to the letter."""

    form = "form"
    verl = "verl"
    simplerl = "simplerl"

    @property
    def template(self) -> Template | None:
        """The form in which its rule looks for answers; None for that of the prompt."""
        return {Strict.verl: Template.hash, Strict.simplerl: Template.boxed}.get(self)


class Attention(Enum):
    """The implementation of attention; both take the masks by which completions share a row."""

    sdpa = "sdpa"
    eager = "eager"


class Split(Enum):
    """The part of a task's problems: learning rates are chosen on validation, never on test."""

    train = "train"
    validation = "validation"
    test = "test"
