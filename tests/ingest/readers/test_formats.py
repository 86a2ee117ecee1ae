"""Files of every format through the pipeline: pages and PDFs become notes in the app's folder, saved pages become a graph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ingest.pipeline import ingest, rebuild, sync
from kb.knowledge_base import KnowledgeBase
from kb.notes import LinkType
from tests.ingest.readers.test_pdf import lines, made
from tests.ingest.states import fresh_state, whole_state

if TYPE_CHECKING:
    from tests.conftest import Vault

SENTENCE = "<p>Otters keep a favourite stone, and paragraph {} says so at some length for the reader.</p>"
ARTICLE = "<h1>On otters</h1>" + "".join(SENTENCE.format(i) for i in range(8))
HTML = f"<html><head><title>On otters</title></head><body><nav>Home About</nav><article>{ARTICLE}</article></body></html>"
PAGE = """Do cats purr on purpose?
Explores whether purring is a signal or a by-product of breathing.
Purring varies with need, which speaks for a signal.
Related concepts in this collection 1
-
Do cats plan?
Whether cats act with a later moment in mind.
contradicts: planning would make purring needless
Inquiring lines that use this note as a source 2
This note is a source for these synthesized inquiries.
- Why do cats purr when hurt?
- How do cats talk to people?
Original note title
purring is a signal that varies with need
"""


def test_a_page_becomes_a_note_in_the_apps_folder(kb: KnowledgeBase, vault: Vault) -> None:
    root = vault({"otters.html": HTML, "plain.md": "See [[On otters]]."})
    report = ingest(kb, [root])
    assert (report.added, report.failed, report.dangling) == (2, [], [])
    note = kb.store.note("vault/otters")
    assert note is not None and note.title == "On otters"
    assert note.properties["original"] == str(root / "otters.html")
    stored = Path(note.path)
    assert stored.is_relative_to(kb.home.resolve() / "notes" / "imported")
    assert stored.read_text(encoding="utf-8").endswith(note.text)
    assert "Home About" not in note.text
    assert [link.target for link in kb.store.links("vault/plain")] == ["vault/otters"]


def test_what_was_imported_is_not_read_a_second_time_and_goes_with_its_original(kb: KnowledgeBase, vault: Vault) -> None:
    root = vault({"otters.html": HTML})
    ingest(kb, [root])
    stored = Path(kb.store.note("vault/otters").path)  # type: ignore[union-attr]
    again = sync(kb)
    assert (again.added, again.unchanged, again.notes) == (0, 1, 1)
    (root / "otters.html").unlink()
    assert sync(kb).deleted == 1
    assert not stored.exists()


@pytest.mark.parametrize("name", ["zip.pdf", "empty.pdf", "empty.html"])
def test_what_is_not_what_its_name_says_is_named(kb: KnowledgeBase, vault: Vault, name: str) -> None:
    root = vault({name: b"PK\x03\x04 not a document" if name.startswith("zip") else b"", "good.md": "Good."})
    report = ingest(kb, [root])
    assert report.added == 1
    assert [Path(path).name for path, _ in report.failed] == [name]


def test_a_saved_page_is_read_by_its_structure(kb: KnowledgeBase, vault: Vault) -> None:
    ingest(kb, [vault({"cats.txt": PAGE})])
    view = kb.view("vault/cats")
    assert view.note.title == "Do cats purr on purpose?"
    assert view.note.aliases == ("purring is a signal that varies with need",)
    [link] = [link for link in view.links if link.type is LinkType.CONTRADICTS]
    assert link.target == "stub/do-cats-plan" and "needless" in link.why
    assert {e.source for e in view.backlinks if e.type is LinkType.DRAWS_ON} == {
        "stub/why-do-cats-purr-when-hurt",
        "stub/how-do-cats-talk-to-people",
    }
    assert len(view.inquiries) == 2


def test_a_stub_that_a_page_names_is_replaced_and_keeps_its_link(kb: KnowledgeBase, vault: Vault) -> None:
    root = vault({"cats.txt": PAGE})
    ingest(kb, [root])
    (root / "hurt.md").write_text("---\ntitle: Why do cats purr when hurt?\nkind: inquiry\n---\nTo heal.", encoding="utf-8")
    sync(kb)
    assert kb.view("vault/cats").inquiries == ("stub/how-do-cats-talk-to-people", "vault/hurt")
    assert kb.store.note("stub/why-do-cats-purr-when-hurt") is None
    (root / "cats.txt").unlink()
    sync(kb)
    assert [title for _, title, _, _ in kb.store.titles()] == ["Why do cats purr when hurt?"]


def test_pages_and_pdfs_are_linked_by_the_names_of_their_files(kb: KnowledgeBase, vault: Vault, tmp_path: Path) -> None:
    """Not by the place in the app's folder where their Markdown stands; also once they have moved."""
    ways = (
        "[[Fox report.pdf]]", "![[Fox report.pdf#page=2]]", "[p](papers/Fox%20report.pdf)", "[[papers/Fox report]]",
        "[[Fox report|r]]", "[[On foxes]]",
    )  # fmt: skip
    files: dict[str, str | bytes] = {
        "a.md": "\n\n".join(ways) + "\n\nsupports:: [h](papers/web/otters.html) because they swim\n",
        "papers/Fox report.pdf": made([lines("Foxes hide in dens."), lines("They run.")], title="On foxes"),
        "papers/web/otters.html": HTML.replace("</article>", '<p>See <a href="../Fox report.pdf">foxes</a>.</p></article>'),
    }
    root = vault(files)
    report = ingest(kb, [root])
    assert (report.failed, report.dangling, report.ambiguous) == ([], [], [])
    assert [link.target for link in kb.store.links("vault/a")] == ["vault/papers/fox-report"] * 6 + ["vault/papers/web/otters"]
    assert kb.store.links("vault/a")[-1].type is LinkType.SUPPORTS
    assert [link.target for link in kb.store.links("vault/papers/web/otters")] == ["vault/papers/fox-report"]
    (root / "papers/web/otters.html").rename(root / "papers/web/sea otters.htm")
    (root / "a.md").write_text("[[sea otters.htm]] [[otters.html]]", encoding="utf-8")
    sync(kb)
    assert [link.target for link in kb.store.links("vault/a")] == ["vault/papers/web/sea-otters"]
    assert whole_state(kb) == fresh_state(tmp_path / "fresh", root)


