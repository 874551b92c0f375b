"""Reading one token of every row, without what transformers does for generality: most of a rollout's time.

For Llama, Qwen2 and Qwen3 models with plain attention. A pass over one token a row is bound by the number of its
operations, not by their size, so here are as few as can be: maps that read the same input (q, k, v; gate, up) are one
product, their adapters another three, and norms, rotation and mask take one or two operations each. Other models, and
the prompts of all models, are read by transformers. Both give the same numbers up to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import DynamicCache, LlamaForCausalLM, PreTrainedModel, Qwen2ForCausalLM, Qwen3ForCausalLM

from tinylora.adapters.mixing import RowMatrices, Slots
from tinylora.adapters.tinylora import TinyLora

FAMILIES = (LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)
BLOCKS = "model.layers"  # the list of transformer blocks in these families
SAME_INPUT = (  # the adapted linear maps of a block; those of one line read the same input
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)
Maps = tuple[str, ...]
"""Names of linear maps that read the same input."""
STATIC_ROTATIONS = {"default", "linear", "llama3", "yarn"}  # whose angles depend on the position alone


def can_step(model: PreTrainedModel) -> bool:
    """Whether `DecodeStep` reads this model."""
    config = model.config
    return (
        type(model) in FAMILIES
        and config.hidden_act == "silu"
        and set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
        and (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default") in STATIC_ROTATIONS
    )


@dataclass(frozen=True)
class FusedWeights:
    """The weights of some linear maps that read the same input, side by side in one tensor."""

    weight: torch.Tensor  # (sum of d_out, d_in)
    bias: torch.Tensor | None  # (sum of d_out,)


def fuse_weights(model: PreTrainedModel) -> dict[Maps, FusedWeights]:
    """Lay the weights of every block's maps of one input side by side in memory; by the full names of the maps.

    This moves the model's parameters: each becomes a view of a part of its fused tensor, with the values it had. So the
    fused tensors take no memory of their own, and a change of a parameter in place changes both. To be done once,
    before anything keeps the address of a parameter.
    """
    found: dict[Maps, FusedWeights] = {}
    for index in range(model.config.num_hidden_layers):
        for maps in SAME_INPUT:
            names = tuple(f"{BLOCKS}.{index}.{name}" for name in maps)
            modules: list[Any] = [model.get_submodule(name) for name in names]
            bias = _fuse([module.bias for module in modules]) if modules[0].bias is not None else None
            found[names] = FusedWeights(_fuse([module.weight for module in modules]), bias)
    return found


class FusedMaps:
    """Adapted linear maps of one input as one: their weights, and their adapters, side by side."""

    def __init__(self, adapters: TinyLora | None, names: Maps, fused: FusedWeights) -> None:
        """`names` are those of the maps in the model; the maps have no adapters where there are None."""
        self.count, self.weight, self.bias = len(names), fused.weight, fused.bias
        if adapters is None:
            return
        numbers = [adapters.names.index(name) for name in names]
        assert numbers == list(range(numbers[0], numbers[0] + self.count)), "maps of one input stand side by side"
        self.numbers = slice(numbers[0], numbers[0] + self.count)
        factors = [adapters.factors(number) for number in numbers]
        self.left = torch.block_diag(*(left for left, _ in factors))  # (count * r, sum of d_out)
        self.right = torch.cat([right for _, right in factors])  # (count * r, d_in)

    def matrices_of(self, rows: RowMatrices | None) -> torch.Tensor | None:
        """R^T (rows * count, r, r) of these maps, for each row of a batch, or with slots for each of its lanes."""
        if rows is None:
            return None
        return rows.matrices[:, self.numbers].flatten(0, 1).transpose(1, 2).contiguous()

    def __call__(
        self,
        x: torch.Tensor,
        matrices: torch.Tensor | None,
        slots: Slots | None = None,
        residual: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """What the maps make of x (A, d_in), (A, sum of d_out), added to `residual` where there is one."""
        if residual is None:
            output = functional.linear(x, self.weight, self.bias)
        else:
            output = torch.addmm(residual, x, self.weight.T)
            if self.bias is not None:
                output += self.bias
        if matrices is None:
            return output
        rank = matrices.shape[-1]
        reduced = functional.linear(x, self.right)
        if slots is None:
            mixed = torch.bmm(reduced.view(-1, 1, rank).float(), matrices)
        else:  # the rows of a lane side by side, for each map: (lanes * count, size, r)
            grid = slots.spread(reduced.float().view(-1, self.count, rank)).transpose(1, 2)
            mixed = torch.bmm(grid.flatten(0, 1), matrices).view_as(grid).transpose(1, 2)
            mixed = slots.collect(mixed)
        return output.addmm_(mixed.to(x.dtype).reshape(len(x), -1), self.left)


def _fuse(parameters: Sequence[torch.Tensor]) -> torch.Tensor:
    """Parameters as one tensor, of which they are views from now on."""
    fused = torch.cat([parameter.data for parameter in parameters])
    for parameter, part in zip(parameters, fused.split([len(parameter) for parameter in parameters]), strict=True):
        parameter.data = part
    return fused


class Block:
    """One transformer block."""

    def __init__(self, adapters: TinyLora | None, layer: Any, name: str, fused: Mapping[Maps, FusedWeights]) -> None:
        """`layer` is the module of this name in the model, `fused` as from `fuse_weights`."""
        names = [tuple(f"{name}.{each}" for each in maps) for maps in SAME_INPUT]
        self.qkv, self.output, self.gate_up, self.down = (FusedMaps(adapters, maps, fused[maps]) for maps in names)
        attention = layer.self_attn
        self.maps = (self.qkv, self.output, self.gate_up, self.down)
        self.before_attention, self.before_mlp = layer.input_layernorm, layer.post_attention_layernorm
        self.head_norms = (attention.q_norm, attention.k_norm) if hasattr(attention, "q_norm") else None
        self.width, self.scaling = attention.head_dim, attention.scaling
        self.kv_heads = attention.k_proj.out_features // self.width
        self.heads = attention.q_proj.out_features // self.width


class DecodeStep:
    """Logits after one more token of every row."""

    def __init__(self, model: PreTrainedModel, adapters: TinyLora | None, fused: Mapping[Maps, FusedWeights]) -> None:
        """`adapters` is None for a model that computes as it is; `fused` are its weights after `fuse_weights`."""
        assert can_step(model), f"{type(model).__name__} is read by transformers"
        self.model: Any = model
        layers = enumerate(self.model.model.layers)
        self.blocks = [Block(adapters, layer, f"{BLOCKS}.{index}", fused) for index, layer in layers]
        self.matrices: list[list[torch.Tensor | None]] = []
        self.slots: Slots | None = None
        self._angles = torch.empty((2, 0, 0))

    def assign(self, rows: RowMatrices | None) -> None:
        """Take the R of the rows from now on."""
        self.matrices = [[maps.matrices_of(rows) for maps in block.maps] for block in self.blocks]
        self.slots = rows.slots if rows is not None else None

    def __call__(
        self, tokens: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, cache: DynamicCache
    ) -> torch.Tensor:
        """Logits (A, V) from tokens and their positions (A,), and the mask (A, S) over the cache with these tokens."""
        x = self.model.model.embed_tokens(tokens)
        cos, sin = self._rotation(positions, mask.shape[1], x)
        layers: list[Any] = cache.layers
        capacity = layers[0].reserve(mask.shape[1])
        seen = functional.pad(mask, (0, capacity - mask.shape[1])) > 0
        unseen = torch.where(seen, 0.0, torch.finfo(x.dtype).min).to(x.dtype)[:, None, None]  # (A, 1, 1, capacity)
        for block, matrices, cached in zip(self.blocks, self.matrices, layers, strict=True):
            of_qkv, of_output, of_gate_up, of_down = matrices
            qkv = block.qkv(_norm(x, block.before_attention), of_qkv, self.slots)
            attended = _attend(block, qkv, cos, sin, unseen, cached)
            x = block.output(attended, of_output, self.slots, residual=x)
            gate, up = block.gate_up(_norm(x, block.before_mlp), of_gate_up, self.slots).chunk(2, dim=1)
            x = block.down(functional.silu(gate).mul_(up), of_down, self.slots, residual=x)
        logits: torch.Tensor = self.model.lm_head(_norm(x, self.model.model.norm))
        return logits

    def _rotation(self, positions: torch.Tensor, columns: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine, and sine with the sign of each half, of the angles at `positions`, each (A, 1, width)."""
        if self._angles.shape[1] < columns:
            everywhere = torch.arange(2 * columns, device=like.device)[None]
            cos, sin = self.model.model.rotary_emb(like, everywhere)
            half = sin.shape[-1] // 2
            self._angles = torch.stack([cos[0], torch.cat([-sin[0, :, :half], sin[0, :, half:]], dim=-1)])
        cos, sin = self._angles[:, positions, None]
        return cos, sin


