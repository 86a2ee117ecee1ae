"""The house stays as DESIGN.md draws it: imports in one direction, libraries behind their border, files of a length to read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("kb", "ingest", "service")
NEVER = {"kb": {"ingest", "service"}, "ingest": {"service"}}
TORCH = {f"service/experiments/{name}.py" for name in ("engines/transformers", "organisms/training", "organisms/model")}
BORDERS = {
    "chromadb": {"kb/vector_index.py", "service/doctor.py"},
    "httpcore": {"ingest/fetch.py"},
    "httpx": {
        "ingest/fetch.py",
        "service/experiments/engines/endpoints.py",
        "service/experiments/engines/vllm.py",
        "service/llm/http_limits.py",
    },
    "llama_index": {"service/llm/client.py"},
    "networkx": {"kb/graph.py"},
    "openai": {"service/llm/client.py"},
    "openvino": {"kb/embedding.py"},
    "openvino_telemetry": set[str](),
    "torch": TORCH,
    "transformers": TORCH,
    "dbos": {"service/experiments/execution/queue.py"},
    "fastapi": {"service/api/rest.py"},
    "mcp": {"service/api/mcp.py"},
    "mcp_types": {"service/api/mcp.py"},
    "pydantic": {*(f"service/api/{name}.py" for name in ("rest", "schemas", "mcp")), "service/web/ask/browser_storage.py"},
    "math_verify": {"service/experiments/graders/math.py"},
    "sentence_transformers": set[str](),
}
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The top-level packages that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            yield str(node.module).partition(".")[0]


def test_danger_arithmetic_and_files_stay_apart() -> None:
    """Statistics know nothing of engines, graders or files; answers know nothing of experiments, nor the other way about."""
    for path in FILES:
        name, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        if name.startswith("service/experiments/statistics/"):
            assert not {"pathlib", "os", "subprocess", "sqlite3", "kb", "ingest"} & set(imported(path)), name
        if name.startswith("service/answering/"):
            assert "service.experiments" not in text, name
        if name.startswith("service/experiments/"):
            assert "service.answering" not in text, name
        if name.startswith("service/api/"):
            assert "service.web" not in text, name


def test_the_files_are_where_they_are_looked_for() -> None:
    assert len(FILES) > 30 and {path.relative_to(ROOT).parts[0] for path in FILES} == set(FOLDERS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_downwards_and_keeps_libraries_at_their_border(path: Path) -> None:
    name, packages = path.relative_to(ROOT).as_posix(), set(imported(path))
    assert not packages & NEVER.get(name.partition("/")[0], set())
    for library, places in BORDERS.items():
        assert library not in packages or name in places, f"{library} in {name}"
    assert "gradio" not in packages or name.startswith("service/web/")
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_answering_and_the_command_line_do_not_know_the_web_app_ahead_of_time() -> None:
    """Only `passkb serve` pays for loading Gradio."""
    for name in ("cli.py", "answering/quoting.py", "status.py", "doctor.py"):
        tree = ast.parse((ROOT / "service" / name).read_text(encoding="utf-8"))
        top = [str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)]
        assert not [module for module in top if module.startswith("service.web")]
