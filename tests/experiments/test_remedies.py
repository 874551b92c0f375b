"""What errors offer works: the words of a remedy, put in the place of the wrong ones, are a command that can run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from support.packs import point
from test_cli import BAD_VALUES, Started, call, in_folder, started  # noqa: F401 - fixtures

from experiments.cancel import main as cancel_main
from experiments.compose.points import compose
from experiments.jobs import ledger
from experiments.planning.capacity import Place, require_memory
from experiments.planning.devices import Device
from experiments.status import main as status_main
from tinylora.settings.errors import UsageError

REAL = "model=qwen2.5-0.5b-instruct task=gsm8k"
OFFERS = {  # a wrong command line: all that its remedy offers
    "model=Qwen/Qwen2.5-0.5B-Instruct lr=1e-4": ["model=qwen2.5-0.5b-instruct"],
    "model=qwen/qwen2.5-MATH-7b lr=1e-4": ["model=qwen2.5-math-7b"],
    "model=qwen lr=1e-4": [
        *(f"model=qwen2.5-{size}b-instruct" for size in ("0.5", "1.5", "3", "7")),
        "model=qwen2.5-math-7b",
        "model=qwen3-8b",
    ],
    "model=LLAMA-3.2 lr=1e-4": ["model=llama-3.2-1b-instruct", "model=llama-3.2-3b-instruct"],
    "+model=miniature": ["model=miniature-llama", "model=miniature-qwen2"],
    "task=gsm8k/main lr=1e-4": ["task=gsm8k"],
    REAL: ["lr=4.76e-05", "model.lr_constants={gsm8k/grpo: 0.001}", "lr=search seed=0,1"],
    f"{REAL} u=1,13": ["lr=0.000111", "model.lr_constants={gsm8k/grpo: 0.001}", "lr=search seed=0,1"],
    f"{REAL} adapter=lora": ["lr=0.0001", "lr=search seed=0,1"],
    f"{REAL} adapter=full algorithm=sft": ["lr=1e-05", "lr=search seed=0,1"],
    f"{REAL} lr=0": ["lr=4.76e-05"],
    f"{REAL} lr=1e-60": ["lr=4.76e-05"],
    f"{REAL} lr=[1]": ["lr=0.001"],
    "lr=0": ["lr=auto"],
    "lr=interval(0.1,1)": ["lr=0.1,1", "lr=search"],
    "u=interval(1,3)": ["u=1,3"],
}


def replaced(line: str, words: str) -> list[str]:
    """The words of a line with those of a remedy in the place of the settings of the same names."""
    new = shlex.split(words) if "{" not in words else [words]
    names = {word.partition("=")[0] for word in new}
    return [*(word for word in line.split() if word.partition("=")[0].lstrip("+") not in names), *new]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("u 13", "u=<value>"),
        ("13", "<name>=13"),
        ("u=13 --steps 10", "steps=10"),
        ("u=13 --device=cpu", "model.device=cpu"),
        ("--u", "u=<value>"),
        ("u=13 --projection-seed 3", "projection_seed=3"),
        ("paper=figure4", "+paper=figure4"),
        ("study=sizes -m", "+study=sizes"),
    ],
)
def test_a_setting_that_is_not_written_as_one_is_shown_as_it_should_be(
    line: str, offered: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, line) == 2
    message = capsys.readouterr().err
    assert f"  remedy: give {offered}" in message and "rule:" in message


@pytest.mark.parametrize("line", OFFERS)
def test_all_that_a_remedy_offers_can_be_composed(line: str) -> None:
    with pytest.raises(UsageError) as refused:
        compose(line.split())
    for words in OFFERS[line]:
        assert words in refused.value.remedy
        assert compose(replaced(line, words)).points


@pytest.mark.parametrize("line", [line for line in BAD_VALUES if "--" not in line and "hydra/" not in line])
def test_the_first_settings_of_remedies_lead_to_a_command_that_can_run(line: str) -> None:
    words, said = line.split(), set[str]()
    while (remedy := remedy_for(words)) is not None:
        offered = re.match(r"give ([\w./]+=[^\s<,;)]+)", remedy)
        if offered is None or "..." in offered[1]:
            return  # it names what only the user knows
        assert remedy not in said, "the same again"
        said.add(remedy)
        words = replaced(" ".join(words), offered[1])


def remedy_for(words: list[str]) -> str | None:
    """The remedy of the error that some words end in; None where they can be composed."""
    try:
        return None if compose(words).points else "no points"
    except UsageError as error:
        return error.remedy


def test_any_other_repository_is_offered_as_one_of_the_hub(in_folder: Path) -> None:  # noqa: F811 - a fixture
    with pytest.raises(UsageError, match=r"give model\.hub=owner/Other-1B$"):
        compose(["model=owner/Other-1B", "lr=1e-4"])
    (in_folder / "owner" / "Other-1B").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"give model\.path=owner/Other-1B$"):
        compose(["model=owner/Other-1B", "lr=1e-4"])


@pytest.mark.parametrize("line", ["u=1 -m seed=0,1", "u=1 --multirun seed=0,1", "-m u=1 seed=0,1", "u=1 seed=0,1 -m"])
def test_flags_stand_anywhere(line: str, started: Started, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    assert call(monkeypatch, line) == 0
    assert started.packs == [[1, 1]]


def test_a_flag_with_a_value_stands_behind_a_setting(
    in_folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, "u=7 --cfg job seed=3") == 0
    shown = capsys.readouterr().out
    assert "u: 7\n" in shown and "seed: 3\n" in shown


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("--cfg job -m", "--cfg job"),
        ("--multirn u=1", "--multirun"),
        ("--cfg job u=1,2", "u=1"),
        ("--minutes 0.5 hydra/launcher=local", "launcher.minutes=1"),
        ("--minutes 90.5 hydra/launcher=local", "launcher.minutes=91"),
    ],
)
def test_what_is_said_of_flags_works(
    line: str,
    offered: str,
    started: Started,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, line) == 2
    remedy = capsys.readouterr().err.splitlines()[-1]
    assert offered.removesuffix(" job") in remedy
    if offered.startswith("launcher."):
        monkeypatch.setattr("experiments.jobs.submit.submit_sweep", lambda *_: None)
        offered += " hydra/launcher=local launcher.dry_run=true"
    assert call(monkeypatch, offered if "=" not in offered or "launcher" in offered else f"--cfg job {offered}") == 0


@pytest.mark.parametrize("command", [cancel_main, status_main])
def test_a_sweep_that_there_is_not(
    command: object,
    in_folder: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    def said() -> str:
        assert callable(command) and command(["nope"]) == 2
        return capsys.readouterr().err

    (offered,) = re.findall(r"`python -m experiments\.run (.*)`", said())
    assert compose(offered.split()).points
    outputs = in_folder / "outputs"
    outputs.mkdir()
    message = said()
    assert "give one of" not in message
    for launcher in re.findall(r"(hydra/launcher=\w+)", message):
        assert compose([launcher]).points
    sweep = ledger.sweep_of([point(outputs)], ["a"])
    sweep.save()
    assert f"give one of {sweep.id};" in said() and ledger.find(outputs, sweep.id) == sweep


def refusal(dtype: str, gib: float, **settings: object) -> str:
    """The remedy where a 0.5B model in some type has not enough memory."""
    words = [f"{name}={value}" for name, value in settings.items()]
    (config,) = compose(["model=qwen2.5-0.5b-instruct", f"model.dtype={dtype}", "lr=1e-4", *words]).points
    device = Device("a device", gib, accelerator=True)
    with pytest.raises(UsageError) as refused:
        require_memory([config], Place(device, Device("a host", 1000, accelerator=False)))
    return refused.value.remedy


def test_a_narrower_type_is_offered_where_it_helps() -> None:
    assert "model.dtype=bf16" in refusal("fp32", 1.5)
    assert "bf16" not in refusal("bf16", 0.5) and "bf16" not in refusal("fp16", 0.5)
    assert "bf16" not in refusal("fp32", 0.5), "it would not fit either"


def test_fewer_values_are_offered_by_what_makes_them_fewer() -> None:
    assert refusal("bf16", 0.001, adapter="lora_xs", rank=256, n_tie=1).startswith(
        "give a smaller rank or a larger n_tie,"
    )
    assert refusal("bf16", 0.001, u=10**6, rank=1).startswith("give a smaller u,")
