"""Uploads: a private folder per process, and limits on its size."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from service.web.server.uploads import UploadLimit, make_room, upload_folder


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_the_folder_is_private_and_removed_at_the_end(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    with upload_folder() as folder:
        assert folder.parent == temporary and folder.stat().st_mode & 0o777 == 0o700
        assert os.environ["GRADIO_TEMP_DIR"] == str(folder)
        (folder / "a").write_text("x")
    assert not list(temporary.iterdir()) and "GRADIO_TEMP_DIR" not in os.environ


def test_folders_of_dead_processes_are_removed(temporary: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead, alive, other = (
        temporary / name for name in (f"passkb-uploads-{ended.pid}-x", f"passkb-uploads-{os.getpid()}-x", "kept")
    )
    for folder in (dead, alive, other):
        folder.mkdir()
        (folder / "file").write_text("x")
    (temporary / f"passkb-uploads-{ended.pid}-link").symlink_to(other)
    with upload_folder():
        assert not dead.exists() and (alive / "file").exists() and (other / "file").exists()


def test_the_oldest_files_are_deleted_first(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "middle", "old")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x" * 100)
        os.utime(tmp_path / name / "file", (1e9 - age, 1e9 - age))
    assert make_room(tmp_path, 250)
    assert sorted(path.parent.name for path in tmp_path.glob("*/file")) == ["middle", "new"]
    (tmp_path / "being-written").write_bytes(b"x" * 1_000)
    assert not make_room(tmp_path, 500)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["being-written"]


def test_uploads_need_a_length_and_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))

    async def taken(request: Any) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    routes = [Route("/gradio_api/upload", taken, methods=["POST"]), Route("/other", taken, methods=["POST"])]
    web = TestClient(Starlette(routes=routes, middleware=[Middleware(UploadLimit, max_upload=100, max_total=1_000)]))
    assert web.post("/gradio_api/upload", content=b"x" * 100).text == "100"
    assert web.post("/gradio_api/upload", content=b"x" * 101).status_code == 413
    assert web.post("/gradio_api/upload", content=iter([b"x"])).status_code == 411
    assert web.post("/other", content=b"x" * 500).text == "500"
    (tmp_path / "being-written").write_bytes(b"x" * 950)
    refused = web.post("/gradio_api/upload", content=b"x" * 100)
    assert refused.status_code == 503 and refused.headers["retry-after"] == "60"
