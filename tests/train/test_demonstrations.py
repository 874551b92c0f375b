"""Demonstrations that are sampled: right answers of the untrained model, whatever has been trained since."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.chat_models import asked, save_chat_model, save_data
from support.packs import give_v, open_pack, point

from tinylora.answers.rewards import Outcome
from tinylora.engine.rollout import roll_out
from tinylora.settings.config import (
    Adapter,
    AdapterConfig,
    Demonstrations,
    RunConfig,
    SftConfig,
    TaskConfig,
    Template,
)
from tinylora.settings.errors import UsageError
from tinylora.tasks import load_task
from tinylora.train import demonstrations
from tinylora.train.inputs import checked_task
from tinylora.train.sft import sft_step

SAMPLED = TaskConfig(demonstrations=Demonstrations.sampled)


def sampling(outputs: Path, **changes: object) -> RunConfig:
    return point(outputs, **({"task": SAMPLED, "algorithm": SftConfig(prompts=12, attempts=6)} | changes))


def test_they_are_right_answers_that_have_ended_to_the_problems_of_the_step(tmp_path: Path) -> None:
    pack, lanes = open_pack([sampling(tmp_path)])
    (found,) = demonstrations.demonstrations(pack, lanes)
    problems = {tuple(prompt): p for p in pack.task.batch(0, 1, 12) for prompt in pack.encode_prompts([p])}
    answered = [problems[tuple(prompt)] for prompt in found.prompts]
    assert 0 < len(found.answers) <= 12 and len(set(map(tuple, found.prompts))) == len(found.prompts)
    assert {score.strict for score in pack.score(answered, found.answers)} == {Outcome.correct}
    assert all(answer[-1] in pack.engine.end_tokens for answer in found.answers)
    assert found.sampled > sum(map(len, found.answers))


@pytest.mark.parametrize("kind", [Adapter.tinylora, Adapter.lora, Adapter.full])
def test_they_are_those_of_the_untrained_model(kind: Adapter, tmp_path: Path) -> None:
    pack, lanes = open_pack([sampling(tmp_path, adapter=AdapterConfig(kind))])
    before = demonstrations.demonstrations(pack, lanes)
    v = lanes[0].v.data
    v += 0.3 * torch.randn(v.shape, generator=torch.Generator().manual_seed(0)) * (v.std() if v.std() > 0 else 1)
    pack.engine.adapters.round()
    weights = {name: value.detach().clone() for name, value in pack.engine.model.named_parameters()}
    assert demonstrations.demonstrations(pack, lanes) == before
    for name, value in pack.engine.model.named_parameters():
        assert torch.equal(value, weights[name]), "and a model that is trained itself is given back"


def test_lanes_of_one_seed_share_them_and_others_have_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[int] = []

    def counting(engine, request):  # type: ignore[no-untyped-def]
        prompts.append(len(request.prompts))
        return roll_out(engine, request)

    monkeypatch.setattr(demonstrations, "roll_out", counting)
    own = replace(SAMPLED, demonstrations=Demonstrations.own)
    pack, lanes = open_pack(
        [sampling(tmp_path, u=1), sampling(tmp_path, u=4), sampling(tmp_path, seed=1), sampling(tmp_path, task=own)]
    )
    give_v(pack)
    first, second, third, worked = demonstrations.demonstrations(pack, lanes)
    assert prompts == [24], "one rollout, of two seeds"
    assert first == second != third
    assert (worked.sampled, len(worked.answers)) == (0, 12)


def test_a_step_counts_its_tokens_and_says_how_much_is_demonstrated(tmp_path: Path) -> None:
    pack, (lane,) = open_pack([sampling(tmp_path)])
    (found,) = demonstrations.demonstrations(pack, [lane])
    metrics = sft_step(pack, [lane])[0]
    trained = sum(map(len, found.answers))
    assert metrics["train/tokens_sampled"] == found.sampled
    assert metrics["train/tokens_trained"] == trained
    assert metrics["train/demonstrated"] == len(found.answers) / 12
    assert metrics["train/completion_tokens"] == trained / len(found.answers)
    lane.step += 1
    later = sft_step(pack, [lane])[0]
    assert later["train/tokens_trained"] > trained, "tokens of all steps"


def test_a_step_without_any_right_answer_teaches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack, (lane,) = open_pack([sampling(tmp_path)])
    nothing = demonstrations.Demonstrated([], [], 100)
    monkeypatch.setattr(demonstrations, "_sample", lambda pack, draws: dict.fromkeys(draws, nothing))
    metrics = sft_step(pack, [lane])[0]
    assert lane.failure is None and lane.v.abs().max() == 0
    assert metrics["train/demonstrated"] == 0 and "train/completion_tokens" not in metrics
    assert metrics["train/tokens_sampled"] == 100 and metrics["train/tokens_trained"] == 0


def test_questions_need_no_solutions(tmp_path: Path) -> None:
    save_chat_model(tmp_path / "model")
    save_data(tmp_path / "data")
    for file in (tmp_path / "data").iterdir():
        file.write_text(file.read_text().replace("It is. #### ", ""))
    config = asked(tmp_path, algorithm=SftConfig(prompts=2, attempts=2))
    with pytest.raises(UsageError, match="solution"):
        checked_task(config)
    task = replace(config.task, demonstrations=Demonstrations.sampled)
    checked_task(replace(config, task=task))
    pack, (lane,) = open_pack([replace(config, task=task)])
    assert sft_step(pack, [lane])[0]["train/demonstrated"] == 0  # the model is random


def test_a_generator_of_problems_is_fit_for_it() -> None:
    pytest.importorskip("reasoning_gym")
    task = TaskConfig(
        "reasoning_gym", generator="chain_sum", template=Template.boxed, demonstrations=Demonstrations.sampled
    )
    checked_task(RunConfig(lr=1.0, task=task, algorithm=SftConfig()))
    with pytest.raises(UsageError, match=r"task\.demonstrations=sampled"):
        checked_task(RunConfig(lr=1.0, task=replace(task, demonstrations=Demonstrations.own), algorithm=SftConfig()))
    assert load_task(task).batch(0, 1, 1)
