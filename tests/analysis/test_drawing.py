"""How figures look: what is written in them stays in them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.drawing.panels import panels_below

LONG = "miniature-qwen2, reasoning_gym chain_sum, steps=500, model.dtype=bf16, task.template=plain (scale model)"


@pytest.mark.parametrize("title", ["one line", LONG])
@pytest.mark.parametrize("count", [1, 3])
def test_a_title_stays_within_its_figure_and_above_what_comes_below(title: str, count: int) -> None:
    figure, axes = panels_below(count, 2.0, title, "test accuracy (sampled, strict)")
    axes[0].set_title("a panel" if count > 1 else "")
    places = {text.get_text(): box_of(text, figure) for text in [*figure.texts, axes[0].title] if text.get_text()}
    assert all(left >= 0 and right <= figure.bbox.width for left, right, _, _ in places.values())
    heights = [(bottom, top) for _, _, bottom, top in places.values()]
    assert all(lower <= upper + 1 for (upper, _), (_, lower) in pairwise(heights)), "one below the other"
    assert axes[0].get_position().height * figure.bbox.height / figure.dpi == pytest.approx(2.0)


def box_of(text: Text, figure: Figure) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of a text in pixels."""
    figure.draw_without_rendering()
    box = text.get_window_extent()
    return box.x0, box.x1, box.y0, box.y1
