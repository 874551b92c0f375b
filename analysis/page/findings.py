"""The first screen: three sentences on what the runs show of the paper's claims, and what they cannot say."""

from __future__ import annotations

from collections.abc import Iterable

from analysis.paper.verdicts import DECIDED, INCONCLUSIVE, NOT_COMPARABLE, Checked, by_chance

MOST_NAMED = 6


def findings(checked: Checked, scale_model: bool) -> list[str]:
    """What is decided, what is not, and how far that goes; no sentence where nothing was measured."""
    if not any(found for _, found in checked):
        return []
    decided = "; ".join(f"{word}: {names}" for word in DECIDED if (names := _named(checked, word)))
    judged, chance = by_chance(checked)
    lack = "; ".join(f"{word}: {names}" for word in (INCONCLUSIVE, NOT_COMPARABLE) if (names := _named(checked, word)))
    count = sum(each.word in DECIDED for _, found in checked for each in found)
    scale = ", and on scale models, which by themselves say nothing of the paper's models" if scale_model else ""
    return [
        f"What was found: {decided}." if decided else "What was found: nothing that these runs decide.",
        f"What cannot be said: {lack}." if lack else "What cannot be said: nothing that was asked of these runs.",
        f"How far that goes: {count} of {judged} judged effects are decided, of which chance alone would decide "
        f"{chance:.1f} were there no effects; this holds for the draws, rates and sizes that were run{scale}.",
    ]


def _named(checked: Checked, word: str) -> str:
    """The claims with this verdict, each with the models that it is of."""
    found = {}
    for claim, verdicts in checked:
        own = [each.effect.models for each in verdicts if each.word == word]
        if own:
            found[claim.text] = _join(sorted(dict.fromkeys(" and ".join(models) for models in own)))
    texts = [
        f"\N{LEFT DOUBLE QUOTATION MARK}{text}\N{RIGHT DOUBLE QUOTATION MARK} ({of})" for text, of in found.items()
    ]
    more = [f"{len(texts) - MOST_NAMED} more below"] if len(texts) > MOST_NAMED else []
    return _join([*texts[:MOST_NAMED], *more])


def _join(words: Iterable[str]) -> str:
    return ", ".join(words)