def test_what_only_changes_its_ending_is_linked_by_its_new_name(kb: KnowledgeBase, vault: Vault, tmp_path: Path) -> None:
    root = vault({"a.md": "[[otters.html]] [[otters.htm]]", "otters.html": HTML})
    ingest(kb, [root])
    (root / "otters.html").rename(root / "otters.htm")
    sync(kb)
    assert len(kb.store.links("vault/a")) == 1
    assert whole_state(kb) == fresh_state(tmp_path / "fresh", root)


def test_the_markdown_of_a_page_goes_when_a_note_takes_its_id(kb: KnowledgeBase, vault: Vault) -> None:
    root = vault({"otters.html": HTML})
    ingest(kb, [root])
    stored = Path(kb.store.note("vault/otters").path)  # type: ignore[union-attr]
    (root / "otters.html").unlink()
    vault({"otters.md": "Otters, by hand."})
    report = sync(kb)
    assert (report.added, report.deleted) == (1, 1) and kb.store.note("vault/otters").text == "Otters, by hand."  # type: ignore[union-attr]
    assert not stored.exists()


def test_pages_with_the_longest_of_names_are_kept(kb: KnowledgeBase, vault: Vault, tmp_path: Path) -> None:
    """Which grow in ids: by what tells two apart, and letters that have several when case is folded."""
    names = ["x" * 245, "X" * 245, "\u0390" * 124]
    root = vault({f"{name}.html": HTML for name in names})
    report = ingest(kb, [root])
    assert (report.added, report.failed) == (3, [])
    notes = [kb.store.note(record.note_id) for record in kb.store.files()]
    assert len({Path(note.path).read_text(encoding="utf-8") for note in notes if note}) == 3  # each names its original
    assert whole_state(kb) == fresh_state(tmp_path / "fresh", root)
    for name in names:
        (root / f"{name}.html").unlink()
    sync(kb, forget=["vault"])
    assert not any(Path(note.path).exists() for note in notes if note)


def test_what_is_too_large_to_be_held_is_named(kb: KnowledgeBase, vault: Vault) -> None:
    root = vault({"a.md": "Otters.", "log.md": "One line of a log."})
    ingest(kb, [root])
    with open(root / "log.md", "r+b") as log:
        log.truncate(64 * 2**20 + 1)
    report = sync(kb)
    assert report.failed == [(str(root / "log.md"), "larger than 64 MB: split it or add it to .passkbignore")]
    assert kb.store.note("vault/log") is None and report.notes == 1
    vault({".passkbignore": "*.md\n!a.md\n"})
    assert not sync(kb).failed


def test_files_that_change_and_vanish_while_others_are_read(kb: KnowledgeBase, vault: Vault, tmp_path: Path) -> None:
    """What was compared is not what is read in the end: the last state counts, and nothing that was known is lost."""
    root = vault({f"{i:02}.md": f"Otter {i} keeps a stone." for i in range(60)})
    ingest(kb, [root])
    vault({f"{i:02}.md": f"Otter {i} keeps a pebble." for i in range(60)})

    def meanwhile(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("reading", 50):
            (root / "55.md").write_text("Otter 55 keeps an urchin, and is of another size.", encoding="utf-8")
            (root / "57.md").unlink()

    report = sync(kb, progress=meanwhile)
    assert (report.updated, report.deleted, report.notes) == (59, 0, 60)
    assert report.failed == [(str(root / "57.md"), "can no longer be read (No such file or directory): sync again")]
    assert "urchin" in kb.store.note("vault/55").text and "stone" in kb.store.note("vault/57").text  # type: ignore[union-attr]
    report = sync(kb)
    assert (report.updated, report.deleted, report.failed) == (0, 1, [])
    assert whole_state(kb) == fresh_state(tmp_path / "fresh", root)


def test_a_rebuild_reads_pages_again(vault: Vault, home: Path) -> None:
    root = vault({"otters.html": HTML, "cats.txt": PAGE})
    with KnowledgeBase(home) as opened:
        before = ingest(opened, [root])
        links = sorted((e.source, e.target, e.type) for e in opened.store.links())
    after = rebuild(home)
    with KnowledgeBase(home) as opened:
        assert sorted((e.source, e.target, e.type) for e in opened.store.links()) == links
    assert (after.notes, after.stubs) == (before.notes, before.stubs)


def test_a_reader_that_fails_does_not_stop_the_run(kb: KnowledgeBase, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise IndexError("list index out of range")

    monkeypatch.setattr("ingest.readers.html.reader.read_html", broken)
    report = ingest(kb, [vault({"otters.html": HTML, "good.md": "Good."})])
    assert report.added == 1
    [(path, reason)] = report.failed
    assert path.endswith("otters.html") and "bug of passkb" in reason
