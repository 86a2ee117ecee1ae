"""What a written answer makes of a stream: reasoning, tool calls, markup, and servers that fail, fall silent or die."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from kb.knowledge_base import KnowledgeBase
from service.answering.answer import Support
from service.answering.extractive import ask
from service.answering.generate.writer import write
from service.llm.client import LanguageModel
from tests.service.answering.scripted_server import Reply, said, serving
from tests.service.answering.zebras import (
    FLIES,
    HEAT,
    KEY,
    QUESTION,
    QUICK,
    texts,
    writes,
    written,
)


@pytest.mark.parametrize("opening", ["<think>", "<thinking>", ""])
def test_reasoning_is_folded_away(zebras: KnowledgeBase, opening: str) -> None:
    shown: list[str] = []
    close = "</thinking>" if opening == "<thinking>" else "</think>"
    with serving(
        writes(f"{opening}Flies? Maybe [7]. Secretly heat.{close}\n{FLIES[:-1]} [{{flies}}].", between=0.001)
    ) as server:
        answer = written(zebras, server, on_text=shown.append)
    assert texts(answer)[0] == FLIES and "Secretly heat." in answer.reasoning
    assert shown[-1] == f"{FLIES[:-1]} [1]."
    assert not opening or not any("Secretly" in text or "<" in text for text in shown)


def test_a_reasoning_block_that_never_ends_leaves_quotes(zebras: KnowledgeBase) -> None:
    with serving(said("<think>Round and round", finish="length")) as server:
        answer = written(zebras, server)
    assert answer.mode == "quoted" and answer.answered and "limit" in answer.fault and "Round" in answer.reasoning


def test_reasoning_that_the_server_tells_apart_is_not_shown(zebras: KnowledgeBase) -> None:
    shown: list[str] = []
    with serving(writes(f"{FLIES[:-1]} [{{flies}}].", thoughts=["Hm. ", "Heat?"])) as server:
        answer = written(zebras, server, on_text=shown.append)
    assert answer.reasoning == "Hm. Heat?" and not any("Hm" in text for text in shown)


@pytest.mark.parametrize(
    "call",
    [
        '<tool_call>\n{"name": "start_experiment", "arguments": {"n": 1}}\n</tool_call>',
        '{"name": "start_experiment", "arguments": {"n": 1}}',
        "<function=start_experiment>{}</function>",
        '[TOOL_CALLS][{"name": "start_experiment", "arguments": {}}]',
    ],
)
def test_tool_calls_are_no_words(zebras: KnowledgeBase, call: str) -> None:
    with serving(writes(f"{FLIES[:-1]} [{{flies}}].\n\n{call}")) as server:
        answer = written(zebras, server)
    assert texts(answer)[0] == FLIES and "start_experiment" not in json.dumps(answer.to_json())
    assert "tools" not in server.asked[0]


def test_a_tool_call_beside_the_text_is_passed_over(zebras: KnowledgeBase) -> None:
    call = {
        "tool_calls": [{"index": 0, "id": "1", "type": "function", "function": {"name": "start_experiment", "arguments": "{}"}}]
    }
    with serving(writes(f"{FLIES[:-1]} [{{flies}}].", deltas=[call])) as server:
        answer = written(zebras, server)
    assert texts(answer)[0] == FLIES and "start_experiment" not in json.dumps(answer.to_json())


def test_half_open_markup_stays_text(zebras: KnowledgeBase) -> None:
    shown: list[str] = []
    with serving(writes(f"{FLIES[:-1]} [{{flies}}]. Then <b>bold <img src=x onerror=", between=0.001)) as server:
        answer = written(zebras, server, on_text=shown.append)
    assert "<b>bold" in answer.statements[1].text and answer.statements[1].support is Support.UNSUPPORTED
    assert "<b>bold" in shown[-1]


FAULTS = {
    "an empty stream": (Reply(), "wrote nothing"),
    "a stream cut before its first word": (Reply(finish=None), "without output"),
    "a busy server": (Reply(status=429, error="busy"), "429 busy"),
    "a broken server": (Reply(status=500, error="out of memory"), "500 out of memory"),
    "a silent server": (said("Late.", first=2.5), "sent nothing for 1 s"),
    "an unknown model": (Reply(status=404, error="no such model"), "no such model"),
    "nonsense": (said("Bananas are curved because they grow towards the light. So it is."), "notes support"),
}


@pytest.mark.parametrize(("fault", "told"), FAULTS.values(), ids=FAULTS)
def test_where_the_model_fails_the_notes_speak_for_themselves(zebras: KnowledgeBase, fault: Reply, told: str) -> None:
    with serving(fault) as server:
        answer = written(zebras, server)
    assert answer.answered and answer.mode == "quoted" and told in answer.fault
    assert answer.statements == ask(zebras, QUESTION).statements


def test_nobody_there(zebras: KnowledgeBase) -> None:
    answer = write(zebras, QUESTION, LanguageModel("http://127.0.0.1:9/v1", "m", KEY, QUICK))
    assert answer.mode == "quoted" and answer.answered and "http://127.0.0.1:9/v1 does not respond" in answer.fault


CUTS: dict[str, dict[str, Any]] = {"dies": {"dies": True}, "truncated": {"finish": None}, "silent": {"silent": 2.0}}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_what_was_written_before_the_server_went_stays(zebras: KnowledgeBase, cut: dict[str, Any]) -> None:
    shown: list[str] = []
    with serving(writes(f"{FLIES[:-1]} [{{flies}}]. In a field tr", **cut)) as server:
        answer = written(zebras, server, on_text=shown.append)
        assert len(server.asked) == 1
    assert answer.incomplete and "try again" in answer.fault and answer.mode == "generated"
    assert texts(answer)[:2] == [FLIES, "In a field tr"] and "cut off" in answer.statements[1].reason
    assert shown[-1].endswith("In a field tr")


def test_a_model_that_comes_to_no_end_is_shown_only_as_far_as_the_notes_bear_it_out(zebras: KnowledgeBase) -> None:
    with serving(said("Up and down and up and down and " * 20, finish="length")) as server:
        answer = written(zebras, server)
    assert answer.mode == "quoted" and "limit" in answer.fault and answer.statements == ask(zebras, QUESTION).statements
    with serving(writes(f"{FLIES[:-1]} [{{flies}}]. Up and down and", finish="length")) as server:
        answer = written(zebras, server)
    assert answer.mode == "generated" and answer.incomplete and "limit" in answer.fault
    assert texts(answer, Support.SUPPORTED)[0] == FLIES


def test_half_a_sentence_is_kept_too(zebras: KnowledgeBase) -> None:
    with serving(said("Zebra stripes ke", dies=True)) as server:
        answer = written(zebras, server)
    assert answer.incomplete and texts(answer, Support.UNSUPPORTED) == ["Zebra stripes ke"]


@pytest.mark.parametrize("status", [429, 500])
def test_a_busy_server_is_waited_for(zebras: KnowledgeBase, status: int) -> None:
    busy = Reply(status=status, headers={"Retry-After": "0.2"})
    with serving(busy, writes(f"{FLIES[:-1]} [{{flies}}].")) as server:
        answer = written(zebras, server)
    assert answer.mode == "generated" and answer.fault == "" and len(server.asked) == 2


def test_stopping_keeps_what_was_written(zebras: KnowledgeBase) -> None:
    shown: list[str] = []
    with serving(writes(f"{FLIES[:-1]} [{{flies}}]. {HEAT}", between=0.02)) as server:
        answer = written(zebras, server, on_text=shown.append, stop=lambda: bool(shown) and "[1]" in shown[-1])
        assert answer.incomplete and "stopped" in answer.fault and texts(answer)[0] == FLIES
    with serving(said("Never.", first=2.0)) as server:
        answer = written(zebras, server, stop=lambda: bool(server.asked))
    assert not answer.answered and answer.incomplete and answer.seconds < 2


def test_the_first_words_come_with_the_servers_first_token(zebras: KnowledgeBase) -> None:
    with serving(writes(f"{FLIES[:-1]} [{{flies}}].", first=0.2, between=0.01)) as server:
        model = LanguageModel(server.url, "scripted", KEY, QUICK)
        _ = model._llm  # a running app has loaded its libraries
        first: list[float] = []
        started = time.perf_counter()
        write(zebras, QUESTION, model, on_text=lambda _: first.append(time.perf_counter()))
        assert first[0] - server.sent_first[0] < 0.2
        assert first[0] - started < 0.2 + 0.5
