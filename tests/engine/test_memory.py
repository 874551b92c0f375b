"""Limits from a budget of memory: they follow the model, and a small one cuts the work, never the results."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.packs import open_pack, point

from tinylora.engine.memory import GIB, Limits, budget_of, limits_of, trained_token_bytes
from tinylora.engine.rollout import Decoder, roll_out
from tinylora.engine.sampling import Request, Sampling
from tinylora.settings.config import GrpoConfig, PackConfig, Split
from tinylora.settings.groups import PACKS_AT_ONCE
from tinylora.train import grpo


def test_limits_follow_budget_and_model(tmp_path: Path) -> None:
    pack, _ = open_pack([point(tmp_path, pack=PackConfig(memory_gib=1))])
    bytes_per_cached_token = 3 * 2 * 96 * 4  # layers, keys and values, width, fp32
    assert pack.engine.limits.cached_tokens == int(0.75 * GIB / bytes_per_cached_token)
    matrices = 3 * 21 * 4 * 4  # copies of R of 21 maps, 2 x 2, fp32
    small = limits_of(pack.engine.model, pack.engine.adapters, replace(pack.config, pack=PackConfig(memory_gib=1e-3)))
    assert small.rows == int(0.25e-3 * GIB / (16 * 18 + matrices)), "16 bytes for each token of the vocabulary"
    assert pack.engine.limits.rows == 4096, "a processor's caches bound it"
    half, tiny = (replace(pack.config, pack=PackConfig(memory_gib=gib)) for gib in (0.5, 1e-9))
    assert (
        limits_of(pack.engine.model, pack.engine.adapters, half).cached_tokens == pack.engine.limits.cached_tokens // 2
    )
    assert limits_of(pack.engine.model, pack.engine.adapters, tiny) == Limits(1, 1, 1, 0.0), (
        "one row at a time, however small the budget"
    )
    assert limits_of(pack.engine.model, pack.engine.adapters, point(tmp_path)).pass_tokens <= 4096, (
        "a processor's caches bound it"
    )


def test_packs_of_a_job_share_the_memory_of_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack, _ = open_pack([point(tmp_path)])
    model, config = pack.engine.model, pack.config
    alone = budget_of(model, config, 1)
    monkeypatch.setenv(PACKS_AT_ONCE, "4")
    assert budget_of(model, config, 1) == alone / 4 and budget_of(model, config, 2) == alone / 8


def test_bytes_of_a_trained_token_are_what_autograd_keeps(tmp_path: Path) -> None:
    """Between the activations that any implementation has to keep, and all tensors that a pass makes."""
    pack, _ = open_pack([point(tmp_path)])
    width, mlp, layers, vocabulary, size = 96, 256, 3, 18, 4
    least = layers * (4 * width + 2 * mlp) * size
    assert least < trained_token_bytes(pack.engine.model, pack.engine.adapters) < 10 * least + 2 * vocabulary * size
    assert all(lane.v.grad is None for lane in pack.engine.adapters.lanes), "measuring leaves no gradient"


def test_a_budget_bounds_the_rows_and_changes_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, most = [], []
    step = Decoder.step

    def watched(decoder: Decoder) -> None:
        most.append(decoder.mask.numel())
        step(decoder)

    monkeypatch.setattr(Decoder, "step", watched)
    for gib in (1.0, 0.002):
        settings = {"pack": PackConfig(memory_gib=gib), "algorithm": GrpoConfig(prompts=6, samples=6)}
        pack, (lane,) = open_pack([point(tmp_path, **settings)])
        prompts = pack.encode_prompts(pack.task.held_out(Split.test, 16))
        noise = torch.rand((64, 40), generator=torch.Generator().manual_seed(0))
        most.clear()
        rollout = roll_out(
            pack.engine, Request(prompts, torch.zeros(16, dtype=torch.long), noise, Sampling(40), samples=4)
        )
        assert max(most) <= max(pack.engine.limits.cached_tokens, max(map(len, prompts)) + 40)
        metrics = grpo.grpo_step(pack, [lane])
        results.append((rollout.tokens, metrics[0]["train/loss"], lane.v.detach().clone()))
    (tokens, loss, v), (cut_tokens, cut_loss, cut_v) = results
    assert pack.engine.limits.cached_tokens < 64 * 40, "else nothing was cut"
    assert torch.equal(cut_tokens, tokens)
    assert abs(loss) > 1e-3, "else there is nothing to compare"
    assert cut_loss == pytest.approx(loss, rel=1e-4)
    torch.testing.assert_close(cut_v, v, rtol=1e-3, atol=1e-6)
