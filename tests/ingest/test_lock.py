"""One writer at a time: the second waits and says for whom, or gives up and says so; a dead holder holds nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ingest.lock import lock_home
from ingest.pipeline import ingest
from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError

if TYPE_CHECKING:
    from tests.conftest import Vault

HOLD = """
import sys, time
from pathlib import Path
from ingest.lock import lock_home
with lock_home(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(home: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(home)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_the_second_gives_up_with_the_name_of_the_first(home: Path, other: subprocess.Popen[str]) -> None:
    messages: list[str] = []
    with pytest.raises(PasskbError, match=f"process {other.pid}"), lock_home(home, messages.append, timeout=0.2):
        pass
    assert len(messages) == 1 and "waiting" in messages[0]
    other.kill()
    other.wait()


def test_a_holder_that_is_killed_lets_go(home: Path, vault: Vault, other: subprocess.Popen[str]) -> None:
    killer = threading.Timer(0.5, other.kill)
    killer.start()
    with KnowledgeBase(home) as opened:
        assert ingest(opened, [vault({"a.md": "A."})]).added == 1
    other.wait()
    assert (home / "writing.pid").read_text() == str(os.getpid())


def test_reading_does_not_wait(kb: KnowledgeBase, vault: Vault) -> None:
    ingest(kb, [vault({"a.md": "Otters keep stones."})])
    with lock_home(kb.home):
        assert kb.search("otters", 3)[1][0].note_id == "vault/a"


def test_it_is_free_again_after_an_error(home: Path) -> None:
    with pytest.raises(ValueError), lock_home(home):
        raise ValueError
    with lock_home(home, timeout=0):
        pass
