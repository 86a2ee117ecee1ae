"""Converts LaTeX to safe MathML; shows the source if it cannot be converted or is too long."""

from __future__ import annotations

import re
from functools import lru_cache
from xml.etree import ElementTree

from latex2mathml.converter import convert
from markupsafe import Markup

_MAX_LENGTH = 2_000
_MAX_DEPTH = 60
_MATHML = "{http://www.w3.org/1998/Math/MathML}"
# Commands with which the author can set attributes.
_UNSAFE = re.compile(r"\\(?:href|class|style|cssId|url|html\w*)\b")
_REFUSED = re.compile(r"on.*|.*href|style|class|id|src|action.*", re.I)


@lru_cache(maxsize=4096)
def mathml(latex: str, display: bool) -> Markup:
    """A `<math>` element, or `<code>` with the source."""
    source = f"$${latex}$$" if display else f"${latex}$"
    fallback = Markup('<code class="math">{}</code>').format(source)
    if len(latex) > _MAX_LENGTH or latex.count("{") > 40 * _MAX_DEPTH or _depth(latex) > _MAX_DEPTH or _UNSAFE.search(latex):
        return fallback
    try:
        tree = ElementTree.fromstring(convert(latex.strip(), display="block" if display else "inline"))
    except Exception:
        return fallback
    for element in tree.iter():
        if not element.tag.startswith(_MATHML) or not element.tag.removeprefix(_MATHML).startswith("m"):
            return fallback
        for name in [name for name in element.attrib if _REFUSED.fullmatch(name)]:
            del element.attrib[name]
    ElementTree.register_namespace("", _MATHML[1:-1])
    return Markup(ElementTree.tostring(tree, encoding="unicode"))


def _depth(latex: str) -> int:
    deepest = depth = 0
    for character in latex:
        depth += (character == "{") - (character == "}")
        deepest = max(deepest, depth)
    return deepest
