"""What a click in the page sends to the Ask tab: questions, memory, what is kept, runs that a person starts and stops."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from service.experiments.execution import control
from service.web.ask.conversation import Conversations
from service.web.ask.progress import Desk, exchange, kept, restored
from service.web.ask.runs import start_test, stop_test
from service.web.ask.tab import AskTab
from service.web.components.event_order import in_parallel, one_at_a_time
from service.web.event_effects import reads, writes


def listen_for_questions(bridge: Any, desk: Desk, talks: Conversations, tab: AskTab) -> None:
    """`bridge`: the hidden component whose events the page's script triggers."""

    @reads
    def questioned(mode: str, event: gr.EventData, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        question, wanted = str(event._data.get("question", "")), str(event._data.get("mode") or mode)
        yield from exchange(desk, talks.of(request.session_hash), question, wanted)

    @reads
    def remembered(event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
        return restored(desk, talks.of(request.session_hash), event._data.get("records"))

    @writes("keep an answer as an inquiry")
    def keeps(event: gr.EventData, request: gr.Request) -> tuple[Any, Any]:
        key, anyway = str(event._data.get("key", "")), event._data.get("replace") is True
        return kept(desk, talks.of(request.session_hash), key, replace_edited=anyway)

    @reads
    def forgotten(request: gr.Request) -> str:
        talks.of(request.session_hash).forget()
        return ""

    @writes("start a run")
    def started(event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
        claim, anew = str(event._data.get("claim", "")), event._data.get("again") is True
        return start_test(desk.kb, desk.working, talks.of(request.session_hash), claim, anew)

    @writes("cancel a run")
    def stopped(event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
        return stop_test(desk.kb, talks.of(request.session_hash), str(event._data.get("run", "")), control.cancel)

    @writes("resume a run")
    def resumed(event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
        shown = stop_test(desk.kb, talks.of(request.session_hash), str(event._data.get("run", "")), control.resume)
        desk.working.wake()
        return shown

    bridge.question(questioned, [tab.mode], tab.outputs, **in_parallel("ask"))
    bridge.restore(remembered, None, [tab.earlier, tab.opened], **in_parallel("ask"))
    bridge.keep(keeps, None, [tab.answer, tab.earlier], **in_parallel("ask"))
    bridge.forget(forgotten, None, [tab.earlier], **in_parallel("ask"))
    bridge.start(started, None, tab.tests, **one_at_a_time("watch"))
    bridge.stop(stopped, None, tab.tests, **one_at_a_time("watch"))
    bridge.resume(resumed, None, tab.tests, **one_at_a_time("watch"))
