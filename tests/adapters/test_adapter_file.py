"""Files of tensors: equal content has equal bytes."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load, save

from tinylora.adapters.adapter_file import read_safetensors
from tinylora.settings.tensor_files import with_digest

TENSORS = {"v": torch.arange(5.0), "a": torch.ones(2, 3, dtype=torch.float16), "b": torch.zeros(0)}
METADATA = {name: f"value of {name}, with ü" for name in ("zeta", "format", "spec", "rank", "alpha", "model")}


def test_the_same_content_is_the_same_file_whatever_the_order_of_its_names() -> None:
    orders = [dict(sorted(METADATA.items(), reverse=number % 2 == 0)) for number in range(20)]
    assert len({b"".join(with_digest(save(TENSORS, metadata=order))) for order in orders}) == 1
    assert len({save(TENSORS, metadata=METADATA) for _ in range(20)}) > 1, "safetensors sorts them now: use it as it is"


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    content = b"".join(with_digest(save(TENSORS, metadata=METADATA)))
    assert int.from_bytes(content[:8], "little") % 8 == 0
    (tmp_path / "file").write_bytes(content)
    tensors, metadata = read_safetensors(tmp_path / "file")
    assert metadata == METADATA
    for name, tensor in load(content).items():
        assert torch.equal(tensor, TENSORS[name]) and torch.equal(tensors[name], tensor)
