"""First guesses at a learning rate, for models, tasks and adapters that no rate was found for.

`lr=search` begins around them, and the error of an `lr=auto` that has nothing to stand for offers them. They come of no
measurement. The paper's rates for its models are 1e-7 to 2e-4; 13 values get 7.7e-5 here.
"""

from __future__ import annotations

from tinylora.settings.choices import Adapter

GUESSES = {Adapter.tinylora: 1e-3, Adapter.lora_xs: 1e-3, Adapter.lora: 1e-4, Adapter.full: 1e-5}
"""Of TinyLoRA the constant c of a rate c/u, and the rate of a search whatever the size; of others the rate itself."""


def guessed_rate(adapter: Adapter, u: int) -> float:
    """A first guess at the rate of an adapter that trains something, in three digits."""
    guess = GUESSES[adapter] / u if adapter is Adapter.tinylora else GUESSES[adapter]
    return float(f"{guess:.3g}")


def offered_rates(adapter: Adapter, u: int, key: str) -> str:
    """For a remedy: rates that can be given where none was found, and how each came about.

    `key` is the entry of `model.lr_constants` that is missing.
    """
    guess, rate = GUESSES[adapter], guessed_rate(adapter, u)
    of_paper = "no rate was tuned here; the paper's are 1e-7 to 2e-4"
    found = "lr=search seed=0,1, which finds one"
    if adapter is not Adapter.tinylora:
        return f"give lr={rate:g} (a first guess, around which lr=search begins: {of_paper}), or {found}"
    return (
        f"give lr={rate:g} (a first guess, c/u with c={guess:g}: {of_paper}), "
        f"'model.lr_constants={{{key}: {guess:g}}}' for c/u at every u, or {found}"
    )
