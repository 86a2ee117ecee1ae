"""Notes that are huge, nested, damaged or made to hurt are read in seconds, or refused by name."""

from __future__ import annotations

import json
import time

import pytest

from ingest.chunking import chunk
from ingest.links import Name, Names, resolve
from ingest.readers.formats import read_file
from ingest.readers.markdown import ParsedNote, read_markdown
from kb.markdown.sentences import sentences
from kb.notes import PasskbError
from tests.conftest import ROOT

MB = 1_000_000
SECONDS = 12  # of one processor; each takes 1 to 4 on a laptop's


def read(text: str | bytes) -> ParsedNote:
    data = text if isinstance(text, bytes) else text.encode()
    return read_markdown(data, path="a/b.md", note_id="id", source="s")


def filled(piece: str, size: int = MB) -> str:
    return (piece * (size // len(piece) + 1))[:size]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(filled("It rises with k. ", 5 * MB), id="one line of 5 MB"),
        pytest.param("|a|b|\n|-|-|\n" + filled("| it rises | [[A]] #tag |\n", 5 * MB), id="one table of 5 MB"),
        pytest.param("".join(f"[[Note {i}]] says so.\n" for i in range(100_000)), id="100,000 links"),
        pytest.param("\n".join("> " * i + "a" for i in range(1200)), id="quotes in quotes"),
        pytest.param("\n".join("  " * i + "- a" for i in range(1200)) + "\nb" * 200_000, id="lists in lists"),
        pytest.param("\n".join("    " * i + f"- a\n{'    ' * i}  id:: 1" for i in range(500)), id="an outline of Logseq"),
        *(
            pytest.param(mark * (MB // 2) + "]]))" * (MB // 8), id=f"nothing but {mark}")
            for mark in ("[", "[[", "((", "![", ">")
        ),
        *(pytest.param(filled(line), id=line) for line in ("x %% \n\n", "> [!note]- T\n", "supports:: [[A]] because b; ")),
        pytest.param("".join(f"#tag{i} " for i in range(MB // 10)), id="many tags"),
    ],
)
def test_a_huge_note_takes_seconds(text: str) -> None:
    begun = time.process_time()
    got = read(text)
    assert got.note.text == text
    chunk(got.note)
    sentences(text)
    assert time.process_time() - begun < SECONDS


LEVELS = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
MERGES = [f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, 16)]
WIDE = ", ".join(f"k{i}: 1" for i in range(1000))


@pytest.mark.parametrize(
    ("front", "warned"),
    [
        ("a0: &a0 [x]\n" + "\n".join(LEVELS), "aliases"),
        (f"a0: &a0 {{{WIDE}}}\n" + "\n".join(MERGES), "aliases"),
        ("a: &a [*a, *a]", "self-referential"),
        ("a: " + "[" * 20_000 + "]" * 20_000, "nested"),
        ("a: " + "[" * 900 + "]" * 900, "too large"),
        ("a: 1" + ":59" * 9000, "number is too long"),
        ("a: " + "9" * 9000, ""),
        ("title: A\ntitle: B", "repeats 'title'"),
        ("tags:\n\t- a", "not valid YAML"),
        ("a: !!python/object/apply:os.system [id]", "not valid YAML"),
        ("".join(f"key{i}: value\n" for i in range(20_000)), "256 kB"),
        ("when: 2024-05-01T10:00:00Z\nat: 10:30\nday: 2024-05-01", ""),
    ],
)
def test_front_matter_that_is_made_to_hurt_is_left_out_with_a_warning(front: str, warned: str) -> None:
    begun = time.process_time()
    got = read(f"---\n{front}\n---\nBody of [[A]].")
    assert time.process_time() - begun < 5
    assert (got.note.text, [link.target for link in got.links]) == ("Body of [[A]].", ["A"])
    assert warned in " ".join(got.warnings) and bool(warned) == bool(got.warnings)
    assert len(json.dumps(got.note.properties)) < MB


@pytest.mark.parametrize("suffix", [".md", ".markdown", ".txt"])
@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b"\n", b" \r\n\t\r\n"])
def test_an_empty_file_is_an_empty_note(data: bytes, suffix: str) -> None:
    got = read_file(data, path=f"a/Empty{suffix}", note_id="id", source="s", markdown_path=ROOT).parsed
    assert (got.note.title, got.note.gist, got.links, got.warnings) == ("Empty", "", (), ())
    assert not got.note.text.strip() and chunk(got.note) == () == sentences(got.note.text)


@pytest.mark.parametrize("data", [b"# A\0\0\0B", bytes(range(256)), "é".encode("utf-32"), "abc".encode("utf-16-le")])
def test_what_is_not_text_is_refused(data: bytes) -> None:
    with pytest.raises(PasskbError, match=r"a/b\.md: not a text file; save it as Markdown"):
        read(data)


@pytest.mark.parametrize(
    ("data", "text", "warned"),
    [
        ("\ufeff\ufeff---\r\ntitle: T\r\n---\r\nOne.\r\nTwo.\rThree.\n".encode(), "One.\nTwo.\nThree.\n", ""),
        ("\ufeff---\ntitle: T\n---\né".encode("utf-16-be"), "é", ""),
        ("---\ntitle: T\n---\nGröße, naïve".encode("latin-1"), "Größe, naïve", "Windows-1252"),
        ("---\ntitle: T\n---\n“é” — …".encode("cp1252"), "“é” — …", "Windows-1252"),
        ("---\ntitle: T\n---\nGröße, äöü ".encode() + b"\xff.", "Größe, äöü \ufffd.", "valid UTF-8"),
    ],
)
def test_encodings_and_line_ends(data: bytes, text: str, warned: str) -> None:
    got = read(data)
    assert (got.note.title, got.note.text) == ("T", text)
    assert warned in " ".join(got.warnings) and bool(warned) == bool(got.warnings)


def test_many_links_to_many_notes_are_resolved_in_seconds() -> None:
    names = Names(Name(f"n{i}/{i % 100}", "s", f"n{i}/{i % 100}.md", f"T{i}", (f"a{i % 7}",)) for i in range(5000))
    links = read("".join(f"[[{i % 100}]] [[T{i}]] [[n{i}/{i % 100}]] [[Gone {i}]]\n" for i in range(2000))).links
    begun = time.process_time()
    got = resolve(names, "n1/1", links)
    assert time.process_time() - begun < SECONDS
    assert len(got.dangling) == 2000
