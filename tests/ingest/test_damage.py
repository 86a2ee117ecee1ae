"""A full disk, a home that cannot be written, a damaged database or index: named with what to do, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ingest.pipeline import ingest, rebuild, sync
from kb.notes import PasskbError
from kb.store.schema import VERSION
from tests.ingest.states import WithHashedWords, fresh_state, whole_state
from tests.privileges import OWN_MOUNTS

if TYPE_CHECKING:
    from tests.conftest import Vault

ROOT = Path(__file__).parents[2]
NOTES = {f"{i}.md": f"# Note {i}\n\nOtters keep stone {i}. See [[Note {i * 7 % 60}]].\n" for i in range(60)}
# Run where mounting is private to the process: a home with little room or none to write, then as it should be.
MOUNTED = """
import subprocess, sys, time
from pathlib import Path
from ingest.pipeline import ingest, rebuild, sync
from kb.notes import PasskbError
from tests.ingest.states import WithHashedWords, fresh_state, whole_state
home, folder, kind = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
def mount(*options):
    for _ in range(50):  # busy until Chroma has let go of its files
        if not subprocess.run(["mount", *options, str(home)]).returncode:
            return
        time.sleep(0.1)
    sys.exit("mount: permission denied")
def attempt(work):
    try:
        with WithHashedWords(home) as kb:
            report = work(kb)
        print("done", [reason for _, reason in report.failed])
    except PasskbError as error:
        print(error)
home.mkdir()
if kind == "full":
    for size in sys.argv[4:]:
        mount("-t", "tmpfs", "-o", f"size={size}", "none")
        attempt(lambda kb: ingest(kb, [folder]))
        mount("-o", "remount,size=64m")
        with WithHashedWords(home) as kb:
            report = ingest(kb, [folder])
            assert not report.failed, report.failed
            assert whole_state(kb) == fresh_state(home.with_name("fresh"), folder), size
        subprocess.run(["umount", "-l", str(home)], check=True)
else:
    mount("-t", "tmpfs", "none")
    with WithHashedWords(home) as kb:
        ingest(kb, [folder])
    mount("-o", "remount,ro")
    attempt(sync)
    attempt(lambda kb: ingest(kb, [folder]))
    try:
        rebuild(home, WithHashedWords)
    except PasskbError as error:
        print(error)
    mount("-o", "remount,rw")
    attempt(sync)
"""


def mounted(*arguments: str | Path) -> list[str]:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, *OWN_MOUNTS, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    command = [unshare, *OWN_MOUNTS, sys.executable, "-c", MOUNTED, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    if "mount:" in done.stderr and "permission denied" in done.stderr:
        pytest.skip("mounting is not allowed here")
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    return done.stdout.splitlines()


def test_a_full_disk_is_named_and_nothing_is_lost(home: Path, vault: Vault) -> None:
    """From no room at all to room for all but the vector index."""
    sizes = [f"{size}k" for size in (4, 20, 60, 100, 150, 200, 250, 300, 350, 400, 450)]
    messages = mounted(home, vault(NOTES), "full", *sizes)
    assert len(messages) == len(sizes)
    refused = [line for line in messages if line != "done []"]
    assert len(refused) >= 5 and all(str(home) in line for line in refused)
    assert all("room" in line or "full" in line for line in refused), refused


def test_a_home_that_can_not_be_written_is_named(home: Path, vault: Vault) -> None:
    *messages, last = mounted(home, vault(NOTES), "read-only")
    assert len(messages) == 3 and last == "done []"
    for line in messages:
        assert str(home) in line and "--home" in line, line


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut short": _cut,
    "text in its place": lambda path: path.write_text("Dear diary,\n" * 900),
    "noise within": lambda path: path.write_bytes(path.read_bytes()[:8192] + os.urandom(path.stat().st_size - 8192)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_database_is_named_and_made_again(damage: str, home: Path, vault: Vault, tmp_path: Path) -> None:
    folder = vault(NOTES)
    with WithHashedWords(home) as kb:
        ingest(kb, [folder])
    DAMAGES[damage](home / "kb.sqlite")
    for _ in range(2):
        with pytest.raises(PasskbError, match=r"kb\.sqlite .*`passkb rebuild`"), WithHashedWords(home) as kb:
            kb.search("otters")
            sync(kb)
    assert rebuild(home, WithHashedWords).added == 60
    with WithHashedWords(home) as kb:
        assert whole_state(kb) == fresh_state(tmp_path / "fresh", folder)


def test_an_empty_database_is_filled_by_a_sync(home: Path, vault: Vault, tmp_path: Path) -> None:
    folder = vault(NOTES)
    with WithHashedWords(home) as kb:
        ingest(kb, [folder])
    (home / "kb.sqlite").write_bytes(b"")
    with WithHashedWords(home) as kb:
        assert sync(kb).added == 60
        assert whole_state(kb) == fresh_state(tmp_path / "fresh", folder)


def test_a_database_of_an_older_passkb_is_named_and_made_again(
    home: Path, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = vault({"a.md": "Otters."})
    with WithHashedWords(home) as kb:
        ingest(kb, [folder])
    monkeypatch.setattr("kb.store.schema.VERSION", VERSION + 1)
    with pytest.raises(PasskbError, match=r"kb\.sqlite was written by an older passkb .*`passkb rebuild`"):
        WithHashedWords(home)
    assert rebuild(home, WithHashedWords).added == 1
    with WithHashedWords(home) as kb:
        assert kb.search("otters")[1]
    monkeypatch.setattr("kb.store.schema.VERSION", VERSION)
    with pytest.raises(PasskbError, match=r"written by a newer passkb .* upgrade"):
        rebuild(home, WithHashedWords)


@pytest.mark.parametrize("name", ["chroma.sqlite3", "data_level0.bin", "length.bin", "link_lists.bin", "header.bin"])
def test_a_damaged_vector_index_is_made_again_by_the_next_change(name: str, home: Path, vault: Vault) -> None:
    """Chroma keeps its own files from a thousand vectors on."""
    folder = vault({f"{i}.md": f"Otters keep stone {i}." for i in range(1100)} if name.endswith(".bin") else NOTES)
    with WithHashedWords(home) as kb:
        ingest(kb, [folder])
    (file,) = (home / "chroma").rglob(name)
    _cut(file)
    (folder / "new.md").write_text("Herons.")
    with WithHashedWords(home) as kb:
        report = sync(kb)
        assert not report.failed and report.added == 1 and report.embedded == 1
        assert report.warnings == [(str(home / "chroma"), "was damaged and has been rebuilt")]
        assert kb.index.ids() == sorted(kb.catalogue.chunk_ids)
        assert kb.index.nearest(kb.embedder(["new\nHerons."])[0], 1)[0][0] == "vault/new@0"


def test_a_vector_index_that_can_not_be_written_leaves_all_else_in_order(home: Path, vault: Vault) -> None:
    with WithHashedWords(home) as kb:
        (home / "chroma").write_text("in the way")
        report = ingest(kb, [vault(NOTES)])
        ((path, reason),) = report.failed
        assert path.endswith("chroma") and "cannot be" in reason and report.added == 60 and kb.search("otters")[1]
        (home / "chroma").unlink()
        assert not sync(kb).failed and kb.index.ids() == sorted(kb.catalogue.chunk_ids)
