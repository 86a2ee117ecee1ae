"""How often the check of a sentence against its spans is right, on labelled pairs, and how long it takes."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure, spread
from kb.embedding import MiniLM
from service.answering.answer import Support
from service.answering.checking import Checked, Checker, EmbeddedChecker, Pair

PAIRS = Path(__file__).parent.parent / "tests" / "service" / "answering" / "pairs.jsonl"
GRADES = (Support.SUPPORTED, Support.PARTIAL, Support.UNSUPPORTED)
_TIMED = 20  # answers of ten sentences
_RIGHT = 0.9


@dataclass(frozen=True, slots=True)
class Labelled:
    pair: Pair
    label: str
    kind: str


def measure(scratch: Path) -> list[Figure]:
    embedder = MiniLM()
    checker = EmbeddedChecker(embedder)
    held_out, development = labelled("held-out"), labelled("development")
    grades = checker.check([entry.pair for entry in held_out])
    rows = [Figure("pairs: development; held out", f"{len(development)}; {len(held_out)}")]
    rows += _confusion(held_out, grades) + _rates(held_out, grades) + _kinds(held_out, grades)
    seen = checker.check([entry.pair for entry in development])
    rows.append(Figure("supported on the development pairs, for comparison: precision; recall", _both(development, seen)))
    return [*rows, _seconds(checker, development)]


def labelled(split: str) -> list[Labelled]:
    entries = map(json.loads, PAIRS.read_text(encoding="utf-8").splitlines())
    return [
        Labelled(Pair(e["sentence"], [span["quote"] for span in e["spans"]]), e["label"], e["kind"])
        for e in entries
        if e["split"] == split
    ]


def precision(entries: Sequence[Labelled], grades: Sequence[Checked], grade: str) -> tuple[int, int]:
    """How many of those graded so are labelled so, and how many are graded so."""
    given = [entry.label for entry, checked in zip(entries, grades, strict=True) if checked.grade == grade]
    return sum(label == grade for label in given), len(given)


def recall(entries: Sequence[Labelled], grades: Sequence[Checked], grade: str) -> tuple[int, int]:
    """How many of those labelled so are graded so, and how many are labelled so."""
    found = [checked.grade for entry, checked in zip(entries, grades, strict=True) if entry.label == grade]
    return sum(given == grade for given in found), len(found)


def _share(counts: tuple[int, int]) -> str:
    hits, total = counts
    return f"{hits} of {total} ({100 * hits / total:.1f}%)" if total else "none"


def _both(entries: Sequence[Labelled], grades: Sequence[Checked], grade: str = Support.SUPPORTED) -> str:
    return f"{_share(precision(entries, grades, grade))}; {_share(recall(entries, grades, grade))}"


def _confusion(entries: Sequence[Labelled], grades: Sequence[Checked]) -> list[Figure]:
    counts = Counter((entry.label, str(checked.grade)) for entry, checked in zip(entries, grades, strict=True))
    return [
        Figure(f"labelled {label}, graded supported, partial, unsupported", ", ".join(str(counts[label, g]) for g in GRADES))
        for label in GRADES
    ]


def _rates(entries: Sequence[Labelled], grades: Sequence[Checked]) -> list[Figure]:
    rows = []
    for grade in GRADES:
        hits, total = precision(entries, grades, grade)
        budget = "at least 90 % of those graded so" if grade == Support.SUPPORTED else ""
        holds = total > 0 and hits >= _RIGHT * total if budget else None
        rows.append(Figure(f"**{grade}**: precision; recall", _both(entries, grades, grade), budget, holds))
    return rows


def _kinds(entries: Sequence[Labelled], grades: Sequence[Checked]) -> list[Figure]:
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for entry, checked in zip(entries, grades, strict=True):
        total[entry.kind] += 1
        right[entry.kind] += checked.grade == entry.label
    return [Figure(f"{kind}: graded as labelled", _share((right[kind], total[kind]))) for kind in sorted(total)]


def _seconds(checker: Checker, entries: Sequence[Labelled]) -> Figure:
    """Answers of ten sentences each, none seen before in this timing, nothing remembered between them."""
    times = []
    for i in range(_TIMED):
        pairs = [entry.pair for entry in entries[10 * i : 10 * i + 10]]
        started = time.perf_counter()
        checker.check(pairs)
        times.append(time.perf_counter() - started)
    return Figure("**checking ten sentences**, s", spread(times, 3), "under 1", max(times) < 1)
