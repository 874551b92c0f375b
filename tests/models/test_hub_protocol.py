"""The hub's own client against a server of this machine that answers as the hub does: nothing of it is replaced."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import huggingface_hub
import pytest
from support.tiny_models import save_model

from tinylora.models import hub
from tinylora.models.find import resolve_folder, resolved_commit
from tinylora.models.load import load, outline
from tinylora.settings.config import ModelConfig
from tinylora.settings.errors import FailureError, UsageError

COMMIT = "c0ffee" + "0" * 34
MODEL = ModelConfig("tiny", hub="owner/tiny", device="cpu")


class Handler(BaseHTTPRequestHandler):
    """The four answers that are needed: a model's information, its tree, the head of a file and the file."""

    files: ClassVar[dict[str, bytes]] = {}
    gated = False
    sent: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        parts = urlsplit(self.path).path.strip("/").split("/")
        if parts[:3] == ["api", "models", "owner"] and parts[3] == "tiny":
            self._describe(parts[4], parts[5])
        elif parts[:2] == ["owner", "tiny"]:
            self._send_file(parts[-1])
        else:
            self._refuse(404, "RepoNotFound")

    do_HEAD = do_GET

    def _describe(self, kind: str, revision: str) -> None:
        if revision not in ("main", COMMIT):
            self._refuse(404, "RevisionNotFound")
        elif kind == "revision":
            siblings = [{"rfilename": name, "size": len(content)} for name, content in self.files.items()]
            self._send(json.dumps({"id": "owner/tiny", "sha": COMMIT, "siblings": siblings}).encode())
        else:
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in self.files.items()
            ]
            self._send(json.dumps(tree).encode())

    def _send_file(self, name: str) -> None:
        if self.gated:
            self._refuse(403, "GatedRepo")
        elif name not in self.files:
            self._refuse(404, "EntryNotFound")
        else:
            content = self.files[name]
            self._send(content, ETag=f'"{hashlib.sha1(content).hexdigest()}"')
            if self.command == "GET":
                self.sent.append(name)

    def _send(self, content: bytes, **headers: str) -> None:
        self.send_response(200)
        for name, value in {"X-Repo-Commit": COMMIT, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    """A server with one repository, and a client with an empty cache that asks it instead of the hub."""
    folder = save_model(tmp_path / "published")
    (folder / "pytorch_model.bin").write_text("must not be fetched")
    Handler.files = {path.name: path.read_bytes() for path in folder.iterdir()}
    Handler.gated, Handler.sent = False, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    constants = huggingface_hub.constants
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    forget()
    yield server
    server.shutdown()
    server.server_close()
    forget()


def forget() -> None:
    """As in a process started anew."""
    hub._resolve.cache_clear()
    hub.snapshot_folder.cache_clear()


def test_a_model_is_planned_loaded_and_loaded_again_without_a_connection(server: ThreadingHTTPServer) -> None:
    assert len(outline(MODEL)) == 14
    assert Handler.sent == ["config.json"]
    assert load(MODEL)[0].config.num_hidden_layers == 2
    assert resolved_commit(MODEL) == resolve_folder(MODEL).name == COMMIT
    assert "pytorch_model.bin" not in Handler.sent and len(Handler.sent) == len(set(Handler.sent))
    server.shutdown()
    server.server_close()
    forget()
    assert load(MODEL)[0].config.num_hidden_layers == 2
    assert resolved_commit(MODEL) == COMMIT


def test_a_gated_repository_is_known_before_its_weights_are_asked_for(server: ThreadingHTTPServer) -> None:
    Handler.gated = True
    with pytest.raises(UsageError, match="licence"):
        outline(MODEL)


def test_absent_repositories_and_revisions_are_told_apart(server: ThreadingHTTPServer) -> None:
    with pytest.raises(UsageError, match="no such repository"):
        outline(ModelConfig("tiny", hub="owner/absent"))
    with pytest.raises(UsageError, match="no such branch"):
        outline(ModelConfig("tiny", hub="owner/tiny", revision="v9"))
    with pytest.raises(UsageError, match="no such repository"):
        outline(ModelConfig("tiny", hub="a name of / no form"))


def test_a_server_that_is_not_there_is_said_at_once(server: ThreadingHTTPServer) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(FailureError, match="could not be reached"):
        outline(MODEL)
