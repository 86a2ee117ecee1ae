"""llama-index readers as the way in for other formats: exact offsets, failed files with reasons, read again by sync."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.pipeline import ingest, rebuild, sync
from kb.embedding import HashedWords
from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from service.cli.main import main
from service.status import status

READER = '''
from llama_index.core.readers.base import BaseReader
from llama_index.core.schema import Document

class Records(BaseReader):
    """A document for each record; `%` is an error."""
    def load_data(self, file, extra_info=None):
        text = file.read_text("utf-8")
        if "%" in text:
            raise ValueError("a record is broken")
        return [Document(text=part) for part in text.split("|")]

class Needy:
    def load_data(self, file):
        raise ImportError("docx2txt is required to read Microsoft Word files")
'''
TEXT = "Otters swim in cold rivers.|A second record:\r\nherons fish at dawn.|"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "own_readers.py").write_text(READER, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "field notes.rec").write_text(TEXT, "utf-8", newline="")
    return tmp_path / "home"


@pytest.fixture
def kb(home: Path) -> Iterator[KnowledgeBase]:
    with KnowledgeBase(home, HashedWords()) as opened:
        yield opened


def test_the_texts_of_a_file_are_a_note_with_exact_offsets(kb: KnowledgeBase, home: Path) -> None:
    file = home.parent / "files" / "field notes.rec"
    report = ingest(kb, [file], reader="own_readers:Records")
    assert (report.added, report.failed) == (1, [])
    note = kb.store.note("files/field-notes")
    assert note is not None and note.title == "field notes" and note.properties["original"] == str(file)
    assert note.text == "Otters swim in cold rivers.\n\nA second record:\nherons fish at dawn.\n"
    _, hits = kb.search("herons fish", 1)
    assert hits[0].note_id == note.id and note.text[hits[0].start : hits[0].end] == hits[0].text
    assert status(kb)["sources"][0]["notes"] == 1


def test_sync_and_rebuild_use_the_reader_again(kb: KnowledgeBase, home: Path) -> None:
    file = home.parent / "files" / "field notes.rec"
    ingest(kb, [file], reader="own_readers:Records")
    assert (sync(kb).unchanged, Path(kb.store.notes(["files/field-notes"])["files/field-notes"].path).is_file()) == (1, True)
    file.write_text("Otters sleep on ice.", "utf-8")
    assert sync(kb).updated == 1 and kb.store.notes(["files/field-notes"])["files/field-notes"].text == "Otters sleep on ice.\n"
    file.write_text("100 %", "utf-8")
    reason = "the reader own_readers:Records failed (ValueError: a record is broken)"
    assert sync(kb).failed == [(str(file), reason)] == sync(kb).failed
    file.write_text(TEXT, "utf-8")
    assert sync(kb).added == 1
    kb.close()
    assert rebuild(home, lambda folder: KnowledgeBase(folder, HashedWords())).notes == 1  # type: ignore[arg-type]


def test_a_registered_file_and_one_inside_a_source_can_get_a_reader(kb: KnowledgeBase, home: Path) -> None:
    folder = home.parent / "files"
    (folder / "a.md").write_text("A note.", "utf-8")
    assert ingest(kb, [folder]).added == 1
    assert ingest(kb, [folder / "field notes.rec"], reader="own_readers:Records").added == 1
    entries = json.loads((home / "sources.json").read_text("utf-8"))
    assert [entry.get("reader") for entry in entries] == [None, "own_readers:Records"]
    assert sync(kb).unchanged == 2 and len(kb.store.titles()) == 2


def test_what_a_reader_is_not_for(kb: KnowledgeBase, home: Path) -> None:
    (home.parent / "files" / "a.md").write_text("A note.", "utf-8")
    paths = [home.parent / "files", home.parent / "files" / "a.md"]
    report = ingest(kb, paths, reader="own_readers:Records")
    assert [reason for _, reason in report.failed] == ["a reader is for files in formats that passkb does not read itself"] * 2
    for name in ("no_such_package:Reader", "own_readers:NoSuchClass", "own_readers", ":", "pathlib:"):
        with pytest.raises(PasskbError, match=r"cannot be imported .*use PACKAGE:CLASS, and install the package"):
            ingest(kb, [home.parent / "files" / "field notes.rec"], reader=name)


@pytest.mark.parametrize("suffix", [".docx", ".epub", ".ipynb", ".pptx"])
def test_office_files_name_the_extra_that_reads_them(kb: KnowledgeBase, home: Path, suffix: str) -> None:
    (home.parent / "files" / f"talk{suffix}").write_bytes(b"PK")
    report = ingest(kb, [home.parent / "files"])
    assert report.failed == [(str(home.parent / "files" / f"talk{suffix}"),
        f"{suffix} files need the extra `readers`: install it with `pip install 'passkb[readers]'`")]  # fmt: skip
    assert sync(kb).failed == report.failed  # tried again: it may be installed by now


def test_office_files_are_read_by_the_reader_of_their_format(
    kb: KnowledgeBase, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ingest.readers import llama_index

    monkeypatch.setitem(llama_index.OFFICE, ".docx", "own_readers:Records")
    monkeypatch.setitem(llama_index.OFFICE, ".pptx", "own_readers:Needy")
    for name in ("a.docx", "b.pptx"):
        (home.parent / "files" / name).write_text("Otters swim.", "utf-8")
    report = ingest(kb, [home.parent / "files"])
    assert report.added == 1 and kb.store.notes(["files/a"])["files/a"].text == "Otters swim.\n"
    assert report.failed[0][1].startswith(".pptx files need the extra `readers`")


def test_the_command_reads_with_a_reader(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = home.parent / "files" / "field notes.rec"
    assert main(["--home", str(home), "ingest", "--reader", "own_readers:Records", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["added"] == 1
    assert main(["--home", str(home), "ingest", "--reader", "nowhere:X", str(file), "--json"]) == 1
    assert "use PACKAGE:CLASS" in json.loads(capsys.readouterr().out)["error"]
