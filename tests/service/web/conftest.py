"""Fixtures that parse HTML as a browser does: nesting, highlights, and anything that could run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kb.embedding import MiniLM
from kb.knowledge_base import KnowledgeBase
from tests.service.answering.zebras import VAULT, filled


class Audit(HTMLParser):
    """Collects what a browser could act upon, and whether tags nest."""

    void = frozenset(("br", "hr", "img", "input"))

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.marked = ""
        self.feed(html)
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "mark" in self.open:
            self.marked += data


def assert_harmless(html: str) -> None:
    for tag, attributes in Audit(html).tags:
        assert tag not in ("script", "img", "iframe", "object", "embed", "style", "link", "form", "base", "meta")
        for name, value in attributes.items():
            assert not name.startswith("on") and name not in ("style", "src", "srcset", "xlink:href")
            if name == "href":
                assert re.match(r"(?:https?://|mailto:|/\?(?:note|q|run|claim)=|/runs/[^/]+/[\w.]+$|/$|#)", value or ""), value


@pytest.fixture
def audit() -> type[Audit]:
    return Audit


@pytest.fixture
def harmless() -> Callable[[str], None]:
    return assert_harmless


@pytest.fixture
def evil() -> str:
    """Text that runs wherever it is not escaped: in text, in either kind of quotes, in a title."""
    return "</title><script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


def write_counts(folder: Path, base: str = "base", tuned: str = "tuned") -> Path:
    """The base model solves everything now and then, the tuned one half of the problems always."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f'"{name}",p{i},16,{c}' for i in range(60) for name, c in ((base, 4), (tuned, 16 if i % 2 else 0))]
    path = folder / "counts.csv"
    path.write_text("\n".join(["model,problem_id,n,c", *rows]), "utf-8")
    return path


@pytest.fixture
def counts() -> Callable[..., Path]:
    return write_counts


@pytest.fixture
def zebra_notes(tmp_path: Path, minilm: MiniLM) -> Iterator[KnowledgeBase]:
    """Notes on zebra stripes, to be changed."""
    with filled(tmp_path, minilm, VAULT) as opened:
        yield opened
