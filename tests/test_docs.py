"""The documentation agrees with the code: commands parse, links lead somewhere, settings and spec keys are complete."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import pytest

from docs.generate import command_line, modules, rest, settings
from service.api.rest import make_app, openapi_document
from service.cli.main import build_parser
from service.config import Config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = {"cli.md", "modules.md", "rest.md", "settings.md"}


def commands(page: Path) -> Iterator[str]:
    """The passkb commands of a page's code blocks, without comments, joined where a line ends in a backslash."""
    for block in re.findall(r"^```(?:\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = line.split()
            if words and words[0] in ("passkb", ".venv/bin/passkb"):
                yield line


WRITTEN = [page for page in PAGES if page.name not in GENERATED]
COMMANDS = [(page.relative_to(ROOT).as_posix(), line) for page in WRITTEN for line in commands(page)]


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_a_documented_command_is_one_that_the_parser_takes(page: str, line: str) -> None:
    try:
        build_parser().parse_args(shlex.split(line, comments=True)[1:])
    except SystemExit as error:
        pytest.fail(f"{page}: {line!r} ends in status {error.code}")


def test_the_pages_show_the_main_commands() -> None:
    assert {"ingest", "serve", "ask", "sync", "experiment", "mcp", "keep", "suggest"} <= {
        shlex.split(line, comments=True)[1] for _, line in COMMANDS
    }


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_link_of_the_documentation_leads_to_a_file_and_heading(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists() or file.name in GENERATED, f"{target} is not there"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_the_reference_holds_every_command_setting_operation_and_module() -> None:
    text = command_line(build_parser())
    assert all(f"## passkb {name}\n" in text for name in ("ingest", "experiment run", "organism train", "suggest"))
    assert all(f"| `{field.name}` |" in settings() for field in fields(Config))
    assert "## POST /api/v1/ask" in rest(openapi_document(make_app(cast(Any, None))))
    assert "`knowledge_base.py`" in modules(ROOT)


def test_the_spec_reference_names_every_key() -> None:
    page = (ROOT / "docs/reference/spec.md").read_text(encoding="utf-8")
    text = (ROOT / "service/experiments/spec.py").read_text(encoding="utf-8")
    keys = set(re.findall(r"^    ([a-z_0-9]+): ", text, re.MULTILINE))
    keys -= {"split", "size", "name", "question", "claim", "models"}
    assert not [key for key in sorted(keys) if not re.search(rf"[`.{{ ]{key}\b", page)]
