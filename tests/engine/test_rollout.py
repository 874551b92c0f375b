"""The rollout engine against transformers' own generation, the trainer's log-probabilities, and probability itself."""

from dataclasses import replace

import pytest
import torch
from support import reference
from support.packs import give_v, open_pack, point, with_engine

from tinylora.engine.rollout import Decoder, left_pad, roll_out
from tinylora.engine.rows import completion_logps, completion_mask, lay_out, micro_batches, numbers
from tinylora.engine.sampling import Request, Rollout, Sampling, choose
from tinylora.settings.config import Precision, Split
from tinylora.settings.errors import FailureError, UsageError
from tinylora.train.pack import Pack

SAMPLED = Sampling(24, temperature=0.8)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    cache = tmp_path_factory.mktemp("outputs")
    points = [point(cache), point(cache, u=3, n_tie=4, precision=Precision.bf16, seed=1), point(cache, u=50, seed=2)]
    opened, _ = open_pack(points)
    give_v(opened)
    return opened


def prompts_of(pack: Pack, count: int) -> list[list[int]]:
    return pack.encode_prompts(pack.task.held_out(Split.test, count))


def run(
    pack: Pack,
    prompts: list[list[int]],
    lanes: list[int],
    noise: torch.Tensor,
    sampling: Sampling,
    samples: int = 1,
) -> Rollout:
    return roll_out(pack.engine, Request(prompts, torch.tensor(lanes), noise, sampling, samples))


def test_greedy_is_what_transformers_generates(pack: Pack) -> None:
    prompts = prompts_of(pack, 12)
    rollout = run(pack, prompts, [row % 3 for row in range(12)], torch.full((12, 24), torch.nan), SAMPLED)
    ids, mask = left_pad(prompts, pack.engine.pad_token, pack.engine.model.device)
    for lane in range(3):
        pack.engine.adapters.use_lane(lane)
        generated = pack.engine.model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=24)
        pack.engine.adapters.use_lane(None)
        for row in range(lane, 12, 3):
            completion = rollout.completion(row)
            expected = generated[row, ids.shape[1] :].tolist()
            assert expected[: len(completion)] == completion
            assert all(token == pack.engine.pad_token for token in expected[len(completion) :])
            assert bool(rollout.truncated[row]) == (completion[-1] not in pack.engine.end_tokens)


def mixed_request(pack: Pack, samples: int, sampling: Sampling = SAMPLED) -> Request:
    """Nine prompts of different lengths for three lanes."""
    noise = torch.rand((9 * samples, 24), generator=torch.Generator().manual_seed(0))
    return Request(prompts_of(pack, 9), torch.arange(9) % 3, noise, sampling, samples)


@pytest.fixture(scope="module")
def said_alone(pack: Pack) -> list[list[int]]:
    """The completions of `mixed_request`, by the slow reference."""
    return [reference.decode(pack, mixed_request(pack, samples=2), row) for row in range(18)]


@pytest.mark.parametrize(("most_rows", "refill"), [(1, 1.0), (3, 1.0), (5, 1.0), (5, 0.5), (5, 0.0), (100, 1.0)])
def test_rows_that_join_and_leave_say_what_each_says_alone(
    pack: Pack, said_alone: list[list[int]], most_rows: int, refill: float
) -> None:
    """With few rows at once, prompts are read while other rows are in mid-sentence, and one is split from its twin."""
    request = mixed_request(pack, samples=2)
    assert len({len(completion) for completion in said_alone}) > 2, "they should end at different times"
    cached = most_rows * (max(map(len, request.prompts)) + 24)
    limits = replace(pack.engine.limits, cached_tokens=cached, refill=refill)
    rollout = roll_out(with_engine(pack, limits=limits).engine, request)
    assert [rollout.completion(row) for row in range(18)] == said_alone


