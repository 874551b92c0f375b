"""What is found out about a sweep before anything of it is started."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.packs import point

from tinylora.records.folder import RunFolder, Unmirrored
from tinylora.records.progress import Silent
from tinylora.settings.config import (
    RECIPE,
    Adapter,
    AdapterConfig,
    Demonstrations,
    EvalConfig,
    ModelConfig,
    SftConfig,
    TaskConfig,
    Template,
    TrackingConfig,
)
from tinylora.settings.errors import FailureError, TinyLoraError, UsageError
from tinylora.train import preflight
from tinylora.train.loop import run_pack

ABSENT = TaskConfig("gsm8k", folder="/nowhere")
CHAINS = TaskConfig("reasoning_gym", generator="chain_sum", template=Template.boxed)
CASES: dict[str, tuple[dict[str, Any], type[TinyLoraError], str]] = {
    "n_tie beyond the modules": ({"n_tie": 22}, UsageError, "21 adapted modules"),
    "rank beyond the weights": ({"rank": 97}, UsageError, "rank=97"),
    "unknown model": ({"model": ModelConfig("nope"), "lr": 0.1}, UsageError, "miniature-qwen2"),
    "unknown task": ({"task": TaskConfig("nope")}, UsageError, "gsm8k"),
    "no data": ({"task": TaskConfig("gsm8k")}, UsageError, "task.folder"),
    "no such generator": ({"task": TaskConfig("reasoning_gym", generator="nope")}, UsageError, "task.generator=nope"),
    "no such suite": ({"eval": EvalConfig(suites=["nope"]), "task": CHAINS}, UsageError, "aime24"),
    "suites of sums": ({"eval": EvalConfig(suites=["gsm8k"])}, UsageError, "eval.suites"),
    "SFT without demonstrations": ({"task": CHAINS, "algorithm": SftConfig()}, UsageError, "algorithm=grpo"),
    "absent data": ({"task": ABSENT}, UsageError, "/nowhere"),
    "absent model folder": ({"model": ModelConfig(path="/nowhere"), "lr": 0.1}, UsageError, "/nowhere"),
    "store that does not answer": ({"tracking": TrackingConfig("http://127.0.0.1:9")}, FailureError, "127.0.0.1:9"),
    "store of no kind": ({"tracking": TrackingConfig("nope://x")}, FailureError, "nope://x"),
    "folder that cannot be made": ({"outputs_dir": "/proc/tinylora"}, FailureError, "outputs_dir=/proc/tinylora"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_point_that_cannot_run_is_refused_with_all_others(case: str, outputs: Path) -> None:
    changes, kind, words = CASES[case]
    with pytest.raises(kind) as caught:
        preflight.check([point(outputs), point(outputs, **changes)])
    assert words in str(caught.value)
    assert caught.value.given and caught.value.rule and caught.value.remedy
    assert {path.name for path in outputs.iterdir()} <= {"mlflow.db", ".mlflow.db.lock"}, "something was started"


def conversing(folder: Path) -> ModelConfig:
    """The miniature with a chat template."""
    (folder / "chat.jinja").write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    return ModelConfig(device="cpu", chat_template=str(folder / "chat.jinja"))


def test_demonstrations_that_a_task_lacks_are_refused(outputs: Path, tmp_path: Path) -> None:
    row = '{"id": "%s/%d", "question": "1+%d?", "answer": "%d", "solution": "It is %d.\\n#### %d"}\n'
    for split in ("train", "test"):
        rows = "".join(row % (f"gsm8k-{split}", i, i, 1 + i, 1 + i, 1 + i) for i in range(60))
        (tmp_path / f"gsm8k-{split}.jsonl").write_text(rows)
    task = TaskConfig("gsm8k", folder=str(tmp_path), demonstrations=Demonstrations.foreign)
    model = conversing(tmp_path)
    preflight.check([point(outputs, task=task, algorithm=SftConfig(), model=model)])
    own = TaskConfig("gsm8k", folder=str(tmp_path), demonstrations=Demonstrations.own)
    with pytest.raises(UsageError, match="foreign"):
        preflight.check([point(outputs, task=own, algorithm=SftConfig())])


def test_a_test_set_is_evaluated_and_not_trained_on(outputs: Path, tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "answer": f"{n}"} for n in range(3)]
    (tmp_path / "aime24.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = TaskConfig("aime24", folder=str(tmp_path))
    preflight.check([point(outputs, task=task, adapter=AdapterConfig(Adapter.none), model=conversing(tmp_path))])
    with pytest.raises(UsageError, match="adapter=none"):
        preflight.check([point(outputs, task=task)])


def test_a_run_goes_on_only_with_the_prompts_that_it_began_with(outputs: Path) -> None:
    folder = RunFolder(point(outputs))
    folder.path.mkdir(parents=True)
    names = ("model_digest", "basis_digest", "data_digest", "prompt_digest")
    begun = dict.fromkeys(names, "aa")
    folder.describe(begun)
    folder.describe(begun)
    for name in names:
        with pytest.raises(UsageError, match=f"{name} aa, and this is bb"):
            folder.describe(begun | {name: "bb"})


def test_an_unfinished_run_of_an_older_recipe_is_refused_and_a_finished_one_is_left_alone(outputs: Path) -> None:
    finished, unfinished = point(outputs, steps=1, recipe=1), point(outputs, steps=1, seed=1, recipe=1)
    run_pack([finished], ["finished"], Silent(), Unmirrored())
    assert preflight.check([finished]) == []
    with pytest.raises(UsageError, match="of recipe 1"):
        preflight.check([finished, unfinished])
    assert preflight.check([replace(unfinished, recipe=RECIPE)]) == []


def test_a_point_that_an_older_recipe_has_run_is_named(outputs: Path) -> None:
    old = [point(outputs, steps=1, seed=seed, recipe=1) for seed in (0, 1)]
    run_pack(old[:1], ["finished"], Silent(), Unmirrored())
    (note,) = preflight.check([replace(config, recipe=RECIPE) for config in old])
    assert note.startswith("1 of 2 runs were begun by recipe 1") and f"trains them anew by recipe {RECIPE}" in note
