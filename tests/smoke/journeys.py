"""The main jobs, each from its start to what a person gets, through the public surface only. Standard library only."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

from tests.smoke.client import Mcp, Passkb, expect, free_port, get, get_json, post_json, served
from tests.smoke.environment import Failure, Shipped, clean_variables, install_variables, install_wheel

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = Path(__file__).resolve().parent / "documents"
QUESTION = "What does pass@k reveal about base model reasoning capacity?"
SENTENCE = "A limpet grazes on algae while the tide is in and returns to the same scar in the rock before the tide goes out."
TOY = """---
title: A small run of the toy family
claims:
  - id: small
    text: The tuned model of the toy Countdown family is ahead of its base model at one attempt.
    test:
      question: Is the tuned model of the toy family ahead at k of one?
      problems: {set: countdown, limit: 6, seed: 1}
      models: {base: {model: models/base, engine: transformers}, tuned: {model: models/tuned, engine: transformers}}
      sampling: {n: 8, temperature: 1.0, max_tokens: 32, seed: 0}
      prediction: {kind: higher, model: tuned, k: 1}
---
Whether the tuned model of the toy Countdown family is ahead of its base model at one attempt is an open question of this note.
"""
COUNTS = "model,problem_id,n,c\n" + "".join(
    f"{m},p{i},8,{(i + m.count('t')) % 9}\n" for m in ("base", "tuned") for i in range(20)
)


@dataclass
class Context:
    """What the journeys share: the environment, and a home that the earlier ones filled."""

    shipped: Shipped
    passkb: Passkb


def requirements_are_complete(context: Context) -> None:
    """`pip check` finds nothing but the named exceptions, and nothing is installed that phones home."""
    check = _load(ROOT / "locks" / "check.py")
    ran = subprocess.run([str(context.shipped.python), "-m", "pip", "check"], capture_output=True, text=True, check=False)
    missing = check.faults(ran.stdout + ran.stderr)
    expect(not missing, "\n".join(missing))
    installed = subprocess.run([str(context.shipped.python), "-m", "pip", "list"], capture_output=True, text=True, check=True)
    names = {line.split()[0].lower().replace("_", "-") for line in installed.stdout.splitlines() if line}
    expect(not names & set(check.FORBIDDEN), f"{', '.join(sorted(names & set(check.FORBIDDEN)))} is installed")
    expect("pytest" not in names, "the packages of the tests are installed")


def the_version_is_printed(context: Context) -> None:
    project = tomllib.loads((context.shipped.checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    printed = context.passkb.run("--version", json_output=False)
    expect(project["version"] in printed, f"`passkb --version` printed {printed!r}, not {project['version']}")


def the_sample_vault_is_indexed(context: Context) -> None:
    report = context.passkb.run("ingest", context.shipped.checkout / "samples" / "vault")
    expect(report["added"] >= 45 and not report["failed"], f"ingest reports {report}")
    status = context.passkb.run("status")
    expect(sum(status["notes"].values()) >= 45, f"status reports {status['notes']}")


def a_pdf_and_a_page_are_indexed(context: Context) -> None:
    report = context.passkb.run("ingest", DOCUMENTS)
    expect(report["added"] == 2 and not report["failed"], f"ingest reports {report}")
    hits = context.passkb.run("search", "limpet scar algae", "-k", "1")["hits"]
    expect(hits and "limpet" in hits[0]["text"], f"search found {hits}")
    answer = context.passkb.run("ask", "How much heat does an air-source heat pump deliver for each unit of electricity?")
    quotes = [citation["quote"] for citation in context.passkb.verify(answer)]
    expect(any("3.1 units" in each for each in quotes), f"the PDF is not quoted, but {quotes}")


def a_question_is_answered_in_quotes(context: Context) -> None:
    answer = context.passkb.run("ask", QUESTION)
    expect(answer["answered"] and answer["mode"] == "quoted", f"ask answered {str(answer)[:300]}")
    expect(context.passkb.verify(answer), "the answer cites nothing")
    unknown = context.passkb.run("ask", "Which football club won the Portuguese cup in 1958?")
    expect(not unknown["answered"] and unknown["nearest"], "a question outside the notes is answered")


def the_demo_is_served(context: Context) -> None:
    """`make demo` at a free port: the page, a citation opened over HTTP, REST."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    home = context.shipped.folder / "demo-home"
    command = ["make", "demo", f"PORT={port}", f"HOME_DIR={home}", f"PYTHON={sys.executable}"]
    with served(command, address, context.shipped.checkout, install_variables()):
        expect(b"passkb" in get(address), "the page does not name passkb")
        answer = post_json(f"{address}/api/v1/ask", {"question": QUESTION})
        expect(answer["answered"] and answer["statements"], f"REST answered {str(answer)[:300]}")
        citation = answer["statements"][0]["citations"][0]
        expect(get(f"{address}/?note={quote(citation['note_id'], safe='')}"), "the note's page is empty")
        start, end = citation["start"], citation["end"]
        note = get_json(f"{address}/api/v1/notes/{quote(citation['note_id'])}", start=start, length=end - start)
        expect(note["text"] == citation["quote"], f"the citation opens at {note['text']!r}, not at {citation['quote']!r}")
        hits = get_json(f"{address}/api/v1/search", q="entropy collapse", k=2)["hits"]
        expect(len(hits) == 2 and hits[0]["text"], f"REST found {hits}")
        expect(get_json(f"{address}/api/openapi.json")["paths"], "the API has no description")


