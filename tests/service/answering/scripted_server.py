"""A model server that says what it is told to: OpenAI's chat protocol over real HTTP on loopback, faults included."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Reply:
    """One answer to a chat request: a stream of `pieces`, or an error of `status`.

    `first` and `between` are waits in seconds; `finish` None leaves out the closing chunk and [DONE]; `dies` breaks the
    connection off after the pieces; `silent` holds it open for so many seconds after them, with `comments` all the while.
    """

    pieces: Sequence[str] = ()
    thoughts: Sequence[str] = ()
    first: float = 0.0
    between: float = 0.0
    finish: str | None = "stop"
    dies: bool = False
    silent: float = 0.0
    comments: bool = False
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    error: str = ""
    garbage: str = ""
    deltas: Sequence[Mapping[str, Any]] = ()


Script = Reply | Callable[[Body], Reply]


def said(text: str, **more: Any) -> Reply:
    """A text that comes in pieces of five characters."""
    return Reply([text[i : i + 5] for i in range(0, len(text), 5)], **more)


class ScriptedServer:
    """Gives its scripts one after another, the last one again and again; remembers what it was asked."""

    def __init__(self, *scripts: Script, model: str = "scripted", window: int | None = 8192, owner: str = "tests") -> None:
        self.scripts = list(scripts)
        self.models = [{"id": model, "object": "model", "owned_by": owner, **({"max_model_len": window} if window else {})}]
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.sent_first: list[float] = []
        self.left = 0  # streams whose reader went away
        self.url = ""

    def prompts(self, at: int = -1) -> str:
        """All that the model was told in one request."""
        return "\n".join(message["content"] for message in self.asked[at]["messages"])

    def reply_to(self, body: dict[str, Any]) -> Reply:
        script = self.scripts[min(len(self.asked), len(self.scripts) - 1)]
        self.asked.append(body)
        return script(body) if callable(script) else script


@contextmanager
def serving(*scripts: Script, **more: Any) -> Iterator[ScriptedServer]:
    script = ScriptedServer(*scripts, **more)

    class Handler(_Handler):
        server_script = script

    server = _Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    script.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is no fault; a script that fails shows in the test."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server_script: ScriptedServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._json(200, {"object": "list", "data": self.server_script.models} if self.path == "/v1/models" else {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server_script.keys.append(self.headers.get("Authorization", ""))
        reply = self.server_script.reply_to(body)
        if reply.status != 200:
            self._json(reply.status, {"error": {"message": reply.error, "type": "scripted"}}, reply.headers)
            return
        try:
            self._stream(reply)
        except (BrokenPipeError, ConnectionResetError):
            self.server_script.left += 1
            self.close_connection = True

    def _json(self, status: int, value: Any, headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, content in {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, content)
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, reply: Reply) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        time.sleep(reply.first)
        self.server_script.sent_first.append(time.perf_counter())
        for thought in reply.thoughts:
            self._event({"delta": {"reasoning_content": thought}})
        for delta in reply.deltas:
            self._event({"delta": dict(delta)})
        for piece in reply.pieces:
            self._event({"delta": {"content": piece}})
            time.sleep(reply.between)
        if reply.garbage:
            self._chunk(f"data: {reply.garbage}\n\n")
        until = time.monotonic() + reply.silent
        while time.monotonic() < until:
            time.sleep(0.05)
            if reply.comments:
                self._chunk(": still here\n\n")
        if reply.dies:
            self.close_connection = True  # no closing chunk: the body is cut short
            return
        if reply.finish:
            self._event({"delta": {}, "finish_reason": reply.finish})
            self._chunk("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, choice: Mapping[str, Any]) -> None:
        whole = {
            "id": "c", "object": "chat.completion.chunk", "created": 0, "model": "scripted",
            "choices": [{"index": 0, "finish_reason": None, **choice}],
        }  # fmt: skip
        self._chunk(f"data: {json.dumps(whole)}\n\n")

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()
