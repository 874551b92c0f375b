"""A path that a person gives means one place: `~`, links, `..` and trailing slashes are resolved where it enters.

Reported of Hydra as hydra-ecosystem/hydra#1647: it does not take a `~` at the beginning of a value, and what takes one
as text makes a folder of that name. Here settings, options and TINYLORA_CACHE become absolute paths, or are refused.
"""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from support.chat_models import CHATML, PLAIN, asked, save_chat_model, save_data
from support.packs import point

import analysis.build
import benchmarks.run
from experiments import cancel, miniatures, plan, pretrain, run, status, sync
from experiments.compose.points import compose
from experiments.compose.written import read_points
from tinylora.records.folder import CONFIG, RunRecord, Status, read_config
from tinylora.settings.config import ModelConfig, RunConfig, TaskConfig, TrackingConfig, as_plain
from tinylora.settings.errors import UsageError
from tinylora.settings.files import CACHE_VARIABLE, cache_folder
from tinylora.settings.paths import absolute, as_entered, end_without_surroundings, portable
from tinylora.settings.store_urls import STORE
from tinylora.train import preflight
from tinylora.train.inputs import require_noted_template

ROOT = Path(__file__).parents[2]
OUT = "far/real/out"  # below the home folder: what all of these mean, from its folder `work`
FORMS = {
    "absolute": "{home}/far/real/out",
    "trailing slashes": "{home}/far/real/out//",
    "home": "~/far/real/out",
    "home of a user": "~ann/far/real/out/",
    "link": "~/link/out",
    "up from where a link leads": "~/link/../real/./out",
    "relative": "../far/real/out",
    "relative by a link": "up/link/out/",
}
BAD = {  # a path: what the message must say
    "loop/out": "links lead back to themselves",
    "~no-such-user/out": "there is no no-such-user",
    "a" * 256: "a name in it 255",
    "ä" * 128: "a name in it 255",
    "a/" * 2100: "at most 4095 bytes",
}
GSM8K = ("task=gsm8k", "lr=1", "rollout.max_new_tokens=8")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of this user, and of a user ann; its folder `work` is the working folder."""
    home = tmp_path.resolve() / "home"
    (home / "far" / "real").mkdir(parents=True)
    (home / "here").mkdir()
    (home / "link").symlink_to(home / "far" / "real")
    (home / "here" / "up").symlink_to("..")
    (home / "here" / "loop").symlink_to("pool")
    (home / "here" / "pool").symlink_to("loop")

    users = {"ann": SimpleNamespace(pw_dir=str(home))}
    monkeypatch.setattr(pwd, "getpwnam", lambda name: users[name])  # KeyError for others, as of pwd itself
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home / "here")
    return home


@pytest.fixture(params=FORMS)
def text(request: pytest.FixtureRequest, home: Path) -> str:
    """Each form of the path."""
    return FORMS[request.param].format(home=home)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """What would be trained; nothing is."""
    seen: list[RunConfig] = []

    def run_pack(configs: Sequence[RunConfig], *_: object) -> list[RunRecord]:
        seen.extend(configs)
        return [RunRecord(config, Status.finished, None, False, {}) for config in configs]

    monkeypatch.setattr("tinylora.train.preflight.check", lambda *_, **__: [])
    monkeypatch.setattr("tinylora.train.loop.run_pack", run_pack)
    return seen


def start(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["run.py", *words])
    return run.main()


def assert_three_parts(message: str) -> None:
    given, rule, remedy = message.splitlines()
    assert given.strip() and rule.startswith("  rule:   ") and remedy.startswith("  remedy: ")


def test_every_form_of_a_path_is_one_absolute_path(text: str, home: Path) -> None:
    assert absolute(text, "--out") == absolute(Path(text), "--out") == home / OUT


def test_a_tilde_elsewhere_is_a_name(home: Path) -> None:
    for text in ("./~", "./~ann/x", "a~", "a/~/b", "a/~ann"):
        assert absolute(text, "--out") == home / "here" / text
    assert absolute("~", "--out") == absolute("~/", "--out") == absolute("~ann", "--out") == home


def test_settings_are_absolute_as_they_enter(text: str, home: Path) -> None:
    model, tracking = ModelConfig(path=text, chat_template=text), TrackingConfig(uri=f"sqlite:///{text}")
    entered = as_entered(point(Path(text), model=model, task=TaskConfig(folder=text), tracking=tracking))
    found = (entered.outputs_dir, entered.model.path, entered.model.chat_template, entered.task.folder)
    assert found == (str(home / OUT),) * 4 and entered.tracking.uri == f"sqlite:///{home / OUT}"
    assert as_entered(entered) is entered


def test_a_run_lies_at_the_one_place(
    text: str, home: Path, trained: list[RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(home.rglob("*"))
    assert start(monkeypatch, f'outputs_dir="{text}"') == 0
    assert start(monkeypatch, f'outputs_dir="{text}"', "hydra/launcher=basic") == 0
    assert [config.outputs_dir for config in trained] == [str(home / OUT)] * 2
    assert set(home.rglob("*")) == before, "no folder of the name ~"


def test_a_tilde_without_quotes_is_refused_and_makes_nothing(
    home: Path, trained: list[RunConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """hydra-ecosystem/hydra#1647: Hydra's grammar has no such value."""
    before = set(home.rglob("*"))
    assert start(monkeypatch, "outputs_dir=~/out") == 2
    assert_three_parts(message := capsys.readouterr().err)
    assert "quotes" in message and trained == [] and set(home.rglob("*")) == before


