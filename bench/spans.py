"""How much of what answers a question is found and cited: characters against gold spans, over long documents."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.data import SpanQuestion, span_documents, span_questions
from bench.figures import Figure, median
from ingest.pipeline import ingest
from kb.knowledge_base import KnowledgeBase
from service.answering.extractive import ask

TOP = 5
Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Overlap:
    """Characters of one question: gold, given, and both."""

    gold: int
    given: int
    both: int

    @property
    def recall(self) -> float:
        return self.both / self.gold

    @property
    def precision(self) -> float:
        return self.both / self.given if self.given else 0.0

    @property
    def iou(self) -> float:
        return self.both / (self.gold + self.given - self.both)


def measure(scratch: Path) -> list[Figure]:
    """Every document is one note, written as it is; its text must come back unchanged for the offsets to hold."""
    documents, questions = span_documents(), span_questions()
    folder = scratch / "documents"
    folder.mkdir(parents=True)
    for name, text in documents.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8", newline="")
    with KnowledgeBase(scratch / "home") as kb:
        ingest(kb, [folder])
        names = _names(kb, documents)
        found, cited, ledes, seconds = [], [], [], []
        for question in questions:
            gold = _places((question.document, start, end) for start, end in question.gold)
            hits = kb.search(question.text, TOP)[1]
            found.append(_overlap(gold, _places((names[hit.note_id], hit.start, hit.end) for hit in hits)))
            answer = ask(kb, question.text)
            seconds.append(answer.seconds)
            if answer.answered:
                spans = [[(names[c.note_id], c.start, c.end) for c in s.citations] for s in answer.statements]
                cited.append(_overlap(gold, _places(span for statement in spans for span in statement)))
                ledes.append(_overlap(gold, _places(spans[0])))
            else:
                cited.append(Overlap(len(gold), 0, 0))
    return _figures(questions, documents, found, cited, ledes, seconds)


def _names(kb: KnowledgeBase, documents: dict[str, str]) -> dict[str, str]:
    """Note id -> document. Raises SystemExit when a note's text is not the document's."""
    names = {}
    for note_id, _, path, _, _ in kb.store.names():
        names[note_id] = Path(path).stem
        note = kb.store.note(note_id)
        if note is None or note.text != documents[names[note_id]]:
            raise SystemExit(f"{note_id}: the text was changed in reading, so that gold offsets do not hold")
    return names


def _places(spans: Iterable[tuple[str, int, int]]) -> set[Place]:
    return {(document, at) for document, start, end in spans for at in range(start, end)}


def _overlap(gold: set[Place], given: set[Place]) -> Overlap:
    return Overlap(len(gold), len(given), len(gold & given))


def _figures(
    questions: list[SpanQuestion],
    documents: dict[str, str],
    found: list[Overlap],
    cited: list[Overlap],
    ledes: list[Overlap],
    seconds: list[float],
) -> list[Figure]:
    answered = [overlap for overlap in cited if overlap.given]
    size = sum(map(len, documents.values()))
    return [
        Figure("questions; documents; their characters", f"{len(questions)}; {len(documents)}; {size:,}"),
        Figure(f"**gold characters covered by the top {TOP} chunks**", _share([o.recall for o in found])),
        Figure(f"top {TOP} chunks: precision; intersection over union", _precision(found)),
        Figure("questions answered", f"{len(answered)} ({len(answered) / len(questions):.1%})"),
        Figure(
            "**gold characters covered by the answer's citations**, unanswered counted as 0", _share([o.recall for o in cited])
        ),
        Figure("the same over answered questions", _share([o.recall for o in answered])),
        Figure("citations, answered questions: precision (gold share of what is cited); IoU", _precision(answered)),
        Figure("answers of which some citation meets the gold", _share([float(o.both > 0) for o in answered])),
        Figure("answers whose first statement meets the gold", _share([float(o.both > 0) for o in ledes])),
        Figure(
            "characters cited by an answer, median; by the top chunks, median",
            f"{median([o.given for o in answered]):.0f}; {median([o.given for o in found]):.0f}",
        ),
        Figure("an answer, s, median", f"{median(seconds):.2f}"),
    ]


def _share(values: list[float]) -> str:
    return f"{sum(values) / len(values):.1%}"


def _precision(overlaps: list[Overlap]) -> str:
    return f"{_share([o.precision for o in overlaps])}; {_share([o.iou for o in overlaps])}"
