"""Pages of web addresses as a source: kept as they came, read from there, replaced only by what can be read."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ingest.fetch import fetch
from ingest.fetched_pages import FetchedPage, is_address
from ingest.pipeline import ingest, rebuild, sync
from ingest.report import IngestReport
from ingest.sources import Registry
from kb.embedding import HashedWords
from kb.knowledge_base import KnowledgeBase
from kb.notes import Note, PasskbError
from service.cli.main import main
from service.config import read_config

if TYPE_CHECKING:
    from tests.conftest import Vault
    from tests.ingest.conftest import Site

HTML = "<html><head><title>On otters</title></head><body><h1>On otters</h1><p>Otters keep a stone.</p>{}</body></html>"
near = functools.partial(fetch, allow_private=True)


def counts(report: IngestReport) -> dict[str, int]:
    names = ("added", "updated", "moved", "unchanged", "deleted")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def the_note(kb: KnowledgeBase) -> Note:
    (row,) = [row for row in kb.store.titles() if not row[0].startswith("stub/")]
    note = kb.store.note(row[0])
    assert note is not None
    return note


def kept(kb: KnowledgeBase) -> list[Path]:
    return sorted((kb.home / "pages").iterdir())


def pdf() -> bytes:
    """One page with a line of text."""
    drawn = b"BT /F1 24 Tf 72 700 Td (The sea otter keeps a stone) Tj ET"
    parts = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(drawn), drawn),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    return b"%PDF-1.4\n" + b"".join(b"%d 0 obj%s\nendobj\n" % pair for pair in enumerate(parts, 1)) + b"trailer<</Root 1 0 R>>"


def test_a_page_is_read_kept_and_found_and_sync_needs_no_network(kb: KnowledgeBase, site: Site) -> None:
    asked = site.put("/on/otters.html?x=1", HTML.format("<a href='more'>More</a>"), "text/html; charset=utf-8")
    report = ingest(kb, [asked + "#part"], fetch=near)
    assert counts(report) == {"added": 1} and not report.failed
    assert kb.search("otters stone")[1][0].title == "On otters"
    (file,) = kept(kb)
    assert file.name.startswith("127-0-0-1-on-otters-") and file.suffix == ".html"
    assert file.read_text() == HTML.format("<a href='more'>More</a>")
    note = the_note(kb)
    assert note.properties["original"] == asked and f"[More]({site.root}/on/more)" in note.text
    assert f"original: '{asked}'" in Path(note.path).read_text()
    entry = json.loads((kb.home / "pages.json").read_text())[file.name]
    assert entry["asked"] == entry["address"] == asked and entry["type"] == "text/html" and entry["charset"] == "utf-8"
    site.pages.clear()
    assert counts(sync(kb)) == {"unchanged": 1} and len(site.requests) == 1
    assert next(source.name for source in Registry(kb.home).all()) == "pages"


def test_a_page_read_again_is_updated_when_it_changed_and_stays_when_it_can_not_be_had(kb: KnowledgeBase, site: Site) -> None:
    asked = site.put("/a", HTML.format(""))
    ingest(kb, [asked], fetch=near)
    assert counts(ingest(kb, [asked], fetch=near)) == {"unchanged": 1}
    site.put("/a", HTML.format("<p>And a favourite rock.</p>"))
    assert counts(ingest(kb, [asked], fetch=near)) == {"updated": 1}
    assert "favourite rock" in the_note(kb).text
    for bad in (("gone", "text/html", 410), (" ", "text/html", 200), ("<html><body></body></html>", "text/html", 200)):
        site.put("/a", *bad)
        report = ingest(kb, [asked], fetch=near)
        assert [path for path, _ in report.failed] == [asked] and not counts(report)
        assert "favourite rock" in the_note(kb).text and counts(sync(kb)) == {"unchanged": 1}
    site.put("/a", "# Otters\n\nNow as text.", "text/markdown")
    assert counts(ingest(kb, [asked], fetch=near)) == {"added": 1, "deleted": 1}
    assert [file.suffix for file in kept(kb)] == [".md"] and "Now as text" in the_note(kb).text


def test_one_bad_address_stops_neither_the_others_nor_files(kb: KnowledgeBase, site: Site, vault: Vault) -> None:
    good, gone = site.put("/good", HTML.format("")), site.root + "/gone"

    def faulty(address: str) -> FetchedPage:
        if address.endswith("fault"):
            raise RuntimeError("oops")
        return near(address)

    folder = str(vault({"a.md": "# A\n\nText."}))
    paths = [gone, folder, "ftp://x/y", "http://[", good, "http://u:secret@h/x", site.root + "/fault"]
    report = ingest(kb, paths, fetch=faulty)
    reasons = dict(report.failed)
    assert counts(report) == {"added": 2} and reasons.keys() == {*paths} - {folder, good, paths[5]} | {"http://h/x"}
    assert "does not exist" in reasons[gone] and "(HTTP 404)" in reasons[gone]
    assert "use http or https" in reasons["ftp://x/y"] and "check its spelling" in reasons["http://["]
    assert "user name or password" in reasons["http://h/x"] and "secret" not in str(report.to_json())
    assert "report this bug" in reasons[site.root + "/fault"]


def test_a_rebuild_makes_the_same_note_of_a_kept_page(home: Path, site: Site) -> None:
    class Hashed(KnowledgeBase):
        def __init__(self, home: Path) -> None:
            super().__init__(home, HashedWords())

    with Hashed(home) as kb:
        ingest(kb, [site.put("/a", HTML.format(""))], fetch=near)
        before = the_note(kb)
    assert rebuild(home, Hashed).added == 1
    with Hashed(home) as kb:
        assert the_note(kb) == before and not kb.store.outbox()


def test_a_home_inside_a_vault_keeps_its_pages_apart(tmp_path: Path, vault: Vault, site: Site) -> None:
    with KnowledgeBase(vault({"a.md": "# A\n\nText."}) / ".passkb", HashedWords()) as kb:
        ingest(kb, [tmp_path / "vault"])
        assert counts(ingest(kb, [site.put("/a", HTML.format(""))], fetch=near)) == {"added": 1}
        assert counts(sync(kb)) == {"unchanged": 2}


@pytest.mark.parametrize(
    ("path", "type", "body", "suffix", "title", "words"),
    [
        ("/x.pdf", "application/pdf", None, ".pdf", "", "sea otter"),
        ("/x", "application/octet-stream", None, ".pdf", "", "sea otter"),
        ("/plain/", "text/plain", "Just words on otters.", ".txt", "{host}/plain", "otters"),
        ("/n.md?raw=1", "text/plain", "# Named\n\nText.", ".md", "Named", "Text"),
        ("/n", "text/markdown; charset=utf-8", "---\noriginal: mine\n---\nText.", ".md", "{host}/n", "Text"),
        ("/latin", "text/html; charset=iso-8859-1", "<p>Café otter</p>".encode("latin-1"), ".html", "{host}/latin", "Café"),
        ("/sjis", "text/html; charset=Shift_JIS", "<p>カワウソ</p>".encode("shift_jis"), ".html", "{host}/sjis", "カワウソ"),
        ("/sjis.txt", "text/plain; charset=shift_jis", "カワウソの石".encode("shift_jis"), ".txt", "", "カワウソ"),
        ("/latin.txt", "text/plain; charset=latin1", "“Café”".encode("cp1252"), ".txt", "", "“Café”"),
        ("/bom", "text/plain; charset=latin1", "Café".encode("utf-16"), ".txt", "", "Café"),
        ("/odd", "text/html; charset=no-such", "<p>Otters</p>", ".html", "{host}/odd", "Otters"),
        ("/none", "", "<!-- x --><!DOCTYPE html><html><p>Otters</p></html>", ".html", "{host}/none", "Otters"),
    ],
)
def test_kinds_and_encodings(
    kb: KnowledgeBase, site: Site, path: str, type: str, body: str | bytes | None, suffix: str, title: str, words: str
) -> None:
    asked = site.put(path, pdf() if body is None else body, type)
    report = ingest(kb, [asked], fetch=near)
    assert not report.failed and [file.suffix for file in kept(kb)] == [suffix]
    note = the_note(kb)
    assert words in note.text and note.properties["original"] == asked
    if title:
        assert note.title == title.format(host=f"127.0.0.1:{site.port}")


def test_redirects_are_followed_to_where_the_page_is(kb: KnowledgeBase, site: Site) -> None:
    end = site.put("/end", HTML.format(""))
    site.put("/2", "", status=301, Location="/end")
    asked = site.put("/1", "", status=307, Location=site.root + "/2#there")
    report = ingest(kb, [asked], fetch=near)
    assert not report.failed and the_note(kb).properties["original"] == end
    assert kept(kb)[0].name.startswith("127-0-0-1-1-")


def test_what_counts_as_an_address() -> None:
    assert all(is_address(text) for text in ("http://a", "HTTPS://a/b", "ftp://x"))
    paths: tuple[str | Path, ...] = ("http.md", "/a/http://b", Path("http://a"), "C:\\notes", "notes")
    assert not any(is_address(path) for path in paths)


@pytest.mark.parametrize(("setting", "allowed"), [("true", True), ("1", True), ("No", False), ("0", False)])
def test_the_command_line_asks_the_setting(
    site: Site, home: Path, setting: str, allowed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PASSKB_ALLOW_PRIVATE_ADDRESSES", setting)
    status = main(["ingest", "--json", site.put("/", HTML.format("")), *([site.root + "/gone"] if allowed else [])])
    captured = capsys.readouterr()
    assert status == (3 if allowed else 1) and json.loads(captured.out)["added"] == int(allowed)
    assert ("HTTP 404" if allowed else "of a private network") in captured.err


def test_the_setting_is_true_or_false(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def written(text: str) -> bool:
        home.mkdir(exist_ok=True)
        (home / "config.toml").write_text(text)
        return read_config(home).allow_private_addresses

    assert not written("") and written("allow_private_addresses = true")
    wrong: Mapping[str, str] = {"allow_private_addresses = 1": "", "allow_private_addresses = 'yes'": "", "": "maybe"}
    for text, variable in wrong.items():
        monkeypatch.setenv("PASSKB_ALLOW_PRIVATE_ADDRESSES", variable)
        with pytest.raises(PasskbError, match="allow_private_addresses' must be true or false"):
            written(text)


def test_a_damaged_list_of_pages_is_named(kb: KnowledgeBase, site: Site) -> None:
    asked = site.put("/", HTML.format(""))
    ingest(kb, [asked], fetch=near)
    (kb.home / "pages.json").write_text('{"x": 7}')
    site.put("/", HTML.format("New."))
    report = ingest(kb, [asked], fetch=near)
    assert "pages.json cannot be read" in report.failed[0][1] and "On otters" in the_note(kb).text
    assert counts(sync(kb)) == {"unchanged": 1}