def test_what_completions_have_in_common_is_decoded_once(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch starts with a row per prompt and never has many more rows than there are different beginnings."""
    request, rows, step = mixed_request(pack, samples=16), [], Decoder.step

    def watched(decoder: Decoder) -> None:
        rows.append(len(decoder.position))
        step(decoder)

    monkeypatch.setattr(Decoder, "step", watched)
    rollout = roll_out(pack.engine, request)
    written = [tuple(rollout.completion(row)) for row in range(144)]
    for length, count in enumerate(rows):
        going = {(row // 16, written[row][:length]) for row in range(144) if len(written[row]) > length}
        assert len(going) <= count <= 1.25 * len(going) + 1
    assert rows[0] == 9 and max(rows) < 100


def test_prompts_that_do_not_fit_into_one_pass_are_read_in_several(pack: Pack) -> None:
    request = mixed_request(pack, samples=2)
    whole = roll_out(pack.engine, request)
    cut = roll_out(with_engine(pack, limits=replace(pack.engine.limits, pass_tokens=20)).engine, request)
    assert torch.equal(cut.tokens, whole.tokens)


def test_a_rollout_tells_how_much_of_it_is_done(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinylora.engine.rollout.SECONDS_UNTOLD", -1.0)
    request, shares = mixed_request(pack, samples=2), []
    few_rows = with_engine(pack, limits=replace(pack.engine.limits, rows=4)).engine
    roll_out(few_rows, request, shares.append)
    assert 0 < shares[0] < 0.2 and shares == sorted(shares) and shares[-1] == 1


def test_a_rollout_that_runs_out_of_memory_is_done_with_fewer_rows(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    request, tried, join = mixed_request(pack, samples=4), [], Decoder._join
    expected = roll_out(pack.engine, request)

    def join_if_small(decoder: Decoder, rows: list[int]) -> None:
        tried.append(len(rows))
        if len(decoder.row) + len(rows) > 10:
            raise torch.OutOfMemoryError("too many rows")
        join(decoder, rows)

    monkeypatch.setattr(Decoder, "_join", join_if_small)
    assert torch.equal(roll_out(pack.engine, request).tokens, expected.tokens)
    assert tried[:3] == [36, 18, 9]
    monkeypatch.setattr(Decoder, "_join", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("full")))
    with pytest.raises(FailureError, match="out of memory"):
        roll_out(pack.engine, request)


def test_sampler_and_trainer_agree_on_log_probabilities(pack: Pack) -> None:
    request = mixed_request(pack, samples=4)
    rollout = roll_out(pack.engine, request)
    completions = rollout.completions(request.prompts, request.lane_of_prompt)
    (batch,) = micro_batches(lay_out(completions, range(9), pack.engine.row_width), 10_000)
    mask = completion_mask(completions, batch, pack.engine.model.device)
    with pack.engine.adapters.rows(completions.lane_of_prompt[[row.prompt for row in batch]]):
        logp = completion_logps(pack.engine.model, completions, batch, SAMPLED.temperature or 1.0)
    assert mask.sum() > 200
    torch.testing.assert_close(logp, rollout.logp[numbers(batch)], atol=1e-4, rtol=0)


def test_repeated_samples_are_the_rows_of_repeated_prompts(pack: Pack) -> None:
    prompts = prompts_of(pack, 3)
    noise = torch.rand((6, 24), generator=torch.Generator().manual_seed(2))
    shared = run(pack, prompts, [0, 1, 2], noise, SAMPLED, samples=2)
    written_out = run(pack, [p for p in prompts for _ in range(2)], [0, 0, 1, 1, 2, 2], noise, SAMPLED)
    assert [shared.completion(row) for row in range(6)] == [written_out.completion(row) for row in range(6)]


def test_a_greedy_completion_among_samples_is_what_it_is_alone(pack: Pack) -> None:
    prompts, lanes = prompts_of(pack, 9), [row % 3 for row in range(9)]
    greedy = torch.full((9, 1, 24), torch.nan)
    noise = torch.rand((9, 2, 24), generator=torch.Generator().manual_seed(0))
    mixed = run(pack, prompts, lanes, torch.cat([noise, greedy], 1).flatten(0, 1), SAMPLED, samples=3)
    alone = run(pack, prompts, lanes, greedy[:, 0], SAMPLED)
    sampled = run(pack, prompts, lanes, noise.flatten(0, 1), SAMPLED, samples=2)
    assert [mixed.completion(3 * row + 2) for row in range(9)] == [alone.completion(row) for row in range(9)]
    assert [mixed.completion(row) for row in range(27) if row % 3 < 2] == [sampled.completion(r) for r in range(18)]


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


def test_a_completion_ends_where_the_models_context_does(pack: Pack) -> None:
    request = mixed_request(pack, samples=2)
    whole = roll_out(pack.engine, request)
    shortest = min(map(len, request.prompts))
    small = with_engine(pack, context=max(map(len, request.prompts)) + 3)
    cut = roll_out(small.engine, request)
    assert small.engine.context is not None
    for row in range(len(cut.lengths)):
        room = small.engine.context - len(request.prompts[row // 2])
        assert cut.completion(row) == whole.completion(row)[:room]
        assert bool(cut.truncated[row]) == (bool(whole.truncated[row]) or int(whole.lengths[row]) > room)
    with pytest.raises(UsageError, match="prompt and completion together"):
        roll_out(with_engine(pack, context=shortest).engine, request)
