"""A passkb home as a llama-index retriever and query engine. Citations are node metadata."""

from __future__ import annotations

from typing import Any

from llama_index.core.base.response.schema import Response
from llama_index.core.query_engine import CustomQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from kb.knowledge_base import KnowledgeBase
from kb.notes import Note
from service.answering.answer import Answer
from service.answering.extractive import ask
from service.answering.generate.writer import write

_OFFSETS = ["note_id", "path", "start", "end", "quote"]  # metadata that embeddings and prompts leave out


class PasskbRetriever(BaseRetriever):
    """Retrieves the `k` best passages. Metadata: note_id, title, path, start, end and quote, with
    `quote == text[start:end]` of the note."""

    def __init__(self, kb: KnowledgeBase, k: int = 10, **options: Any) -> None:
        super().__init__(**options)
        self._kb, self._k = kb, k

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        with self._kb.reading():
            _, hits = self._kb.search(query_bundle.query_str, self._k)
            notes = self._kb.store.notes(hit.note_id for hit in hits)
        return [
            NodeWithScore(node=_node(hit.chunk_id, notes[hit.note_id], hit.start, hit.end), score=hit.score)
            for hit in hits
            if hit.note_id in notes
        ]


class PasskbQueryEngine(CustomQueryEngine):
    """Answers with `ask`, or with `write` if there is a `model` (`service.llm.client.Model`).

    The response has one source node per citation, in the order of the numbers in its text; its metadata holds the whole
    answer as JSON (CONTRACT: `ask`). Raises PasskbError for an invalid question.
    """

    kb: KnowledgeBase
    model: Any = None

    def custom_query(self, query_str: str) -> Response:
        answer = write(self.kb, query_str, self.model) if self.model else ask(self.kb, query_str)
        citations = {c.number: c for statement in answer.statements for c in statement.citations}
        notes = self.kb.store.notes(citation.note_id for citation in citations.values())
        nodes = [
            NodeWithScore(node=_node(f"{c.note_id}:{c.start}-{c.end}", notes[c.note_id], c.start, c.end))
            for _, c in sorted(citations.items())
            if c.note_id in notes
        ]
        return Response(response=_response_text(answer), source_nodes=nodes, metadata=answer.to_json())


def _node(id_: str, note: Note, start: int, end: int) -> TextNode:
    quote = note.text[start:end]
    metadata = {"note_id": note.id, "title": note.title, "path": note.path, "start": start, "end": end, "quote": quote}
    return TextNode(
        id_=id_, text=quote, metadata=metadata, start_char_idx=start, end_char_idx=end,
        excluded_embed_metadata_keys=_OFFSETS, excluded_llm_metadata_keys=_OFFSETS,
    )  # fmt: skip


def _response_text(answer: Answer) -> str:
    """The statements with the numbers of their citations, or the reason for a refusal."""
    statements = (
        f"{statement.text} {''.join(f'[{citation.number}]' for citation in statement.citations)}".rstrip()
        for statement in answer.statements
    )
    return "\n\n".join(statements) if answer.answered else answer.reason
