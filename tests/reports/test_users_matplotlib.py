"""Figures are the same bytes whatever a user has set for Matplotlib, and what a user has set stays as it is.

The public reports behind this are matplotlib/matplotlib#17707 and Project-MONAI/MONAI#9032.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import pytest

from analysis.drawing import style
from analysis.drawing.curves import metrics_figure
from analysis.drawing.lines import Level, Scale, lines_figure, look_columns
from analysis.drawing.panels import render

ROOT = Path(__file__).parents[2]
INLINE = "module://matplotlib_inline.backend_inline"  # of notebooks; it is not installed everywhere
PICTURES = ("svg", "pdf", "png")

DRAW = """
import json
import analysis.drawing.style  # as every command of ours does before anything else imports Matplotlib
from test_users_matplotlib import pictures
print(json.dumps(pictures()))
"""
NOTEBOOK = """
import sys
import matplotlib
if sys.argv[1] != "unset":
    matplotlib.use(sys.argv[1])
matplotlib.rcParams.update({"font.size": 31.0, "figure.dpi": 17.0, "savefig.format": "pdf"})
own = lambda: {name: repr(dict.__getitem__(matplotlib.rcParams, name)) for name in matplotlib.rcParams}
before = own(), matplotlib.get_backend(auto_select=False)
from test_users_matplotlib import pictures
pictures()
after = own(), matplotlib.get_backend(auto_select=False)
assert before == after, (before, after)
print(after[1], "matplotlib.pyplot" in sys.modules)
"""

SETTINGS: dict[str, str] = {  # what stands in a user's matplotlibrc
    "several": "font.size: 31\nfigure.dpi: 17\nsavefig.format: pdf\naxes.prop_cycle: cycler('color', ['ff0000'])\n",
    "LaTeX": "text.usetex: True\n",
    "resolution": "figure.dpi: 313\nsavefig.dpi: 41\n",
    "letters": "font.size: 31\nfont.family: serif\nsvg.fonttype: path\npdf.fonttype: 42\n",
    "cycle of colours": "axes.prop_cycle: cycler('color', ['ff0000', '00ff00'])\nlines.linewidth: 7\n",
    "format": "savefig.format: pdf\nsavefig.bbox: tight\nsavefig.transparent: True\n",
    "dark page": "figure.facecolor: black\naxes.facecolor: black\ntext.color: white\naxes.grid: True\n",
    "layout": "figure.constrained_layout.use: True\nfigure.autolayout: False\nfigure.figsize: 20, 1\n",
    "ticks": "xtick.direction: in\nytick.right: True\naxes.formatter.use_locale: True\naxes.xmargin: 0.4\n",
    "sketch": "path.sketch: 5, 100, 2\npath.simplify: False\n",
    "backend of a desktop": "backend: TkAgg\ninteractive: True\n",
}
BROKEN: dict[str, bytes] = {
    "not UTF-8": b"font.family: Helv\xe9tica\n",
    "zeros": bytes(100),
    "no settings": b"this is not a setting\n\n[tool]\n: :\n",
    "unknown settings": b"no.such.setting: 3\nfont.size: large and red\n",
    "no such backend": b"backend: nonsense\n",
    "no such format": b"savefig.format: nonsense\nsvg.fonttype: nonsense\n",
    "a cycle that is code": b"axes.prop_cycle: __import__('os').abort()\n",
}
FAST = ("several", "not UTF-8")


def points() -> pd.DataFrame:
    rows = [
        {"panel": "p", "series": name, "label": f"{name} $5", "x": x, "mean": mean, "low": mean - 0.1, "high": mean}
        for name, means in (("GRPO", (0.3, 0.5)), ("SFT own", (0.2, 0.4)))
        for x, mean in zip((13, 208), means, strict=True)
    ]
    looks: list[tuple[str, Any, str]] = [(style.colour(str(row["series"])), "solid", "o") for row in rows]
    return pd.DataFrame(rows).assign(paper=[False, True] * 2, **look_columns(looks))


def curves() -> pd.DataFrame:
    row = {"metric": "train/reward", "cell": "c", "precision": "bf16", "curve_label": "13", "colour": "#0072b2"}
    return pd.DataFrame([row | {"step": x, "mean": x / 9, "low": x / 10, "high": x / 8} for x in range(5)])


def pictures() -> dict[str, str]:
    """The digests of two small figures in each form."""
    scales = {"p": Scale("trained parameters")}
    figures = {
        "lines": lines_figure(points(), [Level("p", 0.25, "untrained")], scales, "Accuracy", "sums, 95% intervals"),
        "curves": metrics_figure(curves(), "Reward", "trained parameters"),
    }
    return {
        f"{name}.{kind}": hashlib.sha256(render(figure, kind)).hexdigest()
        for name, figure in figures.items()
        for kind in PICTURES
    }


def run(code: str, *words: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, in a folder, with these variables and no other of Matplotlib's."""
    kept = {name: value for name, value in os.environ.items() if name not in ("MATPLOTLIBRC", "MPLBACKEND")}
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "reports")))
    environment = kept | {"PYTHONPATH": path} | variables
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def drawn(folder: Path, **variables: str) -> dict[str, str]:
    """What `pictures` gives in such a process."""
    done = run(DRAW, folder=folder, **variables)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def settings_file(folder: Path, kind: str) -> Path:
    file = folder / "matplotlibrc"
    file.write_bytes(SETTINGS[kind].encode() if kind in SETTINGS else BROKEN[kind])
    return file


