"""Detects overclaims by word lists: all for most, only for among others, is for may be, causes for correlates with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from kb.store.fulltext import stem
from service.answering.check.clauses import Clause, Word


def _stems(words: str) -> frozenset[str]:
    return frozenset(map(stem, words.split()))


# Pairs of lines: strong words of a sentence, then further words of a span that support them.
_UNIVERSALS = """
all every each everything everyone
any both whole entire no none whatever regardless throughout only never per single same
always invariably
never ever every any all each whenever throughout
entirely wholly completely fully totally perfectly
complete whole full entire all only total solely exactly without
universally everywhere
all any every each
guarantee guarantees guaranteed
always must certain surely sure ensure ensures
must necessarily inevitably unavoidably
has have need needs needed necessary cannot only always require requires required should can't unless demands inevitable
never nobody none nothing
no not cannot without zero neither nor isn't doesn't don't aren't can't won't lacks lack fails fail failed unable absent
exactly precisely identically
exact precise equal equals same identical just
best worst largest smallest highest lowest strongest weakest greatest biggest fastest hardest easiest longest shortest
most least more less top maximum minimum peak max min first any every all no none beats beat better worse larger smaller \
higher lower stronger weaker greater faster harder easier longer shorter only
"""
_EXCEPTIONS = frozenset("not at in of above after almost nearly".split())  # “not all”, “at all”, “almost every”
_ONLY = frozenset("only solely exclusively".split())
_RESTRICTIONS = _stems(
    "only just merely solely alone exclusively except nothing sole single restricted limited unless but mere purely nobody no "
    "not without mainly"
)
_DOUBTS = frozenset(
    "may might possibly perhaps probably likely presumably potentially conjectured suspected seem seems suggests suggest hints "
    "hint conjecture conjectures hypothesise hypothesis plausibly arguably".split()
)
_READS_AS = frozenset(("appear to", "appears to", "consistent with"))
_HEDGES = _stems(
    "may might could possibly perhaps probably likely suggest hint seem appear conjecture hypothesis hypothesise speculate "
    "plausible plausibly presumably arguably potentially claim argue believe expect suspect should tend assume propose look "
    "sign indicate consistent compatible apparently would chance impression"
)
_PROOF = _stems("prove proven proof certainly definitely undoubtedly unquestionably established")
_PROVEN = _PROOF | _stems("certain show shown demonstrate establish confirm theorem must verify verified exact know known")
_CAUSES = _stems("cause because due drive produce induce responsible owing thanks trigger")
_EXPLANATIONS = _CAUSES | _stems(
    "lead make explain reason raise lower result consequence since thus therefore so through by from as"
)
_CORRELATIONS = _stems("correlate correlation associate association coincide relate relation predict")


@lru_cache(maxsize=1)
def _classes() -> list[tuple[frozenset[str], frozenset[str]]]:
    lines = [line.split() for line in _UNIVERSALS.strip().splitlines()]
    return [(frozenset(own), frozenset((*own, *others))) for own, others in zip(lines[::2], lines[1::2], strict=True)]


def find_overclaim(sentence: Sequence[Clause], spans: Sequence[Clause]) -> str:
    """The word by which a sentence claims more than its spans; empty if there is none."""
    return (
        _find_universal(sentence, spans)
        or _find_only(sentence, spans)
        or _find_certainty(sentence, spans)
        or _find_cause(sentence, spans)
    )


def _find_universal(sentence: Sequence[Clause], spans: Sequence[Clause]) -> str:
    span_words = {part for clause in spans for word in clause.words for part in (_low(word), *_low(word).split("-"))}
    for clause in sentence:
        for i, word in enumerate(clause.words):
            before = _low(clause.words[i - 1]) if i else ""
            for own, supporting in _classes():
                if (
                    _low(word) in own
                    and not span_words & supporting
                    and before not in _EXCEPTIONS
                    and not _has_count(clause.words, i)
                ):
                    return word.text
    return ""


def _find_only(sentence: Sequence[Clause], spans: Sequence[Clause]) -> str:
    if any(stem(part) in _RESTRICTIONS for clause in spans for word in clause.words for part in _low(word).split("-")):
        return ""
    for clause in sentence:
        for i, word in enumerate(clause.words):
            before = _low(clause.words[i - 1]) if i else ""
            if _low(word) in _ONLY and before not in ("not", "than") and not _has_count(clause.words, i):
                return word.text
    return ""


def _find_certainty(sentence: Sequence[Clause], spans: Sequence[Clause]) -> str:
    """A hedge in the most similar clause of the spans that the sentence omits, or a proof that it adds; empty if none."""
    sentence_stems = {word.stem for clause in sentence for word in clause.words}
    proof = next((word for clause in sentence for word in clause.words if word.stem in _PROOF), None)
    if proof is not None and not {word.stem for clause in spans for word in clause.words} & _PROVEN:
        return proof.text
    if sentence_stems & _HEDGES:
        return ""
    for clause in sentence:
        best = max(spans, key=lambda other: len(other.stems & clause.stems), default=None)
        if best is not None and 2 * len(best.stems & clause.stems) >= len(clause.stems):
            for i, word in enumerate(best.words):
                if _is_doubt(best.words, i):
                    return word.text
    return ""


def _is_doubt(words: Sequence[Word], i: int) -> bool:
    """Whether a word is a hedge; “more likely” and “appears in” are not."""
    low, before = _low(words[i]), _low(words[i - 1]) if i else ""
    if i + 1 < len(words) and f"{low} {_low(words[i + 1])}" in _READS_AS:
        return True
    return low in _DOUBTS and before not in ("more", "less", "as", "most", "least", "how")


def _find_cause(sentence: Sequence[Clause], spans: Sequence[Clause]) -> str:
    span_stems = {word.stem for clause in spans for word in clause.words}
    if not span_stems & _CORRELATIONS or span_stems & _EXPLANATIONS:
        return ""
    return next((word.text for clause in sentence for word in clause.words if word.stem in _CAUSES), "")


def _has_count(words: Sequence[Word], i: int) -> bool:
    """Whether a number follows, as in “all five” or “only 3 %”."""
    return any(word.text[0].isdigit() or _low(word) in _SMALL_NUMBERS for word in words[i + 1 : i + 3])


_SMALL_NUMBERS = frozenset("one two three four five six seven eight nine ten half a".split())


def _low(word: Word) -> str:
    return word.text.casefold()
