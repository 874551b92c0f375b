"""Packages that only some commands need: `pip install tinylora` gives the library, and extras give the rest.

The extras stand in pyproject.toml: `sweep` for the commands of `experiments`, `report` for `analysis`, `tasks`, `all`.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence


def require_extra(extra: str, modules: Sequence[str]) -> None:
    """End the process with a message where one of these modules is not installed. For the start of a package."""
    lacking = [module for module in modules if not _is_there(module)]
    if lacking:
        print(
            f"error: {', '.join(lacking)}: not installed\n"
            f"  rule:   these commands need the packages of the extra `{extra}`\n"
            f"  remedy: pip install 'tinylora[{extra}]', or '.[{extra}]' in a clone; `make install` has everything",
            file=sys.stderr,
        )
        raise SystemExit(2)


def _is_there(module: str) -> bool:
    try:
        return module in sys.modules or importlib.util.find_spec(module) is not None
    except ImportError:
        return False
