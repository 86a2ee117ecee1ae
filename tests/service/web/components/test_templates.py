"""Templates: all compile, escape their values and reject undefined names; no module builds HTML in an f-string."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from service.web.components.templates import ENVIRONMENT, render

ROOT = Path(__file__).parents[4]
MODULES = sorted((ROOT / "service" / "web").rglob("*.py"))
TAG = re.compile(r"<[a-zA-Z/!]")


def html_f_strings(path: Path) -> list[int]:
    """The lines of f-strings with HTML tags in their literal parts."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.JoinedStr)
        and any(isinstance(part, ast.Constant) and TAG.search(str(part.value)) for part in node.values)
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_builds_html_in_an_f_string(path: Path) -> None:
    assert html_f_strings(path) == []


def test_html_in_an_f_string_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('x = f"{1} < 2"\ny = f"<p>{x}"\nz = f"a{x}</b>"\nw = "<p>"\n')
    assert html_f_strings(tmp_path / "a.py") == [2, 3]


def test_every_template_compiles() -> None:
    names = ENVIRONMENT.list_templates()
    assert len(names) > 40 and all(name.endswith(".html") for name in names)
    for name in names:
        ENVIRONMENT.get_template(name)


def test_values_are_escaped_and_control_characters_removed(evil: str) -> None:
    html = render("components/message.html", message=f"\x00{evil}\x1b")
    assert "<script" not in html and "&lt;script&gt;" in html and "\x00" not in html and "\x1b" not in html
    assert render("experiments/curve.html", svg=Markup("<svg/>")) == '<div class="curve"><svg/></div>'
    assert "<svg" not in render("experiments/curve.html", svg="<svg/>")


def test_an_undefined_name_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        render("components/message.html")
