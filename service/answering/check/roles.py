"""Detects exchanged roles: who beats whom, which of two is negated, what belongs to which.

Compares the order of shared words, so only exchanges in otherwise similar sentences are detected.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from service.answering.check.clauses import Clause, Word

_MIN_COPIED_SHARE = 0.6  # share of words that occur once in both, from which their order is compared
_SEPARATORS = frozenset(
    "than over above below under against and but while whereas yet although though not rather instead "
    "versus where when if because "
    "since hardly only beats beat".split()
)
_COMPARISON_WORDS = frozenset("than over above below beat beats outperforms exceeds instead versus hardly".split())


def find_role_change(sentence: Sequence[Clause], spans: Sequence[Clause]) -> str:
    """A word of an exchange between sentence and spans; empty if there is none."""
    return (
        find_contrast_swap(sentence, spans)
        or find_word_swap(sentence, spans)
        or find_mixed_parts(sentence, spans)
        or find_comparison_swap(sentence, spans)
    )


def find_contrast_swap(sentence: Sequence[Clause], spans: Sequence[Clause]) -> str:
    """A word negated in the sentence and affirmed in the spans, with another the other way round: “A and not B” for
    “B and not A”. Empty if there is none."""
    denied, affirmed = _split_contrast(sentence)
    denied_there, affirmed_there = _split_contrast(spans)
    turned = (denied - affirmed) & (affirmed_there - denied_there)
    return min(turned) if turned and (affirmed - denied) & (denied_there - affirmed_there) else ""


def _split_contrast(clauses: Sequence[Clause]) -> tuple[frozenset[str], frozenset[str]]:
    """The stems after “not” or “rather than” in their clause, and the others."""
    denied: set[str] = set()
    rest: set[str] = set()
    for clause in clauses:
        marks = [i for i, word in enumerate(clause.words) if word.text.casefold() in ("not", "rather", "instead")]
        for i, word in enumerate(clause.words):
            if word.content:
                (denied if marks and i > marks[0] else rest).add(word.stem)
    return frozenset(denied), frozenset(rest)


def find_word_swap(sentence: Sequence[Clause], spans: Sequence[Clause]) -> str:
    """A word swapped with another in an otherwise copied sentence (“A above B” for “B above A”), or empty."""
    words = [word for clause in sentence for word in clause.words if _is_significant(word)]
    sentence_stems = [word.stem for word in words]
    span_stems = [word.stem for clause in spans for word in clause.words if _is_significant(word)]
    shared = [s for s in sentence_stems if sentence_stems.count(s) == 1 == span_stems.count(s)]
    order = sorted(shared, key=span_stems.index)
    moved = [i for i, (one, other) in enumerate(zip(shared, order, strict=True)) if one != other]
    if len(shared) >= max(4, _MIN_COPIED_SHARE * len(sentence_stems)) and _are_blocks_swapped([order.index(s) for s in shared]):
        return next(word.text for word in words if word.stem == shared[moved[0]])
    if len(moved) != 2 or len(shared) < max(4, _MIN_COPIED_SHARE * len(sentence_stems)):
        return ""
    one, other = (shared[i] for i in moved)
    swapped = _are_compared(sentence, one, other) or (
        moved[1] - moved[0] > 1 and _swapped_neighbours(sentence_stems, span_stems, one, other)
    )
    return next(word.text for word in words if word.stem == one) if swapped else ""


def _are_blocks_swapped(places: Sequence[int]) -> bool:
    """Whether the order differs only by two blocks that are swapped around a third, after the first position."""
    moved = [i for i, place in enumerate(places) if place != i]
    if not moved or moved[0] == 0:
        return False
    region = places[moved[0] : moved[-1] + 1]
    cuts = [i for i in range(1, len(region)) if region[i] != region[i - 1] + 1]
    return len(cuts) == 2 and region[0] > region[cuts[0]] > region[cuts[1]]


def _swapped_neighbours(ours: Sequence[str], theirs: Sequence[str], one: str, other: str) -> bool:
    """Whether each of two words has a neighbour of the other."""
    return all(
        _neighbours(ours, ours_word) & _neighbours(theirs, theirs_word)
        for ours_word, theirs_word in ((one, other), (other, one))
    )


def _neighbours(row: Sequence[str], word: str) -> frozenset[str]:
    i = row.index(word)
    return frozenset((*row[max(0, i - 1) : i], *row[i + 1 : i + 2]))


def _are_compared(sentence: Sequence[Clause], one: str, other: str) -> bool:
    """Whether “than” is between two words."""
    stems = [word.stem for clause in sentence for word in clause.words]
    return "than" in stems[stems.index(one) : stems.index(other)]


def _is_significant(word: Word) -> bool:
    return word.content or any(map(str.isdigit, word.text)) or word.text.casefold() in ("zero", "one", "two", "three")


def find_mixed_parts(sentence: Sequence[Clause], spans: Sequence[Clause]) -> str:
    """A word that the sentence combines with another part than the spans do, in both directions; or empty."""
    ours, theirs = _split_parts(sentence), _split_parts(spans)
    sentence_stems, span_stems = [s for part in ours for s in part], [s for part in theirs for s in part]
    once = {s for s in sentence_stems if sentence_stems.count(s) == 1 == span_stems.count(s)}
    sentence_parts, span_parts = [once.intersection(part) for part in ours], [once.intersection(part) for part in theirs]
    for one, other in combinations(sentence_parts, 2):
        for first, second in combinations(span_parts, 2):
            if one & first and one & second and other & first and other & second:
                return min(one & second)
    return ""


def find_comparison_swap(sentence: Sequence[Clause], spans: Sequence[Clause]) -> str:
    """The comparison word (than, over) whose sides are exchanged; empty if there is none."""
    span_sides = list(_comparison_sides(spans))
    for word, left_stems, right_stems in _comparison_sides(sentence):
        same_word = [(before, after) for other, before, after in span_sides if other == word]
        if same_word and all(_is_swapped(left_stems, right_stems, before, after) for before, after in same_word):
            return word
    return ""


def _is_swapped(left_stems: set[str], right_stems: set[str], before: set[str], after: set[str]) -> bool:
    straight = len(left_stems & (before - after)) + len(right_stems & (after - before))
    over, back = len(left_stems & (after - before)), len(right_stems & (before - after))
    return bool(over and back) and over + back > straight


def _comparison_sides(clauses: Sequence[Clause]) -> Iterator[tuple[str, set[str], set[str]]]:
    words = [word for clause in clauses for word in clause.words]
    for i, word in enumerate(words):
        if word.text.casefold() in _COMPARISON_WORDS:
            yield (
                word.text.casefold(),
                {w.stem for w in words[:i] if _is_significant(w)},
                {w.stem for w in words[i + 1 :] if _is_significant(w)},
            )


def _split_parts(clauses: Sequence[Clause]) -> list[list[str]]:
    """The stems of significant words, split at clauses, conjunctions and comparison words."""
    out: list[list[str]] = []
    for clause in clauses:
        out.append([])
        for word in clause.words:
            if word.text.casefold() in _SEPARATORS:
                out.append([])
            elif _is_significant(word):
                out[-1].append(word.stem)
    return out
