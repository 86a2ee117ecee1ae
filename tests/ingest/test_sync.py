"""Sync that can be trusted: after any change of the files, a home knows what a fresh one would, and embeds only new text."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.pipeline import forget, ingest, rebuild, sync
from ingest.report import IngestReport
from ingest.sources import Registry
from kb.embedding import HashedWords
from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from service.answering.extractive import ask
from tests.ingest.states import WithHashedWords, fresh_state, whole_state

if TYPE_CHECKING:
    from tests.conftest import Vault

NOTES = {
    "Otters.md": "# Otters\n\nOtters keep a favourite stone in a pouch of skin. See [[Stones]] and [[Unwritten]].\n",
    "Stones.md": "---\naliases: [Pebbles]\n---\n# Stones\n\nGranite pebbles are ground round by rivers.\n",
    "sub/Rivers.md": "# Rivers\n\nRivers carry gravel downhill.\n\nsupports:: [[Otters]] because otters swim\n",
    "sub/Birds.md": "# Birds\n\nHerons wait for fish. See [otters](../Otters.md) and [[Pebbles]].\n",
    "Claims.md": "---\nclaims:\n  - {id: c, text: Otters sleep afloat., settles: A watch}\n---\n# Claims\n\nThey sleep.\n",
    "Evidence.md": (
        "---\nkind: evidence\ndate: 2026-11-01\nstatus: supported\n---\n# Evidence\n\nNine of ten slept afloat.\n\n"
        "evidence_for:: [[Claims#c]] because they were watched\n"
    ),
}


def counts(report: IngestReport) -> dict[str, int]:
    names = ("added", "updated", "moved", "deleted", "unchanged")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def cited(kb: KnowledgeBase, question: str) -> str:
    answer = ask(kb, question)
    quotes = [citation.quote for statement in answer.statements for citation in statement.citations]
    return " ".join(quotes) + " ".join(hit.text for hit in kb.search(question, 20)[1])


@pytest.fixture
def folder(kb: KnowledgeBase, vault: Vault) -> Path:
    made = vault(NOTES)
    assert ingest(kb, [made]).added == 6
    return made


def agrees(kb: KnowledgeBase, tmp_path: Path, *folders: Path) -> None:
    assert whole_state(kb) == fresh_state(tmp_path / "fresh", *folders)


def test_an_edit_leaves_no_trace_of_the_old_sentence(kb: KnowledgeBase, folder: Path, tmp_path: Path) -> None:
    question = "What do otters keep in a pouch?"
    assert "favourite stone" in cited(kb, question)
    (folder / "Otters.md").write_text("# Otters\n\nOtters keep a spare urchin in a pouch of skin. See [[Stones]].\n")
    report = sync(kb)
    assert counts(report) == {"updated": 1, "unchanged": 5} and report.embedded == 1 and report.stubs == 0
    assert "spare urchin" in cited(kb, question) and "favourite stone" not in cited(kb, question)
    agrees(kb, tmp_path, folder)


@pytest.mark.parametrize("to", ["Sea otters.md", "deep/er/Otters.md", "otters.md", "OTTERS.markdown"])
def test_a_file_that_is_renamed_or_moved_keeps_its_links(kb: KnowledgeBase, folder: Path, tmp_path: Path, to: str) -> None:
    """Wiki links find it by its title; a link by path breaks for Obsidian too, unless Obsidian itself moved the file."""
    (folder / to).parent.mkdir(parents=True, exist_ok=True)
    (folder / "Otters.md").rename(folder / to)
    report = sync(kb)
    assert counts(report) == {"moved": 1, "unchanged": 5} and report.embedded == 0
    assert "favourite stone" in cited(kb, "What do otters keep in a pouch?")
    (moved,) = (note_id for note_id in kb.store.ids_by_name("Otters") if not note_id.startswith("stub/"))
    assert {link.source for link in kb.store.links(moved, into=True)} >= {"vault/sub/rivers"}
    agrees(kb, tmp_path, folder)


def test_a_folder_that_is_renamed_keeps_everything(kb: KnowledgeBase, folder: Path, tmp_path: Path) -> None:
    (folder / "sub").rename(folder / "Sub")
    assert (counts(report := sync(kb)), report.embedded) == ({"moved": 2, "unchanged": 4}, 0)
    (folder / "Sub").rename(folder / "elsewhere")
    assert (counts(report := sync(kb)), report.embedded) == ({"moved": 2, "unchanged": 4}, 0)
    agrees(kb, tmp_path, folder)


@pytest.mark.parametrize("name", ["Claims.md", "Evidence.md"])
def test_a_claim_keeps_its_evidence_when_either_moves(kb: KnowledgeBase, folder: Path, name: str) -> None:
    (folder / "lab").mkdir()
    (folder / name).rename(folder / "lab" / name)
    sync(kb)
    (claim,) = kb.store.claims()
    evidence = "vault/lab/evidence" if name == "Evidence.md" else "vault/evidence"
    assert claim.status == "supported" and claim.evidence == (evidence,)


def test_deleted_then_written_again(kb: KnowledgeBase, folder: Path, tmp_path: Path) -> None:
    before = whole_state(kb)
    (folder / "Otters.md").unlink()
    assert counts(sync(kb)) == {"deleted": 1, "unchanged": 5}
    assert "favourite stone" not in cited(kb, "What do otters keep in a pouch?")
    agrees(kb, tmp_path, folder)
    (folder / "Otters.md").write_text(NOTES["Otters.md"])
    assert counts(sync(kb)) == {"added": 1, "unchanged": 5}
    assert whole_state(kb) == before


def test_two_files_that_swap_names_swap_their_notes(kb: KnowledgeBase, folder: Path, tmp_path: Path) -> None:
    (folder / "Otters.md").rename(folder / "x")
    (folder / "Stones.md").rename(folder / "Otters.md")
    (folder / "x").rename(folder / "Stones.md")
    report = sync(kb)
    assert counts(report) == {"updated": 2, "unchanged": 4} and report.embedded == 0
    agrees(kb, tmp_path, folder)


def test_a_file_gives_way_to_a_folder_of_its_name_and_back(kb: KnowledgeBase, folder: Path, tmp_path: Path) -> None:
    (folder / "Otters.md").rename(folder / "x")
    (folder / "Otters.md").mkdir()
    (folder / "x").rename(folder / "Otters.md" / "Within.md")
    assert counts(sync(kb)) == {"moved": 1, "unchanged": 5}
    agrees(kb, tmp_path, folder)
    shutil.rmtree(folder / "Otters.md")
    (folder / "Otters.md").write_text(NOTES["Otters.md"])
    assert counts(sync(kb)) == {"moved": 1, "unchanged": 5}
    agrees(kb, tmp_path, folder)


def test_a_touch_changes_nothing_and_a_restored_time_hides_nothing(kb: KnowledgeBase, folder: Path, tmp_path: Path) -> None:
    """Content of the same size under its old time is noticed by the time of its status, which only the system sets."""
    file = folder / "Otters.md"
    times, before, generation = file.stat(), whole_state(kb), kb.store.generation
    file.touch()
    report = sync(kb)
    assert counts(report) == {"unchanged": 6} and report.embedded == 0
    assert whole_state(kb) == before and kb.store.generation == generation
    file.write_text(NOTES["Otters.md"].replace("favourite", "beautiful"))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file.stat().st_size == times.st_size and file.stat().st_mtime_ns == times.st_mtime_ns
    assert counts(sync(kb)) == {"updated": 1, "unchanged": 5}
    agrees(kb, tmp_path, folder)


def test_an_edit_in_the_same_tick_of_the_clock_is_noticed(kb: KnowledgeBase, folder: Path) -> None:
    """Files that were written a moment before they were read are compared by their bytes next time."""
    file = folder / "Stones.md"
    for i in range(20):
        file.write_text(f"# Stones\n\nGranite number {i % 10}.\n")
        sync(kb)
        note = kb.store.note("vault/stones")
        assert note is not None and note.text.endswith(f"number {i % 10}.\n")


def test_vaults_with_the_same_names_within_stay_apart(kb: KnowledgeBase, vault: Vault, tmp_path: Path) -> None:
    one, two = vault(NOTES, "x/vault"), vault({**NOTES, "Otters.md": "# Otters\n\nRiver otters whistle.\n"}, "y/vault")
    assert ingest(kb, [one, two]).added == 12
    (one / "Otters.md").rename(two / "Sea otters.md")
    (two / "sub").rename(one / "sub two")
    report = sync(kb)
    assert counts(report) == {"moved": 3, "unchanged": 9} and report.embedded == 0
    agrees(kb, tmp_path, one, two)
    shutil.rmtree(two)
    report = sync(kb)
    assert counts(report) == {"unchanged": 7} and report.notes == 12 and "is missing" in report.failed[0][1]


def test_a_page_that_only_changes_its_ending_keeps_its_markdown(kb: KnowledgeBase, vault: Vault, tmp_path: Path) -> None:
    page = "<html><head><title>Otters</title></head><body><p>Otters keep stones in a pouch, they say.</p></body></html>"
    folder = vault({"a.html": page})
    ingest(kb, [folder])
    (folder / "a.html").rename(folder / "a.htm")
    assert counts(sync(kb)) == {"moved": 1}
    note = kb.store.note("vault/a")
    assert note is not None and Path(note.path).is_file()
    (folder / "a.htm").unlink()
    sync(kb)
    assert not Path(note.path).exists()


_NAMES = ("a.md", "b.md", "c.txt", "d/e.md", "d/f.html", "g/h/i.htm", "p.md")
_PAGE = "Do otters play?\nAsks why they slide.\nThey do.\n{}\nInquiring lines that use this note as a source 1\n- Do herons?\n"
_WORDS = (
    "Otters keep stones.",
    "Herons wait [[b]].",
    "See [[a]], [[c]], [[f.html]] and [e](d/e.md) or ![i](g/h/i.htm).",
    "supports:: [[f]] because so",
    "<html><title>Herons</title><p>Herons wait for fish, see <a href='../b.md'>b</a>.</p></html>",
    "---\ntitle: Do herons?\naliases: [c, Otters]\nup: '[[i]]'\n---\nSometimes.",
    _PAGE.format("Related concepts in this collection 1\n-\nOtters\nWhat they are.\ncontradicts: no reason"),
    _PAGE.format("Original note title\notters play"),
    "",
)
_STEP = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(_NAMES), st.sampled_from(_WORDS)),
    st.tuples(st.just("delete"), st.sampled_from(_NAMES), st.just("")),
    st.tuples(st.just("move"), st.sampled_from(_NAMES), st.sampled_from(_NAMES)),
    st.tuples(st.just("swap"), st.sampled_from(_NAMES), st.sampled_from(_NAMES)),
    st.tuples(st.just("break"), st.sampled_from(_NAMES), st.just("")),
    st.tuples(st.just("leave out"), st.just(""), st.sampled_from(["d/", "*.htm*", "a.md", ""])),
    st.tuples(st.just("sync"), st.just(""), st.just("")),
)


def _take(folder: Path, step: tuple[str, str, str]) -> None:
    what, one, other = step
    file, second = folder / one, folder / other
    if what == "leave out":
        (folder / ".passkbignore").write_text(other)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    if what == "write":
        file.write_text(other)
    elif what == "break":
        file.write_bytes(b"\0\1\2")
    elif what == "delete":
        file.unlink(missing_ok=True)
    elif what == "move" and file.exists() and one != other:
        second.parent.mkdir(parents=True, exist_ok=True)
        file.replace(second)
    elif what == "swap" and file.exists() and second.exists():
        here, there = file.read_bytes(), second.read_bytes()
        file.write_bytes(there)
        second.write_bytes(here)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_STEP, min_size=3, max_size=14))
def test_any_sequence_of_changes_ends_where_a_fresh_home_begins(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str]]
) -> None:
    root = tmp_path_factory.mktemp("sequence")
    folder = root / "vault"
    for name in _NAMES[:4]:
        _take(folder, ("write", name, f"# {name}\n\nAbout {name}. See [[a]]."))
    _take(folder, ("write", _NAMES[4], _WORDS[4]))
    with KnowledgeBase(root / "home", HashedWords()) as kb:
        ingest(kb, [folder])
        for step in steps:
            if step[0] == "sync":
                sync(kb)
            else:
                _take(folder, step)
        last = sync(kb, forget=["vault"])
        files, fresh = whole_state(kb), fresh_state(root / "fresh", folder)
        assert files == fresh
        assert last.notes == len([note for note in fresh["notes"] if note[2] != "stub"])
        assert (again := sync(kb)).embedded == 0 and set(counts(again)) <= {"unchanged"}
    shutil.rmtree(root)


def snapshot(home: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in home.rglob("*") if path.is_file()]
    return {str(path.relative_to(home)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_a_dry_run_lists_what_would_be_and_touches_nothing(home: Path, vault: Vault) -> None:
    folder = vault(NOTES)
    with WithHashedWords(home) as kb:
        ingest(kb, [folder])
    before = snapshot(home)
    (folder / "Otters.md").rename(folder / "Sea.md")
    (folder / "Stones.md").unlink()
    (folder / "Claims.md").write_text("# Claims\n\nNone.\n")
    (folder / "New.md").write_text("# New\n")
    with WithHashedWords(home) as kb:
        planned = sync(kb, dry_run=True)
    assert snapshot(home) == before
    would = sorted((entry["change"], Path(entry["path"]).name, Path(entry.get("from", "")).name)
                   for entry in planned.to_json()["would"])  # fmt: skip
    assert would == [("added", "New.md", ""), ("deleted", "Stones.md", ""), ("moved", "Sea.md", "Otters.md"),
                     ("updated", "Claims.md", "")]  # fmt: skip
    with WithHashedWords(home) as kb:
        assert counts(sync(kb)) == counts(planned) and "would" not in sync(kb).to_json()


# -- what vanished -------------------------------------------------------------------------------------------------------


def test_an_empty_mount_point_is_asked_about(kb: KnowledgeBase, folder: Path, tmp_path: Path) -> None:
    before = whole_state(kb)
    folder.rename(tmp_path / "unplugged")
    folder.mkdir()
    for dry in (True, False, False):
        report = sync(kb, dry_run=dry)
        (held,) = report.to_json()["held"]
        assert held["source"] == "vault" and held["path"] == str(folder) and held["notes"] == 6
        assert "all 6 notes" in held["reason"] and "--forget vault" in held["reason"] and counts(report) == {}
    with pytest.raises(PasskbError, match="would lose"):
        rebuild(kb.home, WithHashedWords)
    assert whole_state(kb) == before
    folder.rmdir()
    (tmp_path / "unplugged").rename(folder)
    assert counts(sync(kb)) == {"unchanged": 6} and whole_state(kb) == before


def test_a_small_vault_that_leaves_an_empty_folder_is_asked_about(kb: KnowledgeBase, vault: Vault) -> None:
    folder = vault({"a.md": "Otters.", "b.md": "Herons."})
    ingest(kb, [folder])
    for name in "ab":
        (folder / f"{name}.md").unlink()
    report = sync(kb)
    assert report.pending_deletions[0].notes == 2 and counts(report) == {} and report.notes == 2
    (folder / "todo.canvas").touch()  # something is left: it is no place without its disk
    assert counts(sync(kb)) == {"deleted": 2}


def test_what_is_new_beside_what_vanished_is_read(kb: KnowledgeBase, folder: Path, tmp_path: Path) -> None:
    """Also when it would take the id of a note that is kept."""
    shutil.move(folder / "sub", tmp_path / "aside")
    for name in ("Otters", "Stones", "Claims", "Evidence"):
        (folder / f"{name}.md").unlink()
    (folder / "otters.txt").write_text("Other otters.")
    report = sync(kb)
    assert counts(report) == {"added": 1} and report.pending_deletions[0].notes == 6 and report.notes == 7
    with pytest.raises(PasskbError, match="there is no source 'vlt'"):
        sync(kb, forget=["vlt"])
    assert counts(sync(kb, forget=["vault"])) == {"deleted": 6, "unchanged": 1}
    assert not sync(kb).pending_deletions and kb.store.counts()[0] == {"note": 1}


def test_only_what_is_much_is_held_back(kb: KnowledgeBase, vault: Vault, tmp_path: Path) -> None:
    folder = vault({f"{i}.md": f"Note {i} on otters." for i in range(24)})
    ingest(kb, [folder])
    for i in range(12):
        (folder / f"{i}.md").unlink()
    assert counts(sync(kb)) == {"deleted": 12, "unchanged": 12}
    (folder / "deep").mkdir()
    for i in range(12, 24):
        (folder / f"{i}.md").rename(folder / "deep" / f"{i}.md")
    assert counts(sync(kb)) == {"moved": 12}
    (folder / ".passkbignore").write_text("deep/\n")
    assert counts(sync(kb)) == {"deleted": 12}  # they are there, and a rule leaves them out
    agrees(kb, tmp_path, folder)


def test_most_of_many_notes_are_held_back_until_all_agree(kb: KnowledgeBase, vault: Vault) -> None:
    folder = vault({f"{i}.md": f"Note {i} on otters." for i in range(30)})
    ingest(kb, [folder])
    for i in range(20):
        (folder / f"{i}.md").unlink()
    assert "20 of 30 notes" in sync(kb).pending_deletions[0].reason
    assert counts(sync(kb, forget=["*"])) == {"deleted": 20, "unchanged": 10}


def test_a_forgotten_source_is_gone_and_its_files_are_not(
    kb: KnowledgeBase, folder: Path, vault: Vault, tmp_path: Path
) -> None:
    other = vault({"a.md": "# A\n\nSee [[Otters]]."}, "other")
    ingest(kb, [other])
    assert counts(forget(kb, "vault")) == {"deleted": 6, "unchanged": 1}
    assert [source.name for source in Registry(kb.home).all()] == ["other"] and (folder / "Otters.md").exists()
    agrees(kb, tmp_path, other)
    with pytest.raises(PasskbError, match="there is no source 'vault'"):
        forget(kb, "vault")
    assert counts(ingest(kb, [folder])) == {"added": 6}


def test_a_source_that_left_the_registry_by_hand_is_asked_about(kb: KnowledgeBase, folder: Path, vault: Vault) -> None:
    ingest(kb, [vault({"a.md": "A."}, "other")])
    Registry(kb.home).remove("vault")
    report = sync(kb)
    assert (
        report.pending_deletions[0].source == "vault"
        and "no longer registered" in report.pending_deletions[0].reason
        and report.notes == 7
    )
    assert counts(sync(kb, forget=["vault"])) == {"deleted": 6, "unchanged": 1}


def test_a_folder_whose_name_ends_like_a_file_may_vanish_too(kb: KnowledgeBase, vault: Vault, tmp_path: Path) -> None:
    folder = vault({"d/a.md": "# A\n\nSee [b](b.md).", "d/b.md": "# B"}, "my.notes.md")
    other = vault({"c.md": "# C"}, "other")
    ingest(kb, [folder, other])
    links = kb.store.links()
    folder.rename(tmp_path / "unplugged")
    (other / "new.md").write_text("# New")
    report = sync(kb)
    assert "is missing" in report.failed[0][1] and report.notes == 4 and kb.store.links() == links


def test_a_link_that_loops_or_leaves_is_named_and_not_followed(kb: KnowledgeBase, folder: Path, vault: Vault) -> None:
    outside = vault({"secret.md": "Secret."}, "outside")
    (folder / "loop").symlink_to(folder)
    (folder / "away").symlink_to(outside)
    (folder / "secret.md").symlink_to(outside / "secret.md")
    (folder / "round.md").symlink_to("round.md")
    report = sync(kb)
    assert {Path(path).name for path, _ in report.skipped} == {"loop", "away", "secret.md", "round.md"}
    assert all(reason.endswith("ingest its target instead") or "broken link" in reason for _, reason in report.skipped)
    assert counts(report) == {"unchanged": 6} and not kb.store.lexical("secret", 3)
