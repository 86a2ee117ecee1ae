"""What tests of ingest share: a web server on this machine."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

Answer = tuple[int, dict[str, str], bytes] | Callable[[BaseHTTPRequestHandler], None]


class Site:
    """A server on 127.0.0.1. `pages` holds, by path, (status, headers, body) or what answers by itself."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.port, self.root = server.server_port, f"http://127.0.0.1:{server.server_port}"
        self.pages: dict[str, Answer] = {}
        self.requests: list[tuple[str, str]] = []

    def put(self, path: str, body: str | bytes, type: str = "text/html", status: int = 200, **headers: str) -> str:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) else body.encode()
        self.pages[path] = (status, {"Content-Type": type, **named} if type else named, data)
        return self.root + path

    def answer(self, path: str, answer: Callable[[BaseHTTPRequestHandler], None]) -> str:
        self.pages[path] = answer
        return self.root + path


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            running.requests.append((self.headers["Host"], self.path))
            answer = running.pages.get(self.path, (404, {}, b"no"))
            if callable(answer):
                answer(self)
                return
            self.send_response(answer[0])
            for name, value in answer[1].items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer[2])))
            self.end_headers()
            self.wfile.write(answer[2])

        def log_message(self, *_: object) -> None:
            pass

        def finish(self) -> None:
            with contextlib.suppress(OSError):
                super().finish()

    class Quiet(ThreadingHTTPServer):
        daemon_threads, block_on_close = True, False

        def handle_error(self, *_: object) -> None:
            pass  # a client that hangs up is what some tests want

    with Quiet(("127.0.0.1", 0), Handler) as server:
        running = Site(server)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield running
        server.shutdown()
        thread.join()
