"""What can't be run is refused before it is queued, by each door, with a sentence that says what to do."""

from __future__ import annotations

import json
import shutil
import threading
from collections import namedtuple
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ingest.pipeline import ingest
from kb.embedding import HashedWords
from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError
from service.cli.main import main
from service.experiments import preflight as checks
from service.experiments.claims import claim_spec
from service.experiments.engines.openai import OpenAIEngine
from service.experiments.execution import control
from service.experiments.execution.run_store import Runs, RunStatus
from service.experiments.preflight import NotReady
from service.experiments.spec import from_mapping
from service.experiments.types import ProblemSet
from service.web.experiments.form import check_spec
from tests.conftest import Vault

SAMPLE = Path(__file__).parents[3] / "samples" / "models" / "countdown" / "base"
CODE = {"task_id": "HumanEval/0", "prompt": "def f():\n", "test": "def check(f):\n    assert f() == 1\n", "entry_point": "f",
        "canonical_solution": "    return 1\n"}  # fmt: skip


def spec(model: object, **changes: Any) -> Any:
    models = {"base": model if isinstance(model, dict) else {"model": str(model), "engine": "transformers"}}
    return from_mapping({"problems": {"set": "countdown", "limit": 3}, "models": models, "sampling": {"n": 4, "max_tokens": 64},
                         **changes})  # fmt: skip


def refused(home: Path, asked: Any) -> str:
    with pytest.raises(PasskbError) as caught:
        control.submit(home, asked)
    assert Runs(home).all() == [] and not (home / "jobs.sqlite").exists(), "nothing was queued"
    return str(caught.value)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A whole model, to be broken."""
    return Path(shutil.copytree(SAMPLE, tmp_path / "model"))


def without(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def written(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


SHARDS = json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}})


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        (shutil.rmtree, "does not exist: correct the path"),
        (without("config.json"), "has no config.json"),
        (written("config.json", "{"), "config.json can't be read"),
        (without("model.safetensors"), "has no weights"),
        (written("model.safetensors", ""), "is empty: download it again"),
        (written("model.safetensors", "version https://git-lfs.github.com/spec/v1\n"), "run `git lfs pull`"),
        (written("model.safetensors.index.json", SHARDS), "lacks 1 of 2 weight files, for example model-2.safetensors"),
        (without("tokenizer.json"), "has no tokenizer"),
        (written("config.json", '{"max_position_embeddings": 64}'), "lower max_tokens"),
    ],
)
def test_a_model_that_can_not_be_loaded_is_refused_when_it_is_submitted(
    home: Path, model: Path, breaks: Callable[[Path], object], says: str
) -> None:
    breaks(model)
    told = refused(home, spec(model))
    assert told.startswith("models.base: ") and says in told and str(model) in told


def test_every_obstacle_is_named_at_once_and_a_whole_model_is_queued(home: Path, model: Path, tmp_path: Path) -> None:
    models = {"base": str(tmp_path / "a"), "tuned": {"model": "rate:7", "engine": "scripted"}}
    both = from_mapping(
        {"problems": {"set": "countdown", "limit": 3}, "sampling": {"n": 4, "max_tokens": 64}, "models": models}
    )
    told = refused(home, both)
    assert "models.base: " in told and "; models.tuned: 'rate:7': write rate:P" in told
    assert control.submit(home, spec(model)).fresh


def test_a_chat_needs_a_template(home: Path, model: Path) -> None:
    assert "has no chat template: remove 'chat'" in refused(home, spec({"model": str(model), "chat": True}))
    (model / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert control.submit(home, spec({"model": str(model), "chat": True})).fresh


def test_vllm_that_is_not_there_is_refused(home: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = spec({"model": str(model), "engine": "vllm"})
    monkeypatch.setenv("PASSKB_VLLM_PYTHON", str(tmp_path / "nowhere"))
    assert "is not a Python interpreter: correct PASSKB_VLLM_PYTHON" in refused(home, asked)
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setenv("PASSKB_VLLM_PYTHON", str(python))
    assert f"{python} has no vLLM: run `make vllm`" in refused(home, asked)


def test_code_needs_the_sandbox(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = tmp_path / "code.jsonl"
    problems.write_text(json.dumps(CODE) + "\n")
    monkeypatch.setattr("service.experiments.sandbox.available", lambda: (False, "install bubblewrap"))
    scripted = {"model": "rate:0.5", "engine": "scripted"}
    told = refused(home, spec(scripted, problems={"file": str(problems), "format": "humaneval"}))
    assert "the sandbox doesn't start: install bubblewrap" in told


def test_a_full_disk_is_noticed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 10**6))
    assert "MiB free" in (told := refused(home, spec({"model": "rate:0.5", "engine": "scripted"}))) and "make room" in told


def test_problems_that_can_not_be_read_are_refused(home: Path, tmp_path: Path) -> None:
    problems = tmp_path / "p.jsonl"
    problems.write_text('{"question": "1 + 1?", "answer": "#### 2"}\nno json\n')
    asked = spec({"model": "rate:0.5", "engine": "scripted"}, problems={"file": str(problems), "format": "gsm8k"})
    assert "p.jsonl, line 2" in refused(home, asked)


@pytest.fixture
def server() -> Iterator[str]:
    """An OpenAI-compatible server that serves `gemma`, as its list of models says."""

    class Models(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"data": [{"id": "gemma", "owned_by": "somebody"}]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Models)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}/v1"
    http.shutdown()
    http.server_close()


def test_a_servers_name_for_a_model_is_never_a_path(
    home: Path, server: str, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a folder of that name is in the working directory, or beside the note that makes the claim."""
    (tmp_path / "gemma").mkdir()
    monkeypatch.chdir(tmp_path)
    run = control.submit(home, spec({"model": "gemma", "engine": "openai", "url": server})).run
    assert run.spec.models["base"].model == "gemma"
    engine = OpenAIEngine(run.spec.models["base"])
    assert engine.effective["model"] == "gemma"
    engine.close()
    note = f"""---
claims:
  - id: c
    text: Gemma counts.
    test: {{problems: {{set: countdown, limit: 3}}, models: {{base: {{model: gemma, engine: openai, url: "{server}"}}}}}}
---
# A claim
"""
    folder = vault({"a.md": note, "gemma/config.json": "{}"})
    with KnowledgeBase(home, HashedWords()) as kb:
        ingest(kb, [folder])
        assert claim_spec(kb, "vault/a#c")["models"]["base"]["model"] == "gemma"


