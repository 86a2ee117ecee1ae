"""From the question to the prompt of a written answer: follow-ups, small context windows, the command line."""

from __future__ import annotations

import json

import pytest

from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from service.answering.answer import Support
from service.answering.check.judge import SYSTEM_PROMPT as JUDGING
from service.answering.generate.prompts import ANSWER_RULES, SCORING_RULES
from service.answering.retrieve.question_rewrite import SYSTEM_PROMPT as UNDERSTANDING
from service.answering.retrieve.question_rewrite import Turn
from service.cli.main import main
from tests.service.answering.scripted_server import Body, Reply, said, serving
from tests.service.answering.zebras import (
    FLIES,
    HEAT,
    KEY,
    QUESTION,
    key_of,
    texts,
    writes,
    written,
)

TASKS = {"write": ANSWER_RULES, "judge": JUDGING, "score": SCORING_RULES}


def test_a_follow_up_is_understood_shown_and_cites_no_memory(zebras: KnowledgeBase) -> None:
    memory = "Zebras glow in the dark, said an earlier answer."

    def reply(body: Body) -> Reply:
        if body["messages"][0]["content"] == UNDERSTANDING:
            assert memory in body["messages"][1]["content"]
            return said("<think>hm</think>Do zebra stripes keep zebras cool in the heat?")
        assert "glow" not in str(body)
        return said(f"{HEAT[:-1]} [{key_of(body, HEAT)}]. {memory[:-1]} [1].")

    with serving(reply) as server:
        answer = written(zebras, server, "And do they keep them cool?", history=[Turn(QUESTION, memory)])
    assert answer.question == "And do they keep them cool?"
    assert answer.understood == "Do zebra stripes keep zebras cool in the heat?"
    assert HEAT in texts(answer, Support.SUPPORTED) and memory not in texts(answer, Support.SUPPORTED)


@pytest.mark.parametrize("rewrite", [said(""), said("I can not help with that, as an assistant."), Reply(status=500)])
def test_a_follow_up_that_the_model_can_not_rewrite_is_searched_with_the_question_before(
    zebras: KnowledgeBase, rewrite: Reply
) -> None:
    def reply(body: Body) -> Reply:
        return rewrite if body["messages"][0]["content"] == UNDERSTANDING else said(f"{HEAT[:-1]} [{key_of(body, HEAT)}].")

    with serving(reply) as server:
        answer = written(zebras, server, "And do they cool?", history=[Turn(QUESTION, "Yes.")])
    assert answer.understood == f"{QUESTION} And do they cool?" and answer.answered


def test_a_question_that_stands_alone_is_not_rewritten(zebras: KnowledgeBase) -> None:
    with serving(writes(f"{FLIES[:-1]} [{{flies}}].")) as server:
        answer = written(zebras, server, history=[Turn("How warm do stripes get?", "Warm.")])
        assert len(server.asked) == 1 and answer.understood == ""


def test_the_prompt_fits_the_window_that_the_server_names(zebras: KnowledgeBase) -> None:
    with serving(writes(f"{FLIES[:-1]} [{{flies}}]."), window=1200) as server:
        assert written(zebras, server).mode == "generated"
        assert len(server.prompts()) / 3 + server.asked[0]["max_tokens"] <= 1300
    with serving(said("Hi."), window=256) as server:
        answer = written(zebras, server)
        assert answer.mode == "quoted" and "256 tokens is too small" in answer.fault and server.asked == []


def test_a_prompt_that_turns_out_too_long_is_halved(zebras: KnowledgeBase) -> None:
    long = Reply(status=400, error="maximum context length exceeded")
    with serving(long, writes(f"{FLIES[:-1]} [{{flies}}]."), window=None) as server:
        answer = written(zebras, server)
        assert answer.mode == "generated" and len(server.prompts(1)) <= len(server.prompts(0))
    with serving(long, window=None) as server:
        assert "maximum context length" in written(zebras, server).fault


def test_a_question_that_can_not_be_asked_is_named(zebras: KnowledgeBase) -> None:
    with serving(said("Hi.")) as server, pytest.raises(PasskbError, match="empty"):
        written(zebras, server, "?!")


def test_the_command_line_writes_quotes_and_tells_of_faults(
    zebras: KnowledgeBase, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSKB_LLM_API_KEY", KEY)
    common = ["--home", str(zebras.home), "ask", QUESTION]
    with serving(writes(f"{FLIES[:-1]} [{{flies}}]. Cats purr.")) as server:
        assert main([*common, "--llm", server.url, "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert (answer["mode"], answer["model"]) == ("generated", "scripted") and server.keys == [f"Bearer {KEY}"]
        assert answer["statements"][0] == {
            "text": FLIES, "support": "supported", "part": "lede", "reason": "", "paragraph": 0,
            "citations": [{"number": 1, "note_id": "vault/flies", "title": "Zebra stripes against flies",
                           "start": 0, "end": len(FLIES), "quote": FLIES}],
        }  # fmt: skip
        assert main([*common, "--llm", server.url]) == 0
        assert f"{FLIES} [1] Cats purr. (unsupported: no citation)" in " ".join(capsys.readouterr().out.split())
        assert main([*common, "--llm", server.url, "--quoted", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["mode"] == "quoted"
    with serving(Reply(status=401, error=f"bad key {KEY}")) as server:
        monkeypatch.setenv("PASSKB_LLM_URL", server.url)
        assert main([*common, "--model", "m", "--json"]) == 3
        captured = capsys.readouterr()
        assert json.loads(captured.out)["mode"] == "quoted" and "PASSKB_LLM_API_KEY" in captured.err
        assert KEY not in captured.out + captured.err
        monkeypatch.setenv("PASSKB_LLM_URL", "http://127.0.0.1:9/v1")
        main([*common, "--llm", server.url, "--model", "m"])
        assert server.keys[-1] == "Bearer none"


def test_judging_and_scoring_are_asked_for_by_flags_or_settings(
    zebras: KnowledgeBase, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*flags: str) -> list[str]:
        """The tasks that the model was set, in order, and that `remarks` tells of what came of them."""
        writer = writes(f"{FLIES[:-1]} [{{flies}}].")
        with serving(
            lambda body: writer(body) if body["messages"][0]["content"] == ANSWER_RULES else said("No idea.")
        ) as server:
            assert main(["--home", str(zebras.home), "ask", QUESTION, "--llm", server.url, "--json", *flags]) == 0
            tasks = [
                next(name for name, told in TASKS.items() if told == body["messages"][0]["content"]) for body in server.asked
            ]
        assert len(json.loads(capsys.readouterr().out)["remarks"]) == len(tasks) - 1
        return tasks

    assert asked() == ["write"]
    assert asked("--judge") == ["write", "judge"] and asked("--rescore") == ["score", "write"]
    monkeypatch.setenv("PASSKB_LLM_JUDGE", "true")
    monkeypatch.setenv("PASSKB_LLM_RESCORE", "yes")
    assert asked() == ["score", "write", "judge"] and asked("--no-judge", "--no-rescore") == ["write"]
