"""A home opened to be asked: what it lost of what is derived from its notes is made again first, and said on stderr."""

from __future__ import annotations

import sys
from pathlib import Path

from ingest.recovery import recover
from kb.knowledge_base import KnowledgeBase
from service import output


def open_home(home: Path) -> KnowledgeBase:
    """Raises PasskbError when the home can not be opened."""
    kb = KnowledgeBase(home)
    try:
        for sentence in recover(kb, output.progress):
            print(f"passkb: {sentence}", file=sys.stderr)
    except BaseException:
        kb.close()
        raise
    return kb
