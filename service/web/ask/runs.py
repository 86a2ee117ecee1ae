"""The runs below an answer: watched while they go on, started, stopped and resumed by a person's click."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from kb.knowledge_base import KnowledgeBase
from service.experiments.execution import control
from service.web.ask import run_offers
from service.web.ask.conversation import Conversation
from service.web.ask.run_offers import Watched
from service.web.ask.runs_panel import not_started_html, panel_html
from service.web.components.html import explained, sentence
from service.web.experiments.run_view import RunView
from service.web.experiments.worker_process import WorkerSupervisor


def below(shown: Sequence[RunView], watching: Watched, trouble: str) -> tuple[Any, ...]:
    """The tests, and the timer that is on while one goes on or is to be told yet."""
    on = any(view.live for view in shown) or bool(watching.ended(shown))
    return panel_html(shown, trouble), gr.Timer(active=on)


def look(kb: KnowledgeBase, talk: Conversation, trouble: str) -> tuple[Any, Any, bool]:
    """Values for the tests and their timer, and whether evidence has come since the answer was composed."""
    try:
        shown = run_offers.views(kb.home, talk.watched.runs)
    except Exception as error:
        return sentence(explained(error)), gr.Timer(active=False), False
    ended = talk.watched.ended(shown)
    if ended:
        talk.told(ended)
    tests, timer = below(shown, talk.watched, trouble)
    return tests, timer, bool(ended)


def start_test(
    kb: KnowledgeBase, working: WorkerSupervisor, talk: Conversation, claim: str, again: bool = False
) -> tuple[Any, ...]:
    """Values for the tests and their timer, after a click on the test of `claim` (NOTE#ID)."""
    try:
        submitted = run_offers.start(kb, run_offers.spec_of_claim(kb, claim), again=again)
        if submitted.fresh:
            working.wake()
        watching = talk.watched
        talk.watch(replace(watching, runs=tuple(dict.fromkeys([*watching.runs, submitted.run.id]))))
        shown = run_offers.views(kb.home, talk.watched.runs)
        if submitted.fresh:
            return below(shown, talk.watched, working.problem)
        talk.told(talk.watched.ended(shown))
        status = str(control.status_of(kb.home, submitted.run))
        tests, timer = below(shown, talk.watched, working.problem)
        return tests + not_started_html(claim, submitted.run.id, status), timer
    except Exception as error:
        tests, timer = below(run_offers.views(kb.home, talk.watched.runs), talk.watched, working.problem)
        return tests + sentence(explained(error)), timer


def stop_test(kb: KnowledgeBase, talk: Conversation, run_id: str, act: Callable[..., Any]) -> tuple[Any, ...]:
    """The same values, after a click on Cancel or Resume below the answer; `act` is control's function for it."""
    said = ""
    try:
        act(kb.home, run_id)
    except Exception as error:
        said = sentence(explained(error))
    tests, timer = below(run_offers.views(kb.home, talk.watched.runs), talk.watched, "")
    return tests + said, timer
