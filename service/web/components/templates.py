"""The Jinja2 environment that renders every page: autoescape on, undefined names are errors, templates compiled once."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from service.web.components import formatting
from service.web.components.markdown import inline

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f]")  # characters that HTML can not contain

ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parents[1] / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
ENVIRONMENT.filters |= {
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
    return ENVIRONMENT.get_template(name)


def render(name: str, **values: Any) -> Markup:
    """The template `name` (a path below service/web/templates) filled with `values`, without surrounding white space."""
    return Markup(_CONTROL.sub("", _template(name).render(values).strip()))


def macro(name: str, macro_name: str) -> Callable[..., Markup]:
    """A macro of the template `name` as a function."""
    function: Callable[..., Markup] = getattr(_template(name).module, macro_name)
    return function
