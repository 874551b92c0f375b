"""What a model's arithmetic leaves of an update: of a small one little, in 16 bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.packs import open_pack, point

from tinylora.engine.rows import Completions
from tinylora.records.progress import Silent
from tinylora.settings.config import Adapter, AdapterConfig, ModelConfig, PackConfig, Precision, RunConfig
from tinylora.train.health import check
from tinylora.train.pack import Metrics, Pack

PROMPTS = [[3, 4, 5, 13], [6, 7], [8, 9, 10], [11, 4, 3]]
COMPLETIONS = Completions(PROMPTS, torch.zeros(4, dtype=torch.long), [[7, 8, 9, 2], [5, 2], [4, 3, 2], [9, 9, 8, 7, 2]])


def in_type(outputs: Path, dtype: Precision, kind: Adapter = Adapter.tinylora, **changes: object) -> RunConfig:
    return point(outputs, adapter=AdapterConfig(kind), model=ModelConfig(device="cpu", dtype=dtype), **changes)


def measured(pack: Pack, size: float) -> Metrics:
    """The health of the only lane, moved by `size` away from where it started."""
    lane = pack.engine.adapters.lane(0)
    direction = torch.randn(lane.v.shape, generator=torch.Generator().manual_seed(1))
    lane.hold(size * direction / direction.norm())
    pack.engine.adapters.round()
    (found,) = check(pack, [0], COMPLETIONS, Silent())
    return found


@pytest.mark.parametrize("kind", [Adapter.tinylora, Adapter.full])
def test_in_16_bits_a_change_of_the_logits_is_right_only_where_it_is_large(kind: Adapter, tmp_path: Path) -> None:
    pack, _ = open_pack([in_type(tmp_path, Precision.bf16, kind)])
    before = {name: value.detach().clone() for name, value in pack.engine.model.named_parameters()}
    small, middle, large = (measured(pack, size) for size in (1e-4, 0.01, 1.0))
    cosines = [found["eval/health/cosine"] for found in (small, middle, large)]
    assert abs(cosines[0]) < 0.5 and cosines[0] < cosines[2] and cosines[2] > 0.8
    ratios = [found["eval/health/norm_ratio"] for found in (small, large)]
    assert abs(ratios[0] - 1) > 0.5 and ratios[1] == pytest.approx(1, abs=0.2)
    if kind is Adapter.tinylora:
        assert cosines[0] < cosines[1] < cosines[2]
        assert all(torch.equal(value, before[name]) for name, value in pack.engine.model.named_parameters())


def test_two_lanes_are_measured_as_each_alone(tmp_path: Path) -> None:
    configs = [in_type(tmp_path, Precision.bf16), in_type(tmp_path, Precision.bf16, u=3, seed=1)]
    pack, lanes = open_pack(configs)
    for lane in lanes:
        lane.adapter.hold(torch.full(lane.v.shape, 0.1))
    twice = Completions(PROMPTS * 2, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), [*COMPLETIONS.tokens, *COMPLETIONS.tokens])
    together = check(pack, [0, 1], twice, Silent())
    for index in range(2):
        (alone,) = check(pack, [index], COMPLETIONS, Silent())
        assert alone == pytest.approx(together[index], rel=0.05)
    assert together[0]["eval/health/cosine"] != together[1]["eval/health/cosine"]


def test_where_it_says_nothing_there_is_no_health(tmp_path: Path) -> None:
    pack, _ = open_pack([in_type(tmp_path, Precision.bf16)])
    assert measured(pack, 0.0).keys() == {"eval/merge_kl"}, "at v = 0 nothing changes"
    pack, _ = open_pack([in_type(tmp_path, Precision.fp32)])
    assert measured(pack, 0.1).keys() == {"eval/merge_kl"}


def test_a_copy_that_does_not_fit_is_left_out_and_said(tmp_path: Path) -> None:
    pack, _ = open_pack([in_type(tmp_path, Precision.bf16, pack=PackConfig(memory_gib=1e-3))])
    said: list[str] = []

    class Noting(Silent):
        def phase(self, text: str, share: float | None = None) -> None:
            said.append(text)

    pack.engine.adapters.lane(0).hold(torch.ones(1, 13))
    (found,) = check(pack, [0], COMPLETIONS, Noting())
    assert found.keys() == {"eval/merge_kl"} and any("pack.memory_gib" in text for text in said)
