"""What can be asked of the report by name. It needs no package of the report, so that `--help` is there at once."""

from __future__ import annotations

from pathlib import Path

import yaml

FORMATS = ("pdf", "svg", "png")
"""Of figures."""
SIZE_LABELS = {"trained_values": "trained parameters", "degrees_of_freedom": "degrees of freedom of the update"}
"""What can be drawn as the size of an update: columns of cells, and what the axis says."""
TABLE_1, CLAIMS_TABLE = "table1", "claims"
ITEM_TEXTS: dict[str, dict[str, str]] = yaml.safe_load(
    (Path(__file__).parent / "paper" / "items.yaml").read_text(encoding="utf-8")
)
"""What people read of each item, by its name."""
NAMES = (*ITEM_TEXTS, TABLE_1, CLAIMS_TABLE)
"""Everything that can be asked for by name."""
