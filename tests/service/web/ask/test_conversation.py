"""Conversations of a page, the order of its answers, and records from the browser."""

from __future__ import annotations

import html as html_lib
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from service.answering.answer import Answer
from service.web.ask.answer import answer_html
from service.web.ask.browser_storage import MAX_LENGTH, load_records, markdown_html, record_html
from service.web.ask.conversation import MAX_EXCHANGES, Conversation, Conversations, Exchange
from service.web.ask.generated_answer import draft_html, fault_html, pending_html
from tests.service.web.ask.test_answer import answer, refusal

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["at", "answer", "question", "x"]), inner),
    max_leaves=12,
)


def exchange(question: str, at: str = "2026") -> Exchange:
    return Exchange(f"k-{question}", Answer(question, False), Markup("<p>"), Markup("<i>"), at)


def test_a_new_turn_cancels_the_previous_one_and_waits_for_it() -> None:
    conversation, order, begun = Conversation(), [], threading.Event()

    def writing() -> None:
        with conversation.turn() as is_cancelled:
            begun.set()
            while not is_cancelled():
                pass
            order.append("first ended")

    thread = threading.Thread(target=writing)
    thread.start()
    assert begun.wait(10)
    with conversation.turn() as is_cancelled:
        order.append("second")
        assert not is_cancelled()
        conversation.cancel()
        assert is_cancelled()
    thread.join(10)
    assert order == ["first ended", "second"]
    with conversation.turn() as is_cancelled:
        assert not is_cancelled()


def test_closing_a_page_cancels_its_answer() -> None:
    conversations = Conversations()
    with conversations.get("page").turn() as is_cancelled:
        conversations.close("page")
        assert is_cancelled()
    first = conversations.get("page")
    assert conversations.get("page") is first and conversations.get("other") is not first


def test_the_answer_on_top_is_not_among_the_earlier_ones() -> None:
    conversation = Conversation()
    for question in ("a", "b", "a"):
        conversation.begin(question)
        assert question not in [entry.question for entry in conversation.earlier]
        conversation.add(exchange(question))
    assert conversation.current is not None and conversation.current.question == "a"
    assert [entry.question for entry in conversation.earlier] == ["b"]
    conversation.restore([exchange("z"), exchange("b")])
    assert [entry.question for entry in conversation.exchanges] == ["z", "b", "a"]
    assert [turn.question for turn in conversation.history("a")] == ["z", "b"]
    conversation.clear_earlier()
    assert [entry.question for entry in conversation.exchanges] == ["a"]


def test_a_page_keeps_the_newest() -> None:
    conversation = Conversation()
    for i in range(MAX_EXCHANGES + 5):
        conversation.add(exchange(str(i)))
    assert len(conversation.exchanges) == MAX_EXCHANGES and conversation.exchanges[-1].question == str(MAX_EXCHANGES + 4)


def test_a_record_round_trips() -> None:
    for original in (answer(), replace(answer(), mode="generated", model="m", dropped=answer().statements), refusal()):
        html = record_html(original, "2026-11-27T10:00:00")
        record_text = html[html.index(">") + 1 : html.rindex("<")]
        (record,) = load_records([html_lib.unescape(record_text)], 5)
        assert record.answer == replace(original, seconds=round(original.seconds, 3))
        assert record.asked_at.startswith("2026-11-27")


@given(st.lists(JSON.map(json.dumps) | st.text() | JSON, max_size=5) | JSON)
def test_invalid_records_are_ignored(records: Any) -> None:
    for record in load_records(records, 3):
        assert isinstance(record.answer, Answer)


def test_oversized_records_are_ignored() -> None:
    assert load_records(["x" * (MAX_LENGTH + 1)], 5) == [] and load_records("a string", 5) == [] and load_records(None, 5) == []


def test_model_output_is_escaped(evil: str, harmless: Callable[[str], None]) -> None:
    hostile = replace(
        answer(evil), mode="generated", fault=evil, incomplete=True, reasoning=evil, dropped=answer(evil).statements
    )
    harmless(draft_html(evil, f"{evil} [1]\n\n{evil} <think"))
    harmless(pending_html(evil, evil, writing=True))
    assert fault_html(hostile)
    harmless(fault_html(hostile))
    html = answer_html(hostile, "a1")
    assert 'class="dropped"' in html and 'class="thoughts"' in html and 'class="fault"' in html
    harmless(html)
    harmless(record_html(hostile, evil))
    harmless(markdown_html(hostile, evil))


@given(st.text())
def test_any_draft_gives_nested_html(written: str) -> None:
    html = draft_html("q", written)
    assert html.count("<article") == html.count("</article>") == 1 and html.count("<p") == html.count("</p>")


def test_a_fault_is_a_sentence_that_keeps_the_address() -> None:
    html = fault_html(replace(answer(), fault="http://127.0.0.1:9/v1 does not answer: see to the server"))
    assert "The model server http://127.0.0.1:9/v1 does not answer" in html and 'data-mode="generated"' in html
    assert "Stopped before" in fault_html(replace(answer(), fault="stopped before the model finished", incomplete=True))
    assert fault_html(answer()) == ""
