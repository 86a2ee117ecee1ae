"""What passkb adds to a written answer: time before the first words beyond the server's own, and for the check after the last.

The model is a script behind real HTTP that waits before its first word as a server does that reads a prompt, and then writes
ten sentences from the passages it was offered.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path

from bench.figures import Figure, spread
from ingest.pipeline import ingest
from kb.knowledge_base import KnowledgeBase
from kb.notes import NoteKind
from service.answering.check.entailment import Checker, CheckResult, EmbeddedChecker, Pair
from service.answering.generate.writer import write
from service.answering.retrieve.candidates import retrieve
from service.answering.retrieve.sufficiency import assess
from service.llm.client import LanguageModel
from tests.service.answering.scripted_server import Body, Reply, serving

ROOT = Path(__file__).parent.parent
QUESTIONS = ROOT / "tests" / "service" / "answering" / "questions.jsonl"
_FIRST = 0.4  # seconds that the scripted server takes to its first token
_ASKED = 25
_SENTENCES = 10


def measure(scratch: Path) -> list[Figure]:
    with KnowledgeBase(scratch / "home") as kb, serving(_ten_sentences) as server:
        ingest(kb, [ROOT / "samples" / "vault"])
        model = LanguageModel(server.url, "scripted")
        checker = _Timed(EmbeddedChecker(kb.sentence_vectors))
        waits, checks, after, checked = [], [], [], []
        for question in _questions(kb):
            first: list[float] = []
            last: list[float] = []

            def shown(text: str, first: list[float] = first, last: list[float] = last) -> None:
                first.append(time.perf_counter())
                last[:] = [time.perf_counter()]

            calls, checker.seconds = len(server.asked), 0.0
            started = time.perf_counter()
            answer = write(kb, question, model, on_text=shown, checker=checker)
            ended = time.perf_counter()
            waits.append(first[0] - started - _FIRST)
            checks.append(checker.seconds)
            after += [ended - last[0]] if len(server.asked) == calls + 1 else []
            checked.append(len(answer.statements) + len(answer.dropped))
    warm, checks = waits[1:], checks[1:]  # the first question loads libraries
    return [
        Figure("questions; sentences an answer", f"{len(warm)}; {min(checked)} to {max(checked)}"),
        Figure("**first words**, s after the server's own first token", spread(warm, 3), "at most 0.5", max(warm) <= 0.5),
        Figure("the same for the first question of a process (libraries load), s", f"{waits[0]:.2f}"),
        Figure("**the check of an answer**, s", spread(checks, 3), "under 1", max(checks) < 1),
        Figure(
            f"from the last word to the whole answer, s ({len(after)} in which no sentence was rewritten)", spread(after, 3)
        ),
    ]


class _Timed:
    """A checker that knows how long it took in all."""

    def __init__(self, checker: Checker) -> None:
        self._checker, self.seconds = checker, 0.0

    def check(self, pairs: Sequence[Pair]) -> list[CheckResult]:
        started = time.perf_counter()
        try:
            return self._checker.check(pairs)
        finally:
            self.seconds += time.perf_counter() - started


def _questions(kb: KnowledgeBase) -> list[str]:
    entries = map(json.loads, QUESTIONS.read_text(encoding="utf-8").splitlines())
    found = (str(entry["question"]) for entry in entries if entry["answerable"])
    return [question for question in found if assess(retrieve(kb, question, (NoteKind.INQUIRY,))).enough][: _ASKED + 1]


def _ten_sentences(body: Body) -> Reply:
    """The first ten passages as they stand, each with its key before the stop."""
    prompt = body["messages"][-1]["content"]
    passages = re.findall(r"^\[(\d+)\] (.+[a-z])\.$", prompt, re.M)[:_SENTENCES]
    text = " ".join(f"{words} [{key}]." for key, words in passages)
    return Reply([text[i : i + 12] for i in range(0, len(text), 12)], first=_FIRST)
