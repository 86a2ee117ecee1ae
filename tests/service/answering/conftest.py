"""Notes that written answers are tested on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kb.embedding import MiniLM
from kb.knowledge_base import KnowledgeBase
from tests.service.answering.zebras import VAULT, filled


@pytest.fixture(scope="session")
def zebras(tmp_path_factory: pytest.TempPathFactory, minilm: MiniLM) -> Iterator[KnowledgeBase]:
    """Four notes on zebra stripes; for tests that only read."""
    with filled(tmp_path_factory.mktemp("written"), minilm, VAULT) as opened:
        yield opened
