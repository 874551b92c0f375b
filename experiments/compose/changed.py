"""Settings of a recorded run with some of them changed by the words of a command line, to use its adapter otherwise."""

from __future__ import annotations

from collections.abc import Sequence

from hydra._internal.config_loader_impl import ConfigLoaderImpl

from experiments.compose import schema
from experiments.compose.usage import readable_errors
from experiments.compose.words import check_words, given_settings
from tinylora.settings.config import RunConfig
from tinylora.settings.errors import UsageError

CHANGED = ("task.", "rollout.", "pack.", "model.path", "model.device", "model.attention", "eval.suites")
"""What may be given to use an adapter of a run, beside the sizes of an evaluation. A dot ends groups."""
SIZES = ("eval.test_items", "eval.validation_items", "eval.samples", "eval.samples_per_item")


def changed(config: RunConfig, words: Sequence[str]) -> RunConfig:
    """The settings with these words applied, name=value each. Raises UsageError for others than CHANGED and SIZES."""
    if not words:
        return config
    with readable_errors():
        overrides = check_words(words)
        for name, word in given_settings(overrides).items():
            if not name.startswith(CHANGED) and name not in SIZES:
                raise UsageError(
                    word,
                    "an adapter of a run is used with the settings of its run, of which some alone may be others: "
                    f"{', '.join(each + '*' * each.endswith('.') for each in (*CHANGED, *SIZES))}",
                    "leave it out; or give the adapter's file, with the settings of a model and a task",
                )
        if several := [each.input_line for each in overrides if each.is_sweep_override()]:
            raise UsageError(str(several[0]), "adapters are used with one value of each setting", "give one value")
        node = schema.opened(config)
        ConfigLoaderImpl._apply_overrides_to_config(overrides, node)
        return schema.to_run_config(node)
