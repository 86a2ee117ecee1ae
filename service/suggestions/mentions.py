"""Finds unlinked mentions of note names in prose."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kb.markdown.blocks import LINK
from kb.markdown.opaque_spans import opaque_spans
from kb.markdown.sentences import sentences
from kb.store.fulltext import STOP_WORDS

_TOKEN = re.compile(r"\w+|[^\w\s]")
_END = re.compile(r"[\W_]+\Z")
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
        self._by_first: dict[str, list[tuple[tuple[str, ...], str, str]]] = defaultdict(list)
        for words, ids in ids_by_name.items():
            if len(ids) == 1:
                self._by_first[words[0]].append((words, next(iter(ids)), spelling[words]))
        for entries in self._by_first.values():
            entries.sort(key=lambda entry: -len(entry[0]))

    def mentions(self, text: str) -> Iterator[Mention]:
        """Non-overlapping mentions in order, the longest name first; none in code, links or headings."""
        text = text[:_MAX_TEXT]
        for sentence in sentences(text):
            yield from self._within(text, sentence.start, sentence.end)

    def _within(self, text: str, start: int, end: int) -> Iterator[Mention]:
        hidden = sorted([*opaque_spans(text, start, end), *(m.span() for m in LINK.finditer(text, start, end))])
        starts = [span[0] for span in hidden]

        def seen(at: int) -> bool:
            return all(at >= stop for _, stop in hidden[max(0, bisect_right(starts, at) - 3) : bisect_right(starts, at)])

        words = [(m[0].casefold() if seen(m.start()) else "", m.start(), m.end()) for m in _TOKEN.finditer(text, start, end)]
        i = 0
        while i < len(words):
            for name, note_id, spelt in self._by_first.get(words[i][0], ()):
                if len(name) <= len(words) - i and all(words[i + j][0] == word for j, word in enumerate(name)):
                    last = words[i + len(name) - 1][2]
                    yield Mention(note_id, spelt, start, end, words[i][1], last)
                    i += len(name) - 1
                    break
            i += 1
