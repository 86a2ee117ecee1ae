"""Opens a home and rebuilds lost parts of its index first."""

from __future__ import annotations

import sys
from pathlib import Path

from ingest.recovery import recover
from kb.knowledge_base import KnowledgeBase
from service import output


def open_home(home: Path) -> KnowledgeBase:
    """Reports rebuilt parts on stderr. Raises PasskbError if the home cannot be opened."""
    kb = KnowledgeBase(home)
    try:
        for sentence in recover(kb, output.progress):
            print(f"passkb: {sentence}", file=sys.stderr)
    except BaseException:
        kb.close()
        raise
    return kb
