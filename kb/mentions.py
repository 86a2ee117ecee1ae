"""Finds unlinked mentions of note names in prose."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kb.markdown.blocks import LINK
from kb.markdown.opaque_spans import opaque_spans
from kb.markdown.sentences import sentences
from kb.store.fulltext import STOP_WORDS

_TOKEN = re.compile(r"\w+|[^\w\s]")
_END = re.compile(r"[\W_]+\Z")
_QUALIFIER = re.compile(r"\s*\([^()]*\)\s*\Z")
_MAX_NAME_TOKENS = 24  # tokens
_MIN_WORD_LENGTH = 3  # letters of a one-word name
_MAX_TEXT = 400_000  # characters of a text that are searched


@dataclass(frozen=True, slots=True)
class Mention:
    """`text[at:until]` names a note, in the sentence `text[start:end]`."""

    note_id: str
    name: str
    start: int
    end: int
    at: int
    until: int


def tokenize_name(name: str) -> tuple[str, ...]:
    """A name as case-folded tokens, without punctuation at the end."""
    return tuple(_TOKEN.findall(_END.sub("", unicodedata.normalize("NFC", name).casefold())))


def is_distinctive(name: str) -> bool:
    """Whether a name can be searched for in prose: not a number, id, or only stop words."""
    words = [token for token in tokenize_name(name) if token[0].isalnum() or token[0] == "_"]
    meaningful = [word for word in words if word not in STOP_WORDS and any(map(str.isalpha, word))]
    long = len(words) > 1 or any(len(word) >= _MIN_WORD_LENGTH for word in meaningful)
    return bool(meaningful) and long and len(tokenize_name(name)) <= _MAX_NAME_TOKENS and name[:1] not in "(^"


def is_one_word(name: str) -> bool:
    return len(tokenize_name(name)) == 1


def without_qualifiers(names: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """`names` and, for those like "Mercury (planet)", also the name before the parentheses, unless it names another note.

    names: (name, note id)."""
    taken = {tokenize_name(name) for name, _ in names}
    short = [(_QUALIFIER.sub("", name), note_id) for name, note_id in names if _QUALIFIER.search(name)]
    return [*names, *((name, note_id) for name, note_id in short if tokenize_name(name) not in taken)]


class NameIndex:
    """An index of note names for searching texts. Ambiguous names are left out."""

    def __init__(self, names: Iterable[tuple[str, str]]) -> None:
        """names: (name, note id)."""
        ids_by_name: dict[tuple[str, ...], set[str]] = defaultdict(set)
        spelling: dict[tuple[str, ...], str] = {}
        for name, note_id in names:
            if is_distinctive(name):
                ids_by_name[tokenize_name(name)].add(note_id)
                spelling.setdefault(tokenize_name(name), name)
        self.note_by_name = {words: next(iter(ids)) for words, ids in ids_by_name.items() if len(ids) == 1}
        self._by_first: dict[str, list[tuple[tuple[str, ...], str, str]]] = defaultdict(list)
        for words, note_id in self.note_by_name.items():
            self._by_first[words[0]].append((words, note_id, spelling[words]))
        for entries in self._by_first.values():
            entries.sort(key=lambda entry: -len(entry[0]))

    def mentions(self, text: str) -> Iterator[Mention]:
        """Non-overlapping mentions in order, the longest name first; none in code, links or headings."""
        text = text[:_MAX_TEXT]
        for sentence in sentences(text):
            yield from self._within(text, sentence.start, sentence.end)

    def first_mentions(self, text: str) -> list[tuple[str, str]]:
        """(note id, name) of each note that `text` names, in the order of place. A name of one word must be spelled alike.

        A text without any name is not parsed."""
        text = text[:_MAX_TEXT]
        if not any(self._matches(_tokens(text))):
            return []
        notes: dict[str, str] = {}
        for mention in self.mentions(text):
            if not is_one_word(mention.name) or text[mention.at : mention.until] == mention.name:
                notes.setdefault(mention.note_id, mention.name)
        return list(notes.items())

    def named_in(self, question: str) -> list[tuple[str, str]]:
        """(note id, name) of the notes that a question names, in any case of letters."""
        return [(note_id, name) for name, note_id, _, _ in self._matches(_tokens(question))]

    def _within(self, text: str, start: int, end: int) -> Iterator[Mention]:
        hidden = sorted([*opaque_spans(text, start, end), *(m.span() for m in LINK.finditer(text, start, end))])
        starts = [span[0] for span in hidden]

        def seen(at: int) -> bool:
            return all(at >= stop for _, stop in hidden[max(0, bisect_right(starts, at) - 3) : bisect_right(starts, at)])

        tokens = [(m[0].casefold() if seen(m.start()) else "", m.start(), m.end()) for m in _TOKEN.finditer(text, start, end)]
        for name, note_id, at, until in self._matches(tokens):
            yield Mention(note_id, name, start, end, at, until)

    def _matches(self, tokens: Sequence[tuple[str, int, int]]) -> Iterator[tuple[str, str, int, int]]:
        """(name, note id, start, end) of the names in `tokens`, each (folded token, start, end)."""
        i = 0
        while i < len(tokens):
            for name, note_id, spelling in self._by_first.get(tokens[i][0], ()):
                if len(name) <= len(tokens) - i and all(tokens[i + j][0] == word for j, word in enumerate(name)):
                    yield spelling, note_id, tokens[i][1], tokens[i + len(name) - 1][2]
                    i += len(name) - 1
                    break
            i += 1


def _tokens(text: str) -> list[tuple[str, int, int]]:
    return [(m[0].casefold(), m.start(), m.end()) for m in _TOKEN.finditer(text)]
