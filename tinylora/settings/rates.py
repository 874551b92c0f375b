"""What `lr=auto` stands for, and first guesses for models, tasks and adapters that no rate was found for.

`lr=search` begins around the guesses, and the error of an `lr=auto` that has nothing to stand for offers them. They
come of no measurement. The paper's rates for its models are 1e-7 to 2e-4; 13 values get 4.8e-5 here.
"""

from __future__ import annotations

from tinylora.settings.choices import Adapter, Algorithm

GUESSES = {Adapter.lora: 1e-4, Adapter.full: 1e-5}
OTHERS = 1e-3  # of all other adapters
RANDOM_SEARCH = 0.01  # of random search with any adapter and size: how far from zero values are tried
FEW = 8
"""Read off the best rates of both miniatures, in grids of factor 3. At u = 1, 13, 64, 120 and 1000 they are
c / (u + FEW) within a factor of 2, where anything is gained (LOG.md, 2026-11-26)."""


def rate_of(constant: float, adapter: Adapter, u: int) -> float:
    """What `lr=auto` stands for: c / (u + FEW) for TinyLoRA, the constant itself for other adapters.

    Adam moves each value by about the rate, so the step in R grows with u, and large u want a rate that falls like 1/u.
    How many maps share a value (`n_tie`) did not matter to it where that was measured, at u=1.
    """
    return constant / (u + FEW) if adapter is Adapter.tinylora else constant


def guess_of(adapter: Adapter, algorithm: Algorithm = Algorithm.grpo) -> float:
    """Of TinyLoRA c of `rate_of`, and the rate of a search whatever the size; of other adapters the rate itself."""
    return RANDOM_SEARCH if algorithm is Algorithm.random_search else GUESSES.get(adapter, OTHERS)


def guessed_rate(adapter: Adapter, u: int, algorithm: Algorithm = Algorithm.grpo) -> float:
    """A first guess at the rate of an adapter that trains something, in three digits."""
    if algorithm is Algorithm.random_search:
        return guess_of(adapter, algorithm)
    return float(f"{rate_of(guess_of(adapter), adapter, u):.3g}")


def offered_rates(adapter: Adapter, u: int, key: str, algorithm: Algorithm = Algorithm.grpo) -> str:
    """For a remedy: rates that can be given where none was found, and how each came about.

    `key` is the entry of `model.lr_constants` that is missing.
    """
    guess, rate = guess_of(adapter, algorithm), guessed_rate(adapter, u, algorithm)
    searched = algorithm is Algorithm.random_search
    of_paper = "no rate was tuned here" + ("" if searched else "; the paper's are 1e-7 to 2e-4")
    found = "lr=search seed=0,1, which finds one"
    if searched or adapter is not Adapter.tinylora:
        return f"give lr={rate:g} (a first guess, around which lr=search begins: {of_paper}), or {found}"
    return (
        f"give lr={rate:g} for u={u} (a first guess, c/(u+{FEW}) with c={guess:g}, around which lr=search begins: "
        f"{of_paper}), "
        f"'model.lr_constants={{{key}: {guess:g}}}' for c/(u+{FEW}) at every u, or {found}"
    )
