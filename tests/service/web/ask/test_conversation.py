"""What a page remembers of its questions, whose turn it is to answer, and what comes back from a browser."""

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


def test_a_new_turn_ends_the_one_before_and_waits_for_it() -> None:
    talk, order, begun = Conversation(), [], threading.Event()

    def writing() -> None:
        with talk.turn() as over:
            begun.set()
            while not over():
                pass
            order.append("first ended")

    thread = threading.Thread(target=writing)
    thread.start()
    assert begun.wait(10)
    with talk.turn() as over:
        order.append("second")
        assert not over()
        talk.cancel()
        assert over()
    thread.join(10)
    assert order == ["first ended", "second"]
    with talk.turn() as over:
        assert not over()


def test_a_page_that_is_closed_ends_what_is_written_for_it() -> None:
    talks = Conversations()
    with talks.get("page").turn() as over:
        talks.close("page")
        assert over()
    assert (
        talks.get("page") is not None and talks.get("page") is talks.get("page") and talks.get("other") is not talks.get("page")
    )


def test_the_answer_on_top_is_not_among_the_earlier_ones() -> None:
    talk = Conversation()
    for question in ("a", "b", "a"):
        talk.begin(question)
        assert question not in [entry.question for entry in talk.earlier]
        talk.add(exchange(question))
    assert talk.current is not None and talk.current.question == "a"
    assert [entry.question for entry in talk.earlier] == ["b"]
    talk.restore([exchange("z"), exchange("b")])
    assert [entry.question for entry in talk.exchanges] == ["z", "b", "a"]
    assert [turn.question for turn in talk.history("a")] == ["z", "b"]
    talk.clear_earlier()
    assert [entry.question for entry in talk.exchanges] == ["a"]


def test_a_page_keeps_the_newest() -> None:
    talk = Conversation()
    for i in range(MAX_EXCHANGES + 5):
        talk.add(exchange(str(i)))
    assert len(talk.exchanges) == MAX_EXCHANGES and talk.exchanges[-1].question == str(MAX_EXCHANGES + 4)


def test_a_record_comes_back_as_it_went() -> None:
    for given_ in (answer(), replace(answer(), mode="generated", model="m", dropped=answer().statements), refusal()):
        html = record_html(given_, "2026-11-27T10:00:00")
        kept = html[html.index(">") + 1 : html.rindex("<")]
        (record,) = load_records([html_lib.unescape(kept)], 5)
        assert record.answer == replace(given_, seconds=round(given_.seconds, 3)) and record.asked_at.startswith("2026-11-27")


@given(st.lists(JSON.map(json.dumps) | st.text() | JSON, max_size=5) | JSON)
def test_whatever_a_browser_sends_is_read_or_left(records: Any) -> None:
    for record in load_records(records, 3):
        assert isinstance(record.answer, Answer)


def test_an_endless_record_is_left() -> None:
    assert load_records(["x" * (MAX_LENGTH + 1)], 5) == [] and load_records("a string", 5) == [] and load_records(None, 5) == []


def test_what_a_model_wrote_is_only_text(evil: str, harmless: Callable[[str], None]) -> None:
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
def test_half_written_words_nest_whatever_they_are(written: str) -> None:
    html = draft_html("q", written)
    assert html.count("<article") == html.count("</article>") == 1 and html.count("<p") == html.count("</p>")


def test_a_fault_is_told_as_a_sentence_with_its_address_as_it_is() -> None:
    told = fault_html(replace(answer(), fault="http://127.0.0.1:9/v1 does not answer: see to the server"))
    assert "The model server http://127.0.0.1:9/v1 does not answer" in told and 'data-mode="generated"' in told
    assert "Stopped before" in fault_html(replace(answer(), fault="stopped before the model finished", incomplete=True))
    assert fault_html(answer()) == ""
