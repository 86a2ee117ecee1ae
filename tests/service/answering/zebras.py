"""Four notes on zebra stripes that disagree, models that write about them, and what holds of every written answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ingest.pipeline import ingest
from kb.embedding import MiniLM
from kb.knowledge_base import KnowledgeBase
from service.answering.answer import Answer, Support
from service.answering.generate.prompts import CORRECTION_RULES
from service.answering.generate.writer import write
from service.llm.client import LanguageModel, Timeouts
from tests.service.answering.scripted_server import Body, Reply, ScriptedServer, said

KEY = "sk-secret-4711"
QUICK = Timeouts(tries=2, backoff=0.01, max_retry_after=1.0, first_output=1.0, between_outputs=0.3)
QUESTION = "Why do zebras have stripes, do zebra stripes keep biting flies away?"
FLIES = "Zebra stripes keep biting flies from landing."
TRIAL = "In a field trial striped horses had 25 % fewer fly landings than plain horses."
HEAT = "Zebra stripes cool the animal by stirring the air above its coat, and flies have nothing to do with it."
BOTH = "Whether zebra stripes serve against flies or heat may depend on the season."
VAULT = {
    "flies.md": (
        "---\ntitle: Zebra stripes against flies\nclaims:\n  - {id: c, text: Zebra stripes keep biting flies away from zebras, "
        "evidence: ['[[Evidence of the stripe count]]']}\n---\n"
        f"{FLIES} {TRIAL} The flies fly past a striped coat because they see it too late.\n"
    ),
    "heat.md": (
        "---\ntitle: Zebra stripes against heat\nlinks:\n  - {to: '[[Zebra stripes against flies]]', type: contradicts, "
        "why: explains stripes by cooling where that note explains them by flies}\n---\n"
        f"{HEAT} Measured on 12 zebras, black stripes were 15 degrees warmer than white ones.\n"
    ),
    "season.md": (
        "---\ntitle: Zebra stripes by season\nlinks:\n"
        "  - {to: '[[Zebra stripes against flies]]', type: qualifies, why: seasonal}\n"
        f"  - {{to: '[[Zebra stripes against heat]]', type: qualifies, why: seasonal}}\n---\n{BOTH}\n"
    ),
    "evidence.md": (
        "---\ntitle: Evidence of the stripe count\nkind: evidence\ndate: 2026-11-20\nstatus: supported\nlinks:\n"
        "  - {to: '[[Zebra stripes against flies#c]]', type: evidence_for, why: counted}\n---\n"
        "Striped zebra coats kept 21.0 % (18.0 to 24.0) of biting flies away with k = 8 zebras, 64 attempts each.\n"
    ),
}  # fmt: skip


def filled(folder: Path, minilm: MiniLM, files: Mapping[str, str]) -> KnowledgeBase:
    vault = folder / "vault"
    vault.mkdir()
    for name, text in files.items():
        (vault / name).write_text(text, encoding="utf-8")
    opened = KnowledgeBase(folder / "home", minilm)
    assert not ingest(opened, [vault]).failed
    return opened


def key_of(body: Body, text: str) -> int:
    """The key under which a passage that begins so was offered."""
    prompt = body["messages"][-1]["content"]
    found = re.search(rf"^\[(\d+)\] {re.escape(text[:30])}", prompt, re.M)
    assert found, prompt
    return int(found[1])


def writes(template: str, again: str = "1. DROP\n2. DROP", **more: Any) -> Callable[[Body], Reply]:
    """A model that fills `{flies}`, `{trial}`, `{heat}`, `{both}` with the keys it was offered; asked to correct, `again`."""

    def reply(body: Body) -> Reply:
        if body["messages"][0]["content"] == CORRECTION_RULES:
            return said(again)
        texts = {"flies": FLIES, "trial": TRIAL, "heat": HEAT, "both": BOTH}
        wanted = {name: key_of(body, text) for name, text in texts.items() if f"{{{name}}}" in template}
        for name, key in wanted.items():
            template_now[0] = template_now[0].replace(f"{{{name}}}", str(key))
        return said(template_now[0], **more)

    template_now = [template]
    return reply


def written(kb: KnowledgeBase, server: ScriptedServer, question: str = QUESTION, **more: Any) -> Answer:
    answer = write(kb, question, LanguageModel(server.url, "scripted", KEY, QUICK), **more)
    honest(kb, answer, server)
    return answer


def honest(kb: KnowledgeBase, answer: Answer, server: ScriptedServer) -> None:
    """What holds of every answer, whatever the model did."""
    cited = [citation for statement in (*answer.statements, *answer.dropped) for citation in statement.citations]
    cited += [side for entry in answer.disagreements for side in (entry.source_says, entry.target_says) if side]
    for citation in cited:
        note = kb.store.note(citation.note_id)
        assert note is not None and citation.quote == note.text[citation.start : citation.end] and citation.quote
    shown = {(c.note_id, c.start, c.end): c.number for s in answer.statements for c in s.citations}
    assert sorted(shown.values()) == list(range(1, len(shown) + 1))
    if answer.mode == "generated":
        assert answer.model == "scripted" or not answer.answered
        assert all(s.citations for s in answer.statements if s.support in (Support.SUPPORTED, Support.PARTIAL))
        assert all(s.reason for s in answer.statements if s.support is not Support.SUPPORTED)
    else:
        assert answer.model is None and all(s.support is Support.QUOTED for s in answer.statements)
    assert KEY not in json.dumps([answer.to_json(), server.asked])


def quotes(answer: Answer) -> list[str]:
    return [citation.quote for statement in answer.statements for citation in statement.citations]


def texts(answer: Answer, *support: Support) -> list[str]:
    return [statement.text for statement in answer.statements if statement.support in (support or tuple(Support))]
