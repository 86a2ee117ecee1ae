"""A guard for each file of tests."""

from __future__ import annotations

import os

import pytest

from tests.privacy.syscalls import Guard, unavailable


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Guard:
    if reason := unavailable():
        told = f"{reason}: apt-get install strace, in a container with SYS_PTRACE"
        pytest.fail(told) if os.environ.get("PASSKB_REQUIRE_ALL") == "1" else pytest.skip(told)
    return Guard(tmp_path_factory.mktemp("guard"))
