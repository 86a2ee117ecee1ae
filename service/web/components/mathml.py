"""LaTeX to MathML, safely: what can not be set, or is absurdly long, is shown as it was written.

Pure. The only latex2mathml import.
"""

from __future__ import annotations

import re
from functools import lru_cache
from html import escape
from xml.etree import ElementTree

from latex2mathml.converter import convert

_LONGEST = 2_000
_DEEPEST = 60
_MATHML = "{http://www.w3.org/1998/Math/MathML}"
# Commands of latex2mathml that write attributes of the author's choice.
_UNSAFE = re.compile(r"\\(?:href|class|style|cssId|url|html\w*)\b")
_REFUSED = re.compile(r"on.*|.*href|style|class|id|src|action.*", re.I)


@lru_cache(maxsize=4096)
def mathml(latex: str, display: bool) -> str:
    """A `<math>` element, or `<code>` with the source."""
    source = f"$${latex}$$" if display else f"${latex}$"
    fallback = f'<code class="math">{escape(source)}</code>'
    if len(latex) > _LONGEST or latex.count("{") > 40 * _DEEPEST or _depth(latex) > _DEEPEST or _UNSAFE.search(latex):
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
    return ElementTree.tostring(tree, encoding="unicode")


def _depth(latex: str) -> int:
    deepest = depth = 0
    for character in latex:
        depth += (character == "{") - (character == "}")
        deepest = max(deepest, depth)
    return deepest
