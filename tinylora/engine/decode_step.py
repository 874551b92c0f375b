"""Reading one token of every row, without what transformers does for generality: most of a rollout's time.

For Llama, Qwen2 and Qwen3 models with plain attention. A pass over one token a row is bound by the number of its
operations, not by their size, so here are as few as can be: maps that read the same input (q, k, v; gate, up) are one
product, their adapters another three, and norms, rotation and mask take one or two operations each. Other models, and
the prompts of all models, are read by transformers. Both give the same numbers up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import DynamicCache, LlamaForCausalLM, PreTrainedModel, Qwen2ForCausalLM, Qwen3ForCausalLM

from tinylora.adapters.mixing import RowMatrices, Slots
from tinylora.adapters.tinylora import TinyLora

FAMILIES = (LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)
MAPS = 7  # adapted linear maps of a block: q, k, v, o, gate, up, down
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


class FusedMaps:
    """Adapted linear maps of one input as one: their weights, and their adapters, side by side."""

    def __init__(self, adapter: TinyLora | None, maps: Sequence[nn.Linear], first: int) -> None:
        """The maps are the adapted modules `first`, `first` + 1, ... of the adapter (None: they have none).

        Their weights become views of the fused one, so that it takes no memory of its own and sees them change.
        """
        self.first, self.count, self.adapted = first, len(maps), adapter is not None
        self.weight = _fuse([linear.weight for linear in maps])  # (sum of d_out, d_in)
        self.bias = _fuse([linear.bias for linear in maps]) if maps[0].bias is not None else None
        if adapter is None:
            return
        factors = [adapter.factors(first + place) for place in range(self.count)]
        self.left = torch.block_diag(*(left for left, _ in factors))  # (count * r, sum of d_out)
        self.right = torch.cat([right for _, right in factors])  # (count * r, d_in)

    def matrices_of(self, rows: RowMatrices | None) -> torch.Tensor | None:
        """R^T (N * count, r, r) of these maps, for the N rows of a batch, or with slots for its N lanes."""
        if rows is None:
            return None
        return rows.matrices[:, self.first : self.first + self.count].flatten(0, 1).transpose(1, 2).contiguous()

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

    def __init__(self, adapter: TinyLora | None, layer: Any, first: int) -> None:
        """`first` is the number of its first adapted module: they come in the order q, k, v, o, gate, up, down."""
        attention, mlp = layer.self_attn, layer.mlp
        self.qkv = FusedMaps(adapter, [attention.q_proj, attention.k_proj, attention.v_proj], first)
        self.output = FusedMaps(adapter, [attention.o_proj], first + 3)
        self.gate_up = FusedMaps(adapter, [mlp.gate_proj, mlp.up_proj], first + 4)
        self.down = FusedMaps(adapter, [mlp.down_proj], first + 6)
        self.maps = (self.qkv, self.output, self.gate_up, self.down)
        self.before_attention, self.before_mlp = layer.input_layernorm, layer.post_attention_layernorm
        self.head_norms = (attention.q_norm, attention.k_norm) if hasattr(attention, "q_norm") else None
        self.width, self.scaling = attention.head_dim, attention.scaling
        self.kv_heads = attention.k_proj.out_features // self.width
        self.heads = attention.q_proj.out_features // self.width


class DecodeStep:
    """Logits after one more token of every row."""

    def __init__(self, model: PreTrainedModel, adapter: TinyLora | None) -> None:
        """`adapter` is None for a model that computes as it is."""
        assert can_step(model), f"{type(model).__name__} is read by transformers"
        self.model: Any = model
        self.blocks = [Block(adapter, layer, MAPS * i) for i, layer in enumerate(self.model.model.layers)]
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
