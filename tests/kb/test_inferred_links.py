"""Inferred links: what no author's link joins gets one way to the note most alike, and nothing else changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ingest.pipeline import ingest, sync
from kb.graph import NoteGraph
from kb.inferred_links import infer_links
from kb.notes import Link, LinkType, Origin

if TYPE_CHECKING:
    from kb.knowledge_base import KnowledgeBase
    from tests.conftest import Vault


def unit(*angles: float) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.array([[np.cos(a), np.sin(a)] for a in angles], np.float32)


def test_an_island_gets_one_link_from_its_note_most_alike_to_one_outside() -> None:
    graph = NoteGraph(["a", "b", "c", "x", "y", "stub"], [Link(a, b, LinkType.SUPPORTS) for a, b in ("ab", "bc", "xy")])
    ids, means = ["a", "b", "c", "x", "y"], unit(0.0, 0.4, 0.8, 1.4, 1.1)
    links = infer_links(graph, {note_id: row for row, note_id in enumerate(ids)}, ids, means)
    assert [(link.source, link.target, link.type, link.origin) for link in links] == [
        ("y", "c", LinkType.RELATED, Origin.INFERRED)
    ]
    assert "cosine 0.96" in links[0].why


def test_nothing_is_inferred_where_nothing_is_alike_or_everything_hangs_together() -> None:
    ids = ["a", "b"]
    assert infer_links(NoteGraph(ids, []), {"a": 0, "b": 1}, ids, unit(0.0, 1.5)) == []
    assert infer_links(NoteGraph(ids, [Link("a", "b", LinkType.CITES)]), {"a": 0, "b": 1}, ids, unit(0.0, 0.1)) == []
    assert infer_links(NoteGraph([], []), {}, [], unit()) == []


def test_walking_follows_inferred_links_and_searching_does_not(kb: KnowledgeBase, vault: Vault) -> None:
    folder = vault(
        {
            "a.md": "Pass at k counts attempts. [[b]]",
            "b.md": "Attempts are counted by pass at k. [[a]]",
            "c.md": "Pass at k counts attempts too.",
        }
    )
    ingest(kb, [folder])
    view = kb.view("vault/c")
    assert [(link.target, link.origin) for link in view.links] == [("vault/a", Origin.INFERRED)]
    assert any(link.source == "vault/c" for link in kb.view("vault/a").backlinks)
    assert kb.path("vault/c", "vault/b") and not [link for link in kb.graph_without(()).links if link.origin is Origin.INFERRED]
    (folder / "c.md").write_text("Pass at k counts attempts too. [[b]]")
    sync(kb)
    assert all(link.origin is Origin.AUTHORED for link in kb.view("vault/c").links), "an author's link takes its place at once"
