"""What wide models on a processor need: heads that are not copied for every row, and a word about bf16."""

from collections.abc import Callable
from math import prod

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, LlamaForCausalLM

from tinylora.engine.engine import advice_for
from tinylora.engine.rows import last_column
from tinylora.engine.sampling import Sampling, choose


def largest_copy(work: Callable[[], object]) -> int:
    """Most numbers that PyTorch copies at once during some work."""
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
        work()
    shapes = [event.input_shapes[0] for event in found.events() if event.name == "aten::copy_"]
    return max((prod(shape) for shape in shapes), default=0)


def model(hidden: int, dtype: torch.dtype) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=64, hidden_size=hidden, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    return LlamaForCausalLM(config).to(dtype).requires_grad_(False)  # as the engine has it


def test_the_head_reads_the_last_column_without_a_copy_of_its_weights_for_every_row() -> None:
    """Given a view of the last column, matmul may expand the weights to (rows, d, V) and copy that.

    Whether it does depends on the processor (with avx512_bf16 it did), so the copy is made here for comparison.
    """
    small, ids = model(32, torch.bfloat16), torch.zeros((6, 5), dtype=torch.long)

    def ours() -> None:
        with last_column(small):
            assert small(input_ids=ids, use_cache=False).logits.shape == (6, 1, 64)

    head = small.lm_head.weight
    assert largest_copy(lambda: head.expand(6, 64, 32).contiguous()) == 6 * 32 * 64, "such a copy is seen"
    assert largest_copy(ours) < 6 * 32 * 64


def test_greedy_rows_take_the_likeliest_of_16_bit_logits_and_others_are_sampled() -> None:
    logits = torch.randn((7, 50), generator=torch.Generator().manual_seed(0)).bfloat16()
    noise = torch.tensor([0.1, torch.nan, 0.5, torch.nan, 0.9, 0.2, torch.nan])
    chosen, logp = choose(logits, noise, Sampling(1))
    greedy = noise.isnan()
    assert torch.equal(chosen[greedy], logits[greedy].argmax(-1))
    assert torch.equal(chosen[~greedy], choose(logits[~greedy], noise[~greedy], Sampling(1))[0])
    torch.testing.assert_close(logp, logits.float().log_softmax(-1).gather(1, chosen[:, None])[:, 0])


@pytest.mark.parametrize("supported", [True, False])
def test_bf16_is_recommended_for_wide_fp32_models_alone(supported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported)
    assert ("model.dtype=bf16" in (advice_for(model(512, torch.float32)) or "")) is supported
    assert advice_for(model(512, torch.bfloat16)) is None
    assert advice_for(model(64, torch.float32)) is None
