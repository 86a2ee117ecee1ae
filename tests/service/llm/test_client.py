"""The way to a model server, over real HTTP: words as they come, and every fault told in a sentence without the key."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator

import pytest

from service.llm import client
from service.llm.client import Interrupted, LanguageModel, ModelError, Stopped, Timeouts
from tests.service.answering.scripted_server import Reply, said, serving

KEY = "sk-secret-4711"
QUICK = Timeouts(tries=3, backoff=0.01, max_retry_after=0.5, first_output=0.4, between_outputs=0.3, connect=1.0)


def model(url: str, name: str = "scripted", timeouts: Timeouts = QUICK, key: str = KEY) -> LanguageModel:
    return LanguageModel(url, name, key, timeouts)


def text_of(language_model: LanguageModel, **more: object) -> str:
    pieces = language_model.stream("Be short.", "Hello?", max_tokens=50, **more)  # type: ignore[arg-type]
    return "".join(piece.text for piece in pieces if not piece.is_reasoning)


def test_words_come_as_they_are_written_and_the_key_goes_into_the_header_only() -> None:
    with serving(said("Hello there.")) as server:
        pieces = list(model(server.url).stream("Be short.", "Hello?", max_tokens=50))
    assert "".join(piece.text for piece in pieces) == "Hello there." and len(pieces) > 2
    (asked,) = server.asked
    assert (asked["model"], asked["max_tokens"], asked["temperature"], asked["stream"]) == ("scripted", 50, 0.0, True)
    assert [message["role"] for message in asked["messages"]] == ["system", "user"]
    assert server.keys == [f"Bearer {KEY}"] and KEY not in str(asked)


def test_no_key_of_the_environment_is_sent_to_a_server_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with serving(said("Hi.")) as server:
        assert text_of(model(server.url, key="")) == "Hi."
    assert server.keys == ["Bearer none"]


def test_reasoning_that_the_server_tells_apart_is_marked() -> None:
    with serving(said("Yes.", thoughts=["Hm, ", "let me see."])) as server:
        pieces = list(model(server.url).stream("", "Well?", max_tokens=50))
    assert "".join(p.text for p in pieces if p.is_reasoning) == "Hm, let me see."
    assert "".join(p.text for p in pieces if not p.is_reasoning) == "Yes."


def test_what_the_server_says_of_itself_is_asked_once() -> None:
    with serving(said("Hi."), model="only", window=2048, owner="vllm") as server:
        found = model(server.url, name="")
        assert (found.name, found.context, found.constrains) == ("only", 2048, True)
        server.models.clear()
        assert found.name == "only"
        with pytest.raises(ModelError, match="does not list its models"):
            _ = model(server.url, name="").name
        assert model(server.url).context is None and not model(server.url).constrains


def test_a_server_that_starts_later_or_serves_another_model_by_now_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_RETRY_FACTS_SECONDS", 0.0)
    with serving(said("Hi."), Reply(status=404, error="no such model"), said("Hi."), model="one", window=2048) as server:
        early = list(server.models)
        server.models.clear()
        found = model(server.url, name="")
        with pytest.raises(ModelError, match="start the server"):
            _ = found.name
        server.models[:] = early
        assert text_of(found) == "Hi." and (found.name, found.context) == ("one", 2048)
        server.models[0]["id"] = "two"
        with pytest.raises(ModelError, match="no such model"):
            text_of(found)
        assert text_of(found) == "Hi." and [asked["model"] for asked in server.asked] == ["one", "one", "two"]


def test_which_of_several_models_has_to_be_said() -> None:
    with serving(said("Hi.")) as server:
        server.models.append({"id": "other", "object": "model", "owned_by": "tests"})
        with pytest.raises(ModelError, match=r"several models \(scripted, other\): choose one with --model"):
            _ = model(server.url, name="").name


def test_a_pattern_goes_to_servers_that_can_keep_to_it_and_is_dropped_where_it_is_refused() -> None:
    with serving(said("Ok."), owner="vllm") as server:
        assert text_of(model(server.url), pattern="Ok[.]") == "Ok."
    assert server.asked[0]["structured_outputs"] == {"regex": "Ok[.]"}
    with serving(said("Ok."), owner="tests") as server:
        assert text_of(model(server.url), pattern="Ok[.]") == "Ok."
    assert "structured_outputs" not in server.asked[0]
    with serving(Reply(status=400, error="unknown field structured_outputs"), said("Ok."), owner="vllm") as server:
        assert text_of(model(server.url), pattern="Ok[.]") == "Ok."
    assert "structured_outputs" not in server.asked[1]


def test_a_model_without_a_system_role_gets_one_message() -> None:
    with serving(Reply(status=400, error="System role not supported"), said("Ok.")) as server:
        assert text_of(model(server.url)) == "Ok."
    assert server.asked[1]["messages"] == [{"role": "user", "content": "Be short.\n\nHello?"}]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again_after_the_time_it_names(status: int) -> None:
    busy = Reply(status=status, error="busy", headers={"Retry-After": "0.3"})
    with serving(busy, said("Here.")) as server:
        started = time.perf_counter()
        assert text_of(model(server.url)) == "Here."
    assert time.perf_counter() - started >= 0.3 and len(server.asked) == 2


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}])
def test_timeouts_has_an_end(headers: dict[str, str]) -> None:
    with serving(Reply(status=500, error="out of memory", headers=headers)) as server:
        with pytest.raises(ModelError, match=r"does not respond \(500 out of memory\): check the server"):
            text_of(model(server.url))
        assert len(server.asked) == 3


def test_a_server_that_wants_hours_is_not_waited_for() -> None:
    with serving(Reply(status=429, error="quota", headers={"Retry-After": "3600"})) as server:
        started = time.perf_counter()
        with pytest.raises(ModelError, match="429 quota"):
            text_of(model(server.url))
    assert time.perf_counter() - started < 5 and len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "said_so", "told"),
    [(401, f"Incorrect API key provided: {KEY}", "PASSKB_LLM_API_KEY"), (404, "no such model", "correct --llm or --model")],
)
def test_what_asking_again_does_not_change_is_told_at_once_without_the_key(status: int, said_so: str, told: str) -> None:
    with serving(Reply(status=status, error=said_so)) as server, pytest.raises(ModelError) as caught:
        text_of(model(server.url))
    assert told in str(caught.value) and KEY not in str(caught.value) and len(server.asked) == 1


def test_a_prompt_too_long_is_known_by_its_error() -> None:
    long = Reply(status=400, error="This model's maximum context length is 512 tokens")
    with serving(long) as server, pytest.raises(ModelError) as caught:
        text_of(model(server.url))
    assert caught.value.too_long and len(server.asked) == 1


def test_nobody_there() -> None:
    with pytest.raises(ModelError, match=r"http://127\.0\.0\.1:9/v1 does not respond"):
        text_of(model("http://127.0.0.1:9/v1"))


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://host/v1", f"//{KEY}"])
def test_an_address_that_is_none_is_named_without_the_key(url: str) -> None:
    with pytest.raises(ModelError, match="not the URL of a model server") as caught:
        model(url)
    assert KEY not in str(caught.value)


def test_an_address_without_a_path_means_v1() -> None:
    with serving(said("Hi.")) as server:
        assert text_of(model(server.url.removesuffix("/v1"))) == "Hi."


def test_a_server_that_dies_in_the_middle_leaves_what_it_wrote() -> None:
    cuts = [said("Half a sen", dies=True), said("Half a sen", finish=None), said("Half a sen", garbage='{"oh')]
    for cut in cuts:
        with serving(cut) as server:
            pieces, fault = collected(model(server.url).stream("", "Go on.", max_tokens=50))
        assert pieces == "Half a sen" and isinstance(fault, Interrupted) and "try again" in str(fault)
        assert len(server.asked) == 1


def test_a_limit_of_tokens_is_told() -> None:
    with serving(said("Half a sen", finish="length")) as server:
        pieces, fault = collected(model(server.url).stream("", "Go on.", max_tokens=50))
    assert pieces == "Half a sen" and "limit of 50 tokens" in str(fault)


def test_an_empty_stream_cut_short_is_tried_again_and_one_that_ends_well_is_empty() -> None:
    with serving(Reply(finish=None), said("Now.")) as server:
        assert text_of(model(server.url)) == "Now."
    with serving(Reply()) as server:
        assert text_of(model(server.url)) == ""
        assert len(server.asked) == 1


@pytest.mark.parametrize("comments", [False, True])
def test_silence_is_waited_for_as_long_as_timeouts_says(comments: bool) -> None:
    with serving(said("Half a sen", silent=3, comments=comments)) as server:
        started = time.perf_counter()
        pieces, fault = collected(model(server.url).stream("", "Go on.", max_tokens=50))
        assert pieces == "Half a sen" and "sent nothing for 0.3 s" in str(fault)
        assert 0.3 <= time.perf_counter() - started < 2.5
    with serving(said("Late.", first=3)) as server, pytest.raises(ModelError, match=r"sent nothing for 0\.4 s"):
        text_of(model(server.url))


def test_a_person_waits_half_a_minute_at_most_for_the_next_word() -> None:
    assert Timeouts().between_outputs == 30 and Timeouts().max_retry_after == 30


def test_a_stream_without_end_is_ended() -> None:
    with serving(Reply(["word " * 100] * 50)) as server:
        pieces, fault = collected(model(server.url).stream("", "Go on.", max_tokens=50))
    assert len(pieces) < 3000 and "does not stop writing" in str(fault)


def test_stopping_needs_no_word_of_the_server() -> None:
    stopped = threading.Event()
    threading.Timer(0.2, stopped.set).start()
    with serving(said("Half a sen", silent=3)) as server:
        patient = Timeouts(first_output=20, between_outputs=20)
        started = time.perf_counter()
        pieces, fault = collected(model(server.url, timeouts=patient).stream("", "Go.", max_tokens=50, stop=stopped.is_set))
        assert pieces == "Half a sen" and isinstance(fault, Stopped) and time.perf_counter() - started < 2


def test_stopping_frees_the_server_at_once() -> None:
    """Not when the libraries' reference cycles happen to be collected; a server in the middle of its prompt, too."""
    gc.disable()
    try:
        for reply in (Reply(["word "] * 4000, between=0.005), Reply(["word "] * 4000, first=1.0, between=0.005)):
            asked = threading.Event()
            with serving(reply) as server:
                found = model(server.url, timeouts=Timeouts(first_output=20, between_outputs=20))
                threading.Timer(0.3, asked.set).start()
                _, fault = collected(found.stream("", "Go on.", max_tokens=5000, stop=asked.is_set))
                assert isinstance(fault, Stopped)
                until = time.monotonic() + 10
                while not server.left and time.monotonic() < until:
                    time.sleep(0.01)
                assert server.left == 1
                server.scripts = [said("Here.")]
                assert text_of(found) == "Here." and text_of(found) == "Here."
    finally:
        gc.enable()


def collected(pieces: Iterator[object]) -> tuple[str, ModelError | None]:
    out = ""
    try:
        for piece in pieces:
            out += piece.text  # type: ignore[attr-defined]
    except ModelError as error:
        return out, error
    return out, None
