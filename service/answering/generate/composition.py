"""Composes the answer from graded sentences, with exact citations, labelled evidence and both sides of disagreements."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from kb.knowledge_base import KnowledgeBase
from kb.markdown.blocks import plain
from kb.notes import LinkType, NoteKind
from service.answering.answer import Answer, Citation, Statement, Support
from service.answering.extractive import assemble_answer
from service.answering.generate.context import Context, Dissent, Passage, evidence_label
from service.answering.generate.sentence_grades import GradedSentence
from service.answering.retrieve.candidates import Retrieval
from service.answering.surroundings import Numbering

_MAX_DISSENTS = 2


def compose_answer(
    kb: KnowledgeBase, retrieval: Retrieval, exclude: Collection[str], context: Context, graded: Sequence[GradedSentence]
) -> Answer:
    """The answer from graded sentences. Contradicted sentences are dropped, one-sided disagreements completed."""
    numbering = Numbering()
    statements: list[Statement] = []
    dropped: list[Statement] = []
    with kb.reading():
        for entry in graded:
            (dropped if entry.contradicted else statements).append(
                _make_statement(kb, entry, context, numbering, entry.contradicted)
            )
        cited = {citation.note_id for statement in statements for citation in statement.citations}
        last = statements[-1].paragraph + 1 if statements else 0
        statements += [
            dissent
            for dissent in (_dissent_statement(kb, entry, numbering, last) for entry in _one_sided_dissents(context, cited))
            if dissent
        ]
        answer = assemble_answer(kb, retrieval, exclude, tuple(statements), numbering)
    return replace(answer, mode="generated", dropped=tuple(dropped))


def _make_statement(
    kb: KnowledgeBase, entry: GradedSentence, context: Context, numbering: Numbering, dropped: bool
) -> Statement:
    sentence = entry.sentence
    passages = [context.at(key) for key in entry.keys]
    citations = tuple(
        citation for passage in passages if (citation := _cite(kb, passage, Numbering() if dropped else numbering))
    )
    grade, reason = entry.grade, entry.reason
    if len(citations) < len(passages):
        grade, reason = Support.UNSUPPORTED, "a cited note has changed in the meantime"
    if sentence.cut:
        reason = "; ".join(filter(None, (reason, "cut off")))
    text = _with_evidence_label(sentence.text, passages)
    return Statement(text, grade, citations, "lede" if sentence.paragraph == 0 else "body", reason, sentence.paragraph)


def _cite(kb: KnowledgeBase, passage: Passage, numbering: Numbering) -> Citation | None:
    """None if the note changed while the model was writing."""
    note = kb.store.note(passage.note.id)
    same = note is not None and note.text[passage.start : passage.end] == passage.quote
    return numbering.cite(note, passage.start, passage.end) if note is not None and same else None


def _with_evidence_label(text: str, passages: Sequence[Passage]) -> str:
    """Adds the date and figures of cited evidence to a sentence without them."""
    for passage in passages:
        if passage.note.kind is NoteKind.EVIDENCE:
            label = evidence_label(passage.note)
            date = str(passage.note.properties.get("date") or "")[:10]
            if date and date not in text:
                stem = text.rstrip(".!?… ")
                text = f"{stem} ({label}){text[len(stem) :].strip() or '.'}"
    return text


def _one_sided_dissents(context: Context, cited: Collection[str]) -> list[Dissent]:
    """The contradictions of which the answer cites one side only."""
    return [
        entry
        for entry in context.dissents
        if entry.entry.type == LinkType.CONTRADICTS and len({entry.entry.source, entry.entry.target} & set(cited)) == 1
    ][:_MAX_DISSENTS]


def _dissent_statement(kb: KnowledgeBase, entry: Dissent, numbering: Numbering, paragraph: int) -> Statement | None:
    """A statement that quotes both sides of a disagreement; None if a note has changed."""
    sides = [entry.source, entry.target, *([entry.reconciled_by] if entry.reconciled_by else [])]
    citations = [_cite(kb, side, numbering) for side in sides]
    valid = [citation for citation in citations if citation]
    if len(valid) < len(sides):
        return None
    quotes = [f"“{plain(citation.quote)}”" for citation in valid]
    end = f"A note linked to both says: {quotes[2]}" if len(quotes) > 2 else "No note reconciles the two."
    text = f"The notes disagree here. {quotes[0]} Against that: {quotes[1]} {end}"
    return Statement(text, Support.SUPPORTED, tuple(valid), "body", "", paragraph)
