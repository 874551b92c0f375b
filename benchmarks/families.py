"""Which families of models can be trained, and how their rows are read: `python -m benchmarks.families [type ...]`.

For every config class of transformers that has a causal language model, its default config at miniature size is tried
as a model of a user is (`tinylora.engine.trial`). Prints the table of docs/models-and-tasks.md. With arguments, only
those model types. `prob_diff` is the mean difference of a sampled token's probability between sampler and trainer, as
runs record it, of two lanes with updates.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig, logging
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tinylora.engine.layout import Layout, Reading
from tinylora.engine.trial import Trial, Unfit, layout_for
from tinylora.models.maps import adapted_modules
from tinylora.models.reduced import reduced_models
from tinylora.settings.choices import Attention
from tinylora.settings.errors import UsageError, first_line

HEADING = ("model type", "class", "verdict", "in training", "in rollouts", "prob_diff")
MOST = 110  # characters of a reason


def main(wanted: Sequence[str]) -> int:
    """Try the families, print their table; the exit status."""
    warnings.filterwarnings("ignore")
    logging.set_verbosity_error()
    kinds = wanted or sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    print(f"| {' | '.join(HEADING)} |\n|{' --- |' * len(HEADING)}")
    for number, kind in enumerate(kinds, 1):
        print(f"{number} of {len(kinds)}: {kind}", file=sys.stderr)
        print(f"| {' | '.join(_row(kind))} |", flush=True)
    return 0


def _row(kind: str) -> list[str]:
    """A line of the table."""
    name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind]
    name = name if isinstance(name, str) else name[0]
    try:
        layout, difference = _tried(kind)
    except Unfit as error:
        return [kind, name, f"refused: {_short(str(error))}", "", "", ""]
    except UsageError as error:
        found = re.search(r"(\S+\.\S+) \(", error.rule)
        why = f"{found[1]} is no linear map" if found else _short(error.rule)
        return [kind, name, f"refused: {why}", "", "", ""]
    except Exception as error:  # what default settings of a family raise that do not fit together
        return [kind, name, f"not tried: its default config ends in {_short(first_line(error))}", "", "", ""]
    verdict = "right" if layout.reading is Reading.padded else "right by the plain layout"
    training = "shared rows" if layout.trees else "rows of their own"
    return [kind, name, verdict, training, layout.reading.words, f"{difference:.0e}"]


def _tried(kind: str) -> tuple[Layout, float]:
    settings = CONFIG_MAPPING[kind]()
    if hasattr(settings, "is_decoder"):  # else an encoder, which sees what follows
        settings.is_decoder = True
    with torch.device("meta"):
        adapted_modules(AutoModelForCausalLM.from_config(settings, attn_implementation="eager"))
    attention = _attention(settings)
    layout = layout_for(settings, attention)
    for small in reduced_models(settings, attention):
        if not isinstance(small, Exception):
            with suppress(Exception):  # a size that does not suit the family
                return layout, Trial(small, small.config).prob_diff(layout)
    raise AssertionError("it was tried in some size")


def _attention(settings: PreTrainedConfig) -> Attention:
    """sdpa where the family has it."""
    for attention in Attention:
        if not isinstance(next(iter(reduced_models(settings, attention))), Exception):
            return attention
    return Attention.eager


def _short(text: str) -> str:
    """One line of a reason."""
    line = " ".join(text.split()).replace("|", "/")
    return line if len(line) <= MOST else f"{line[:MOST]}..."


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(sys.argv[1:]))
