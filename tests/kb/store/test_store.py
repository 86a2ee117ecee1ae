"""The store: what is put comes back, what is replaced or deleted leaves nothing behind, threads do not disturb each other."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.chunking import chunk
from kb.notes import Chunk, Claim, Link, LinkType, Note, NoteKind, PasskbError, WrittenLink, page_number
from kb.store.queries import Store, Unresolved, passage, text_hash
from kb.store.schema import VERSION

TEXT = "# Sampling\n\nThe tuned model samples efficiently.\n\n# Coverage\n\nThe base model covers more. Café \U0001f642.\n"
NOTE = Note(
    "v/one",
    "One",
    NoteKind.PAPER,
    TEXT,
    "/v/One.md",
    "v",
    gist="On sampling",
    aliases=("First", 'a "quoted" one'),
    tags=("rlvr",),
    claims=(Claim("c", "It covers more.", "premise", "settles", {"problems": {"set": "countdown"}}),),
    properties={"year": 2025, "nested": {"a": [1, None]}},
)


@pytest.fixture
def store(home: Path) -> Store:
    return Store(home / "kb.sqlite")


def put(store: Store, note: Note, *links: Link) -> None:
    chunks = chunk(note)
    hashes = [text_hash(passage(note, part)) for part in chunks]
    if hashes:
        store.add_vectors("m", hashes, np.eye(len(hashes), 64, dtype=np.float32))
    with store.writing() as change:
        change.put_note(note, chunks, [WrittenLink("Two", LinkType.SUPPORTS, "because", start=0, end=3)])
        change.set_links(links, [Unresolved(note.id, "Nowhere")], [note.id])
        change.drop_unused_vectors()


def rows(store: Store, table: str) -> int:
    with store.database.connection() as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_a_note_comes_back_as_it_was_put(store: Store) -> None:
    put(store, NOTE)
    assert store.note("v/one") == NOTE
    assert store.ids_by_name("first") == store.ids_by_name('a "quoted" one') == store.ids_by_name("ONE") == ["v/one"]
    assert store.written_links()["v/one"][0].why == "because"
    with store.writing() as change:
        change.put_note(Note("v/none", "No text"))
    assert store.notes(["v/none", "v/one", "v/unknown"]).keys() == {"v/one", "v/none"}


def test_offsets_of_chunks_point_at_the_text_they_give(store: Store) -> None:
    put(store, NOTE)
    results = store.chunks([number for number, _ in store.lexical("covers samples", 10)])
    assert results
    for part, title, text in results.values():
        assert title == "One" and text == TEXT[part.start : part.end]
    assert any("\U0001f642" in text for _, _, text in results.values())


def test_replacing_and_deleting_leave_nothing_behind(store: Store) -> None:
    put(store, NOTE, Link("v/one", "v/two", LinkType.SUPPORTS))
    assert store.lexical("efficiently", 5)
    put(store, Note("v/one", "One", text="Wholly different words."))
    assert not store.lexical("efficiently", 5) and store.lexical("different", 5)
    assert store.claims() == [] and store.links() == []
    assert rows(store, "chunks") == rows(store, "words") == rows(store, "vectors") == 1
    with store.writing() as change:
        change.delete_note("v/one")
        change.set_links([], [], ["v/one"])
        change.drop_unused_vectors()
    for table in ("notes", "claims", "written", "links", "unresolved", "chunks", "words", "vectors"):
        assert rows(store, table) == 0, table


def test_words_are_found_by_their_stem_and_stop_words_are_left_out(store: Store) -> None:
    put(store, NOTE)
    put(store, Note("v/two", "Two", text="This is what it is about, and that is that."))
    for query in ("sampled", "SAMPLING", "what is the sampling about", "cafe"):
        results = store.chunks([number for number, _ in store.lexical(query, 10)])
        assert {part.note_id for part, _, _ in results.values()} == {"v/one"}, query
    assert store.document_frequency("sample") == store.document_frequency("samples") >= 1


@pytest.mark.parametrize(
    "odd", ["", "the and of", '"', "NEAR(", 'NEAR("a" b, 2)', "*", "-x", "a OR", "title:x", "^a", "\0", "\ud800"]
)
def test_no_query_is_a_syntax_error(store: Store, odd: str) -> None:
    put(store, NOTE)
    assert len(store.lexical(odd, 5)) <= 2
    assert store.lexical(f"{odd} coverage", 5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text())
def test_no_text_at_all_is_a_syntax_error(store: Store, query: str) -> None:
    put(store, Note("v/one", "One", text=query))
    assert len(store.lexical(query, 5)) <= 1


def test_a_transaction_is_kept_whole_or_not_at_all(store: Store) -> None:
    put(store, NOTE)
    before = store.generation
    with pytest.raises(RuntimeError), store.writing() as change:
        change.delete_note("v/one")
        raise RuntimeError("cut short")
    assert store.note("v/one") == NOTE and store.generation == before


def test_a_home_opens_for_reading_while_another_process_writes(store: Store) -> None:
    put(store, NOTE)
    with store.writing() as change:
        change.delete_note("v/one")
        other = Store(store.database.path)
        assert other.note("v/one") == NOTE
    assert other.note("v/one") is None


def test_what_is_read_together_is_of_one_moment(store: Store) -> None:
    put(store, NOTE)
    other = Store(store.database.path)
    with store.reading():
        before = store.chunk_rows(), store.generation
        put(other, Note("v/two", "Two", text="More."))
        assert (store.chunk_rows(), store.generation) == before
    assert len(store.chunk_rows()) > len(before[0])


def test_readers_in_threads_see_every_state_whole_while_one_writes(store: Store) -> None:
    """Each generation's ten notes all say the same word, so a reader that sees two words has seen half a change."""
    done = threading.Event()
    torn: list[set[str]] = []
    generations: set[str] = set()

    def write(word: str) -> None:
        with store.writing() as change:
            for i in range(10):
                note = Note(f"v/{i}", str(i), text=word)
                change.put_note(note, chunk(note))

    def read() -> None:
        while not done.is_set():
            texts = {note.text for note in store.notes(f"v/{i}" for i in range(10)).values()}
            generations.update(texts)
            if len(texts) != 1 or store.lexical("missing", 3):
                torn.append(texts)

    before = store.generation
    write("word0")
    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(1, 40):
        write(f"word{i}")
    done.set()
    for thread in threads:
        thread.join()
    assert not torn and generations
    assert store.generation == before + 40


