"""What is measured on: a vault, the same vault ten times over, questions, and documents with gold spans."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared" / "data"
VAULT = SHARED / "vault-secondbrain"
SPANS = SHARED / "chroma-spans"
_SHAPES = (
    "What is {}?",
    "How does {} work?",
    "When should I use {}?",
    "What are the limits of {}?",
    "Why does {} matter in practice?",
)


class Absent(Exception):
    """The data of a part is not on this machine."""


@dataclass(frozen=True, slots=True)
class SpanQuestion:
    """A question and where its answer stands: half-open character ranges of one document."""

    text: str
    document: str
    gold: tuple[tuple[int, int], ...]


def vault() -> Path:
    """Raises Absent when the vault is not there."""
    if not VAULT.is_dir():
        raise Absent(f"{VAULT} is not there")
    return VAULT


def notes(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.md"))


def questions(folder: Path, count: int) -> list[str]:
    """Distinct questions about the titles of a vault's notes, in a fixed order."""
    titles = sorted({path.stem for path in notes(folder)})
    asked = [shape.format(title) for shape in _SHAPES for title in titles]
    return random.Random(7).sample(asked, min(count, len(asked)))


def grow(source: Path, target: Path, times: int) -> int:
    """Writes a vault of `times` as many notes: the notes of `source`, and others whose paragraphs are drawn from all of them.

    A drawn note has as many paragraphs as the note that it stands in for, so that lengths and empty notes keep their share.
    How many notes were written.
    """
    draw = random.Random(11)
    files = notes(source)
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in files]
    paragraphs = [[part for part in text.split("\n\n") if part.strip()] for text in texts]
    pool = [part for parts in paragraphs for part in parts]
    words = sorted({word for path in files for word in path.stem.split() if word.isalpha()})
    for path, text in zip(files, texts, strict=True):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text, encoding="utf-8")
    for i in range((times - 1) * len(files)):
        name = f"{' '.join(draw.sample(words, 3))} {i}"
        text = "\n\n".join(draw.sample(pool, len(paragraphs[i % len(files)])))
        (target / f"{name}.md").write_text(text, encoding="utf-8")
    return times * len(files)


def span_documents() -> dict[str, str]:
    """Id -> text. Raises Absent when the documents are not there."""
    return {entry["_id"]: entry["text"] for entry in _lines(SPANS / "corpus.jsonl")}


def span_questions() -> list[SpanQuestion]:
    out = []
    for entry in _lines(SPANS / "queries.jsonl"):
        gold = tuple((ref["start_index"], ref["end_index"]) for ref in entry["metadata"]["references"])
        out.append(SpanQuestion(entry["text"], entry["metadata"]["corpus_id"], gold))
    return out


def _lines(path: Path) -> list[Any]:
    if not path.is_file():
        raise Absent(f"{path} is not there")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
