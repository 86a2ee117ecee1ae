"""Detects numbers and predicates attributed to the wrong name, by comparing the words of clauses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import permutations, product

from service.answering.check.clauses import Clause, Word
from service.answering.check.numbers import find_missing, parse_numbers

_AUTHOR = re.compile(r"\b([A-Z][a-z]+)(?:['’]s)? (?:and (?:colleagues|coworkers|co-workers|others)|et al\b|and [A-Z][a-z]+\b)")


def find_misattribution(sentence: Sequence[Clause], spans: Sequence[Clause]) -> str:
    """A name with a number that the spans attribute to other names only; empty if there is none."""
    span_numbers = [(parse_numbers(clause.text), _names(clause)) for clause in spans]
    span_names = set().union(*(names for _, names in span_numbers)) if span_numbers else set()
    sentence_names = set().union(*map(_names, sentence)) if sentence else set()
    for clause in sentence:
        clause_names = _names(clause) & span_names
        for number in parse_numbers(clause.text) if clause_names else ():
            owners = [names for numbers, names in span_numbers if number.value and not find_missing([number], numbers)]
            if owners and all(names - sentence_names and not clause_names <= names for names in owners):
                return min(clause_names - set().union(*owners), default="")
    return ""


def _names(clause: Clause) -> set[str]:
    return {word.text.casefold().removesuffix("'s").removesuffix("’s") for word in clause.words if word.name}


def find_unknown_author(sentence: str, span: str) -> str:
    """The first author (“Zhao and colleagues”) who is not in the span, also at the start of a sentence; empty if none."""
    known = span.casefold()
    return next((name for name in _AUTHOR.findall(sentence) if name.casefold() not in known), "")


def find_swapped_word(sentence: Sequence[Clause], spans: Sequence[Clause]) -> str:
    """A word that is swapped with another between two otherwise equal clauses; empty if there is none.

    For example “A raises accuracy but raises coverage only with new knowledge”, with coverage and accuracy exchanged. The
    place of a word is the content word before it, or the start of the clause.
    """
    sentence_places, span_places = [_predecessors(clause) for clause in sentence], [_predecessors(clause) for clause in spans]
    for one, other in permutations(sentence_places, 2):
        for first, second in permutations(span_places, 2):
            moved_out = [w for w in one if w in second and w not in first and w not in other]
            moved_in = [w for w in other if w in first and w not in second and w not in one]
            unmoved = [w for w in one if w in first and w not in second], [w for w in other if w in second and w not in first]
            common = one.keys() & other.keys() & first.keys() & second.keys()
            for there, here in product(moved_out, moved_in):
                if one[there] & first[here] and other[here] & second[there] and (all(unmoved) or (any(unmoved) and common)):
                    return there
    return ""


def _predecessors(clause: Clause) -> dict[str, set[str]]:
    """The stems of a clause, each with the stems that precede it."""
    out: dict[str, set[str]] = {}
    before = "^"
    for word in clause.words:
        if word.content or _digits(word):
            out.setdefault(word.stem, set()).add(before)
            before = word.stem
    return out


def _digits(word: Word) -> bool:
    return any(map(str.isdigit, word.text))
