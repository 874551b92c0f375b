"""From templates to pages, and the library that draws the interactive charts, which lies beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt
import jinja2
import vl_convert

PAGE, ONLY, ANSWERS = "index.html", "only.html", "answers.html"
"""The report, the page of single items that were asked for, and what the models say."""
LIBRARY = f"vega-lite-{alt.VEGALITE_VERSION}.js"
"""Vega-Embed with Vega and Vega-Lite in one file, so that a report needs no network and can be copied as a folder."""


def rendered(template: str, **words: Any) -> bytes:
    """A page; all text in it is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = {"page": PAGE, "answers": ANSWERS, "library": LIBRARY}
    return f"{environment.get_template(template).render(**names, **words)}\n".encode()


def library() -> bytes:
    """The content of `LIBRARY`. It takes seconds to make, and is always the same."""
    version = ".".join(alt.VEGALITE_VERSION.split(".")[:2])
    made: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)
    return made.encode()
