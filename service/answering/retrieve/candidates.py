"""Retrieves and scores the sentences that may answer a question."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from kb.embedding import Vectors
from kb.knowledge_base import KnowledgeBase
from kb.markdown.blocks import plain
from kb.markdown.sentences import Sentence, sentences
from kb.notes import Hit, Note, NoteKind
from kb.store.fulltext import content_words, stem, stems

HITS = 48
_CHUNKS = 24
_NOTES = 16
_CHUNKS_PER_NOTE = 3
_SENTENCES = 160
_ANAPHOR = re.compile(
    r"(?:\W*)(?:this|that|these|those|it|its|they|their|them|he|she|his|her|such|so|but|and|or|also|however|moreover|"
    r"furthermore|thus|therefore|hence|yet|still|instead|conversely|similarly|likewise|then|both|neither|again|here|"
    r"there|another|the latter|the former|the same|as a result|in contrast|by contrast|for (?:this|that) reason|"
    r"on the other hand|for example|for instance|in other words|in short|second|third|finally|even so|accordingly)\b",
    re.I,
)
_DEFINITE = re.compile(r"(?:the|those|these)\s+((?:[\w@^'’-]+\s+){1,3})", re.I)
_FINISHED = re.compile(r"[.!?…。！？][\"'”’»)\]*_$]*$")
_ASKS_NUMBER = re.compile(r"\b(?:how (?:many|much|large|big|often|far|long)|percent|share|rate|figure|score|number)\b|%", re.I)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence that may answer the question.

    `score`: its relevance; `cosine`: similarity to the question; `stems`: the question's stems in it; `is_dependent`: refers
    back to the sentence at `before`; `is_opening`: in the first paragraph of its note.
    """

    note_id: str
    title: str
    start: int
    end: int
    text: str
    score: float
    cosine: float
    stems: frozenset[str]
    is_dependent: bool
    is_opening: bool
    before: tuple[int, int] | None
    vector: Vectors


@dataclass(frozen=True, slots=True)
class Retrieval:
    """The search results for a question, with candidates best first.

    `weights`: inverse document frequency of the question's stems; `unknown`: its words that no note contains;
    `nearest_chunk`: highest cosine of a chunk; `notes`: the notes read.
    """

    question: str
    vector: Vectors
    hits: Sequence[Hit]
    notes: Mapping[str, Note]
    weights: Mapping[str, float]
    unknown: Sequence[str]
    nearest_chunk: float
    candidates: Sequence[Candidate]

    def main_notes(self, count: int) -> list[str]:
        """The notes with the best candidates."""
        return list(dict.fromkeys(candidate.note_id for candidate in self.candidates))[:count]


def retrieve(kb: KnowledgeBase, question: str, exclude: Collection[str] = (), limit: int = _SENTENCES) -> Retrieval:
    """Searches and scores at most `limit` sentences of the best chunks.

    The weights were tuned on the 184 answerable questions of `tests/service/answering/questions_dev*.jsonl`, for how often
    the best sentence comes from a note that answers.
    """
    vector, hits = kb.search(question, HITS, exclude=exclude)
    chosen = _select_hits(hits)
    notes = kb.store.notes(hit.note_id for hit in chosen)
    weights, unknown = _stem_weights(kb, question)
    spans = [
        (hit, sentence, before)
        for hit in chosen
        if hit.note_id in notes
        for sentence, before in _sentences_in(notes[hit.note_id].text, hit)
        if sentence.block != "table" or notes[hit.note_id].kind is not NoteKind.EVIDENCE  # its sentences repeat the table
    ][:limit]
    texts = [plain(notes[hit.note_id].text[sentence.start : sentence.end]) for hit, sentence, _ in spans]
    vectors = kb.sentence_vectors([text[:600] for text in texts])
    about = _title_matches(kb, notes, vector, weights)
    wants_number = bool(_ASKS_NUMBER.search(question))
    best_hit: dict[str, float] = {}
    for hit in hits:
        best_hit.setdefault(hit.note_id, hit.score)
    candidates = []
    for (hit, sentence, before), text, own in zip(spans, texts, vectors, strict=True):
        nearness, names = about[hit.note_id]
        covers = stems(text) & weights.keys()
        leans = _is_dependent(text, weights.keys() | stems(hit.title))
        opens = sentence.start < _opening_end(notes[hit.note_id].text)
        cosine = float(own @ vector)
        score = cosine + 0.3 * weight_share(covers, weights) + 0.2 * weight_share(covers | names, weights)
        score += 0.2 * hit.score + 0.2 * best_hit[hit.note_id] + 0.25 * nearness
        score += 0.06 * opens - 0.05 * leans + _form_score(sentence, text)
        score += 0.05 * (wants_number and any(map(str.isdigit, text)))
        span = (before.start, before.end) if before else None
        candidates.append(
            Candidate(
                hit.note_id, hit.title, sentence.start, sentence.end, text, score, cosine, covers, leans, opens, span, own
            )
        )
    candidates.sort(key=lambda candidate: (-candidate.score, candidate.note_id, candidate.start))
    _, vectors_found = kb.store.vectors_of(kb.embedder.name, kb.embedder.size, [hit.chunk_id for hit in hits])
    nearest = float((vectors_found @ vector).max()) if len(vectors_found) else 0.0
    return Retrieval(question, vector, hits, notes, weights, unknown, nearest, candidates)


