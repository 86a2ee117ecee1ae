"""The project's own files agree: Dockerfile, Makefile, CI, locks, README."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
CI = (ROOT / ".ci/run").read_text(encoding="utf-8")


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


def test_the_image_has_a_gpu_target_and_runs_as_an_ordinary_user() -> None:
    assert {"base", "gpu", "app"} <= stages().keys()
    assert "RUN make vllm" in stages()["vllm"] and "FROM vllm AS gpu" in DOCKERFILE
    base = stages()["base"]
    assert base.index("USER passkb") < base.index("RUN make deps") < base.index("CMD [")
    assert "HEALTHCHECK" in base and "USER root" not in DOCKERFILE


def test_an_edit_of_the_code_downloads_nothing_again() -> None:
    """The layers that download see the Makefile and the locks only."""
    for name in ("base", "vllm"):
        copied = re.findall(r"^COPY (?:--\S+ )*(.+) \S+$", stages()[name], re.MULTILINE)
        assert set(copied) <= {"Makefile", "locks"}, f"the stage {name} copies {copied}"
    for name in ("gpu", "app"):
        assert stages()[name].index("COPY") < stages()[name].index("RUN make install")


def test_the_last_stage_is_the_app() -> None:
    assert list(stages())[-1] == "app"


@pytest.mark.parametrize("name", ["demo", "test", "check", "bench", "install", "vllm", "smoke", "deps", "docs", "lock"])
def test_contract_targets_exist(name: str) -> None:
    assert name in TARGETS


def test_ci_runs_the_readmes_commands() -> None:
    assert "make demo" in README and "make test" in README
    commands = ["make smoke", "make check", "PASSKB_REQUIRE_ALL=1 make test"]
    assert [command for command in commands if command in CI] == commands
    assert CI.index("make smoke") < CI.index("make test")


def test_the_readmes_tree_is_the_repositorys() -> None:
    for path in re.findall(r"^(?:├──|└──|│   ├──|│   └──) ?(\S+)", README, re.MULTILINE):
        assert any(ROOT.glob(f"**/{path.rstrip('/')}")), f"README names {path}, which is not there"


def test_the_metadata_says_what_a_package_index_shows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["authors"] and project["keywords"] and project["urls"]
    assert {"Typing :: Typed", "Operating System :: POSIX :: Linux"} <= set(project["classifiers"])
