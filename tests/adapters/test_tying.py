"""Groups of modules that share one v: the paper's counts, and every module exactly once."""

import pytest

from tinylora.adapters.tying import module_type, tie
from tinylora.settings.config import ALL, Sharing
from tinylora.settings.errors import UsageError

TYPES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
TYPES += ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


def names(blocks: int) -> list[str]:
    return [f"model.layers.{block}.{kind}" for block in range(blocks) for kind in TYPES]


@pytest.mark.parametrize("n_tie, groups", [(1, 196), (2, 98), (4, 49), (16, 13), (64, 4), (196, 1), (ALL, 1)])
def test_tiled_counts_of_qwen_7b(n_tie: int | str, groups: int) -> None:
    assert len(tie(names(28), Sharing.tiled, n_tie)) == groups


# paper Fig. 4: the structured counts of Qwen2.5-3B (36 blocks) fit 7 * ceil(blocks / n_tie)
@pytest.mark.parametrize("n_tie, groups", [(1, 252), (2, 126), (4, 63), (8, 35), (16, 21), (32, 14)])
def test_structured_counts_of_qwen_3b(n_tie: int, groups: int) -> None:
    assert len(tie(names(36), Sharing.structured, n_tie)) == groups


def test_structured_groups_of_28_blocks_by_16() -> None:
    groups = tie(names(28), Sharing.structured, 16)
    assert len(groups) == 14
    assert {len(group) for group in groups} == {16, 12}


@pytest.mark.parametrize("sharing", Sharing)
@pytest.mark.parametrize("n_tie", [1, 3, 16, 50, 196, ALL])
def test_every_module_is_in_one_group(sharing: Sharing, n_tie: int | str) -> None:
    groups = tie(names(28), sharing, n_tie)
    assert sorted(index for group in groups for index in group) == list(range(196))


def test_structured_groups_hold_one_type_and_tiled_ones_are_runs() -> None:
    modules = names(28)
    for group in tie(modules, Sharing.structured, 5):
        assert len({module_type(modules[index]) for index in group}) == 1
    for group in tie(modules, Sharing.tiled, 5):
        assert list(group) == list(range(group[0], group[0] + len(group)))


def test_n_tie_beyond_the_modules_is_refused() -> None:
    with pytest.raises(UsageError, match="14 adapted modules"):
        tie(names(2), Sharing.tiled, 15)
