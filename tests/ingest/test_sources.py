"""Sources: what is registered, what is found in it, and the ids it gets; odd file systems included."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ingest.sources import Registry, Source, note_ids, scan
from kb.notes import PasskbError

if TYPE_CHECKING:
    from tests.conftest import Vault


def relative(source: Source) -> list[str]:
    return [file.relative for file in scan(source).files]


def test_folders_of_one_name_get_names_of_their_own_and_keep_them(home: Path, vault: Vault) -> None:
    registry = Registry(home)
    one, two = vault({"a.md": "x"}, "here/My Notes"), vault({"a.md": "x"}, "there/my-notes")
    assert [registry.add(one).name, registry.add(two).name] == ["my-notes", "my-notes-2"]
    assert registry.add(one).name == "my-notes" and registry.add(two / "a.md").name == "my-notes-2"
    assert [source.path for source in Registry(home).all()] == [one, two]


def test_no_source_takes_the_name_that_stubs_live_under(home: Path, vault: Vault) -> None:
    assert Registry(home).add(vault({"a.md": "x"}, "stub")).name != "stub"


def test_a_damaged_registry_says_which_file_to_mend(home: Path) -> None:
    home.mkdir()
    for damage in ("{", '[{"name": "x"}]', "7", "\x00"):
        (home / "sources.json").write_text(damage)
        with pytest.raises(PasskbError, match=r"sources\.json cannot be read .* correct it"):
            Registry(home).all()


def test_only_readable_visible_regular_files_are_found(vault: Vault, tmp_path: Path) -> None:
    folder = vault(
        {"b.MD": "x", "a.txt": "x", "sub/c.markdown": "x", ".hidden.md": "x", ".obsidian/d.md": "x", "e.png": "x",
         "p.pdf": "x", "folder.md/inside.md": "x"}
    )  # fmt: skip
    (tmp_path / "outside.md").write_text("secret")
    os.symlink(tmp_path / "outside.md", folder / "leads-outside.md")
    os.symlink(folder / "b.MD", folder / "within.md")
    os.symlink("loop.md", folder / "loop.md")
    os.symlink("gone.md", folder / "dangling.md")
    os.mkfifo(folder / "pipe.md")
    with socket.socket(socket.AF_UNIX) as plug:
        plug.bind(str(folder / "plug.md"))
    listing = scan(Source("vault", folder))
    assert [file.relative for file in listing.files] == [
        "a.txt",
        "b.MD",
        "p.pdf",
        "within.md",
        "folder.md/inside.md",
        "sub/c.markdown",
    ]
    reasons = {Path(path).name: reason for path, reason in listing.skipped}
    assert reasons.keys() == {"leads-outside.md", "loop.md", "dangling.md", "pipe.md", "plug.md"}
    assert all(reasons.values())


def test_a_name_that_is_not_unicode_is_left_out_with_its_reason(vault: Vault) -> None:
    folder = vault({"good.md": "x"})
    (Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff.md"))).write_text("x")
    listing = scan(Source("vault", folder))
    assert [file.relative for file in listing.files] == ["good.md"]
    ((path, reason),) = listing.skipped
    assert path.encode() and "rename" in reason


def test_a_single_file_is_a_source_relative_to_its_folder(vault: Vault) -> None:
    folder = vault({"a.md": "x", "b.md": "x", "c.odt": "x"})
    assert relative(Source("vault", folder / "a.md")) == ["a.md"]
    assert "unsupported format" in scan(Source("vault", folder / "c.odt")).skipped[0][1]


def test_a_source_that_is_not_there_is_an_error_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(PasskbError, match="gone is missing, and its notes stay indexed"):
        scan(Source("v", tmp_path / "gone"))


def test_like_named_files_are_told_apart_and_keep_their_ids(vault: Vault) -> None:
    source = Source("v", vault({"sub/A b.md": "x", "Ünï.md": "x"}))
    ids = note_ids(source, scan(source).files, {})
    assert list(ids.values()) == ["v/ünï", "v/sub/a-b"]
    vault({"sub/A B.md": "x", "sub/a-b.txt": "x"})
    after = note_ids(source, scan(source).files, ids)
    assert ids.items() <= after.items() and len(set(after.values())) == 4
    assert all(note_id.startswith(("v/sub/a-b", "v/ünï")) for note_id in after.values())


def test_a_folder_that_can_not_be_opened_is_named(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    root = vault({"open.md": "Open.", "shut/in.md": "Shut."})
    listed = os.scandir

    def scandir(path: str) -> Any:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    listing = scan(Source("v", root))
    assert [file.relative for file in listing.files] == ["open.md"]
    assert listing.inaccessible[0][0].endswith("shut") and "permissions" in listing.inaccessible[0][1]
