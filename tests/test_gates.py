"""Under PASSKB_REQUIRE_ALL=1 no test skips, for whatever reason and in whatever way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SKIPS = {
    "mark": "import pytest\n@pytest.mark.skipif(True, reason='the moon is full')\ndef test(): pass\n",
    "call": "import pytest\ndef test(): pytest.skip('the moon is full')\n",
    "fixture": "import pytest\n@pytest.fixture\ndef moon(): pytest.skip('the moon is full')\ndef test(moon): pass\n",
    "module": "import pytest\npytest.importorskip('nothing_of_this_name', reason='the moon is full')\ndef test(): pass\n",
}


def outcome(folder: Path, program: str, required: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(program, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "--rootdir", str(folder), "."]
    variables = {**os.environ, "PASSKB_REQUIRE_ALL": required, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("way", SKIPS)
def test_a_skip_is_a_failure_where_everything_is_required(tmp_path: Path, way: str) -> None:
    ran = outcome(tmp_path, SKIPS[way], "1")
    assert ran.returncode not in (0, 5) and "the moon is full" in ran.stdout and "lets no test skip" in ran.stdout, ran.stdout


def test_elsewhere_it_is_a_skip(tmp_path: Path) -> None:
    ran = outcome(tmp_path, SKIPS["call"], "0")
    assert ran.returncode == 0 and "1 skipped" in ran.stdout, ran.stdout


def test_an_expected_failure_is_none(tmp_path: Path) -> None:
    ran = outcome(tmp_path, "import pytest\n@pytest.mark.xfail\ndef test(): assert False\n", "1")
    assert ran.returncode == 0 and "1 xfailed" in ran.stdout, ran.stdout
