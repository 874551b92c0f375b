"""Random search: the best of the candidates that a seed draws, in any pack and after any stop, without any gradient."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.packs import At, interrupt, open_pack, point

from tinylora.adapters.adapter_file import read_safetensors
from tinylora.adapters.rounding import stochastic, stored, values
from tinylora.engine.rollout import roll_out
from tinylora.engine.sampling import Request, Sampling
from tinylora.records.folder import ADAPTER, STATE, DamagedError, RunFolder, Status, Unmirrored
from tinylora.records.progress import Silent
from tinylora.records.samples import SAMPLES
from tinylora.settings.choices import Adapter, Precision, Rounding, Split
from tinylora.settings.config import (
    AdapterConfig,
    ModelConfig,
    RandomSearchConfig,
    RunConfig,
    TaskConfig,
    as_plain,
)
from tinylora.settings.errors import UsageError
from tinylora.settings.recorded import from_plain
from tinylora.settings.seeds import stream_seed
from tinylora.train import preflight, random_search
from tinylora.train.guards import NO_SIGNAL_STEPS, Watch
from tinylora.train.loop import run_pack
from tinylora.train.pack import LaneRun, Pack
from tinylora.train.random_search import random_search_step
from tinylora.train.state import load_states, save_state

STEPS = 6


def searching(outputs: Path, **changes: Any) -> RunConfig:
    settings: dict[str, Any] = {"algorithm": RandomSearchConfig(prompts=5, samples=3), "steps": STEPS, "lr": 0.02}
    return point(outputs, **(settings | changes))


def search(pack: Pack, lanes: list[LaneRun], steps: int = STEPS) -> list[list[dict[str, float]]]:
    """The metrics of each step of each lane."""
    found: list[list[dict[str, float]]] = [[] for _ in lanes]
    for _ in range(steps):
        metrics = random_search_step(pack, lanes)
        for lane, own in zip(lanes, found, strict=True):
            own.append(metrics[lane.index])
            lane.step += 1
    return found


def tried(config: RunConfig, step: int, shape: torch.Size) -> torch.Tensor:
    """A candidate before it is rounded, worked out anew."""
    generator = torch.Generator("cpu").manual_seed(stream_seed(config.seed, "random search", step))
    return (config.lr * torch.randn(shape, generator=generator, dtype=torch.float64)).float()  # type: ignore[operator]


def reward_of(config: RunConfig, v: torch.Tensor) -> float:
    """The mean reward of a v on the first validation problems, in a pack of its own."""
    settings, (pack, (lane,)) = config.algorithm, open_pack([config])
    assert isinstance(settings, RandomSearchConfig)
    lane.v.data.copy_(v)
    problems = pack.task.held_out(Split.validation, settings.prompts)
    generator = torch.Generator("cpu").manual_seed(stream_seed(config.seed, "random search noise"))
    noise = torch.rand((settings.prompts * settings.samples, 48), generator=generator)
    lanes = torch.zeros(len(problems), dtype=torch.long)
    request = Request(pack.encode_prompts(problems), lanes, noise, Sampling(48), settings.samples)
    rollout = roll_out(pack.engine, request)
    said = [rollout.completion(row) for row in range(len(noise))]
    scores = pack.score([problem for problem in problems for _ in range(settings.samples)], said)
    return sum(score.reward for score in scores) / len(scores)


def mixed(outputs: Path) -> list[RunConfig]:
    return [
        searching(outputs, u=13),
        searching(outputs, u=3, n_tie=2, seed=1, lr=0.05, precision=Precision.bf16),
        searching(outputs, u=5, seed=2, lr=0.1, precision=Precision.int4, rounding=Rounding.master),
    ]


def test_the_best_candidate_is_kept_in_any_pack(tmp_path: Path) -> None:
    pack, lanes = open_pack(mixed(tmp_path))
    for config, lane, found in zip(mixed(tmp_path), lanes, search(pack, lanes), strict=True):
        draws = [tried(config, step, lane.v.shape) for step in range(1, STEPS + 1)]
        candidates = [values(*stored(draw, config.precision)) for draw in draws]
        rewards = [reward_of(config, v) for v in candidates]
        assert len(set(rewards)) > 1, "candidates that are all alike show nothing"
        assert [each["train/reward"] for each in found] == pytest.approx(rewards)
        best = [max(rewards[: step + 1]) for step in range(STEPS)]
        assert [each["train/best_reward"] for each in found] == pytest.approx(best)
        place = rewards.index(best[-1])  # the earliest
        assert torch.equal(lane.v, candidates[place])
        assert torch.equal(lane.adapter.unrounded, (candidates if lane.adapter.master is None else draws)[place])
        assert found[-1]["train/v_norm"] == pytest.approx(float(candidates[place].norm()))
        assert found[-1]["train/tokens_trained"] == 0 < found[-1]["train/tokens_sampled"]
        assert not {"train/zero_variance", "train/loss", "train/grad_norm"} & found[-1].keys()
        for metrics, others in zip(found, search(*open_pack([config]))[0], strict=True):
            assert untimed(metrics) == pytest.approx(untimed(others), abs=1e-4)


def test_of_candidates_that_are_as_good_the_earliest_stays(tmp_path: Path) -> None:
    pack, (lane,) = open_pack([searching(tmp_path, lr=1e-30)])
    found = search(pack, [lane], 3)[0]
    assert len({each["train/reward"] for each in found}) == 1
    assert torch.equal(lane.v, tried(lane.config, 1, lane.v.shape))


def test_chance_rounds_a_candidate_as_it_rounds_a_step(tmp_path: Path) -> None:
    config = searching(tmp_path, precision=Precision.bf16, rounding=Rounding.stochastic)
    pack, (lane,) = open_pack([config])
    search(pack, [lane], 1)
    noise = torch.Generator("cpu").manual_seed(stream_seed(config.seed, "rounding", 1))
    draw = tried(config, 1, lane.v.shape)
    assert torch.equal(lane.v, stochastic(draw, Precision.bf16, noise))
    assert not torch.equal(lane.v, draw.bfloat16().float())


def test_a_candidate_is_drawn_by_seed_and_step_and_is_as_wide_as_the_rate(tmp_path: Path) -> None:
    def drawn(step: int = 1, **changes: Any) -> torch.Tensor:
        return random_search.candidate(searching(tmp_path, **changes), step, torch.Size((3, 2)))

    assert torch.equal(drawn(), drawn()) and torch.allclose(drawn(lr=0.04), 2 * drawn())
    assert not torch.equal(drawn(), drawn(2)) and not torch.equal(drawn(), drawn(seed=1))
    many = random_search.candidate(searching(tmp_path), 1, torch.Size((20_000,)))
    assert float(many.std()) == pytest.approx(0.02, rel=0.02) and abs(float(many.mean())) < 0.001


def test_interrupted_and_continued_is_bitwise_the_uninterrupted_run(tmp_path: Path) -> None:
    runs = {}
    for name, stops in (("whole", ()), ("cut", (2, 1))):
        configs = mixed(tmp_path / name)
        for stop in stops:
            with pytest.raises(KeyboardInterrupt):
                run_pack(configs, list("abc"), At(stop, interrupt), Unmirrored())
        records = run_pack(configs, list("abc"), Silent(), Unmirrored())
        assert [record.status for record in records] == [Status.finished] * 3
        runs[name] = configs
    for config, other in zip(runs["cut"], runs["whole"], strict=True):
        lines, wanted = RunFolder(config).lines(), RunFolder(other).lines()
        assert [untimed(line.metrics) for line in lines] == [untimed(line.metrics) for line in wanted]
        states = [read_safetensors(each.folder / STATE) for each in (config, other)]
        assert states[0][1] == states[1][1] and torch.equal(states[0][0]["v"], states[1][0]["v"])
        best = lines[-1].metrics["train/best_reward"]
        assert load_states(config.folder)[STEPS].best_reward == best
        assert best == max(line.metrics["train/reward"] for line in lines[1:])
        v = [load_file(each.folder / ADAPTER)["v"] for each in (config, other)]
        assert torch.equal(*v) and v[0].abs().max() > 0
        said = [gzip.decompress((each.folder / SAMPLES).read_bytes()) for each in (config, other)]
        assert said[0] == said[1]


def test_a_state_without_a_best_reward_is_read_as_before_and_a_damaged_one_is_not(tmp_path: Path) -> None:
    _, (lane,) = open_pack([point(tmp_path)])
    lane.config.folder.mkdir(parents=True)
    save_state(lane.config.folder, lane)
    assert "best_reward" not in read_safetensors(lane.config.folder / STATE)[1]
    assert load_states(lane.config.folder)[0].best_reward is None
    lane.best_reward = 1 / 3
    save_state(lane.config.folder, lane)
    assert load_states(lane.config.folder)[0].best_reward == 1 / 3
    lane.best_reward = "many"  # type: ignore[assignment]
    save_state(lane.config.folder, lane)
    with pytest.raises(DamagedError):
        load_states(lane.config.folder)


def test_a_candidate_that_is_not_finite_ends_the_lane_with_its_best_v(tmp_path: Path) -> None:
    pack, (lane,) = open_pack([searching(tmp_path, precision=Precision.fp16)])
    search(pack, [lane], 1)
    best = lane.v.detach().clone()
    lane.config = replace(lane.config, lr=1e6)
    metrics = random_search_step(pack, [lane])[0]
    assert lane.failure is not None and "step 2" in lane.failure and "fp16" in lane.failure
    assert torch.equal(lane.v, best) and metrics["train/best_reward"] == lane.best_reward


def test_no_guard_of_grpo_speaks(tmp_path: Path) -> None:
    watch = Watch(searching(tmp_path))
    worst = {"train/reward": 0.0, "train/zero_variance": 1.0, "train/truncated": 1.0, "train/completion_tokens": 1.0}
    assert [watch.see(step, worst) for step in range(1, 2 * NO_SIGNAL_STEPS)] == [[]] * (2 * NO_SIGNAL_STEPS - 1)


def test_one_completion_of_each_problem_is_enough_and_one_is_kept_to_be_read(tmp_path: Path) -> None:
    pack, (lane,) = open_pack([searching(tmp_path, algorithm=RandomSearchConfig(prompts=3, samples=1))])
    first = random_search_step(pack, [lane])[0]
    assert first["train/reward"] in [pytest.approx(count / 3) for count in range(4)]
    assert [sample.kind for sample in lane.samples] == ["best"]


@pytest.mark.parametrize("kind", [Adapter.lora, Adapter.full])
def test_adapters_that_do_not_begin_at_zero_are_refused(kind: Adapter, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"adapter={kind.value}") as caught:
        searching(tmp_path, adapter=AdapterConfig(kind))
    assert "zero" in caught.value.rule and "lora_xs" in caught.value.remedy
    searching(tmp_path, adapter=AdapterConfig(Adapter.lora_xs))
    searching(tmp_path, adapter=AdapterConfig(Adapter.none))  # where nothing is trained, no algorithm counts


def test_a_master_that_would_change_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="rounding=master"):
        searching(tmp_path, precision=Precision.bf16, rounding=Rounding.master)
    with pytest.raises(UsageError, match="precision=int8"):
        searching(tmp_path, precision=Precision.int8)


def test_a_task_must_have_so_many_validation_problems(outputs: Path, tmp_path: Path) -> None:
    rows = [{"id": f"gsm8k/{n}", "question": f"{n}+1?", "answer": f"#### {n + 1}"} for n in range(60)]
    for split in ("train", "test"):
        (tmp_path / f"gsm8k-{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "chat.jinja").write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    model = ModelConfig(device="cpu", chat_template=str(tmp_path / "chat.jinja"))
    task = TaskConfig("gsm8k", folder=str(tmp_path))
    preflight.check([searching(outputs, task=task, model=model, algorithm=RandomSearchConfig(prompts=1))])
    with pytest.raises(UsageError, match=r"algorithm\.prompts=50") as caught:
        preflight.check([searching(outputs, task=task, model=model, algorithm=RandomSearchConfig(prompts=50))])
    assert "validation" in caught.value.rule


def test_a_search_is_a_run_of_its_own_that_can_be_read_back(tmp_path: Path) -> None:
    config = searching(tmp_path)
    assert config.scientific()["algorithm"] == {"name": "random_search", "prompts": 5, "samples": 3}
    assert from_plain(as_plain(config)) == config
    assert config.lr_key == "sums/random_search"


def untimed(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith("time/")}
