"""`experiments.chat`: what base and adapter say to a prompt is what the library's models say."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from support.packs import point
from transformers import AutoModelForCausalLM, AutoTokenizer

from experiments import chat
from tinylora.adapters.attach import load
from tinylora.models.find import MINIATURES
from tinylora.records.folder import ADAPTER, Unmirrored
from tinylora.records.progress import Silent
from tinylora.settings.config import EvalConfig, RunConfig
from tinylora.train.loop import run_pack

PROMPTS = ("12+7+35=", "99+98+97=", "1+2+3+4=")
STEPS = 2


def points(outputs: Path) -> list[RunConfig]:
    small = EvalConfig(every=1, test_items=2, validation_items=2, samples=1)
    return [point(outputs, steps=STEPS, u=u, lr=0.2, eval=small) for u in (13, 5)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs = tmp_path_factory.mktemp("trained") / "outputs"
    run_pack(points(outputs), ["a", "b"], Silent(), Unmirrored())
    return outputs


def call(capsys: pytest.CaptureFixture[str], *words: object, status: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    found = chat.main([str(word) for word in words])
    printed = capsys.readouterr()
    assert found == status, printed.err
    return printed.out, printed.err


def continued(adapter: Path | None, prompt: str) -> str:
    """What transformers says, greedily, with an adapter file or without."""
    folder = MINIATURES / "miniature-qwen2"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    if adapter is not None:
        load(model, adapter)
    asked = tokenizer([prompt], return_tensors="pt")
    with torch.no_grad():
        said = model.generate(**asked, max_new_tokens=48, do_sample=False)
    return str(tokenizer.decode(said[0, asked.input_ids.shape[1] :], skip_special_tokens=True))


def answers_of(out: str, name: str) -> list[str]:
    return [line.removeprefix(f"{name}:").strip() for line in out.splitlines() if line.startswith(f"{name}:")]


def test_base_and_adapter_answer_every_line(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = points(trained)[0]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(["", *PROMPTS])))
    out, _ = call(capsys, config.folder)
    assert answers_of(out, "prompt") == list(PROMPTS)
    base, adapted = ([continued(path, prompt) for prompt in PROMPTS] for path in (None, config.folder / ADAPTER))
    assert answers_of(out, "base") == base and answers_of(out, "adapter") == adapted
    assert base != adapted, "the test needs an adapter that says something else"


def test_step_0_is_the_base_model_and_a_file_is_its_run(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = points(trained)[0]
    out, _ = call(capsys, config.run_key, "--outputs-dir", trained, "--step", 0, "--prompt", PROMPTS[0])
    assert answers_of(out, "base") == answers_of(out, "adapter")
    of_run, _ = call(capsys, config.folder, "--prompt", PROMPTS[1])
    settings = ("model=miniature-qwen2", "model.device=cpu", "rollout.max_new_tokens=48")
    assert call(capsys, config.folder / ADAPTER, *settings, "--prompt", PROMPTS[1])[0] == of_run


def test_a_cut_answer_says_so(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = call(capsys, points(trained)[0].folder, "rollout.max_new_tokens=2", "--prompt", PROMPTS[0])
    assert out.count("(2 tokens, cut)") == 2


def test_what_cannot_be_asked_is_refused(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = points(trained)[0].folder
    for words, says in (
        ((trained, "--prompt", "1+2="), "2 adapters"),
        (("rollout.max_new_tokens=4",), "no adapter"),
        ((folder, "12+34="), "remedy: give --prompt 12+34="),
        ((folder, "what is it?", "rollout.max_new_tokens=4"), "remedy: give --prompt 'what is it?'"),
        ((folder, "--step", 7, "--prompt", "1+2="), "of this run 0, 1, 2"),
        ((folder, "--prompt", "caf\u00e9"), "it knows none of its characters"),
        ((folder, "--prompt", ""), "it knows none of its characters"),
    ):
        _, err = call(capsys, *words, status=2)
        assert says in err and "  rule:   " in err and "  remedy: " in err
    monkeypatch.setattr("sys.stdin", io.StringIO("caf\u00e9\n1+2+3=\n"))
    out, err = call(capsys, folder, status=2)
    assert answers_of(out, "prompt") == ["1+2+3="] and "prompt 'caf\u00e9'" in err, "the next one is answered"
