"""Files and folders that a command line can name, with which nothing can be done: damaged, endless, too large."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from tinylora.models.find import MINIATURES
from tinylora.settings.config import RunConfig, as_plain

MODEL = MINIATURES / "miniature-qwen2"
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
ENCODER = (
    '{"model_type": "bert", "vocab_size": 18, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, '
    '"num_attention_heads": 2, "max_position_embeddings": 64}'
)
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}%s{% endfor %}{% endfor %}"
DEEP = 100_000


def make_all(folder: Path) -> Path:
    """All of them in a new folder."""
    folder.mkdir()
    for make in (_models, _templates, _data, _points):
        make(folder)
    (folder / "file").write_text("x")
    os.mkfifo(folder / "pipe")
    return folder


def _models(folder: Path) -> None:
    changes: dict[str, Callable[[Path], object]] = {
        "model": lambda model: None,
        "without-tokenizer": lambda model: [path.unlink() for path in model.glob("tokenizer*")],
        "without-vocabulary": lambda model: (model / "tokenizer.json").unlink(),
        "damaged-tokenizer": lambda model: (model / "tokenizer.json").write_text("{"),
        "without-weights": lambda model: (model / "model.safetensors").unlink(),
        "nan-weights": lambda model: _spoil(model, float("nan")),
        "infinite-weights": lambda model: _spoil(model, float("inf")),
        "cut-weights": lambda model: os.truncate(model / "model.safetensors", 10_000),
        "whole-numbers-for-weights": _as_whole_numbers,
        "adapter": lambda model: (model / "adapter_config.json").write_text('{"base_model_name_or_path": "x/y"}'),
        "encoder": lambda model: (model / "config.json").write_text(ENCODER),
        "deep-config": lambda model: (model / "config.json").write_text("[" * DEEP),
        "damaged-config": lambda model: (model / "config.json").write_text(
            '{"model_type": "qwen2", "hidden_size": "x"}'
        ),
        "config-of-no-model": lambda model: (model / "config.json").write_text("[]"),
        "pipe-for-weights": lambda model: _replace(model / "model.safetensors", os.mkfifo),
        "pipe-for-tokenizer": lambda model: _replace(model / "tokenizer.json", os.mkfifo),
        "zeros-for-config": lambda model: _replace(model / "config.json", lambda path: path.symlink_to("/dev/zero")),
        "folder-for-config": lambda model: _replace(model / "config.json", os.mkdir),
        "list-for-generation": lambda model: (model / "generation_config.json").write_text("[]"),
        "looping-template": lambda model: (model / "chat_template.jinja").write_text(LOOP.replace("%s", "")),
    }
    for name, change in changes.items():
        shutil.copytree(MODEL, folder / name)
        change(folder / name)


def _as_whole_numbers(model: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"I32"'))


def _spoil(model: Path, value: float) -> None:
    path = model / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = np.float32(value)
    save_file(tensors, path, {"format": "pt"})


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def _templates(folder: Path) -> None:
    texts = {
        "good": TEMPLATE,
        "loop": LOOP.replace("%s", ""),
        "growing": LOOP.replace("%s", "x" * 1000),
        "power": "{{ 'x' * 10 ** 10 }}",
        "long": "{{ 'x' * 10 ** 8 }}",
        "raises": "{{ raise_exception('this model knows no roles') }}",
        "broken": "{% for %}",
        "random": TEMPLATE + "{{ ['a', 'b'] | random }}",
        "rarely-random": TEMPLATE + "{% if messages | length > 9 %}{{ ['a', 'b'] | random }}{% endif %}",
        "lipsum": TEMPLATE + "{{ lipsum() }}",
        "address": TEMPLATE + "{{ messages[0].content.strip }}",
        "dated": "{{ strftime_now('%d %b %Y') }} " + TEMPLATE,
        "deep": "{{ " + "(" * DEEP + "1" + ")" * DEEP + " }}",
        "nul": TEMPLATE + "\0",
        "large": " " * 2 * 2**20,
    }
    for name, text in texts.items():
        (folder / f"{name}.jinja").write_text(text)
    (folder / "latin.jinja").write_bytes(b"\xff\xfe")


GOLDS = {
    **{"name": "2x", "pi": r"2\pi", "root": r"\sqrt{2}", "choice": "5 or 6", "range": "5-6-", "words": "eighteen"},
    **{"several": "1, 2", "equation": "x + 3 = 5", "huge": "10^{999999999}", "point": "18.0", "fraction": "3/4"},
}
"""Gold answers that as a whole are not one number; the last two are none for verl's rule alone."""


def _data(folder: Path) -> None:
    rows = [{"id": f"r{n}", "question": f"1+{n}?", "answer": str(1 + n)} for n in range(60)]
    good = "".join(json.dumps(row) + "\n" for row in rows)
    last_lines = {
        "good-data": "",
        "surrogate-data": '{"question": "a\\ud800?", "answer": "3"}',
        "nul-data": '{"question": "a\\u0000?", "answer": "3"}',
        "deep-data": '{"question": "a?", "answer": "3", "x": %s}' % ("[" * DEEP + "]" * DEEP),
        "twice-data": '{"question": "a?", "answer": "3", "answer": "4"}',
        "infinite-data": '{"question": "a?", "answer": 1e999}',
        "digits-data": '{"question": "a?", "answer": "3", "x": %s}' % ("1" * 5000),
        "long-data": json.dumps({"question": "1" * 5000, "answer": "3"}),
        "list-data": "[]",
        **{
            f"{name}-gold": json.dumps({"id": name, "question": "a?", "answer": answer})
            for name, answer in GOLDS.items()
        },
    }
    for name, line in last_lines.items():
        _set(folder / name, (good + line).encode())
    _set(folder / "utf16-data", good.encode("utf-16"))
    _set(folder / "carriage-data", good.replace("\n", "\r").encode())
    _set(folder / "empty-data", b"")
    _set(folder / "bomb-data", gzip.compress(b"\0" * (80 * 2**20)), ".jsonl.gz")
    _set(folder / "cut-data", gzip.compress(good.encode())[:50], ".jsonl.gz")
    for name, make in {"pipe-data": os.mkfifo, "zeros-data": lambda path: path.symlink_to("/dev/zero")}.items():
        _set(folder / name, good.encode())
        _replace(folder / name / "gsm8k-train.jsonl", make)


def _set(folder: Path, content: bytes, suffix: str = ".jsonl") -> None:
    folder.mkdir()
    (folder / f"gsm8k-train{suffix}").write_bytes(content)
    (folder / "gsm8k-test.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')


def _points(folder: Path) -> None:
    nested: dict[str, Any] = {}
    for _ in range(50):
        nested = {"a": nested}
    changes: dict[str, dict[str, Any]] = {
        "float": {"u": 1.5},
        "bool": {"u": True},
        "null": {"u": None},
        "nan": {"algorithm": {"kl_coefficient": float("nan")}},
        "nested": {"task": {"generator_options": nested}},
        "surrogate": {"outputs_dir": "\ud800"},
        "large-seed": {"seed": 2**64},
        "other-key": {},
    }
    for name, change in changes.items():
        plain = as_plain(RunConfig(lr=0.1))
        for key, value in change.items():
            plain[key] = plain[key] | value if isinstance(value, dict) else value
        (folder / f"{name}-points.json").write_text(json.dumps({"0" * 12: plain}))
    (folder / "deep-points.json").write_text("[" * DEEP)
    (folder / "list-points.json").write_text("[1]")
    (folder / "empty-points.json").write_text("{}")
    (folder / "bytes-points.json").write_bytes(b"\xff\x00")