def _title_matches(
    kb: KnowledgeBase, notes: Mapping[str, Note], vector: Vectors, weights: Mapping[str, float]
) -> dict[str, tuple[float, frozenset[str]]]:
    """For each note: cosine of its title to the question, and the question's stems in its title and aliases."""
    near = (kb.sentence_vectors([note.title for note in notes.values()]) @ vector).tolist()
    return {
        note.id: (value, stems(" ".join((note.title, *note.aliases))) & weights.keys())
        for note, value in zip(notes.values(), near, strict=True)
    }


def _is_dependent(text: str, subjects: Collection[str]) -> bool:
    """Whether a sentence refers back: it starts with a pronoun, a connective, or “the …” with an unknown subject."""
    if _ANAPHOR.match(text):
        return True
    definite = _DEFINITE.match(text)
    return definite is not None and not stems(definite[1]) & frozenset(subjects)


def _select_hits(hits: Sequence[Hit]) -> list[Hit]:
    """The best chunks: few per note if many notes match, more if few do."""
    notes = list(dict.fromkeys(hit.note_id for hit in hits))[:_NOTES]
    each = _CHUNKS_PER_NOTE if len(notes) > 6 else _CHUNKS
    counts: dict[str, int] = {}
    chosen = []
    for hit in hits:
        if hit.note_id in notes and counts.get(hit.note_id, 0) < each:
            counts[hit.note_id] = counts.get(hit.note_id, 0) + 1
            chosen.append(hit)
    return chosen[:_CHUNKS] if len(notes) <= 6 else chosen


def _sentences_in(text: str, hit: Hit) -> list[tuple[Sentence, Sentence | None]]:
    """The sentences of a chunk, each with the previous one in the same paragraph."""
    out: list[tuple[Sentence, Sentence | None]] = []
    before: Sentence | None = None
    for sentence in cached_sentences(text):
        if sentence.start >= hit.end:
            break
        if sentence.start >= hit.start:
            joined = before is not None and sentence.block == "paragraph" and before.block == "paragraph"
            near = joined and before is not None and "\n\n" not in text[before.end : sentence.start]
            out.append((sentence, before if near else None))
        before = sentence
    return out


def _opening_end(text: str) -> int:
    """The end of a note's first paragraph of prose."""
    first = next((s for s in cached_sentences(text) if s.block == "paragraph"), None)
    end = text.find("\n\n", first.start) if first else 0
    return end if end >= 0 else len(text)


@lru_cache(maxsize=1024)
def cached_sentences(text: str) -> tuple[Sentence, ...]:
    return sentences(text)


def _stem_weights(kb: KnowledgeBase, question: str) -> tuple[dict[str, float], list[str]]:
    total = len(kb.catalogue.numbers)
    weights: dict[str, float] = {}
    unknown: list[str] = []
    for word in content_words(question)[:48]:
        frequency = kb.store.document_frequency(word)
        if not frequency:
            unknown.append(word)
        weights[stem(word)] = math.log(1 + total / (0.5 + frequency))
    return weights, unknown


def weight_share(covers: Collection[str], weights: Mapping[str, float]) -> float:
    """The share of the question's weight in these stems, 0 to 1."""
    total = sum(weights.values())
    return sum(weights[word] for word in covers) / total if total else 0.0


def _form_score(sentence: Sentence, text: str) -> float:
    """The part of the score for form: complete sentences of moderate length are best."""
    words = len(text.split())
    score = {"paragraph": 0.0, "quote": -0.02, "list": -0.04, "table": -0.2}[sentence.block]
    score -= 0.3 if words < 6 else 0.1 if words > 70 else 0.0
    if text.endswith(("?", ":")):
        score -= 0.15
    elif not _FINISHED.search(text):
        score -= 0.25 if words < 10 else 0.1
    return score
