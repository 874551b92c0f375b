"""A finished run is not shown as done when any file that decides its prompts or its end tokens has changed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest
import transformers
import yaml
from support.chat_models import CHATML, PLAIN, asked, save_chat_model, save_data

from experiments.planning.costs import plan
from experiments.sweep import run_sweep
from tinylora.models.find import tokenizer_digest
from tinylora.models.hub import FILES, MORE_SAYINGS
from tinylora.records.folder import CONFIG, Status, Unmirrored
from tinylora.settings.config import RECIPE, RunConfig, SftConfig
from tinylora.settings.errors import UsageError


def edit(name: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    """A change of a JSON file of the model."""

    def act(model: Path) -> None:
        content = json.loads((model / name).read_text())
        change(content)
        (model / name).write_text(json.dumps(content))

    return act


def write(name: str, text: str) -> Callable[[Path], None]:
    def act(model: Path) -> None:
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text(text)

    return act


CHANGES = {
    "the template": write("chat_template.jinja", PLAIN),
    "another named template": write("additional_chat_templates/tool_use.jinja", PLAIN),
    "a list of named templates": edit(
        "tokenizer_config.json",
        lambda content: content.update(chat_template=[{"name": "default", "template": PLAIN}]),
    ),
    "an added token": edit(
        "tokenizer.json", lambda content: content["added_tokens"].append({**content["added_tokens"][-1], "id": 999})
    ),
    "a special token": edit("tokenizer_config.json", lambda content: content.update(eos_token="<|im_end|>")),
    "a map of special tokens": write("special_tokens_map.json", '{"eos_token": "<|im_end|>"}'),
    "a map of added tokens": write("added_tokens.json", "{}"),
    "the end tokens": edit("generation_config.json", lambda content: content.update(eos_token_id=[256, 259])),
    "a vocabulary of words": write("vocab.txt", "a\nb\n"),
    "a vocabulary of pieces": write("spiece.model", "x"),
    "another one of pieces": write("sentencepiece.bpe.model", "x"),
    "a vocabulary of tiktoken": write("qwen.tiktoken", "x"),
    "a vocabulary of Mistral": write("tekken.json", "{}"),
    "a versioned tokenizer": write("tokenizer.4.0.0.json", "{}"),
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, with its model and its data."""
    place = tmp_path_factory.mktemp("done")
    save_chat_model(place / "model", CHATML)
    save_data(place / "data")
    assert run_sweep([small(place)], mirror=Unmirrored())[0].status is Status.finished
    return place


@pytest.fixture
def place(done: Path, tmp_path: Path) -> Path:
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    return tmp_path


def small(place: Path, recipe: int = RECIPE) -> RunConfig:
    return asked(place, steps=1, algorithm=SftConfig(prompts=2), recipe=recipe)


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_file_is_refused_and_named(what: str, place: Path) -> None:
    """huggingface/transformers#36588: templates may lie in files beside the tokenizer's own."""
    assert run_sweep([small(place)], mirror=Unmirrored())[0].skipped
    CHANGES[what](place / "model")
    for start in (lambda config: run_sweep([config], mirror=Unmirrored()), lambda config: plan([config])):
        with pytest.raises(UsageError, match=r"tokenizer_digest .*, and this is "):
            start(small(place))


def test_files_that_transformers_does_not_read_do_not_matter(place: Path) -> None:
    for name in ("README.md", "chat_template.json", "original/tokenizer.model", "notes.txt"):
        write(name, "x")(place / "model")
    assert run_sweep([small(place)], mirror=Unmirrored())[0].skipped


def test_a_folder_without_the_other_files_has_the_digest_that_it_always_had(place: Path) -> None:
    model = place / "model"
    assert tokenizer_digest(model, recipe=1) == tokenizer_digest(model, recipe=2)
    (model / "vocab.txt").write_text("a\n")
    assert tokenizer_digest(model, recipe=1) != tokenizer_digest(model, recipe=2)


def test_a_run_of_the_first_recipe_is_compared_as_it_was_recorded(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its digest knows fewer files, and it has none of the form: neither refused for that, nor taken without a word."""
    shutil.copytree(done / "model", tmp_path / "model")
    shutil.copytree(done / "data", tmp_path / "data")
    (tmp_path / "model" / "vocab.txt").write_text("a\n")
    old = small(tmp_path, recipe=1)
    shutil.copytree(small(done).folder, old.folder)
    written = yaml.safe_load((old.folder / CONFIG).read_text())
    written |= {"run_key": old.run_key, "scientific": old.scientific()}
    written["config"] |= {"recipe": 1}
    del written["provenance"]["form_digest"], written["config"]["model"]["date"]
    (old.folder / CONFIG).write_text(yaml.safe_dump(written, sort_keys=False))
    assert run_sweep([old], mirror=Unmirrored())[0].skipped
    assert "1 of 1 runs have ended and do not record form_digest" in capsys.readouterr().err
    (tmp_path / "model" / "chat_template.jinja").write_text(PLAIN)
    with pytest.raises(UsageError, match="tokenizer_digest"):
        run_sweep([old], mirror=Unmirrored())


def test_every_vocabulary_that_transformers_names_is_known() -> None:
    """Where this fails, add the name to `MORE_SAYINGS`: it is then fetched, checked and in the digest."""
    sources = Path(transformers.__file__).parent.glob("**/tokenization_*.py")
    pattern = re.compile(r"vocab_files_names = \{(.*?)\}", re.IGNORECASE | re.DOTALL)
    parts = [part for path in sources for part in pattern.findall(path.read_text())]
    names = {name for part in parts for name in re.findall(r'"([\w.-]+\.[a-z]+)"', part)}
    assert len(names) > 15
    assert {name for name in names if not any(fnmatch(name, pattern) for pattern in FILES)} == set()
    assert not any(fnmatch("original/tokenizer.model", pattern) for pattern in MORE_SAYINGS)
