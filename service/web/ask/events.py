"""Connects the page's script to the Ask tab: questions, history, saved answers, runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from service.experiments.execution import control
from service.web.ask.conversation import Conversations
from service.web.ask.progress import AskServices, answer_question, restore_history, save_answer
from service.web.ask.runs import change_run, start_test
from service.web.ask.tab import AskTab
from service.web.components.event_order import in_parallel, one_at_a_time
from service.web.event_effects import reads, writes


def connect_ask_events(bridge: Any, services: AskServices, conversations: Conversations, tab: AskTab) -> None:
    """`bridge`: the hidden component whose events the page's script triggers."""

    @reads
    def ask_question(mode: str, event: gr.EventData, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        question, event_mode = str(event._data.get("question", "")), str(event._data.get("mode") or mode)
        yield from answer_question(services, conversations.get(request.session_hash), question, event_mode)

    @reads
    def restore(event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
        return restore_history(services, conversations.get(request.session_hash), event._data.get("records"))

    @writes("save an answer as an inquiry")
    def save(event: gr.EventData, request: gr.Request) -> tuple[Any, Any]:
        key, replace_edited = str(event._data.get("key", "")), event._data.get("replace") is True
        return save_answer(services, conversations.get(request.session_hash), key, replace_edited=replace_edited)

    @reads
    def clear_history(request: gr.Request) -> str:
        conversations.get(request.session_hash).clear_earlier()
        return ""

    @writes("start a run")
    def start_run(event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
        claim, again = str(event._data.get("claim", "")), event._data.get("again") is True
        return start_test(services.kb, services.worker, conversations.get(request.session_hash), claim, again=again)

    @writes("cancel a run")
    def cancel_run(event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
        run_id = str(event._data.get("run", ""))
        return change_run(services.kb, conversations.get(request.session_hash), run_id, control.cancel)

    @writes("resume a run")
    def resume_run(event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
        run_id = str(event._data.get("run", ""))
        values = change_run(services.kb, conversations.get(request.session_hash), run_id, control.resume)
        services.worker.wake()
        return values

    bridge.ask_question(ask_question, [tab.mode], tab.outputs, **in_parallel("ask"))
    bridge.restore_history(restore, None, [tab.earlier, tab.source_articles], **in_parallel("ask"))
    bridge.save_answer(save, None, [tab.answer, tab.earlier], **in_parallel("ask"))
    bridge.clear_history(clear_history, None, [tab.earlier], **in_parallel("ask"))
    bridge.start_run(start_run, None, tab.runs, **one_at_a_time("watch"))
    bridge.cancel_run(cancel_run, None, tab.runs, **one_at_a_time("watch"))
    bridge.resume_run(resume_run, None, tab.runs, **one_at_a_time("watch"))
