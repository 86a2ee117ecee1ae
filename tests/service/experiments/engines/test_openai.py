"""The openai engine against a true HTTP server on this machine, whose failures are scripted."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.experiments.engines.base import EngineError, Request, Settings
from service.experiments.engines.completion_response import apportioned
from service.experiments.engines.endpoints import RetryPolicy
from service.experiments.engines.openai import OpenAIEngine
from service.experiments.engines.stream import attempt_seed, chunks
from service.experiments.spec import ModelSpec
from service.experiments.types import Completion, Problem

Answer = tuple[int, Any]
Fault = Callable[[dict[str, Any]], Answer | None]
QUICK = RetryPolicy(attempts=4, initial_delay=0.01, max_delay=0.05, max_retry_after=0.2, timeout=0.6)


class Server:
    """Completes "the prompt" with "the prompt! SEED" and writes down what it was asked. Faults come first, each once."""

    def __init__(self, model: str = "m", owner: str = "somebody", most: int = 10**6) -> None:
        self.model, self.owner, self.most = model, owner, most
        self.asked: list[dict[str, Any]] = []
        self.faults: list[Fault] = []
        self.headers: list[str] = []
        self.release = threading.Event()
        self.cut = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                listed = {"data": [{"id": server.model, "owned_by": server.owner, "max_model_len": 99}]}
                self.answer(*{"/v1/models": (200, listed), "/version": (200, {"version": "9.9"})}.get(self.path, (404, {})))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                body["path"] = self.path
                server.headers.append(self.headers.get("Authorization", ""))
                server.asked.append(body)
                given = server.faults.pop(0)(body) if server.faults else None
                try:
                    self.answer(*(given or server.complete(body)))
                except OSError:
                    server.cut += 1

            def answer(self, status: int, value: Any) -> None:
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                if status == 429:
                    self.send_header("Retry-After", "0.15")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def complete(self, body: dict[str, Any]) -> Answer:
        if body["path"] == "/tokenize":
            text = body.get("prompt") or body["messages"][0]["content"]
            return 200, {"tokens": [ord(letter) for letter in text]}
        if body.get("prompt_logprobs") == 0:
            ids = body["prompt"]
            values: list[Any] = [None, *({str(token): {"logprob": -token / 100}} for token in ids[1:])]
            return 200, {"choices": [{"index": 0, "text": "", "prompt_logprobs": values}]}
        if body.get("echo"):
            letters, n = list(body["prompt"]), len(body["prompt"])
            told = {"tokens": letters, "text_offset": list(range(n)), "token_logprobs": [None] + [-0.5] * (n - 1)}
            return 200, {"choices": [{"index": 0, "text": body["prompt"], "logprobs": told}]}
        count = min(body["n"], self.most)
        return 200, {"choices": [self.choice(body, i) for i in range(count)], "usage": {"completion_tokens": 10 * count}}

    def choice(self, body: dict[str, Any], index: int) -> dict[str, Any]:
        prompt = body["prompt"] if "prompt" in body else body["messages"][0]["content"]
        out: dict[str, Any] = {"index": index, "finish_reason": "length" if index else "stop"}
        out |= {"message": {"content": f"{prompt}?"}} if "messages" in body else {"text": f"{prompt}! {body['seed'] + index}"}
        if body.get("return_token_ids"):
            out["token_ids"] = list(range(3 + index))
        if "logprobs" in body:
            out["logprobs"] = {"tokens": ["a", "b"], "token_logprobs": [-0.25, -0.5]}
        return out

    def close(self) -> None:
        self.release.set()
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.close()


@pytest.fixture
def vllm_like() -> Iterator[Server]:
    one = Server(owner="vllm")
    yield one
    one.close()


def opened(*servers: Server, **more: Any) -> OpenAIEngine:
    url = ",".join(server.url for server in servers)
    chat = more.pop("chat", False)
    return OpenAIEngine(ModelSpec("m", "openai", url=url, chat=chat), **{"patience": QUICK, **more})


def request(name: str = "p", n: int = 2, first: int = 0, seed: int = 100) -> Request:
    return Request(Problem(name, "maths", name, stop=("\n\n",)), name, first, n, seed)


def drawn(engine: OpenAIEngine, *requests: Request, settings: Settings | None = None) -> list[Completion]:
    try:
        found = [c for completions in engine.sample(requests, settings or Settings()) for c in completions]
    finally:
        engine.close()
    return sorted(found, key=lambda c: (c.problem_id, c.attempt))


def failing(status: int, message: str = "no") -> Fault:
    return lambda _: (status, {"error": {"message": message}})


def test_what_is_asked_for_and_what_comes_back(server: Server) -> None:
    found = drawn(opened(server), request(n=3, first=4), settings=Settings(temperature=0.6, top_p=0.95, max_tokens=7))
    assert [(c.problem_id, c.attempt, c.text, c.finish) for c in found] == [
        ("p", 4, "p! 104", "stop"),
        ("p", 5, "p! 105", "length"),
        ("p", 6, "p! 106", "length"),
    ]
    assert sum(c.tokens for c in found) == 30 and {c.logprob for c in found} == {None}
    asked = {"model": "m", "prompt": "p", "n": 3, "temperature": 0.6, "top_p": 0.95, "max_tokens": 7, "seed": 104}
    assert asked.items() <= server.asked[0].items() and server.asked[0]["stop"] == ["\n\n"]
    assert "return_token_ids" not in server.asked[0]


def test_vllm_counts_tokens_and_is_kept_from_the_models_own_settings(vllm_like: Server) -> None:
    engine = opened(vllm_like)
    assert engine.version == "vllm 9.9" and engine.effective["max_model_len"] == 99
    assert [c.tokens for c in drawn(engine, request(n=3))] == [3, 4, 5]
    assert {"top_k": 0, "repetition_penalty": 1.0}.items() <= vllm_like.asked[0].items()


def test_chat_goes_to_the_chat_door(server: Server) -> None:
    (found,) = drawn(opened(server, chat=True), request(n=1))
    assert (found.text, server.asked[0]["path"]) == ("p?", "/v1/chat/completions")
    assert server.asked[0]["messages"] == [{"role": "user", "content": "p"}]


@pytest.mark.parametrize(
    "settings, known", [(Settings(logprobs=True), True), (Settings(temperature=0.6, logprobs=True), False)]
)
def test_logprobs_are_given_only_where_they_are_those_of_what_was_sampled_from(
    server: Server, settings: Settings, known: bool
) -> None:
    (found,) = drawn(opened(server), request(n=1), settings=settings)
    assert found.logprob == (-0.75 if known else None) and found.tokens == 2


@pytest.mark.parametrize(
    "fault",
    [
        failing(500),
        failing(503),
        failing(429),
        lambda _: (200, b"<html>"),
        lambda _: (200, ["no object"]),
        lambda _: (200, {"choices": []}),
        lambda _: (200, {"choices": [{"index": 0}]}),
        lambda _: (200, {"choices": [{"index": 0, "text": "", "finish_reason": "abort"}]}),
    ],
)
def test_a_passing_fault_is_tried_again(server: Server, fault: Fault) -> None:
    server.faults = [fault]
    began = time.monotonic()
    assert len(drawn(opened(server), request())) == 2 and len(server.asked) == 2
    assert fault({})[0] != 429 or time.monotonic() - began >= 0.15, "Retry-After is kept to"  # type: ignore[index]


def test_a_server_that_hangs_is_left_after_the_timeout(server: Server) -> None:
    server.faults = [lambda _: (server.release.wait(20), None)[1]]
    began = time.monotonic()
    assert len(drawn(opened(server), request())) == 2
    assert 0.5 < time.monotonic() - began < 10


def test_patience_ends_with_a_sentence_and_what_was_drawn_stands(server: Server) -> None:
    server.faults = [lambda _: None, *[failing(500, "the GPU is on fire")] * 4]
    engine = opened(server)
    stream = engine.sample([request("p"), request("q")], Settings())
    engine.rows = 1
    assert len(next(stream)) == 2
    with pytest.raises(EngineError, match=r"after 4 attempts .*on fire.*resume the run"):
        next(stream)
    assert list(stream) == []
    engine.close()


def test_servers_share_the_load_and_a_dead_one_is_suspend() -> None:
    servers = [Server() for _ in range(3)]
    try:
        engine = opened(*servers)
        servers[0].close()
        found = drawn(engine, *(request(f"p{i}", n=4) for i in range(40)))
        assert len(found) == 160 and len({(c.problem_id, c.attempt) for c in found}) == 160
        assert all(len(server.asked) >= 10 for server in servers[1:])
    finally:
        for server in servers[1:]:
            server.close()


def test_of_several_servers_one_that_is_dead_from_the_start_may_be_among_them(server: Server) -> None:
    dead = Server()
    dead.close()
    engine = opened(dead, server)
    assert (engine.effective["servers"], engine.effective["answering"]) == (2, 1)
    assert len(drawn(engine, request())) == 2
    with pytest.raises(EngineError, match=r"does not answer .*start the server"):
        opened(dead)


def test_a_model_that_is_not_served_is_told_with_those_that_are(server: Server) -> None:
    server.model = "qwen"
    with pytest.raises(EngineError, match=r"has no model 'm': it serves qwen"):
        opened(server)


@pytest.mark.parametrize(
    "fault, told",
    [
        (failing(400, "This model's maximum context length is 99 tokens"), r"problem p .*lower sampling.max_tokens"),
        (failing(404, "The model `m` does not exist"), r"correct the url or the model"),
        (failing(401, "bad key"), r"set \$PASSKB_ENGINE_API_KEY"),
        (failing(422, "temperature must be in [0, 1]"), r"temperature must be in \[0, 1\].*change the spec"),
    ],
)
def test_a_refusal_is_explained_and_not_repeated(server: Server, fault: Fault, told: str) -> None:
    server.faults = [fault]
    with pytest.raises(EngineError, match=told):
        drawn(opened(server), request())
    assert len(server.asked) == 1


def test_a_server_that_would_shorten_completions_in_silence_is_not_believed(vllm_like: Server) -> None:
    body = {"n": 2, "prompt": "p", "seed": 1}
    vllm_like.faults = [lambda _: (200, vllm_like.complete({**body, "path": ""})[1] | {"usage": {"prompt_tokens": 90}})]
    with pytest.raises(EngineError, match=r"problem p \(90 tokens\) with max_tokens 10 .*context of 99: lower"):
        drawn(opened(vllm_like), request(), settings=Settings(max_tokens=10))


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://127.0.0.1/v1", "http://"])
def test_an_address_that_is_none_is_told(url: str) -> None:
    with pytest.raises(EngineError, match="not the address of a server"):
        OpenAIEngine(ModelSpec("m", "openai", url=url))


@pytest.mark.parametrize(
    "fault", [failing(400, "n must be at most 3, got 8."), lambda _: (400, {"message": "n: not supported"})]
)
def test_a_cap_on_n_is_learnt_from_the_refusal(server: Server, fault: Fault) -> None:
    server.faults = [fault]
    found = drawn(opened(server), request(n=8))
    assert [c.text for c in found] == [f"p! {100 + i}" for i in range(8)]
    assert max(body["n"] for body in server.asked[1:]) <= 3


def test_a_server_that_gives_fewer_is_asked_for_the_rest(server: Server) -> None:
    server.most = 1
    found = drawn(opened(server), request(n=5))
    assert [c.text for c in found] == [f"p! {100 + i}" for i in range(5)] and [c.attempt for c in found] == list(range(5))


def test_leaving_abandons_what_is_in_flight_within_two_seconds(server: Server) -> None:
    """From another thread, while one waits for the next completion; the server sees its connections cut."""
    server.faults = [lambda _: (server.release.wait(20), None)[1]] * 8
    engine = opened(server, patience=RetryPolicy(timeout=60))
    stream = engine.sample([request(f"p{i}") for i in range(8)], Settings())
    seen: list[list[list[Completion]]] = []
    reader = threading.Thread(target=lambda: seen.append(list(stream)))
    reader.start()
    while len(server.asked) < 8:
        time.sleep(0.01)
    began = time.monotonic()
    stream.close()
    reader.join(2)
    assert not reader.is_alive() and seen == [[]]
    engine.close()
    assert time.monotonic() - began < 2


def test_a_closed_engine_says_so_to_whoever_waits(server: Server) -> None:
    server.faults = [lambda _: (server.release.wait(20), None)[1]]
    engine = opened(server, patience=RetryPolicy(timeout=60))
    stream = engine.sample([request()], Settings())
    threading.Timer(0.2, engine.close).start()
    with pytest.raises(EngineError, match="closed"):
        next(stream)
    with pytest.raises(EngineError, match="closed"):
        next(engine.sample([request()], Settings()))
    with pytest.raises(EngineError, match="closed"):
        engine.score([("a", "b")])


def test_scores_by_vllms_extension_are_of_the_completions_tokens(vllm_like: Server) -> None:
    engine = opened(vllm_like)
    assert engine.score([("ab", "cd"), ("ab", "")]) == [(pytest.approx(-1.99), 2), (0.0, 0)]
    vllm_like.faults = [failing(400, "unknown parameter")] * 3
    with pytest.raises(EngineError, match="no prompt log-probabilities"):
        engine.score([("ab", "cd")])
    engine.close()


def test_scores_by_echo_are_of_the_tokens_behind_the_prompt(server: Server) -> None:
    engine = opened(server)
    assert engine.score([("abc", "de")]) == [(-1.0, 2)]
    server.faults = [lambda _: (200, {"choices": [{"index": 0, "text": "abcde"}]})]
    with pytest.raises(EngineError, match="no prompt log-probabilities"):
        engine.score([("abc", "de")])
    engine.close()


def test_the_key_is_sent_from_its_own_variable_only(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not for you")
    drawn(opened(server), request())
    monkeypatch.setenv("PASSKB_ENGINE_API_KEY", "k")
    drawn(opened(server), request())
    assert server.headers == ["", "Bearer k"]


@given(st.integers(0, 10_000), st.lists(st.integers(0, 5_000), min_size=1, max_size=64))
def test_tokens_shared_out_add_up(total: int, lengths: list[int]) -> None:
    shares = apportioned(total, lengths)
    assert sum(shares) == total and min(shares) >= 0
    assert all(shares[i] <= shares[j] + 1 for i, a in enumerate(lengths) for j, b in enumerate(lengths) if a <= b)


@given(st.integers(0, 50), st.integers(1, 200), st.integers(1, 64))
def test_chunks_hold_the_same_attempts_with_the_same_seeds(first: int, n: int, most: int) -> None:
    whole = request(n=n, first=first)
    parts = list(chunks([whole], most))
    assert all(1 <= part.n <= most for part in parts)
    wanted = [(first + i, attempt_seed(whole, i)) for i in range(n)]
    assert [(part.first + i, attempt_seed(part, i)) for part in parts for i in range(part.n)] == wanted
