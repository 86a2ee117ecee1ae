"""The Jinja2 environment that renders every page: autoescape on, undefined names are errors, templates compiled once."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from service.web.components import formatting
from service.web.components.markdown import inline

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f]")


def _printable(value: Any) -> Any:
    """Drops the control characters that HTML can not contain."""
    return _CONTROL.sub("", value) if type(value) is str else value


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parents[1] / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
    finalize=_printable,
)
_ENVIRONMENT.filters |= {
    "count": formatting.count,
    "day": formatting.day,
    "inline": inline,
    "number": formatting.number,
    "percent": formatting.percent,
    "quote": lambda value: quote(str(value), safe=""),
    "status_label": formatting.status_label,
    "upper_first": formatting.upper_first,
    "verb": formatting.link_verb,
}


@cache
def _template(name: str) -> Template:
    return _ENVIRONMENT.get_template(name)


def render(name: str, **values: Any) -> Markup:
    """The template `name` (a path below service/web/templates) filled with `values`, without surrounding white space."""
    return Markup(_template(name).render(values).strip())