def test_a_home_that_can_not_be_used_says_which_and_why(tmp_path: Path) -> None:
    newer = tmp_path / "newer.sqlite"
    with sqlite3.connect(newer) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(PasskbError, match=r"newer\.sqlite was written by a newer passkb .* upgrade"):
        Store(newer)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE somebody_elses (x)")
    with pytest.raises(PasskbError, match=r"other\.sqlite is not a passkb database"):
        Store(other)
    noise = tmp_path / "noise.sqlite"
    noise.write_bytes(b"not a database at all " * 100)
    with pytest.raises(PasskbError, match=r"noise\.sqlite cannot be used .*`passkb rebuild`"):
        Store(noise)
    with pytest.raises(PasskbError, match=r"kb\.sqlite cannot be used"):
        Store(noise / "below" / "kb.sqlite")
    assert noise.read_bytes().startswith(b"not a database")


def test_an_offset_of_a_pdf_names_its_page() -> None:
    note = Note("v/a", "A", text="x" * 30, properties={"pages": [0, 10, 10, 20]})
    assert [page_number(note, offset) for offset in (0, 9, 10, 19, 20, 29)] == [1, 1, 3, 3, 4, 4]
    assert page_number(Note("v/b", "B"), 3) is None
    assert page_number(Note("v/c", "C", properties={"pages": "ten"}), 3) is None


def test_a_passage_names_its_subject_once() -> None:
    note = Note("v/a", "Otters", text="# Otters\n\nThey keep stones.\n\n## Stones\n\nFlat ones.")
    assert passage(note, Chunk("v/a@0", "v/a", 0, 27, "Otters")).startswith("Otters\n# Otters")
    assert passage(note, Chunk("v/a@1", "v/a", 29, 50, "Otters > Stones")).startswith("Otters > Stones\n## Stones")
