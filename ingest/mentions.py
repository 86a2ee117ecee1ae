"""Keeps the unlinked mentions in the store up to date: notes that other notes name without a link."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ingest.links import Name
from kb.knowledge_base import KnowledgeBase
from kb.mentions import NameIndex, without_qualifiers
from kb.store.queries import Transaction

_MANY = 200  # new names from which all notes are read again
_MAX_NOTES = 100_000  # that may contain one name


def update_mentions(
    kb: KnowledgeBase, transaction: Transaction, changed: Collection[str], before: Sequence[Name], after: Sequence[Name]
) -> None:
    """Reads the `changed` notes, and those in which a name appeared or vanished. `before`, `after`: the names of all notes;
    an empty `before` reads all notes."""
    index = _index(after)
    affected = set(changed)
    if not before:
        affected = {name.note_id for name in after}
    elif before != after:
        former = _index(before).note_by_name
        names = index.note_by_name
        appeared = [name for name, note_id in names.items() if former.get(name) != note_id]
        vanished = {note_id for name, note_id in former.items() if names.get(name) != note_id}
        affected |= kb.store.notes_that_mention(vanished)
        if len(appeared) > _MANY:
            affected |= {name.note_id for name in after}
        else:
            for name in appeared:
                affected |= kb.store.notes_with_phrase(" ".join(name), _MAX_NOTES)
    notes = kb.store.notes(affected)
    found = {
        note.id: [(target, name) for target, name in index.first_mentions(note.text) if target != note.id]
        for note in notes.values()
    }
    transaction.set_mentions(found)


def _index(names: Sequence[Name]) -> NameIndex:
    return NameIndex(without_qualifiers([(name, entry.note_id) for entry in names for name in (entry.title, *entry.aliases)]))