def a_program_asks_over_mcp(context: Context) -> None:
    with Mcp(context.passkb) as client:
        tools = [tool["name"] for tool in client.request("tools/list", {})["tools"]]
        expect({"search", "ask"} <= set(tools), f"the tools are {tools}")
        result = client.request("tools/call", {"name": "search", "arguments": {"query": "limpet scar", "k": 1}})
        expect(not result.get("isError") and "limpet" in result["content"][0]["text"], f"the search gave {str(result)[:300]}")


def an_experiment_ends_in_its_evidence(context: Context) -> None:
    """A claim's test on the toy models: queued, run by a worker, published, and readable as a note."""
    vault = context.shipped.folder / "claims"
    vault.mkdir()
    (vault / "models").symlink_to(context.shipped.checkout / "samples" / "models" / "countdown")
    (vault / "small.md").write_text(TOY, encoding="utf-8")
    context.passkb.run("ingest", vault)
    run = context.passkb.run("experiment", "run", "claims/small#small", "--wait")
    expect(run["status"] == "succeeded", f"the run ended as {run['status']}: {run.get('error')}")
    expect([(m["n_problems"], m["n"]) for m in run["models"]] == [(6, 8), (6, 8)], f"the run has {run['models']}")
    note = context.passkb.run("note", run["evidence_note_id"])
    expect(note["kind"] == "evidence" and "pass@" in note["text"], f"the evidence note is {str(note)[:300]}")
    claims = context.passkb.run("claims")["claims"]
    expect(any(run["evidence_note_id"] in claim["evidence"] for claim in claims), "no claim names the evidence")


def a_model_writes_an_answer(context: Context) -> None:
    """Over HTTP, from a scripted model that cites the passage it was offered."""
    scripted = _load(ROOT / "tests" / "service" / "answering" / "scripted_server.py")

    def write(body: Mapping[str, Any]) -> Any:
        found = re.search(rf"^\[(\d+)\] {re.escape(SENTENCE[:30])}", body["messages"][-1]["content"], re.MULTILINE)
        return scripted.said(f"{SENTENCE[:-1]} [{found[1] if found else 99}].")

    with scripted.serving(write) as server:
        question = "Why does a limpet return to the same scar in the rock?"
        answer = context.passkb.run("ask", question, "--llm", server.url, "--model", "scripted")
        expect(server.asked, "the model was not asked")
    expect(answer["mode"] == "generated" and answer["model"] == "scripted", f"the answer is {str(answer)[:300]}")
    supported = [each for each in answer["statements"] if each["support"] == "supported"]
    expect([each["text"] for each in supported] == [SENTENCE], f"the statements are {answer['statements']}")
    expect(context.passkb.verify(answer), "the written answer cites nothing")


def the_doctor_finds_the_main_parts_well(context: Context) -> None:
    checks = {check["name"]: check for check in context.passkb.run("doctor")["checks"]}
    needed = ("python", "sqlite", "home", "embedder", "chroma", "transformers")
    ill = {name: checks.get(name) for name in needed if not checks.get(name, {}).get("ok")}
    expect(not ill, f"doctor reports {ill}")


def a_wheel_works_outside_the_checkout(context: Context) -> None:
    """The package as pip installs it, in an environment and a working directory far from the clone, which is out of reach."""
    command = install_wheel(context.shipped)
    folder = context.shipped.folder / "elsewhere"
    notes = folder / "vault"
    _copy(context.shipped.checkout / "samples" / "vault", notes)
    away = context.shipped.checkout.rename(context.shipped.folder / "hidden")
    try:
        passkb = Passkb(command, folder / "home", folder)
        passkb.run("ingest", notes)
        expect(passkb.verify(passkb.run("ask", QUESTION)), "the answer cites nothing")
        (folder / "counts.csv").write_text(COUNTS, encoding="utf-8")
        run = passkb.run("experiment", "import", folder / "counts.csv")
        expect(passkb.run("note", run["evidence_note_id"])["kind"] == "evidence", "the import has no evidence note")
        port = free_port()
        serve = [str(command), "--home", str(passkb.home), "serve", "--port", str(port), "--no-worker"]
        with served(serve, f"http://127.0.0.1:{port}", folder, clean_variables(folder)) as address:
            expect(b"passkb" in get(address), "the page does not name passkb")
            expect(get_json(f"{address}/api/openapi.json")["paths"], "the API has no description")
    finally:
        away.rename(context.shipped.checkout)


def _copy(source: Path, target: Path) -> None:
    for file in source.rglob("*.md"):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())


def _load(path: Path) -> ModuleType:
    """A file of these tests as a module, without the packages that pytest would need."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise Failure(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


JOURNEYS: tuple[Callable[[Context], None], ...] = (
    requirements_are_complete,
    the_version_is_printed,
    the_sample_vault_is_indexed,
    a_pdf_and_a_page_are_indexed,
    a_question_is_answered_in_quotes,
    the_demo_is_served,
    a_program_asks_over_mcp,
    an_experiment_ends_in_its_evidence,
    a_model_writes_an_answer,
    the_doctor_finds_the_main_parts_well,
    a_wheel_works_outside_the_checkout,
)