def _norm(x: torch.Tensor, norm: Any) -> torch.Tensor:
    return functional.rms_norm(x, x.shape[-1:], norm.weight, norm.variance_epsilon)


def _attend(
    block: Block, qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, unseen: torch.Tensor, cached: Any
) -> torch.Tensor:
    """What every row's token sees of the cache (A, heads * width), after its key and value have been put there."""
    rows = len(qkv)
    rotated, values = qkv.view(rows, -1, block.width).split([block.heads + block.kv_heads, block.kv_heads], dim=1)
    if block.head_norms is not None:
        parts = rotated.split([block.heads, block.kv_heads], dim=1)
        rotated = torch.cat([_norm(part, norm) for part, norm in zip(parts, block.head_norms, strict=True)], dim=1)
    rotated = torch.addcmul(rotated * cos, rotated.roll(block.width // 2, dims=-1), sin)
    queries, keys = rotated.split([block.heads, block.kv_heads], dim=1)
    # Over the whole buffers, though their end is masked out: products of parts of them take up to three times as long.
    keys, values = cached.put(keys[:, :, None], values[:, :, None])  # (A, kv heads, capacity, width)
    grouped = queries.view(rows, block.kv_heads, -1, block.width)  # the heads that share a key stand in one group
    if qkv.dtype is torch.float32:  # two products are faster than the fused kernel for one query a row
        weights = torch.matmul(grouped * block.scaling, keys.transpose(2, 3)).add_(unseen).softmax(-1)
        attended = torch.matmul(weights, values)
    else:  # which keeps the weights in fp32
        attended = functional.scaled_dot_product_attention(grouped, keys, values, unseen, scale=block.scaling)
    return attended.reshape(rows, -1)