def test_jobs_status_cancel_sync_and_plan_find_the_one_place(
    text: str, home: Path, trained: list[RunConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(monkeypatch, f'outputs_dir="{text}"', "hydra/launcher=local", "launcher.dry_run=true") == 0
    (sweep,) = (path.name for path in (home / OUT / "sweeps").iterdir() if path.is_dir())
    assert str(home / OUT / "sweeps" / sweep) in capsys.readouterr().out
    assert status.main(["--no-sync", "--outputs-dir", text]) == 0
    assert sweep in capsys.readouterr().out
    assert cancel.main([sweep, "--outputs-dir", text]) == 0
    assert sync.main(["--outputs-dir", text]) == 0
    assert plan.main(["--write", f"{text}/points.json", f'outputs_dir="{text}"']) == 0
    assert [config.outputs_dir for config in read_points(home / OUT / "points.json")] == [str(home / OUT)]
    assert {path.name for path in (home / "here").iterdir()} == {"up", "loop", "pool"}
    assert {path.name for path in home.iterdir()} == {"far", "here", "link"}


def test_written_points_keep_paths_below_here_relative(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine may read them in its own copy of the folder."""
    (home / "here" / "t.jinja").write_text(PLAIN)
    words = ('model.chat_template="~/here/t.jinja"', 'outputs_dir="~/here/deep/out/"', 'task.folder="~/far"')
    assert plan.main(["--write", "points.json", *GSM8K, *words]) == 0
    ((key, plain),) = json.loads((home / "here" / "points.json").read_text()).items()
    assert plain["outputs_dir"] == "deep/out" and plain["model"]["chat_template"] == "t.jinja"
    assert plain["task"]["folder"] == str(home / "far"), "what lies elsewhere stays where it is"
    copy = home / "copy"
    copy.mkdir()
    monkeypatch.chdir(copy)
    (read,) = read_points(home / "here" / "points.json")
    assert read.outputs_dir == str(copy / "deep" / "out") and read.run_key == key
    assert read.model.chat_template == str(copy / "t.jinja") and read.task.folder == str(home / "far")
    assert portable(read, copy).outputs_dir == "deep/out" and portable(read, home / "else") is read


def test_the_cache_lies_at_the_one_place(text: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, text)
    assert cache_folder() == home / OUT
    monkeypatch.setenv(CACHE_VARIABLE, "")
    assert cache_folder() == home / ".cache" / "tinylora"


def test_a_template_counts_by_its_content_however_its_path_is_written(home: Path) -> None:
    for name, content in (("t", CHATML), ("same", CHATML), ("other", PLAIN)):
        (home / f"{name}.jinja").write_text(content)
    paths = ("~/t", "~ann/t", f"{home}/t", "../t", "up/link/../../t", "~/same", "~/other")
    points = [compose([*GSM8K, f'model.chat_template="{path}.jinja"']).points[0] for path in paths]
    assert {config.model.chat_template for config in points[:5]} == {str(home / "t.jinja")}
    assert len({config.run_key for config in points[:6]}) == 1 and points[6].run_key != points[0].run_key


def test_a_template_of_another_content_than_was_noted_is_refused(home: Path) -> None:
    save_chat_model(home / "model")
    save_data(home / "data")
    (home / "t.jinja").write_text(CHATML)
    words = [*GSM8K, 'model.chat_template="~/t.jinja"']
    noted = compose(words).points[0].model.chat_template_digest
    run_asked = asked(home, model={"chat_template": str(home / "t.jinja"), "chat_template_digest": noted})
    (home / "t.jinja").write_text(PLAIN)
    assert compose(words).points[0].model.chat_template_digest != noted
    with pytest.raises(UsageError, match="the content of this file counts") as caught:
        preflight.check([run_asked])
    assert str(noted) in caught.value.rule and not (home / "outputs").exists()
    (home / "t.jinja").write_text(CHATML)
    require_noted_template(run_asked)


def test_old_records_keep_their_keys_and_what_they_say(home: Path) -> None:
    """Also one of a template that was recorded as `~/t.jinja`, which was no file's path then and counted as text."""
    (home / "t.jinja").write_text(CHATML)
    for written, counted in (("~/t.jinja", "~/t.jinja"), ("/gone/t.jinja", "0123456789ab")):
        model = ModelConfig(device="cpu", chat_template=written, chat_template_digest=counted)
        recorded = replace(asked(home), model=model, outputs_dir="outputs")
        content = {"config": as_plain(recorded), "scientific": recorded.scientific()}
        assert content["scientific"]["model"]["chat_template"] == counted
        del content["config"]["model"]["chat_template_digest"]
        folder = home / "old" / recorded.run_key
        folder.mkdir(parents=True)
        (folder / CONFIG).write_text(yaml.safe_dump(content))
        read = read_config(folder, home / "old")
        assert read.run_key == folder.name and read.model.chat_template == written
    before = point(Path("out"), tracking=TrackingConfig(uri="sqlite:///x.db"))
    assert as_entered(before) != before and as_entered(before).run_key == before.run_key


def test_options_for_what_is_made_are_the_one_place(text: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def keep(*given: Any) -> dict[str, bytes]:
        made.extend(each for each in given if isinstance(each, Path))
        return {}

    for name in ("build.import_run_folders", "build.write_files", "records.load.load", "page.report.files_of"):
        monkeypatch.setattr(f"analysis.{name}", keep)
    monkeypatch.setattr("analysis.page.terminal.lines_of", keep)
    monkeypatch.setattr("analysis.page.report.make_report", lambda *_: SimpleNamespace(whole=False))
    monkeypatch.setattr(miniatures, "pretrain", lambda args: keep(args.out))
    monkeypatch.setattr(benchmarks.run, "require_peers", keep)
    monkeypatch.setattr(benchmarks.run, "_measure", keep)
    assert analysis.build.main(["--out", text, "--outputs-dir", text]) == 0
    monkeypatch.setattr("sys.argv", ["run.py", "--out", text])
    assert benchmarks.run.main() == 0
    monkeypatch.setattr("sys.argv", ["pretrain.py", "--family", "llama", "--out", text])
    assert pretrain.main() == 0
    assert made == [home / OUT, home / OUT / STORE, *[home / OUT] * 3]


@pytest.mark.parametrize("path", BAD, ids=BAD.values())
def test_a_path_that_leads_nowhere_is_refused_before_anything_is_written(
    path: str, home: Path, trained: list[RunConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(home.rglob("*"))
    for act in (
        partial(start, monkeypatch, f'outputs_dir="{path}"'),
        partial(start, monkeypatch, *GSM8K, f'model.chat_template="{path}"'),
        partial(plan.main, [*GSM8K, f'task.folder="{path}"']),
        partial(plan.main, ["--write", path]),
        partial(status.main, ["--outputs-dir", path]),
        partial(cancel.main, ["abc", "--outputs-dir", path]),
        partial(analysis.build.main, ["--out", path]),
    ):
        assert act() == 2
        assert_three_parts(message := capsys.readouterr().err)
        assert BAD[path] in message
    assert trained == [] and set(home.rglob("*")) == before
    monkeypatch.setenv(CACHE_VARIABLE, path)
    with pytest.raises(UsageError, match=f"^{CACHE_VARIABLE}=.*\\n.*{BAD[path]}.*\\n"):
        cache_folder()


@pytest.mark.parametrize("value", ["", "some/folder", None])
def test_without_a_home_folder_a_command_ends_and_says_what_to_do(
    value: str | None, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a container whose user has no name: libraries look for the folder as they are imported."""
    monkeypatch.setattr(pwd, "getpwuid", lambda number: {"no": "user"}[number])
    monkeypatch.delenv("HOME") if value is None else monkeypatch.setenv("HOME", value)
    with pytest.raises(UsageError, match=r"^--out=~/out\n.*home folder.*\n.*set HOME="):
        absolute("~/out", "--out")
    end_without_surroundings()  # no command: nothing is said
    monkeypatch.setattr("sys.argv", ["-m", "x"])
    with pytest.raises(SystemExit) as ended:
        end_without_surroundings()
    assert_three_parts(message := capsys.readouterr().err)
    assert ended.value.code == 2 and message.startswith("error: HOME") and "set HOME=" in message


@pytest.mark.parametrize("word", [b"outputs_dir=out\xff", b"--outputs-dir=out\xff", b"HOME=", b"HOME=some/folder"])
def test_bytes_that_are_no_text_and_no_home_folder_as_commands(word: bytes, tmp_path: Path) -> None:
    name, _, value = os.fsdecode(word).partition("=")
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | ({name: value} if name == "HOME" else {})
    module = "experiments.status" if name == "--outputs-dir" else "experiments.run"
    command = [sys.executable, "-m", module, *([word] if name != "HOME" else [])]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert_three_parts(ended.stderr)
    assert ended.returncode == 2 and ended.stdout == "" and list(tmp_path.iterdir()) == []
    assert ended.stderr.startswith(ascii(f"error: {name}={value}")[1:-1] + "\n")
