"""A vault whose notes name each other, are alike, and stand among the same others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingest.pipeline import ingest
from kb.embedding import HashedWords
from kb.knowledge_base import KnowledgeBase

VAULT = {
    "Entropy collapse.md": "---\naliases: [policy entropy loss]\n---\nWhen the policy stops exploring, samples repeat.\n",
    "Training.md": (
        "# Training\n\nA long run often ends in entropy collapse, and a bonus helps. See [[Rewards]].\n\n"
        "`entropy collapse` in code, [entropy collapse](Rewards.md) in a link.\n"
    ),
    "Rewards.md": "# Rewards\n\nA verifier gives rewards. Policy entropy loss is one price of it.\n",
    "Hub.md": "# Hub\n\n[[Alpha]] [[Beta]]\n",
    "Other hub.md": "# Other hub\n\n[[Alpha]] and [[Beta]] stand here, and [[Nobody wrote this]].\n",
    "Alpha.md": "# Alpha\n\nWhales sing below the ice.\n",
    "Beta.md": "# Beta\n\nTrains run on rails at night.\n",
}


@pytest.fixture
def linkless(tmp_path: Path) -> Iterator[KnowledgeBase]:
    vault = tmp_path / "vault"
    vault.mkdir()
    for name, text in VAULT.items():
        (vault / name).write_text(text, "utf-8")
    with KnowledgeBase(tmp_path / "home", HashedWords()) as opened:
        assert not ingest(opened, [vault]).failed
        yield opened


@pytest.fixture
def add(linkless: KnowledgeBase, tmp_path: Path) -> Callable[[str, str], None]:
    def write(name: str, text: str) -> None:
        (tmp_path / "vault" / name).write_text(text, "utf-8")
        ingest(linkless, [tmp_path / "vault"])

    return write
