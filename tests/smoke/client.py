"""The ways to passkb: its command line, HTTP, and MCP over standard input and output. Standard library only."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.smoke.environment import Failure, clean_variables

_LONGEST_S = 600


@dataclass(frozen=True)
class Passkb:
    """`passkb --home HOME …` run in `folder`, a working directory that is not the checkout."""

    command: Path
    home: Path
    folder: Path

    def run(self, *arguments: object, json_output: bool = True) -> Any:
        """What a command prints: its JSON, or its text. A status other than 0 is a failure."""
        command = [str(self.command), "--home", str(self.home), *map(str, arguments)]
        command += ["--json"] if json_output else []
        ran = subprocess.run(
            command, cwd=self.folder, env=clean_variables(self.folder), capture_output=True, text=True, timeout=_LONGEST_S
        )
        if ran.returncode:
            worker = self.home / "worker.log"
            log = worker.read_text(errors="replace")[-1500:] if worker.exists() else ""
            raise Failure(f"`passkb {' '.join(map(str, arguments))}` ended with {ran.returncode}:\n{ran.stderr[-1500:]}{log}")
        return json.loads(ran.stdout) if json_output else ran.stdout

    def verify(self, answer: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The citations of an answer, each of which must stand at its place in its note."""
        citations = [citation for statement in answer["statements"] for citation in statement["citations"]]
        texts = {note: self.run("note", note)["text"] for note in {citation["note_id"] for citation in citations}}
        for each in citations:
            span = texts[each["note_id"]][each["start"] : each["end"]]
            expect(span == each["quote"], f"{each['note_id']} holds {span!r} where the answer quotes {each['quote']!r}")
        return citations


def expect(condition: object, message: str) -> None:
    if not condition:
        raise Failure(message)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(command: list[str], address: str, cwd: Path, variables: Mapping[str, str]) -> Iterator[str]:
    """A server while it lasts, once it answers at `address`. Ends every process that it started."""
    log = cwd / f"server-{address.rpartition(':')[2]}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=cwd, env=variables, stdout=output, stderr=output, start_new_session=True)
        try:
            _await(process, address, log)
            yield address
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _await(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + _LONGEST_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Failure(f"the server ended with {process.returncode}:\n{log.read_text(errors='replace')[-1500:]}")
        try:
            urllib.request.urlopen(address, timeout=10).close()
            return
        except OSError:
            time.sleep(0.3)
    raise Failure(f"the server does not answer:\n{log.read_text(errors='replace')[-1500:]}")


def get(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=120) as response:
            return bytes(response.read())
    except urllib.error.HTTPError as error:
        raise Failure(f"{address} answers {error.code}: {error.read()[:300]!r}") from None


def get_json(address: str, **query: object) -> Any:
    return json.loads(get(address + ("?" + urllib.parse.urlencode(query) if query else "")))


def post_json(address: str, body: Mapping[str, Any]) -> Any:
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=300) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise Failure(f"{address} answers {error.code}: {error.read()[:300]!r}") from None


class Mcp:
    """A client of `passkb mcp`: one JSON message a line."""

    def __init__(self, passkb: Passkb) -> None:
        self._last = 0
        self._process = subprocess.Popen(
            [str(passkb.command), "--home", str(passkb.home), "mcp"],
            cwd=passkb.folder,
            env=clean_variables(passkb.folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Mcp:
        about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "smoke", "version": "1"}}
        self.request("initialize", about)
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=60)

    def request(self, method: str, parameters: Mapping[str, Any]) -> Any:
        self._last += 1
        self._send({"jsonrpc": "2.0", "id": self._last, "method": method, "params": parameters})
        assert self._process.stdout and self._process.stderr
        for line in self._process.stdout:
            message = json.loads(line)
            if message.get("id") == self._last:
                expect("result" in message, f"{method} was answered with {message.get('error')}")
                return message["result"]
        raise Failure(f"`passkb mcp` ended at {method}:\n{self._process.stderr.read()[-1500:]}")

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            assert self._process.stderr
            raise Failure(f"`passkb mcp` ended:\n{self._process.stderr.read()[-1500:]}") from None