def raw() -> dict[str, Any]:
    """The settings in force; a backend that has not been chosen yet stays so."""
    return {name: dict.__getitem__(matplotlib.rcParams, name) for name in matplotlib.rcParams}


def as_read(text: str, folder: Path) -> dict[Any, Any]:
    """A user's file as Matplotlib reads it, without the backend."""
    (folder / "matplotlibrc").write_text(text)
    read = matplotlib.rc_params_from_file(folder / "matplotlibrc", use_default_template=False)
    return {name: value for name, value in read.items() if name != "backend"}


@pytest.mark.parametrize(
    "kind", [kind if kind in FAST else pytest.param(kind, marks=pytest.mark.slow) for kind in (*SETTINGS, *BROKEN)]
)
def test_a_file_of_settings_changes_no_picture(kind: str, tmp_path: Path) -> None:
    """matplotlib/matplotlib#17707."""
    file = settings_file(tmp_path, kind)
    (tmp_path / "elsewhere").mkdir()
    assert drawn(tmp_path / "elsewhere", MATPLOTLIBRC=str(file)) == pictures()


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAST)
def test_nor_does_one_in_the_working_folder(kind: str, tmp_path: Path) -> None:
    """Matplotlib reads that first."""
    settings_file(tmp_path, kind)
    assert drawn(tmp_path) == pictures()


@pytest.mark.slow
def test_without_settings_a_process_draws_what_this_one_does(tmp_path: Path) -> None:
    assert drawn(tmp_path) == pictures()


@pytest.mark.slow
@pytest.mark.parametrize("backend", [INLINE, "nonsense", "module://no.such.module", "TkAgg", "agg", "svg", "pdf", ""])
def test_a_backend_changes_no_picture(backend: str, tmp_path: Path) -> None:
    assert drawn(tmp_path, MPLBACKEND=backend) == pictures()


@pytest.mark.slow
def test_nor_do_both_at_once(tmp_path: Path) -> None:
    """What is left out because it cannot be read is not read again with the backend."""
    file = settings_file(tmp_path, "not UTF-8")
    assert drawn(tmp_path, MPLBACKEND="nonsense", MATPLOTLIBRC=str(file)) == pictures()


def test_a_backend_that_is_none_does_not_end_a_program(tmp_path: Path) -> None:
    """The fast one of the backends: the variable is as it was for processes that are started later."""
    code = "import os, analysis.drawing.style; print(os.environ['MPLBACKEND'])"
    done = run(code, folder=tmp_path, MPLBACKEND="nonsense")
    assert (done.returncode, done.stdout) == (0, "nonsense\n"), done.stderr


@pytest.mark.parametrize("kind", [kind for kind in SETTINGS if kind != "backend of a desktop"])
def test_settings_of_a_notebook_change_no_picture_and_stay(kind: str, tmp_path: Path) -> None:
    """matplotlib/matplotlib#17707, Project-MONAI/MONAI#9032."""
    user = as_read(SETTINGS[kind], tmp_path)
    expected = _digest()
    with matplotlib.rc_context(user):
        before = raw()
        assert before != matplotlib.rcParamsDefault
        found = _digest()
        assert raw() == before
    assert found == expected


def _digest() -> str:
    scales = {"p": Scale("trained parameters")}
    return hashlib.sha256(render(lines_figure(points(), [], scales, "Accuracy", "sums"), "svg")).hexdigest()


def test_a_figure_that_fails_leaves_the_settings_too() -> None:
    """Project-MONAI/MONAI#9032."""
    with matplotlib.rc_context({"font.size": 31.0, "figure.dpi": 17.0}):
        before = raw()
        with pytest.raises(KeyError, match="mean"):
            lines_figure(points().drop(columns="mean"), [], {"p": Scale("x")}, "Accuracy", "sums")
        with pytest.raises(ZeroDivisionError), style.applied():
            assert matplotlib.rcParams["font.size"] == style.FONT_SIZE
            _ = 1 / 0
        assert raw() == before


def test_inside_all_is_as_matplotlib_has_it_but_for_our_look() -> None:
    with matplotlib.rc_context({"text.usetex": True, "axes.grid": True, "savefig.format": "pdf"}), style.applied():
        inside = raw()
    settings = matplotlib.RcParams(dict(matplotlib.rcParamsDefault.items()) | style.SETTINGS)
    expected: dict[str, Any] = {str(name): value for name, value in settings.items()}
    differing = {name for name, value in inside.items() if name != "backend" and value != expected[name]}
    assert differing == set()


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        ("unset", "None False\n"),
        *(pytest.param(each, f"{each} False\n", marks=pytest.mark.slow) for each in ("svg", "pdf")),
    ],
)
def test_a_notebook_keeps_its_backend(backend: str, said: str, tmp_path: Path) -> None:
    """Project-MONAI/MONAI#9032. One that was not chosen yet is not chosen by us, and pyplot is not imported."""
    done = run(NOTEBOOK, backend, folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, said), done.stderr