def test_a_server_that_does_not_answer_or_serves_another_model_is_refused(home: Path, server: str) -> None:
    told = refused(home, spec({"model": "llama", "engine": "openai", "url": server}))
    assert "llama" in told and "gemma" in told
    told = refused(home, spec({"model": "gemma", "engine": "openai", "url": "http://127.0.0.1:9/v1"}))
    assert "http://127.0.0.1:9/v1 does not answer" in told


def test_the_command_line_and_the_form_refuse_alike(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "problems: {set: countdown, limit: 3}\nmodels: {base: {model: ./absent, engine: transformers}}\nsampling: {n: 4}\n"
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    for command in ("run", "plan"):
        assert main(["--home", str(home), "experiment", command, str(path)]) == 1
        out, err = capsys.readouterr()
        assert not out and err.count("\n") == 1 and "models.base: the folder ./absent does not exist: correct the path" in err
    with KnowledgeBase(home, HashedWords()) as kb:
        html, fits = check_spec(kb, text)
        assert not fits and "does not exist" in html
        asked = spec({"model": "gemma", "engine": "openai", "url": "http://127.0.0.1:9/v1"})
        assert check_spec(kb, json.dumps(asked.to_json()))[1], "a form that a link filled asks no server"
    with pytest.raises(NotReady):
        checks.preflight(home, asked, ProblemSet("none", (), ""))


def test_a_run_is_checked_again_when_it_is_resumed(home: Path, model: Path) -> None:
    run = control.submit(home, spec(model)).run
    control.cancel(home, run.id)
    (model / "model.safetensors").unlink()
    with pytest.raises(NotReady, match="has no weights"):
        control.resume(home, run.id)
    assert run.state["status"] == RunStatus.CANCELLED and run.cancel_requested
