"""The first screen: three sentences on what the runs show of the paper's claims, and what they cannot say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from analysis.paper.verdicts import DECIDED, INCONCLUSIVE, NOT_COMPARABLE, Checked, Verdict, apart, by_chance

MOST_NAMED = 6


@dataclass(frozen=True)
class Finding:
    """One of the sentences, and the claims that it lists: on the page one below the other."""

    title: str
    rest: str
    """What follows the title; where there are claims, these do."""
    claims: list[tuple[str, str, str]] = field(default_factory=list)
    """Verdict, claim in quotes, models that it is of; of those that are left out their number alone."""

    @property
    def sentence(self) -> str:
        """All of it in one sentence."""
        words = dict.fromkeys(word for word, _, _ in self.claims)
        said = [
            f"{word}: " + ", ".join(f"{claim} ({of})" if of else claim for own, claim, of in self.claims if own == word)
            for word in words
        ]
        return f"{self.title}: {'; '.join(said) or self.rest}."


def findings(checked: Checked, scale_model: bool) -> list[Finding]:
    """What is decided, what is not, and how far that goes; nothing where nothing was measured."""
    if not any(found for _, found in checked):
        return []
    judged, chance = by_chance(checked)
    count = sum(each.word in DECIDED for _, found in checked for each in found)
    scale = ", and on scale models, which by themselves say nothing of the paper's models" if scale_model else ""
    return [
        Finding("What was found", "nothing that these runs decide", _named(checked, DECIDED)),
        Finding(
            "What cannot be said",
            "nothing that was asked of these runs",
            _named(checked, (INCONCLUSIVE, NOT_COMPARABLE)),
        ),
        Finding(
            "How far that goes",
            f"{count} of {judged} judged effects are decided, of which chance alone would decide {chance:.1f} were "
            f"there no effects; this holds for the draws, rates and sizes that were run{scale}",
        ),
    ]


def _named(checked: Checked, words: Sequence[str]) -> list[tuple[str, str, str]]:
    """The claims with one of these verdicts, each with the models that it is of; of each verdict not too many."""
    named: list[tuple[str, str, str]] = []
    for word in words:
        found = []
        for claim, verdicts in checked:
            if models := _models(verdicts, word):
                quoted = f"\N{LEFT DOUBLE QUOTATION MARK}{claim.text}\N{RIGHT DOUBLE QUOTATION MARK}"
                notes = dict.fromkeys(note for each in verdicts if each.word == word for note in each.effect.notes)
                found.append((word, quoted, "; ".join([models, *notes])))
        more = [(word, f"{len(found) - MOST_NAMED} more below", "")] if len(found) > MOST_NAMED else []
        named += found[:MOST_NAMED] + more
    return named


def _models(verdicts: Sequence[Verdict], word: str) -> str:
    """The models that a claim has this verdict on; where it has another on the same, too, what each was measured on."""
    of_model: dict[str, list[Verdict]] = defaultdict(list)
    for each in verdicts:
        of_model[" and ".join(each.effect.models)].append(each)
    named = []
    for model, own in sorted(of_model.items()):
        kinds = [kind for kind, each in zip(apart(own), own, strict=True) if each.word == word]
        if kinds:
            named.append(model if len(kinds) == len(own) else f"{model}: {', '.join(kinds)}")
    return ("; " if any(": " in each for each in named) else ", ").join(named)
