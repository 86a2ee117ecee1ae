"""Unlinked mentions follow names and texts: what is kept is what a rebuild would find."""

from __future__ import annotations

from pathlib import Path

from ingest.pipeline import ingest, rebuild, sync
from kb.embedding import HashedWords
from kb.knowledge_base import KnowledgeBase


class Words(KnowledgeBase):
    def __init__(self, home: Path) -> None:
        super().__init__(home, HashedWords())


def test_mentions_follow_edits_new_names_and_lost_names(tmp_path: Path) -> None:
    vault, home = tmp_path / "vault", tmp_path / "home"
    vault.mkdir()
    texts = {
        "Entropy collapse.md": "It ends exploration. See [[Reward hacking]].",
        "Reward hacking.md": "Related to entropy collapse, not to `entropy collapse` in code.",
        "Mercury (planet).md": "The first planet.",
        "Log.md": "We read about Mercury and about reward hacking.",
    }
    for name, text in texts.items():
        (vault / name).write_text(text, encoding="utf-8")

    def mentions(change: dict[str, str | None]) -> set[tuple[str, str]]:
        for name, text in change.items():
            if text is None:
                (vault / name).unlink()
            else:
                (vault / name).write_text(text, encoding="utf-8")
        with Words(home) as kb:
            sync(kb)
            kept = kb.store.mentions()
        rebuild(home, Words)
        with Words(home) as kb:
            assert kb.store.mentions() == kept
        return {(source.removeprefix("vault/"), target.removeprefix("vault/")) for source, target in kept}

    with Words(home) as kb:
        ingest(kb, [vault])
    first = {("reward-hacking", "entropy-collapse"), ("log", "reward-hacking"), ("log", "mercury-planet")}
    assert mentions({}) == first
    assert mentions({"Log.md": "We read about Mercury."}) == first - {("log", "reward-hacking")}
    named = {("log", "mercury-planet"), ("reward-hacking", "entropy-collapse")}
    assert mentions({"Mercury.md": "Quicksilver, unlike entropy collapse."}) == {
        ("log", "mercury"), ("reward-hacking", "entropy-collapse"), ("mercury", "entropy-collapse")
    }  # fmt: skip
    assert mentions({"Mercury.md": None}) == named
    assert mentions({"Entropy collapse.md": None, "Log.md": "Nothing."}) == set()


def test_a_home_of_an_earlier_version_gets_its_mentions_with_the_next_sync(tmp_path: Path) -> None:
    vault, home = tmp_path / "vault", tmp_path / "home"
    vault.mkdir()
    (vault / "Reward hacking.md").write_text("A note.", encoding="utf-8")
    (vault / "Log.md").write_text("We read about reward hacking.", encoding="utf-8")
    with Words(home) as kb:
        ingest(kb, [vault])
        with kb.store.database.writing() as connection:
            connection.execute("DROP TABLE mentions")
            connection.execute("DELETE FROM meta WHERE key IN ('mentions', 'fulltext')")
    with Words(home) as kb:
        assert kb.search("reward hacking")[1] and kb.store.mentions() == []
        sync(kb)
        assert kb.store.mentions() == [("vault/log", "vault/reward-hacking")]
