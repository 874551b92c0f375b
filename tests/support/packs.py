"""Points and packs for the tests: the shipped miniature, few problems, short completions."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tinylora.records.progress import LaneProgress, Silent
from tinylora.settings.config import EvalConfig, GrpoConfig, ModelConfig, RolloutConfig, RunConfig
from tinylora.train import recorder
from tinylora.train.pack import LaneRun, Pack, load_pack

# States are saved at every step, however slow the disk is at the moment.
recorder.SAVING_SHARE = 1e9


def point(outputs: Path, **changes: Any) -> RunConfig:
    """A small GRPO point; keywords replace its settings."""
    settings: dict[str, Any] = {
        "lr": 0.05,
        "steps": 3,
        "algorithm": GrpoConfig(prompts=4, samples=4),
        "rollout": RolloutConfig(max_new_tokens=48),
        "eval": EvalConfig(test_items=6, validation_items=4),
        "model": ModelConfig(device="cpu"),
        "outputs_dir": str(outputs),
    }
    return RunConfig(**(settings | changes))


def open_pack(configs: list[RunConfig]) -> tuple[Pack, list[LaneRun]]:
    """The pack of some points, with every lane open."""
    pack = load_pack(configs, [f"lane {index}" for index in range(len(configs))], Silent())
    return pack, list(pack.lanes)


class At(Silent):
    """Does something after the n-th step of a pack, which is when its lanes are shown for the n-th time."""

    def __init__(self, step: int, act: Callable[[], None]) -> None:
        self.left, self.act = step, act

    def lanes(self, lanes: Sequence[LaneProgress], seconds_left: float | None) -> None:
        """Called after every step."""
        self.left -= 1
        if self.left == 0:
            self.act()


def interrupt(*_: object) -> None:
    """What Ctrl-C does."""
    raise KeyboardInterrupt


def with_engine(pack: Pack, **changes: Any) -> Pack:
    """The pack with another engine: keywords replace what its own has."""
    return replace(pack, engine=replace(pack.engine, **changes))


def give_v(pack: Pack, scale: float = 0.05) -> None:
    """Put the v of every lane somewhere away from zero, the same for the same spec in any pack."""
    for lane in pack.engine.adapters.lanes:
        generator = torch.Generator().manual_seed(lane.v.numel())
        lane.v.data.copy_(scale / lane.v.shape[1] ** 0.5 * torch.randn(lane.v.shape, generator=generator))
    pack.engine.adapters.round()


def steps_in_mlflow(config: RunConfig) -> list[int]:
    """The steps that the store has of a run, in order."""
    from tinylora.records.mirror import MARKER, Mirror

    mirror = Mirror(config)
    (found,) = mirror.client.search_runs([mirror.experiment], f"tags.run_key = '{config.run_key}'")
    return [metric.step for metric in mirror.client.get_metric_history(found.info.run_id, MARKER)]
