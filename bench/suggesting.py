"""Suggested links: how often a link that an author wrote would have been suggested, were it not there, and in what time."""

from __future__ import annotations

import random
import time
from pathlib import Path

from bench.data import REPOSITORY, notes, vault
from bench.figures import Figure, spread
from ingest.pipeline import ingest
from kb.embedding import MiniLM
from kb.knowledge_base import KnowledgeBase
from kb.notes import NoteKind
from service.suggestions.ranking import MAX_SUGGESTIONS, suggest_links

_PAIRS = 300
_KINDS = ("similar", "neighbours")


def measure(scratch: Path) -> list[Figure]:
    """The name of a linked note mostly stands in the link itself, so mentions have no part in finding it again."""
    embedder, figures = MiniLM(), []
    for source in (REPOSITORY / "samples" / "vault", vault()):
        with KnowledgeBase(scratch / source.name, embedder) as kb:
            ingest(kb, [source])
            where = source.relative_to(REPOSITORY) if source.is_relative_to(REPOSITORY) else source.name
            figures += _figures(kb, f"{where}, {len(notes(source))} notes")
    return figures


def _figures(kb: KnowledgeBase, where: str) -> list[Figure]:
    pairs, ids = _pairs(kb), [i for i, _, kind, _ in kb.store.titles() if kind != NoteKind.STUB]
    found: dict[str, int] = dict.fromkeys(("all", *_KINDS), 0)
    for one, other in pairs:
        ranked = suggest_links(kb, one, 10_000, unseen=other)
        found["all"] += other in [entry.other for entry in ranked[:MAX_SUGGESTIONS]]
        for kind in _KINDS:
            worth = {e.other: g.weight for e in ranked for g in e.signals if g.kind == kind}
            found[kind] += other in sorted(worth, key=lambda i: -worth[i])[:MAX_SUGGESTIONS]
    took = []
    for note_id in ids:
        began = time.perf_counter()
        suggest_links(kb, note_id)
        took.append(1000 * (time.perf_counter() - began))
    share = {kind: f"{100 * number / len(pairs):.0f} %" for kind, number in found.items()}
    return [
        Figure(
            f"{where}: of {len(pairs)} ends of authored links, the other end among the first {MAX_SUGGESTIONS} suggestions",
            share["all"],
        ),
        Figure(f"{where}: the same, by likeness alone", share["similar"]),
        Figure(f"{where}: the same, by shared neighbours alone", share["neighbours"]),
        Figure(f"{where}: suggestions for a note, warm, milliseconds", spread(took)),
    ]


def _pairs(kb: KnowledgeBase) -> list[tuple[str, str]]:
    """(a note, another it is linked with), each link from both its ends, in a fixed order."""
    kinds = {note_id: kind for note_id, _, kind, _ in kb.store.titles()}
    written = {
        (link.source, link.target)
        for link in kb.store.links()
        if not {kinds.get(link.source), kinds.get(link.target)} & {NoteKind.STUB, NoteKind.INQUIRY}
    }
    chosen = sorted({(min(pair), max(pair)) for pair in written})
    random.Random(0).shuffle(chosen)
    return [ends for one, other in chosen[:_PAIRS] for ends in ((one, other), (other, one))]
