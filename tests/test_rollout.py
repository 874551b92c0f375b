"""The rollout engine against transformers' own generation, the trainer's log-probabilities, and probability itself."""

import pytest
import torch
from packs import give_v, open_pack, point

from tinylora.batches import Rows, completion_logps, completion_mask
from tinylora.config import Precision, Split
from tinylora.pack import Pack
from tinylora.rollout import Rollout, Sampling, choose, left_pad, roll_out

GREEDY = Sampling(24, temperature=None)
SAMPLED = Sampling(24, temperature=0.8)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    cache = tmp_path_factory.mktemp("outputs")
    points = [point(cache), point(cache, u=3, n_tie=4, precision=Precision.bf16, seed=1), point(cache, u=50, seed=2)]
    opened, _ = open_pack(points, cache)
    give_v(opened)
    return opened


def prompts_of(pack: Pack, count: int) -> list[list[int]]:
    return [pack.encode_prompt(problem) for problem in pack.task.held_out(Split.test, count)]


def run(
    pack: Pack,
    prompts: list[list[int]],
    lanes: list[int],
    noise: torch.Tensor | None,
    sampling: Sampling,
    samples: int = 1,
) -> Rollout:
    return roll_out(
        pack.model,
        pack.adapter,
        prompts,
        torch.tensor(lanes),
        noise,
        sampling,
        samples,
        pack.end_tokens,
        pack.pad_token,
    )


def test_greedy_is_what_transformers_generates_from_merged_weights(pack: Pack) -> None:
    prompts = prompts_of(pack, 12)
    rollout = run(pack, prompts, [row % 3 for row in range(12)], None, GREEDY)
    ids, mask = left_pad(prompts, pack.pad_token, pack.model.device)
    for lane in range(3):
        pack.adapter.use_lane(lane)
        generated = pack.model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=24)
        pack.adapter.use_lane(None)
        for row in range(lane, 12, 3):
            completion = rollout.completion(row)
            expected = generated[row, ids.shape[1] :].tolist()
            assert expected[: len(completion)] == completion
            assert all(token == pack.pad_token for token in expected[len(completion) :])
            assert bool(rollout.truncated[row]) == (completion[-1] not in pack.end_tokens)


def test_sampler_and_trainer_agree_on_log_probabilities(pack: Pack) -> None:
    prompts, lanes = prompts_of(pack, 9), [row // 3 for row in range(9)]
    noise = torch.rand((36, 24), generator=torch.Generator().manual_seed(0))
    rollout = run(pack, prompts, lanes, noise, SAMPLED, samples=4)
    rows = Rows(
        [prompts[row // 4] for row in range(36)],
        [rollout.completion(row) for row in range(36)],
        torch.tensor(lanes).repeat_interleave(4),
    )
    batch = list(range(36))
    mask = completion_mask(rows, batch, pack.model.device)
    logp = completion_logps(pack.model, pack.adapter, rows, batch, pack.pad_token, SAMPLED.temperature or 1.0)
    assert mask.sum() > 200
    torch.testing.assert_close(logp * mask, rollout.logp * mask, atol=1e-4, rtol=0)


def test_a_completion_depends_on_its_own_noise_and_lane_alone(pack: Pack) -> None:
    """Not on its neighbours, its place, the padding they cause, or when finished rows are dropped."""
    prompts, lanes = prompts_of(pack, 12), [row % 3 for row in range(12)]
    noise = torch.rand((12, 24), generator=torch.Generator().manual_seed(1))
    together = run(pack, prompts, lanes, noise, SAMPLED)
    for row in (0, 5, 11):
        alone = run(pack, [prompts[row]], [lanes[row]], noise[row : row + 1], SAMPLED)
        assert alone.completion(0) == together.completion(row)
        length = len(alone.completion(0))
        torch.testing.assert_close(alone.logp[0, :length], together.logp[row, :length], atol=1e-4, rtol=0)


def test_repeated_samples_are_the_rows_of_repeated_prompts(pack: Pack) -> None:
    prompts = prompts_of(pack, 3)
    noise = torch.rand((6, 24), generator=torch.Generator().manual_seed(2))
    shared = run(pack, prompts, [0, 1, 2], noise, SAMPLED, samples=2)
    written_out = run(pack, [p for p in prompts for _ in range(2)], [0, 0, 1, 1, 2, 2], noise, SAMPLED)
    assert [shared.completion(row) for row in range(6)] == [written_out.completion(row) for row in range(6)]


def test_choice_follows_the_distribution() -> None:
    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.2])
    noise = torch.rand(40_000, generator=torch.Generator().manual_seed(3))
    chosen, logp = choose(probabilities.log().expand(len(noise), 4), noise, Sampling(1))
    torch.testing.assert_close(chosen.bincount(minlength=4) / len(noise), probabilities, atol=0.01, rtol=0)
    torch.testing.assert_close(logp[:9], probabilities.log()[chosen[:9]])


def test_choice_at_the_ends_of_the_noise_never_takes_an_impossible_token() -> None:
    logits = torch.tensor([0.0, 0.4, 0.6, 0.0]).log().expand(2, 4)
    chosen, _ = choose(logits, torch.tensor([0.0, 1 - 2**-24]), Sampling(1))
    assert chosen.tolist() == [1, 2]


def test_top_p_keeps_the_smallest_set_of_that_mass() -> None:
    logits = torch.tensor([0.1, 0.5, 0.15, 0.25]).log().expand(5000, 4)
    noise = torch.rand(5000, generator=torch.Generator().manual_seed(4))
    chosen, logp = choose(logits, noise, Sampling(1, top_p=0.7))
    shares = chosen.bincount(minlength=4) / 5000
    torch.testing.assert_close(shares, torch.tensor([0.0, 2 / 3, 0.0, 1 / 3]), atol=0.03, rtol=0)
    assert logp[chosen == 1][0].exp() == pytest.approx(0.5)  # of the full softmax
