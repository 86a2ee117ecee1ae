"""Escapes the text of answers, so that it adds no links, tags, fields or blocks to a note."""

from __future__ import annotations

import re

from ingest.readers.extracted_document import escape_block_starts, escape_markdown, one_line
from kb.markdown.blocks import plain
from kb.markdown.opaque_spans import opaque_spans

# Markup that imported pages do not contain but quotes and generated text may: fields, macros, tags, footnotes, blocks.
_MARKUP = re.compile(
    r"(?<=:):|(?<=\()\((?!\\)|(?<=\{)\{|\{(?=:)|(?<![^\s(])#(?=[^\s#])|\$(?=\d)|\[(?=\^)|\^(?=\[)|(?<=\]):|\A\\(?=[A-Za-z])"
)
_UNSAFE = re.compile(r"\[\[|\]\(|\(\(|\{\{|::|%%|<!--|`|\n")


def escape(text: str) -> str:
    """The text as one line without markup; formulas are preserved.

    >>> escape("see [[Other|that]] and **this**: $p = 0.5$, contradicts:: [x](y)")
    'see that and this: $p = 0.5$, contradicts:\\\\: x'
    """
    words = one_line(plain(one_line(text)))
    out, pos = [], 0
    for start, end in opaque_spans(words):
        formula = words[start:end]
        if formula[0] == "$" and len(formula) > 2 and not _UNSAFE.search(formula):
            out += [_escaped(words[pos:start]), formula]
            pos = end
    return escape_block_starts("".join((*out, _escaped(words[pos:]))))


def _escaped(words: str) -> str:
    return _MARKUP.sub(r"\\\g<0>", escape_markdown(words))
