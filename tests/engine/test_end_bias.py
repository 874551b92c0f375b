"""The bias of the end tokens: a control of the untrained model, in what is sampled and in what is decoded greedily."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support.packs import open_pack, point

from tinylora.engine.rollout import roll_out
from tinylora.engine.sampling import Request, Rollout, Sampling, biased
from tinylora.records.folder import RunFolder, Status, Unmirrored
from tinylora.records.progress import Silent
from tinylora.settings.choices import Adapter, Split
from tinylora.settings.config import AdapterConfig, RolloutConfig, RunConfig, as_plain
from tinylora.settings.errors import UsageError
from tinylora.settings.recorded import from_plain
from tinylora.train.answering import answer
from tinylora.train.loop import run_pack
from tinylora.train.pack import Pack

NEVER, AT_ONCE = -1e4, 1e4
PROMPTS, SAMPLES, TOKENS = 6, 3, 24


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return open_pack([untrained(tmp_path_factory.mktemp("outputs"))])[0]


def untrained(outputs: Path, end_bias: float = 0.0, **changes: Any) -> RunConfig:
    rollout = RolloutConfig(TOKENS, end_bias=end_bias, **changes)
    return point(outputs, adapter=AdapterConfig(Adapter.none), rollout=rollout)


def said(pack: Pack, bias: float, temperature: float = 1.0) -> tuple[list[list[int]], Rollout]:
    """Prompts, and of each a greedy completion and two samples."""
    prompts = pack.encode_prompts(pack.task.held_out(Split.test, PROMPTS))
    noise = torch.rand((PROMPTS * SAMPLES, TOKENS), generator=torch.Generator().manual_seed(0))
    noise[::SAMPLES] = math.nan
    sampling = Sampling(TOKENS, temperature, end_bias=bias)
    return prompts, roll_out(pack.engine, Request(prompts, torch.zeros(PROMPTS).long(), noise, sampling, SAMPLES))


@pytest.mark.parametrize(("bias", "temperature"), [(0.0, 1.0), (3.0, 1.0), (-3.0, 0.7), (6.0, 1.5)])
def test_log_probabilities_are_those_of_the_biased_distribution(pack: Pack, bias: float, temperature: float) -> None:
    """Each completion is read again from its beginning by transformers alone."""
    prompts, rollout = said(pack, bias, temperature)
    for row in range(PROMPTS * SAMPLES):
        prompt, completion = prompts[row // SAMPLES], rollout.completion(row)
        with torch.no_grad():
            logits = pack.engine.model(torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1].double()
        logits[:, sorted(pack.engine.end_tokens)] += bias
        expected = (logits / temperature).log_softmax(-1).gather(1, torch.tensor(completion)[:, None])[:, 0]
        torch.testing.assert_close(rollout.logp[row, : len(completion)].double(), expected, atol=1e-4, rtol=1e-4)
        if row % SAMPLES == 0:
            assert completion == logits.argmax(-1).tolist(), "greedy decoding heeds it, too"


def test_a_bias_ends_all_completions_at_once_or_none(pack: Pack) -> None:
    _, at_once = said(pack, AT_ONCE)
    assert at_once.lengths.tolist() == [1] * PROMPTS * SAMPLES and not at_once.truncated.any()
    _, never = said(pack, NEVER)
    assert never.lengths.tolist() == [TOKENS] * PROMPTS * SAMPLES and never.truncated.all()
    lengths = [float(said(pack, bias)[1].lengths.float().mean()) for bias in (-8.0, 0.0, 20.0)]
    assert lengths == sorted(lengths, reverse=True) and len(set(lengths)) == 3


def test_no_bias_leaves_the_logits_as_they_are() -> None:
    logits = torch.randn(4, 7, generator=torch.Generator().manual_seed(0)).bfloat16()
    ends = torch.tensor([2, 5])
    assert biased(logits, ends, Sampling(1)) is logits
    found = biased(logits, ends, Sampling(1, end_bias=0.001))
    assert found.dtype is torch.float32, "in bf16 a small bias would be lost"
    assert torch.equal(found - logits.float() > 0, torch.tensor([i in (2, 5) for i in range(7)]).expand(4, 7))


def test_a_run_and_its_answers_heed_it(tmp_path: Path) -> None:
    configs = [untrained(tmp_path, bias) for bias in (NEVER, AT_ONCE)]
    for config, tokens in zip(configs, (TOKENS, 1), strict=True):
        (record,) = run_pack([config], ["a"], Silent(), Unmirrored())
        (line,) = RunFolder(config).lines()
        assert record.status is Status.finished
        for way in ("greedy", "sampled"):
            assert line.metrics[f"eval/test/{way}_tokens"] == line.metrics[f"eval/validation/{way}_tokens"] == tokens
        (once,) = answer(open_pack([config])[0], ["12+7="])
        assert (once.tokens, once.cut) == (tokens, tokens == TOKENS)


def test_it_is_part_of_the_identity_where_it_is_not_0(tmp_path: Path) -> None:
    config = untrained(tmp_path)
    assert "end_bias" not in config.scientific()["rollout"]
    old = as_plain(config)
    del old["rollout"]["end_bias"]  # as records are that were made before there was one
    assert from_plain(old) == config and from_plain(old).run_key == config.run_key
    keys = {untrained(tmp_path, bias).run_key for bias in (0.0, -1.0, 1.0)}
    assert len(keys) == 3 and config.run_key in keys
    assert untrained(tmp_path, 1.0).scientific()["rollout"]["end_bias"] == 1.0
    assert "end_bias" not in point(tmp_path).scientific()["rollout"]


@pytest.mark.parametrize("kind", [kind for kind in Adapter if kind is not Adapter.none])
def test_it_is_refused_where_something_is_trained(kind: Adapter, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"rollout\.end_bias=2 adapter={kind.value}") as caught:
        point(tmp_path, adapter=AdapterConfig(kind), rollout=RolloutConfig(TOKENS, end_bias=2.0))
    assert "nothing is trained" in caught.value.rule and "adapter=none" in caught.value.remedy


@pytest.mark.parametrize("bias", [1e5, -1e5, math.inf, math.nan])
def test_a_bias_that_is_no_number_or_too_large_is_refused(bias: float) -> None:
    with pytest.raises(UsageError, match=r"rollout\.end_bias"):
        RolloutConfig(TOKENS, end_bias=bias)
