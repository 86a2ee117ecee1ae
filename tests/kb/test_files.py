"""A file is replaced whole or not at all: also when the disk is full, the folder read-only or the process killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kb.files import remove_scratch_files, write_atomic
from tests.processes import ROOT, run_python

LIMITED = """
import resource, sys
from pathlib import Path
from kb.files import write_atomic
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # as a disk that has room for a kilobyte
try:
    write_atomic(Path(sys.argv[1]), b"n" * 5000)
except OSError as error:
    print(error.errno, error.filename)
"""
ENDLESS = """
import sys
from pathlib import Path
from kb.files import write_atomic
for number in range(10**9):
    write_atomic(Path(sys.argv[1]), bytes([number % 2]) * 3_000_000, durable=False)
"""


def test_content_is_replaced_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.json"
    for data in ("{}\n", "Über\udcff\n", b"\xff\x00"):
        for durable in (True, False):
            write_atomic(path, data, durable=durable)
            assert path.read_bytes() == (data if isinstance(data, bytes) else data.encode("utf-8", "replace"))
    assert os.listdir(path.parent) == ["file.json"]


def test_a_name_as_long_as_file_systems_take_it_can_be_written(tmp_path: Path) -> None:
    write_atomic(tmp_path / ("n" * 255), "text")
    assert os.listdir(tmp_path) == ["n" * 255]


def test_a_full_disk_leaves_the_old_content_and_no_scratch_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    assert run_python(LIMITED, path).stdout.split()[1] == str(path)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


def test_a_folder_in_the_way_leaves_no_scratch_file(tmp_path: Path) -> None:
    (tmp_path / "file" / "in it").mkdir(parents=True)
    with pytest.raises(OSError, match="file"):
        write_atomic(tmp_path / "file", "text")
    assert os.listdir(tmp_path) == ["file"]


def test_a_killed_writer_leaves_a_whole_file_and_its_scratch_file_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for _ in range(4):
        writer = subprocess.Popen([sys.executable, "-c", ENDLESS, path], cwd=ROOT)
        while not path.exists():
            time.sleep(0.01)
        time.sleep(0.05)
        (tmp_path / f".{writer.pid}-7.part").write_bytes(b"of a living process")
        remove_scratch_files(tmp_path)
        assert (tmp_path / f".{writer.pid}-7.part").exists()
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        data = path.read_bytes()
        assert len(data) == 3_000_000 and len(set(data)) == 1
        remove_scratch_files(tmp_path)
        assert os.listdir(tmp_path) == ["file"]
        path.unlink()


def test_nothing_else_in_the_tree_replaces_files() -> None:
    """One helper: another copy would forget to sync, to clean up or to name the file."""
    for folder in ("kb", "ingest", "service"):
        for source in (ROOT / folder).rglob("*.py"):
            text = source.read_text(encoding="utf-8")
            if source.name != "files.py":
                assert "os.replace(" not in text and "os.fsync(" not in text, source


def test_a_pipe_or_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomic(pipe, "content")
        assert os.read(reader, 100) == b"content" and pipe.is_fifo()
    finally:
        os.close(reader)
