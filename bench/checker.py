"""How often the check of a sentence against its spans is right, on labelled pairs, and how long it takes."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from bench.figures import Figure, spread
from kb.embedding import MiniLM
from service.answering.answer import Support
from service.answering.check.entailment import Checker, EmbeddedChecker
from service.answering.check.error_rates import (
    CHECKER_RATES,
    GRADES,
    ErrorRates,
    LabelledPair,
    Rate,
    count_grades,
    load_labelled_pairs,
    parse_labelled_pair,
)

PAIRS = Path(__file__).parent.parent / "tests" / "service" / "answering" / "pairs.jsonl"
_TIMED = 20  # answers of ten sentences
_RIGHT = 0.9


def measure(scratch: Path) -> list[Figure]:
    checker = EmbeddedChecker(MiniLM())
    blind = blind_figures(checker)
    rows = [Figure("blind pairs", str(blind.pairs)), *_rates(blind), *_confusion(blind), *_kinds(blind)]
    unseen = [entry for entry in load_labelled_pairs() if not _seen(entry)]
    rows.append(Figure(f"supported on the {len(unseen)} of them whose span was never seen: precision; recall",
                       _both(_figures(checker, unseen), Support.SUPPORTED)))  # fmt: skip
    for split in ("fresh", "held-out", "development"):
        figures = _figures(checker, learned_from(split))
        told = f"supported on {figures.pairs} pairs learned from ({split}), for comparison: precision; recall"
        rows.append(Figure(told, _both(figures, Support.SUPPORTED)))
    return [*rows, _seconds(checker, learned_from("development"))]


def publish() -> None:
    """Writes the figures that the app shows."""
    told = blind_figures(EmbeddedChecker(MiniLM())).to_json()
    CHECKER_RATES.write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def blind_figures(checker: Checker) -> ErrorRates:
    return _figures(checker, load_labelled_pairs())


def learned_from(split: str) -> list[LabelledPair]:
    entries = map(json.loads, PAIRS.read_text(encoding="utf-8").splitlines())
    return [parse_labelled_pair(entry) for entry in entries if entry["split"] == split]


def _seen(entry: LabelledPair) -> bool:
    learned = [span for split in ("fresh", "held-out", "development") for old in learned_from(split) for span in old.pair.spans]
    return any(own in span or span in own for own in entry.pair.spans for span in learned)


def _figures(checker: Checker, pairs: Sequence[LabelledPair]) -> ErrorRates:
    started = time.perf_counter()
    grades = checker.check([entry.pair for entry in pairs])
    return count_grades("embedded", pairs, grades, time.perf_counter() - started)


def _told(rate: Rate) -> str:
    told = f"{rate.hits} of {rate.total} ({100 * rate.share:.1f}%; {100 * rate.low:.0f} to {100 * rate.high:.0f})"
    return told if rate.total else "none"


def _both(figures: ErrorRates, grade: str) -> str:
    return f"{_told(figures.precision(grade))}; {_told(figures.recall(grade))}"


def _rates(figures: ErrorRates) -> list[Figure]:
    rows = []
    for grade in GRADES:
        supported = grade is Support.SUPPORTED
        budget = "at least 90 % of those graded so" if supported else ""
        holds = figures.precision(grade).share >= _RIGHT if supported else None
        rows.append(Figure(f"**{grade}**: precision; recall", _both(figures, grade), budget, holds))
    return rows


def _confusion(figures: ErrorRates) -> list[Figure]:
    return [
        Figure(
            f"labelled {label}, graded supported, partial, unsupported",
            ", ".join(str(figures.counts[label][g]) for g in GRADES),
        )
        for label in GRADES
    ]


def _kinds(figures: ErrorRates) -> list[Figure]:
    return [Figure(f"{kind}: graded as labelled", _told(Rate(*figures.kinds[kind]))) for kind in figures.kinds]


def _seconds(checker: Checker, entries: Sequence[LabelledPair]) -> Figure:
    """Answers of ten sentences each, none seen before in this timing, nothing remembered between them."""
    times = []
    for i in range(_TIMED):
        pairs = [entry.pair for entry in entries[10 * i : 10 * i + 10]]
        started = time.perf_counter()
        checker.check(pairs)
        times.append(time.perf_counter() - started)
    return Figure("**checking ten sentences**, s", spread(times, 3), "under 1", max(times) < 1)
