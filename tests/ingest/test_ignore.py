"""What is left out, by which rule, and that a rule which comes later forgets what it covers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ingest.ignore import ignore_rules
from ingest.pipeline import ingest, sync
from kb.knowledge_base import KnowledgeBase
from kb.notes import PasskbError

if TYPE_CHECKING:
    from tests.conftest import Vault


def test_rules_name_themselves(vault: Vault) -> None:
    settings = json.dumps({"userIgnoreFilters": ["templates/", "/\\.canvas\\.md$/", "/(/", 7]})
    root = vault({".passkbignore": "# mine\ndrafts/\n*.tmp.md\n!keep.tmp.md\n", ".obsidian/app.json": settings})
    reason = ignore_rules(root)
    assert reason("drafts/deep/a.md").endswith("drafts/")
    assert reason("x/y.tmp.md").endswith("*.tmp.md")
    assert reason("templates/day.md").endswith("templates/") and "Obsidian" in reason("templates/day.md")
    assert "Obsidian" in reason("x.canvas.md")
    assert [reason(path) for path in ("keep.tmp.md", "a.md", "my-drafts/a.md")] == ["", "", ""]


@pytest.mark.parametrize("settings", ["", "{", "[]", '{"userIgnoreFilters": "x"}'])
def test_odd_obsidian_settings_leave_nothing_out(vault: Vault, settings: str) -> None:
    assert ignore_rules(vault({".obsidian/app.json": settings}))("a.md") == ""


def test_rules_that_can_not_be_read_stop_the_source(vault: Vault) -> None:
    with pytest.raises(PasskbError, match="passkbignore"):
        ignore_rules(vault({".passkbignore": b"\xff\xfe\xff"}))


def test_a_rule_that_comes_later_forgets_what_it_covers(kb: KnowledgeBase, vault: Vault) -> None:
    root = vault({"a.md": "Kept.", "secret/b.md": "Hidden words."})
    assert ingest(kb, [root]).added == 2
    (root / ".passkbignore").write_text("secret/\n", encoding="utf-8")
    report = sync(kb)
    assert (report.deleted, report.unchanged) == (1, 1)
    [(path, reason)] = report.skipped
    assert path.endswith("b.md") and "secret/" in reason
    assert kb.search("hidden words", 5)[1] == [] or kb.search("hidden words", 5)[1][0].note_id == "vault/a"
