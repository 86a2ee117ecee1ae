"""Notes on zebra stripes, to be asked and changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingest.pipeline import sync
from kb.embedding import MiniLM
from kb.knowledge_base import KnowledgeBase
from tests.service.answering.zebras import VAULT, filled

Edit = Callable[[str, str, str], None]


@pytest.fixture
def stripes(tmp_path: Path, minilm: MiniLM) -> Iterator[KnowledgeBase]:
    with filled(tmp_path, minilm, VAULT) as opened:
        yield opened


@pytest.fixture
def edit(stripes: KnowledgeBase, tmp_path: Path) -> Edit:
    """Replaces words of a file of the vault, and reads it again."""

    def change(name: str, old: str, new: str) -> None:
        path = tmp_path / "vault" / name
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new), "utf-8")
        sync(stripes)

    return change
