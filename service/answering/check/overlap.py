"""Compares the words of clauses: coverage by stems and vectors, unknown names, replaced words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher

from kb.embedding import Vectors
from kb.store.fulltext import stem
from service.answering.check.clauses import Clause, Word
from service.answering.check.direction import is_cue

_SYNONYM_COSINES = (0.3, 0.65)  # cosines of two words from which one partly and fully covers the other
_MIN_PARAPHRASE_COSINE = 0.45  # cosine below which a word is not a paraphrase of another
_MAX_REPLACED_WORDS = 3  # maximum words in a replacement
_DETERMINERS = frozenset("the a an its their this that these those his her".split())
_BEFORE_VERBS = frozenset("to can cannot may might will would should must could not never also still".split())
_SUBJECTS = frozenset("it they which who he she is are was were be been has have had".split())
_PARTICLES = frozenset(
    """
    away across along around apart aside back forth onto toward towards within upon per via beyond despite amid among three
    four five six seven eight nine ten eleven twelve
    """.split()
)
_GENERAL = frozenset(
    stem(word)
    for word in """
    model method task problem value amount one alone nothing something someone works write ought need deserve
    apply start begin fit hold give look consist use mean part place time point step form type sort example
    instance fact reason question answer data test bring carry remain stay become total whole entire single
    previous current already every bit account kind piece way
    """.split()
)


class Similarity:
    """Cosines between texts that are embedded in one call."""

    def __init__(self, vectors: Callable[[Sequence[str]], Vectors], texts: Sequence[str]) -> None:
        distinct = list(dict.fromkeys(texts))
        self._row = {text: i for i, text in enumerate(distinct)}
        self._vectors = vectors(distinct) if distinct else None

    def __call__(self, one: str, other: str) -> float:
        if self._vectors is None:
            return 0.0
        return float(self._vectors[self._row[one]] @ self._vectors[self._row[other]])

    def nearest(self, text: str, others: Sequence[str]) -> float:
        """The highest cosine of a text to others; 0 if there are none."""
        if self._vectors is None or not others:
            return 0.0
        return float((self._vectors[[self._row[other] for other in others]] @ self._vectors[self._row[text]]).max())


def coverage(clauses: Sequence[Clause], spans: Sequence[Clause], likeness: Similarity) -> float:
    """The share (0 to 1) of the clauses' content words in the spans; similar words count in part. 1 without content words.

    Weighting by inverse document frequency made no difference on the development pairs.
    """
    stems = frozenset(word.stem for clause in spans for word in clause.words)
    span_words = list(dict.fromkeys(word.text.casefold() for clause in spans for word in clause.content))
    words = [word for clause in clauses for word in clause.content]
    scores = (1.0 if w.stem in stems else _synonym_score(likeness.nearest(w.text.casefold(), span_words)) for w in words)
    return sum(scores) / len(words) if words else 1.0


def is_extract(clauses: Sequence[Clause], spans: Sequence[Clause]) -> bool:
    """Whether the content words of the clauses are a subsequence of those of the spans."""
    span_stems = iter([word.stem for clause in spans for word in clause.content])
    return all(word.stem in span_stems for clause in clauses for word in clause.content)


def _synonym_score(cosine: float) -> float:
    low, high = _SYNONYM_COSINES
    return min(1.0, max(0.0, (cosine - low) / (high - low)))


def find_unknown_names(clauses: Sequence[Clause], spans: Sequence[Clause]) -> list[str]:
    """The names that are not in the spans, ignoring punctuation and including parts of other names."""
    known = {_letters(word.text) for clause in spans for word in clause.words}
    known |= {part for clause in spans for word in clause.words for part in _parts(word.text)}
    stems = {word.stem for clause in spans for word in clause.words}
    names = [word for clause in clauses for word in clause.words if word.name]
    return [
        word.text for word in names if not (_letters(word.text) in known or word.stem in stems or _is_composed_of(word, known))
    ]


def _is_composed_of(word: Word, known: set[str]) -> bool:
    parts = _parts(word.text)
    return len(parts) > 1 and all(part in known for part in parts)


def _parts(text: str) -> list[str]:
    return [part for part in re.split(r"[-_@.'’]", text.casefold()) if part]


def _letters(text: str) -> str:
    return re.sub(r"[\W_]", "", text.casefold().removesuffix("'s").removesuffix("’s"))


def find_replacement(clauses: Sequence[Clause], spans: Sequence[Clause], likeness: Similarity) -> str:
    """Words in place of others with a different meaning, between equal words; empty if there are none."""
    sentence_words = [word for clause in clauses for word in clause.content]
    nouns = {id(word) for clause in clauses for i, word in enumerate(clause.words) if _is_noun_like(clause.words, i)}
    span_words = [word for clause in spans for word in clause.content]
    sentence_stems, span_stems = {word.stem for word in sentence_words}, {word.stem for word in span_words}
    matcher = SequenceMatcher(None, [w.stem for w in span_words], [w.stem for w in sentence_words], autojunk=False)
    for tag, i, j, k, m in matcher.get_opcodes():
        if tag != "replace" or j - i > _MAX_REPLACED_WORDS or m - k > _MAX_REPLACED_WORDS or (k == 0 and i > 0):
            continue
        new = [word for word in sentence_words[k:m] if word.stem not in span_stems and id(word) in nouns]
        old = [word.text.casefold() for word in span_words[i:j] if word.stem not in sentence_stems]
        every = [word.text.casefold() for word in span_words]
        if old and new and any(likeness.nearest(word.text.casefold(), every) < _MIN_PARAPHRASE_COSINE for word in new):
            return " ".join(word.text for word in new)
    return ""


def _is_noun_like(words: Sequence[Word], i: int) -> bool:
    """Whether a word looks like a noun or attribute by its neighbours, and is neither a cue nor a general word."""
    word = words[i]
    before = words[i - 1].text.casefold() if i else ""
    after = words[i + 1].text.casefold() if i + 1 < len(words) else ""
    if not word.content or is_cue(word) or word.stem in _GENERAL or after in _DETERMINERS or before in _BEFORE_VERBS:
        return False
    if word.text.endswith("ly") or word.text.casefold() in _PARTICLES or (not i and word.text.endswith("ing")):
        return False
    inflected = word.text.endswith(("s", "ed", "ing"))
    return not (inflected and i and (words[i - 1].content or before in _SUBJECTS))
