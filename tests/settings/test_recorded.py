"""Configs that were written down as plain values, and come back."""

import json

import pytest

from tinylora.settings.config import (
    Adapter,
    AdapterConfig,
    Precision,
    RandomSearchConfig,
    RolloutConfig,
    RunConfig,
    SftConfig,
    as_plain,
)
from tinylora.settings.errors import UsageError
from tinylora.settings.recorded import from_plain


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"algorithm": SftConfig(), "precision": Precision.bf16, "n_tie": 3},
        {"algorithm": RandomSearchConfig(prompts=3, samples=1)},
        {"adapter": AdapterConfig(Adapter.none), "rollout": RolloutConfig(end_bias=-1.0)},
        {"adapter": AdapterConfig(name=Adapter.lora), "lr": 1},
    ],
)
def test_configs_come_back_from_plain_values(changes: dict[str, object]) -> None:
    config = RunConfig(**({"lr": 0.05} | changes))  # type: ignore[arg-type]
    again = from_plain(json.loads(json.dumps(as_plain(config))))
    assert again == config and isinstance(again, RunConfig)
    with pytest.raises(UsageError, match="no setting nope"):
        from_plain(as_plain(config) | {"nope": 1})
