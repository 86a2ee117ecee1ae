"""What `passkb doctor` says of surroundings that are there, that are not, and that only look as if they were."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from service import doctor


def finding(name: str, home: Path) -> doctor.CheckResult:
    return next(check for check in doctor.run_checks(home) if check.name == name)


def test_a_python_without_vllm_is_not_taken_for_vllms(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSKB_VLLM_PYTHON", sys.executable)
    check = finding("vllm", home)
    assert not check.ok and "not installed in" in check.detail and "make vllm" in check.remedy
    monkeypatch.setenv("PASSKB_VLLM_PYTHON", str(home / "nothing"))
    assert not finding("vllm", home).ok


def test_vllms_version_is_told_where_it_is_installed(home: Path) -> None:
    python = Path(__file__).parents[2] / ".venv-vllm" / "bin" / "python"
    if not python.exists():
        pytest.skip("vLLM is not installed: make vllm")
    check = finding("vllm", home)
    assert check.ok and check.detail.startswith("vllm 0.")
