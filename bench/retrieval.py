"""How well search finds the passages that answer a question, where no link was written: nDCG@10 and recall@5 by note.

Every passage is a note. The weights of `kb/search.py` were chosen on the MuSiQue questions; the others report.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.data import SHARED, Absent
from bench.figures import Figure
from ingest.pipeline import ingest
from kb.knowledge_base import KnowledgeBase

TOP, RECALL = 10, 5
_HITS = 40  # chunks, so that ten notes are among them
Passages = Mapping[str, tuple[str, str]]
Questions = Sequence[tuple[str, frozenset[str]]]


def measure(scratch: Path) -> list[Figure]:
    figures = []
    for name, passages, questions in collections():
        folder = scratch / name / "notes"
        folder.mkdir(parents=True)
        for key, (title, text) in passages.items():
            (folder / f"p{key}.md").write_text(f"---\ntitle: {json.dumps(title)}\n---\n{text}\n", encoding="utf-8")
        with KnowledgeBase(scratch / name / "home") as kb:
            ingest(kb, [folder])
            scores = [score(_ranked(kb, question), gold) for question, gold in questions]
        ndcg, recall = (sum(column) / len(scores) for column in zip(*scores, strict=True))
        what = f"{name}: {len(questions)} questions, {len(passages):,} notes"
        figures.append(Figure(f"{what}; nDCG@{TOP}, recall@{RECALL}", f"{ndcg:.3f}, {recall:.3f}"))
    return figures


def score(ranked: Sequence[str], gold: frozenset[str]) -> tuple[float, float]:
    """nDCG@10 with binary relevance, and recall@5.

    >>> score(["x", "a", "y"], frozenset("ab"))  # 1/log2(3) of 1 + 1/log2(3)
    (0.3868528072345416, 0.5)
    """
    gain = sum(1 / math.log2(place + 2) for place, key in enumerate(ranked[:TOP]) if key in gold)
    ideal = sum(1 / math.log2(place + 2) for place in range(min(TOP, len(gold))))
    return gain / ideal, len(gold & set(ranked[:RECALL])) / len(gold)


def collections() -> Iterator[tuple[str, Passages, Questions]]:
    """Raises Absent when the data is not there."""
    for name in ("musique", "hotpot"):
        folder = SHARED / "multihop" / name
        if not folder.is_dir():
            raise Absent(f"{folder} is not there")
        relevant: dict[str, set[str]] = {}
        (table,) = (folder / "qrels").iterdir()
        for line in table.read_text(encoding="utf-8").splitlines()[1:]:
            question, passage, _ = line.split("\t")
            relevant.setdefault(question, set()).add(passage)
        passages = {entry["_id"]: (entry["title"], entry["text"]) for entry in _lines(folder / "corpus.jsonl")}
        questions = [
            (entry["text"], frozenset(relevant[entry["_id"]]))
            for entry in _lines(folder / "queries.jsonl")
            if entry["_id"] in relevant
        ]
        yield name, passages, questions
    yield "squad", *_squad(SHARED / "reader" / "squad2-part.jsonl")


def _squad(path: Path) -> tuple[Passages, Questions]:
    """Paragraphs as notes of their own titles, and every fourth answerable question."""
    if not path.is_file():
        raise Absent(f"{path} is not there")
    passages, questions = {}, []
    for number, entry in enumerate(_lines(path)):
        passages[str(number)] = f"{entry['title']}, part {number}", entry["context"]
        questions += [(item["question"], frozenset({str(number)})) for item in entry["questions"] if item["answerable"]]
    return passages, questions[::4]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _ranked(kb: KnowledgeBase, question: str) -> list[str]:
    notes = dict.fromkeys(hit.note_id for hit in kb.search(question, _HITS)[1])
    return [note_id.rpartition("/")[2].removeprefix("p") for note_id in notes]
