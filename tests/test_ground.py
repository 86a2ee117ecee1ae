"""The ground: the Dockerfile, the Makefile, CI, the locks and the README say the same things."""

from __future__ import annotations

import re
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
    assert "RUN make vllm" in stages()["gpu"]
    base = stages()["base"]
    assert base.index("USER passkb") < base.index("RUN make install") < base.index("CMD [")
    assert "HEALTHCHECK" in base and "USER root" not in DOCKERFILE


def test_the_last_stage_is_the_app() -> None:
    assert list(stages())[-1] == "app"


@pytest.mark.parametrize("name", ["demo", "test", "check", "bench", "install", "vllm"])
def test_contract_targets_exist(name: str) -> None:
    assert name in TARGETS


def test_ci_runs_the_readmes_test_command() -> None:
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert "PASSKB_REQUIRE_ALL=1 make test" in script
    assert "make demo" in README and "make test" in README


def test_the_lock_holds_every_direct_dependency_in_its_range() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = {}
    for name in ("requirements.lock", "requirements-dev.lock"):
        for line in (ROOT / name).read_text(encoding="utf-8").split():
            package, _, version = line.partition("==")
            locked[package.lower().replace("_", "-")] = version
    locked["torch"] = re.search(r"^TORCH := torch==(\S+)$", MAKEFILE, re.MULTILINE)[1]  # type: ignore[index]
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        name, lower = re.match(r"([\w-]+)(?:[><=]=([\d.]+))?", requirement).groups()  # type: ignore[union-attr]
        name = name.replace("_", "-")
        assert locked.get(name.lower()), f"{name} is not locked: run `make lock`"
        if lower:
            assert numbers(locked[name.lower()]) >= numbers(lower), f"{name} is locked below its range"


def numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def test_the_readmes_tree_is_the_repositorys() -> None:
    for path in re.findall(r"^(?:├──|└──|│   ├──|│   └──) ?(\S+)", README, re.MULTILINE):
        assert any(ROOT.glob(f"**/{path.rstrip('/')}")), f"README names {path}, which is not there"
