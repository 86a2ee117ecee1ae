"""Answers written by a model, over real HTTP: whatever it does, what is said is checked and what is cited stands there."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kb.knowledge_base import KnowledgeBase
from service.answering.answer import Support
from tests.service.answering.scripted_server import Body, Reply, said, serving
from tests.service.answering.zebras import (
    BOTH,
    FLIES,
    HEAT,
    TRIAL,
    key_of,
    quotes,
    texts,
    writes,
    written,
)


def test_an_honest_answer_in_one_call(zebras: KnowledgeBase) -> None:
    with serving(writes(f"{FLIES[:-1]} [{{flies}}]. {TRIAL[:-1]} [{{trial}}].\n\n{HEAT[:-1]} [{{heat}}].")) as server:
        answer = written(zebras, server)
    assert len(server.asked) == 1 and answer.answered and (answer.mode, answer.fault) == ("generated", "")
    assert texts(answer, Support.SUPPORTED) == [FLIES, TRIAL, HEAT] == quotes(answer)
    assert [(s.part, s.paragraph) for s in answer.statements] == [("lede", 0), ("lede", 0), ("body", 1)]
    assert [entry.type for entry in answer.disagreements] and answer.sources


def test_no_model_is_asked_what_the_notes_do_not_answer(zebras: KnowledgeBase) -> None:
    with serving(said("Nine hours.")) as server:
        answer = written(zebras, server, "How long does sourdough bread have to prove?")
    assert not answer.answered and answer.nearest and "sourdough" in answer.reason and server.asked == []


def test_a_model_that_finds_no_answer_is_believed(zebras: KnowledgeBase) -> None:
    for text in ("NO ANSWER", "**NO ANSWER.**", "The passages do not say why zebras have stripes."):
        shown: list[str] = []
        with serving(said(text)) as server:
            answer = written(zebras, server, on_text=shown.append)
        assert not answer.answered and answer.statements == () and answer.nearest and "no answer" in answer.reason
    with serving(writes(f"The notes do not agree. {FLIES[:-1]} [{{flies}}].")) as server:
        assert written(zebras, server).answered


def test_invented_keys_are_gone_and_a_true_sentence_gets_the_key_it_lacks(zebras: KnowledgeBase) -> None:
    with serving(
        writes(f"{FLIES[:-1]} [99]. Zebras were painted by giraffes at night [42][77]. {HEAT[:-1]} [{{heat}}].")
    ) as server:
        answer = written(zebras, server)
    assert texts(answer, Support.SUPPORTED)[:2] == [FLIES, HEAT] and quotes(answer)[:2] == [FLIES, HEAT]
    (flagged,) = [s for s in answer.statements if s.support is Support.UNSUPPORTED]
    assert flagged.text == "Zebras were painted by giraffes at night." and flagged.reason == "no citation"
    assert not flagged.citations


@pytest.mark.parametrize(
    "form", ["(Author et al., 2023)", "[Author et al.]", "[vault/nowhere]", "(Smith & Lee, 2021)", "[^99]"]
)
def test_keys_in_odd_formats_cite_nothing_by_themselves(zebras: KnowledgeBase, form: str) -> None:
    with serving(writes(f"{HEAT[:-1]} [{{heat}}]. Giraffes painted every zebra at night {form}.")) as server:
        answer = written(zebras, server)
    odd = next(s for s in answer.statements if s.text.startswith("Giraffes"))
    assert odd.text == "Giraffes painted every zebra at night." and odd.support is Support.UNSUPPORTED and not odd.citations


@pytest.mark.parametrize("form", ["[source {}]", "【{}】", "(passage {})", "[^{}]", "[{}, 99]"])
def test_an_offered_key_is_known_in_the_forms_models_give_it(zebras: KnowledgeBase, form: str) -> None:
    with serving(writes(f"{HEAT[:-1]} {form.format('{heat}')}.")) as server:
        answer = written(zebras, server)
    assert texts(answer)[0] == HEAT and quotes(answer)[0] == HEAT


def test_a_citation_of_the_wrong_source_is_moved_to_the_right_one(zebras: KnowledgeBase) -> None:
    with serving(writes(f"{TRIAL[:-1]} [{{heat}}]. {HEAT[:-1]} [{{heat}}].")) as server:
        answer = written(zebras, server)
    assert quotes(answer)[:2] == [TRIAL, HEAT] and len(server.asked) == 1


WRONG = {
    "inverted": "In a field trial striped horses had 25 % more fly landings than plain horses",
    "swapped": "In a field trial plain horses had 25 % fewer fly landings than striped horses",
    "number": "In a field trial striped horses had 52 % fewer fly landings than plain horses",
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_sentence_against_its_source_is_written_again_or_left_out_and_listed(zebras: KnowledgeBase, wrong: str) -> None:
    with serving(writes(f"{HEAT[:-1]} [{{heat}}]. {wrong} [{{trial}}].", again=f"1. {wrong}.")) as server:
        answer = written(zebras, server)
        assert len(server.asked) == 2 and wrong in server.prompts(1) and TRIAL in server.prompts(1)
    assert f"{wrong}." not in texts(answer)
    assert [(entry.text, bool(entry.reason)) for entry in answer.dropped] == [(f"{wrong}.", True)]
    with serving(writes(f"{HEAT[:-1]} [{{heat}}]. {wrong} [{{trial}}].", again=f"Here:\n1. {TRIAL}\n2. More.")) as server:
        answer = written(zebras, server)
    assert texts(answer, Support.SUPPORTED)[:2] == [HEAT, TRIAL] and not answer.dropped


def test_a_long_preamble_and_polite_words_are_left_out(zebras: KnowledgeBase) -> None:
    preamble = "Sure! Let me begin. " + " ".join(f"Thought {i} turns the matter over once more." for i in range(220))
    template = f"{preamble}\n\n{FLIES[:-1]} [{{flies}}]. I hope this helps!\n\nSources:\n[1] Something\n[2] Else"
    with serving(writes(template)) as server:
        assert len(template) > 8000
        answer = written(zebras, server)
    assert (answer.mode, answer.fault, answer.incomplete) == ("generated", "", False)
    assert texts(answer)[0] == FLIES and not any("Thought" in text or "hope" in text for text in texts(answer))


def test_a_loop_is_told_once_and_an_endless_answer_is_cut(zebras: KnowledgeBase) -> None:
    with serving(writes(f"{FLIES[:-1]} [{{flies}}]. " * 30)) as server:
        assert texts(written(zebras, server)).count(FLIES) == 1
    many = " ".join(f"Zebra number {i} has stripes." for i in range(60))
    with serving(writes(f"{FLIES[:-1]} [{{flies}}]. {many}")) as server:
        answer = written(zebras, server)
    assert answer.incomplete and "first 40" in answer.fault and len(answer.statements) <= 42


def test_a_dissent_told_by_halves_is_completed_in_the_notes_own_words(zebras: KnowledgeBase) -> None:
    with serving(writes(f"{FLIES[:-1]} [{{flies}}].")) as server:
        answer = written(zebras, server)
        prompt = server.prompts()
    last = answer.statements[-1]
    assert {citation.quote for citation in last.citations} == {HEAT, FLIES, BOTH}
    assert all(f"“{quote}”" in last.text for quote in (HEAT, FLIES, BOTH))
    assert re.search(r"- \[\d+\] contradicts \[\d+\]: explains stripes by cooling .* \[\d+\] speaks to both\.", prompt)


def test_evidence_is_called_by_its_date_and_figures(zebras: KnowledgeBase) -> None:
    figure = "Striped zebra coats kept 21.0 % (18.0 to 24.0) of biting flies away with k = 8 zebras, 64 attempts each"

    def reply(body: Body) -> Reply:
        return said(f"{figure} [{key_of(body, figure)}].")

    with serving(reply) as server:
        answer = written(zebras, server)
        label = "evidence of 2026-11-20, n = 64, k = 8, interval 18.0 to 24.0"
        assert f"Note “Evidence of the stripe count” ({label}):" in server.prompts()
    assert answer.statements[0].text == f"{figure} ({label})."


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(max_size=120), st.lists(st.sampled_from([FLIES, HEAT, "[1]", "[2].", "[9]", "No.", "\n\n", "<think>"]), max_size=6)
)
def test_no_words_of_a_model_break_it(zebras: KnowledgeBase, strange: str, parts: list[str]) -> None:
    with serving(said(" ".join([*parts, strange]))) as server:
        written(zebras, server)
