"""A fast, cached check whether the notes can answer a question.

Follow-up questions are titles of notes, so the same questions recur.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from weakref import WeakKeyDictionary

from kb.knowledge_base import KnowledgeBase
from service.answering.retrieve.candidates import retrieve
from service.answering.retrieve.sufficiency import assess

_MAX_SENTENCES = 48  # sentences read per check
_CACHE_SIZE = 20_000  # questions per state of the notes

_lock = threading.Lock()
_caches: WeakKeyDictionary[KnowledgeBase, tuple[int, dict[tuple[frozenset[str], str], bool]]] = WeakKeyDictionary()


def is_answerable(kb: KnowledgeBase, question: str, exclude: Collection[str]) -> bool:
    """Whether `ask` would answer the question. `exclude`: kinds of notes that are not quoted."""
    answers, key = _cache_of(kb), (frozenset(map(str, exclude)), question)
    if (known := answers.get(key)) is not None:
        return known
    answered = assess(retrieve(kb, question, exclude, _MAX_SENTENCES)).enough
    if len(answers) < _CACHE_SIZE:
        answers[key] = answered
    return answered


def _cache_of(kb: KnowledgeBase) -> dict[tuple[frozenset[str], str], bool]:
    """The cache for the current state of the notes."""
    generation = kb.store.generation
    with _lock:
        known = _caches.get(kb)
        if known is None or known[0] != generation:
            _caches[kb] = known = (generation, {})
        return known[1]
