"""Does every main job of passkb in the environment that `make install` makes, through the public surface only.

Clones a checkout into a temporary folder, installs it there without the packages of the tests, and runs each journey below.
Needs nothing but the standard library. `python tests/smoke/run.py [CHECKOUT]`; exit status 1 when a journey fails.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
QUESTION = "What does pass@k reveal about base model reasoning capacity?"
SPEC = """name: smoke
question: Does the tuned toy model pass more problems at the first attempt?
claim: vault/does-rlvr-expand#toy-crossover
problems: {{set: countdown, limit: 6, seed: 0}}
models:
  base: {{model: {models}/base, engine: transformers}}
  tuned: {{model: {models}/tuned, engine: transformers}}
sampling: {{n: 4, temperature: 1.0, top_p: 1.0, max_tokens: 48, seed: 0}}
prediction: {{kind: higher, model: tuned, k: 1}}
"""
PAGE = """<!doctype html><title>Quokkas on Rottnest</title><h1>Quokkas on Rottnest</h1>
<p>Quokkas are small macropods that live on Rottnest Island near Perth, where they graze at night.</p>"""


class Journeys:
    """A clone with its environment, its home, and what the journeys share."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clone, self.home = folder, folder / "clone", folder / "home"
        self.bin = self.clone / ".venv/bin"
        self.user = folder / "user"
        self.user.mkdir()
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.user), "TMPDIR": str(folder), "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        # pip leaves files of its own in the user's folder.
        self.tools = {**self.environment, "HOME": str(folder / "tools"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}

    def passkb(self, *arguments: str, **options: Any) -> str:
        return run([str(self.bin / "passkb"), "--home", str(self.home), *arguments], env=self.environment, **options)

    def json(self, *arguments: str) -> Any:
        return json.loads(self.passkb(*arguments, "--json"))

    # -- journeys, in order --------------------------------------------------------------------------------------------

    def environment_is_complete(self) -> None:
        run([str(self.bin / "python"), str(self.clone / "locks/check.py")], env=self.tools)
        listed = run([str(self.bin / "python"), "-m", "pip", "list"], env=self.tools)
        assert "pytest" not in listed, "the tests' packages are installed: this proves nothing about a user's environment"

    def ingest_the_sample_vault(self) -> None:
        report = self.json("ingest", str(self.clone / "samples/vault"))
        assert report["added"] >= 60 and not report["failed"], report

    def ingest_a_pdf_and_a_page(self) -> None:
        documents = self.folder / "documents"
        documents.mkdir()
        (documents / "quokkas.html").write_text(PAGE, encoding="utf-8")
        (documents / "numbats.pdf").write_bytes(pdf("Numbats eat up to twenty thousand termites a day."))
        report = self.json("ingest", str(documents))
        assert report["added"] == 2 and not report["failed"], report
        assert "termites" in json.dumps(self.json("search", "What do numbats eat?"))

    def ask_and_check_every_quote(self) -> None:
        answer = self.json("ask", QUESTION)
        assert answer["answered"] and answer["statements"], answer
        self.check_quotes(answer)

    def refuse_what_no_note_says(self) -> None:
        answer = self.json("ask", "What is the boiling point of tungsten hexafluoride?")
        assert not answer["answered"] and not answer["statements"], answer

    def walk_from_note_to_note(self) -> None:
        note = self.json("note", "vault/does-rlvr-expand")
        assert note["links"] and note["backlinks"], note
        assert self.json("path", "vault/does-rlvr-expand", note["links"][0]["target"])

    def run_an_experiment_to_its_evidence_note(self) -> None:
        spec = self.folder / "spec.yaml"
        spec.write_text(SPEC.format(models=self.clone / "samples/models/countdown"), encoding="utf-8")
        shown = json.loads(self.passkb("experiment", "run", str(spec), "--wait", "--json", timeout=600))
        assert shown["status"] == "succeeded", shown
        note = self.json("note", shown["evidence_note_id"])
        assert note["kind"] == "evidence" and shown["run_id"] in note["text"], note["text"]

    def write_an_answer_with_a_model(self) -> None:
        with scripted_model_server(self.clone, self.environment) as url:
            answer = json.loads(self.passkb("ask", QUESTION, "--llm", url, "--model", "scripted", "--json"))
        assert answer["mode"] == "generated" and answer["statements"], answer
        self.check_quotes(answer)

    def serve_the_app_and_rest(self) -> None:
        with served(self) as address:
            assert "passkb" in fetch(f"{address}/")
            answer = json.loads(fetch(f"{address}/api/v1/ask", {"question": QUESTION}))
            assert answer["answered"], answer
            citation = answer["statements"][0]["citations"][0]
            note = json.loads(fetch(f"{address}/api/v1/notes/{citation['note_id']}"))
            assert note["text"][citation["start"] : citation["end"]] == citation["quote"]
            assert json.loads(fetch(f"{address}/api/v1/search?q=entropy&k=2"))["hits"]

    def answer_over_mcp(self) -> None:
        calls: list[dict[str, Any]] = [
            {"id": 1, "method": "initialize", "params": {
                "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "smoke", "version": "1"}}},
            {"method": "notifications/initialized"},
            {"id": 2, "method": "tools/list"},
            {"id": 3, "method": "tools/call", "params": {"name": "search", "arguments": {"query": "entropy collapse"}}},
        ]  # fmt: skip
        command = [str(self.bin / "passkb"), "--home", str(self.home), "mcp"]
        with subprocess.Popen(
            command, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            try:
                replies: dict[int, Any] = {}
                for call in calls:
                    process.stdin.write(json.dumps({"jsonrpc": "2.0", **call}) + "\n")
                    process.stdin.flush()
                    while "id" in call and call["id"] not in replies:
                        line = process.stdout.readline()
                        assert line, "the server ended"
                        reply = json.loads(line)
                        replies[reply.get("id", 0)] = reply
            finally:
                process.kill()
        assert {tool["name"] for tool in replies[2]["result"]["tools"]} >= {"search", "ask"}, replies[2]
        assert not replies[3]["result"].get("isError") and "entropy" in json.dumps(replies[3]).lower(), replies[3]

    def doctor_and_version(self) -> None:
        findings = self.json("doctor")
        assert "embedder" in json.dumps(findings), findings
        version = run([str(self.bin / "passkb"), "--version"], env=self.environment)
        assert version.startswith("passkb "), version

    def installed_wheel_works_outside_the_checkout(self) -> None:
        wheels, other = self.folder / "wheels", self.folder / "other"
        python = str(self.bin / "python")
        run([python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(self.clone)],
            env=self.tools)  # fmt: skip
        run([python, "-m", "venv", str(other)], env=self.tools)
        wheel = next(wheels.glob("passkb-*.whl"))
        run([str(other / "bin/python"), "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)], env=self.tools)
        # The dependencies by a path file, which does not carry over the checkout's own editable install.
        dependencies = next(self.bin.parent.glob("lib/python*/site-packages"))
        own = next(other.glob("lib/python*/site-packages"))
        (own / "dependencies.pth").write_text(f"{dependencies}\n", encoding="utf-8")
        where = run([str(other / "bin/python"), "-c", "import kb; print(kb.__file__)"], env=self.environment, cwd=self.user)
        assert str(own) in where, where
        vault, home = self.clone / "samples/vault", self.folder / "home-of-the-wheel"
        command = [str(other / "bin/passkb"), "--home", str(home)]
        run([*command, "ingest", str(vault)], env=self.environment, cwd=self.user)
        answer = json.loads(run([*command, "ask", QUESTION, "--json"], env=self.environment, cwd=self.user))
        assert answer["answered"], answer

    def nothing_was_written_into_the_users_folder(self) -> None:
        left = [str(path.relative_to(self.user)) for path in self.user.rglob("*") if path.is_file()]
        assert not left, f"files outside the home: {left}"

    # ------------------------------------------------------------------------------------------------------------------

    def check_quotes(self, answer: Mapping[str, Any]) -> None:
        for statement in answer["statements"]:
            for citation in statement["citations"]:
                text = self.json("note", citation["note_id"])["text"]
                assert text[citation["start"] : citation["end"]] == citation["quote"], citation


def run(command: list[str], *, env: Mapping[str, str], timeout: float = 300, cwd: Path | None = None) -> str:
    """Standard output of a command that must succeed; the error tells what it printed."""
    done = subprocess.run(command, env=dict(env), cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def fetch(address: str, body: object = None) -> str:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"content-type": "application/json"} if data else {})
    with urllib.request.urlopen(request, timeout=60) as response:
        return str(response.read().decode())


@contextlib.contextmanager
def served(journeys: Journeys) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(journeys.bin / "passkb"), "--home", str(journeys.home), "serve", "--port", str(port)]
    with subprocess.Popen(command, env=journeys.environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline().startswith("passkb: http"), "the app did not start"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


_MODEL_SERVER = """
import time
from tests.service.answering.scripted_server import ScriptedServer, said, serving
with serving(said("pass@k shows what a model can reach in many attempts [1].")) as server:
    print(server.url, flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def scripted_model_server(clone: Path, environment: Mapping[str, str]) -> Iterator[str]:
    command = [sys.executable, "-c", _MODEL_SERVER]
    with subprocess.Popen(command, env=dict(environment), cwd=clone, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url.startswith("http"), "the scripted model server did not start"
            yield url
        finally:
            process.kill()


def pdf(sentence: str) -> bytes:
    """A PDF of one page with one line of Helvetica."""
    content = f"BT /F1 11 Tf 50 700 Td ({sentence}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    end = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(out))
    return bytes(out + b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + table + end)


def install(checkout: Path, clone: Path) -> None:
    if subprocess.run(["git", "-C", str(checkout), "status", "--porcelain"], capture_output=True, check=True).stdout:
        print("smoke: the checkout has changes that are not committed; only what is committed is tested", flush=True)
    subprocess.run(["git", "clone", "--quiet", str(checkout), str(clone)], check=True)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS", "VIRTUAL_ENV"))}
    subprocess.run(["make", "--no-print-directory", "install"], cwd=clone, env=environment, check=True)


def journeys_of(shared: Journeys) -> list[Callable[[], None]]:
    return [
        shared.environment_is_complete, shared.ingest_the_sample_vault, shared.ingest_a_pdf_and_a_page,
        shared.ask_and_check_every_quote, shared.refuse_what_no_note_says, shared.walk_from_note_to_note,
        shared.run_an_experiment_to_its_evidence_note, shared.write_an_answer_with_a_model, shared.serve_the_app_and_rest,
        shared.answer_over_mcp, shared.doctor_and_version, shared.installed_wheel_works_outside_the_checkout,
        shared.nothing_was_written_into_the_users_folder,
    ]  # fmt: skip


def main(checkout: Path) -> int:
    failed = 0
    with tempfile.TemporaryDirectory(prefix="passkb-smoke-") as folder:
        shared = Journeys(Path(folder))
        install(checkout, shared.clone)
        journeys = journeys_of(shared)
        for journey in journeys:
            started, name = time.monotonic(), journey.__name__.replace("_", " ")
            try:
                journey()
            except Exception:
                failed += 1
                print(f"FAIL {name}\n{traceback.format_exc()}", flush=True)
            else:
                print(f"PASS {name} ({time.monotonic() - started:.1f} s)", flush=True)
    print(f"{len(journeys) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))
