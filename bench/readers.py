"""How near the readers of pages and PDFs come to documents whose text is known: the words in common, in order.

The similarity of two texts is that of their sequences of words: markup, comments and punctuation dropped, case folded, NFKC, a
Chinese, Japanese or Korean character a word of its own; then `difflib`'s ratio, 2 * matched / (words of both), without its
shortcut for frequent words. What stands in another order counts as missing, as it should: a quote is a run of words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from difflib import SequenceMatcher
from pathlib import Path

from bench.data import SHARED, Absent
from bench.figures import Figure, median
from ingest.readers.extracted_document import ExtractedDocument
from ingest.readers.html.reader import read_html
from ingest.readers.pdf.reader import read_pdf
from kb.markdown.blocks import plain

_ALONE = "\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7a3\uf900-\ufaff"
_WORD = re.compile(rf"[{_ALONE}]|(?:(?![{_ALONE}])[^\W_])+")
_COMMENT = re.compile(r"<!--.*?-->", re.S)
_BUDGETS = {"html": 0.9, "pdf": 0.85}


def measure(scratch: Path) -> list[Figure]:
    """One figure for each kind, then one for each file. `scratch` is not used: nothing is written."""
    figures = []
    for kind, budget in _BUDGETS.items():
        measured = similarities(kind)
        middle = median(list(measured.values()))
        below = sum(value < budget for value in measured.values())
        what = f"{kind}: median similarity of {len(measured)} files, {below} of them below"
        figures.append(Figure(what, f"{middle:.3f}", f"{budget}", middle >= budget))
        figures += [Figure(name, f"{value:.3f}") for name, value in sorted(measured.items(), key=lambda item: item[1])]
    return figures


def similarities(kind: str, folder: Path = SHARED / "docs-pdf-html") -> dict[str, float]:
    """File name -> similarity to its ground truth, for `kind` html or pdf. Raises Absent when the documents are not there."""
    read: Callable[..., ExtractedDocument] = read_html if kind == "html" else read_pdf
    if not folder.is_dir():
        raise Absent(f"{folder} is not there")
    out = {}
    for path in sorted((folder / kind).glob(f"*.{kind}")):
        truth = folder / f"{kind}-groundtruth-md" / (f"{path.name}.md" if kind == "html" else f"{path.stem}.md")
        out[path.name] = similarity(read(path.read_bytes(), path=path.name).text, truth.read_text(encoding="utf-8"))
    return out


def similarity(one: str, other: str) -> float:
    """0 to 1; 1 for two texts without words."""
    return SequenceMatcher(None, words(one), words(other), autojunk=False).ratio()


def words(markdown: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", plain(_COMMENT.sub(" ", markdown))).casefold())
