"""Which modules share a v: the map from M adapted modules to K groups (paper section 3).

    tiled        modules in depth order (q, k, v, o, gate, up, down within a block), cut every n_tie
    structured   within each module type, the blocks cut every n_tie
    n_tie=all    one group

So 28 blocks of 7 modules and n_tie=16 give ceil(196 / 16) = 13 tiled groups, and 7 * ceil(28 / 16) = 14 structured
ones. The last group of a cut may be smaller, as the paper's counts imply.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinylora.settings.config import ALL, Sharing
from tinylora.settings.errors import UsageError

Groups = tuple[tuple[int, ...], ...]
"""For each group, the indices of its modules; together they hold every module once."""


def tie(modules: Sequence[str], sharing: Sharing, n_tie: int | str) -> Groups:
    """The groups of modules that share one v.

    `modules` are names in depth order, such as `model.layers.0.self_attn.q_proj`. Raises UsageError where n_tie
    exceeds the number of modules.
    """
    if n_tie == ALL:
        return (tuple(range(len(modules))),)
    size = int(n_tie)
    if size > len(modules):
        raise UsageError(
            f"n_tie={size}",
            f"the model has {len(modules)} adapted modules, and no more can share one v",
            f"give n_tie=1 to n_tie={len(modules)}, or n_tie={ALL}",
        )
    if sharing is Sharing.tiled:
        return _cut(range(len(modules)), size)
    by_type: dict[str, list[int]] = {}
    for index, name in enumerate(modules):
        by_type.setdefault(module_type(name), []).append(index)
    return tuple(group for members in by_type.values() for group in _cut(members, size))


def freedom(groups: Groups, u: int, rank: int) -> int:
    """Degrees of freedom of v (K, u): the rank of its map to the R (r, r) of all modules.

    The u directions of a group lie in the space of the R of its own modules, which has r^2 dimensions for each. Random
    projections span all that they can.
    """
    return sum(min(u, len(group) * rank**2) for group in groups)


def module_type(name: str) -> str:
    """The name of a module within its block: `self_attn.q_proj` of `model.layers.0.self_attn.q_proj`."""
    parts = name.split(".")
    block = max((i for i, part in enumerate(parts) if part.isdecimal()), default=-1)
    return ".".join(parts[block + 1 :])


def _cut(members: Sequence[int], size: int) -> Groups:
    return tuple(tuple(members[start : start + size]) for start in range(0, len(members), size))
