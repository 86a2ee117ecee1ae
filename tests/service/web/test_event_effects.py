"""Every event is marked, and events that write need a page's token."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from kb.knowledge_base import KnowledgeBase
from service.web.app import build
from service.web.event_effects import effects, protect, reads, writes

WRITING = {
    "sync the sources", "stop an answer", "save an answer as an inquiry", "start a run", "start a run again",
    "cancel a run", "resume a run", "import results", "accept, dismiss or remove a link, or ask an inquiry again",
}  # fmt: skip


def test_every_event_is_marked(kb: KnowledgeBase) -> None:
    marked = effects(build(kb))
    assert len(marked) > 30 and not [number for number, effect in marked.items() if effect is None]
    assert {effect.action for effect in marked.values() if effect and effect.writes} == WRITING


def test_an_unmarked_event_is_not_built() -> None:
    with gr.Blocks() as blocks:
        gr.Button().click(lambda: None, api_name="new_button")
    with pytest.raises(TypeError, match=r"new_button.* neither `reads` nor `writes`"):
        protect(blocks, lambda request: None)


def test_handlers_that_write_check_the_request(kb: KnowledgeBase) -> None:
    """Without a request from a page, no handler does anything, whatever the middleware."""
    blocks = build(kb)
    written = [number for number, effect in effects(blocks).items() if effect and effect.writes]
    assert len(written) >= len(WRITING)
    for number in written:
        handler = blocks.fns[number].fn
        arguments = [None for _ in inspect.signature(handler).parameters]
        with pytest.raises(gr.Error, match="Nothing was changed"):
            handler(*arguments)


def test_a_checked_handler_keeps_its_type_and_documentation() -> None:
    def counted(count: int) -> Any:
        """Counts."""
        yield from range(count)

    with gr.Blocks() as blocks:
        gr.Button().click(writes("count")(counted), gr.Number())
        gr.Button().click(reads(lambda: "read"))
    refusals: list[str | None] = [None, "no token"]
    protect(blocks, lambda request: refusals.pop(0))
    generator, reading = (blocks.fns[number].fn for number in range(2))
    assert list(generator(3)) == [0, 1, 2] and inspect.isgeneratorfunction(generator) and generator.__doc__ == "Counts."
    with pytest.raises(gr.Error):
        list(generator(3))
    assert reading() == "read"


def test_a_token_is_valid_for_its_session_only(kb: KnowledgeBase) -> None:
    from service.web.security.session_token import HEADER, SessionTokens
    from service.web.security.sessions import Sessions, cookie_name

    sessions = Sessions(SessionTokens())
    mine = sessions.tokens.new_session()

    def request(session: str, token: str) -> Any:
        scope = {"type": "http", "server": ("127.0.0.1", 7860)}
        cookie = f"{cookie_name(scope)}={sessions.tokens.cookie(session)}"
        return SimpleNamespace(
            request=SimpleNamespace(
                scope={**scope, "headers": [(b"cookie", cookie.encode()), (HEADER.encode(), token.encode())]}
            )
        )

    token = sessions.tokens.token(mine)
    assert sessions.refusal(request(mine, token)) is None
    assert sessions.refusal(request(sessions.tokens.new_session(), token)) == "forged token"
    assert sessions.refusal(request(mine, "")) == "missing token" and sessions.refusal(None)
