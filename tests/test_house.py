"""The structure that DESIGN.md describes: imports in one direction, no circles, libraries behind their border."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import networkx
import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("kb", "ingest", "service")
NEVER = {
    "kb": ("ingest", "service"),
    "ingest": ("service",),
    "service/llm": ("service/answering", "service/api", "service/cli", "service/experiments", "service/web"),
    "service/answering": ("service/api", "service/cli", "service/experiments", "service/inquiries", "service/web"),
    "service/experiments": ("service/answering", "service/api", "service/cli", "service/inquiries", "service/web"),
    "service/experiments/statistics": ("kb", "ingest"),
    "service/inquiries": ("service/api", "service/cli", "service/web"),
    "service/integrations": ("service/api", "service/cli", "service/web"),
    "service/suggestions": ("service/api", "service/cli", "service/web"),
    "service/api": ("service/cli", "service/web"),
    "service/web": ("service/cli",),
}
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
    "llama_index": {"service/integrations/llama_index.py", "service/llm/client.py", "service/llm/integration.py"},
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
    "math_verify": {"service/experiments/graders/math.py"},
    "sentence_transformers": set[str](),
}
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
MODULES = {path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in FILES}
PLACES = sorted({path.parent.relative_to(ROOT).as_posix() for path in FILES})


def modules(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write the import in full"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else str(node.module)


@cache
def imports() -> dict[str, frozenset[str]]:
    """For each file, as a path below the root: what it imports, our own modules as paths too."""
    return {
        path.relative_to(ROOT).as_posix(): frozenset(
            name.replace(".", "/") + ".py" if name in MODULES else name for name in modules(path)
        )
        for path in FILES
    }


def test_the_files_are_found() -> None:
    assert len(FILES) > 150 and {path.relative_to(ROOT).parts[0] for path in FILES} == set(FOLDERS)


@pytest.mark.parametrize("folder", NEVER)
def test_a_folder_does_not_import_what_lies_above_it(folder: str) -> None:
    for name, targets in imports().items():
        if name.startswith(f"{folder}/"):
            above = [target for target in targets if target.startswith(tuple(f"{other}/" for other in NEVER[folder]))]
            assert not above, f"{name} imports {above}"


@pytest.mark.parametrize("folder", PLACES)
def test_what_lies_in_a_folder_imports_each_other_without_circles(folder: str) -> None:
    """The files and subfolders of one folder, each subfolder taken as a whole."""
    graph: networkx.DiGraph[str] = networkx.DiGraph()
    for name, targets in imports().items():
        for target in targets:
            if name.startswith(f"{folder}/") and target.startswith(f"{folder}/"):
                source, end = (path[len(folder) + 1 :].partition("/")[0] for path in (name, target))
                if source != end:
                    graph.add_edge(source, end)
    assert not list(networkx.simple_cycles(graph))


@pytest.mark.parametrize("library", BORDERS)
def test_a_library_is_imported_in_its_place_only(library: str) -> None:
    users = {name for name, targets in imports().items() if library in {target.partition(".")[0] for target in targets}}
    assert users <= BORDERS[library]


def test_gradio_is_imported_below_web_only() -> None:
    users = {name for name, targets in imports().items() if "gradio" in {target.partition(".")[0] for target in targets}}
    assert users and all(name.startswith("service/web/") for name in users)


def test_statistics_read_no_files_and_start_no_programs() -> None:
    for name, targets in imports().items():
        if name.startswith("service/experiments/statistics/"):
            assert not {"pathlib", "os", "subprocess", "sqlite3"} & targets, name


def test_only_serve_loads_the_web_app() -> None:
    """Loading Gradio takes seconds: other commands don't."""
    for name in ("cli/main.py", "answering/extractive.py", "status.py", "doctor.py"):
        tree = ast.parse((ROOT / "service" / name).read_text(encoding="utf-8"))
        top = [str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)]
        assert not [module for module in top if module.startswith("service.web")]


def test_no_folder_is_too_full_to_read_as_a_list() -> None:
    for folder in PLACES:
        files = [path for path in FILES if path.parent == ROOT / folder and path.name != "__init__.py"]
        assert len(files) <= 16, f"{folder} holds {len(files)} files: group them in subfolders"
