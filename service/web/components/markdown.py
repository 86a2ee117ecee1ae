"""Markdown of a note as safe HTML. Pure: which note a link means is asked of `note_href`.

Raw HTML is shown as it was written, never interpreted; addresses are links only for http, https and mailto; images are
never loaded. What Obsidian and Logseq hide (comments, ids of blocks) is hidden; their properties are small lines of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.footnote import footnote_plugin

from kb.markdown.blocks import FIELD, PROPERTY, UUID, blocks
from service.web.components.highlight import CLOSE, OPEN, set_signs, without_signs, wrap
from service.web.components.html import note_link
from service.web.components.inline_lookup import closer_at, parse_link_label
from service.web.components.mathml import mathml

NoteHref = Callable[[str], str | None]
TitleOf = Callable[[str], str]

LONGEST = 300_000  # characters of one note that are set; the rest is left out, with a sentence
_SIGNS = f"[{OPEN}{CLOSE}]*"
_WIKI = re.compile(r"(!?)\[\[([^\[\]\n]+?)\]\]")
_CALLOUT = re.compile(rf"({_SIGNS})\[!([\w-]+)\][+-]?[ \t]*")
_COMMENTS = {"<!--": "-->", "%%": "%%"}
_BLOCK_ID = re.compile(r"\^[\w-]+[ \t]*(?=\n|$)")
_IMAGE = re.compile(r"\.(?:png|jpe?g|gif|svg|webp|bmp|avif|pdf|mp[34]|webm|mov)$", re.I)
_BLOCK = re.compile(rf"\(\({UUID}\)\)")
_EMBED = re.compile(rf"\{{\{{embed[ \t]+(?:({_BLOCK.pattern})|\[\[([^\[\]\n]+)\]\])[ \t]*\}}\}}")
_MACRO = re.compile(r"\{\{[a-z][\w-]*[ \t][^{}\n]*\}\}|\{:[^{}\n]*\}")
_OF_MACHINES = ("id", "collapsed")
_QUOTE_MARKS = re.compile(r"\A[ \t]*(?:>[ \t]?)*")
_FOOTNOTE = re.compile(r"\[\^[^\[\]\s]+\]:?")


def render(
    text: str,
    *,
    marks: Sequence[tuple[int, int]] = (),
    note_href: NoteHref,
    title_of: TitleOf | None = None,
    pictures: Mapping[str, str] | None = None,
) -> str:
    """A note's body as HTML. `marks`: spans of `text` that are highlighted. `note_href`: a link's target as written
    (no anchor, percent-decoded) to the note's id, or None when no such note is known. `title_of` a note's id, for links that
    show the title; `pictures`: safe HTML for embedded pictures that we drew, by their names."""
    shown = text[:LONGEST]
    env = {"note_href": note_href, "title_of": title_of, "pictures": pictures or {}}
    html = wrap(_MARKDOWN.render(set_signs(shown, marks), env))
    if len(text) > len(shown):
        html += f'<p class="quiet">The note goes on: {len(text) - LONGEST:,} more characters are not shown here.</p>'
    return html


def inline(text: str) -> str:
    """A quote of a sentence or two as HTML for a line of text; links are shown by their words alone."""
    first, *further = _FOOTNOTE.sub("", text).split("\n")
    lines = [first, *(_QUOTE_MARKS.sub("", line, 1) for line in further)]
    words = " ".join(line.rstrip() for line in lines if line.strip()).strip()
    return wrap(str(_MARKDOWN.renderInline(set_signs(words, ()), {"plain": True})))


def passage(text: str, start: int, end: int, note_href: NoteHref) -> str:
    """The paragraph (list item, table) around `text[start:end]`, with the span highlighted."""
    around = [block for block in blocks(text) if block.start < end and start < block.end]
    low = min([block.start for block in around] + [start])
    high = max([block.end for block in around] + [end])
    return render(text[low:high], marks=[(start - low, end - low)], note_href=note_href)


# -- rules for what plain CommonMark does not know ---------------------------------------------------------------------


def _wikilink(state: StateInline, silent: bool) -> bool:
    match = _WIKI.match(state.src, state.pos, state.posMax) if state.src[state.pos] in "![" else None
    if match is None:
        return False
    if not silent:
        target, _, label = match[2].replace("\\|", "|").partition("|")
        name, _, anchor = without_signs(target).partition("#")
        shown = label if without_signs(label).strip() else target
        if not label and anchor:
            shown = target.replace("#", " > ") if name else target.lstrip("#")
        token = state.push("wikilink", "", 0)
        token.content = shown.split("#^")[0].split(" > ^")[0]
        token.meta = {"target": name.strip(), "embed": bool(match[1])}
    state.pos = match.end()
    return True


def _typed_field(state: StateInline, silent: bool) -> bool:
    """`contradicts:: [[X]] because …` at the start of a line: its type is set apart."""
    src, pos = state.src, state.pos
    first = src[pos] in (OPEN, CLOSE)
    if not (pos == 0 or src[pos - 1] == "\n") or (match := FIELD.match(src, pos + first, state.posMax)) is None:
        return False
    if not silent:
        state.push("field", "", 0).content = re.sub(r"[_\s-]+", " ", match[1]).lower()
        if first:
            state.push("text", "", 0).content = src[pos]
    state.pos = match.end()
    return True


def _property(state: StateInline, silent: bool) -> bool:
    """`key:: value` on a line of its own, whose value is read as text, in which no other property begins."""
    src, pos = state.src, state.pos
    if state.env.get("in_property"):
        return False
    first = src[pos] in (OPEN, CLOSE)
    if not (pos == 0 or src[pos - 1] == "\n") or (match := PROPERTY.match(src, pos + first, state.posMax)) is None:
        return False
    end = src.find("\n", pos)
    end = state.posMax if end < 0 else end
    if not silent:
        value = src[pos : pos + first] + src[match.end() : end]
        token = state.push("property", "", 0)
        token.content, token.meta = match[1], {"value": value}
        token.children = []
        state.md.inline.parse(value, state.md, {**state.env, "in_property": True}, token.children)
    state.pos = end
    return True


def _macro(state: StateInline, silent: bool) -> bool:
    """Logseq's `{{embed …}}` is a link; its other macros are muted."""
    match = _EMBED.match(state.src, state.pos) or _MACRO.match(state.src, state.pos)
    if match is None:
        return False
    if not silent and match.re is _EMBED:
        _push_link(state, match[1] or "", match[2] or "")
    elif not silent:
        state.push("macro", "", 0).content = match[0]
    state.pos = match.end()
    return True


def _push_link(state: StateInline, block: str, name: str) -> None:
    token = state.push("block_link" if block else "wikilink", "", 0)
    token.content, token.meta = name, {"target": block or name.partition("#")[0].strip(), "embed": False}


def _block_links(state: StateCore) -> None:
    """`((id of a block))` in running text; no inline rule is asked at a bracket."""
    for token in state.tokens:
        if token.type == "inline" and "((" in token.content:
            token.children = _with_block_links(token.children or [])


def _with_block_links(children: Sequence[Token]) -> list[Token]:
    out: list[Token] = []
    for child in children:
        if child.children:
            child.children = _with_block_links(child.children)
        at = 0
        for match in _BLOCK.finditer(child.content) if child.type == "text" else ():
            out.append(Token("text", "", 0, content=child.content[at : match.start()]))
            out.append(Token("block_link", "", 0, meta={"target": match[0]}))
            at = match.end()
        out.append(Token("text", "", 0, content=child.content[at:]) if at else child)
    return out


def _callout(state: StateInline, silent: bool) -> bool:
    match = _CALLOUT.match(state.src, state.pos) if state.pos == 0 else None
    if match is None:
        return False
    if not silent:
        state.push("callout", "", 0).content = match[2]
        state.push("text", "", 0).content = match[1]
    state.pos = match.end()
    return True


def _hidden(state: StateInline, silent: bool) -> bool:
    """Comments, and the `^id` at the end of a block, are for the author only."""
    src, pos, end = state.src, state.pos, -1
    if src[pos] in "<%":
        opener = next((opener for opener in _COMMENTS if src.startswith(opener, pos)), "")
        closer = _COMMENTS.get(opener, "")
        if opener and (at := closer_at(state, closer, pos + len(opener))) >= 0:
            end = at + len(closer)
    elif src[pos] == "^" and pos and src[pos - 1] in " \t" and (match := _BLOCK_ID.match(src, pos, state.posMax)):
        end = match.end()
    if end < 0:
        return False
    if not silent:
        state.pending += "".join(c for c in src[pos:end] if c in (OPEN, CLOSE))
    state.pos = end
    return True


def _smaller_headings(state: StateCore) -> None:
    """The page's only first-level heading is the note's title."""
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"


# -- how tokens become HTML ------------------------------------------------------------------------------------------


def _words(text: str) -> str:
    return escape(text, quote=False)


def _set_wikilink(_: RendererHTML, tokens: Sequence[Token], at: int, __: Any, env: Any) -> str:
    token = tokens[at]
    target, label = token.meta["target"], token.content.strip()
    if token.meta["embed"] and _IMAGE.search(target):
        drawn = env.get("pictures", {}).get(target)
        return str(drawn) if drawn else f'<span class="picture">[{_words(label)}]</span>'
    return _linked(env, target, label)


def _linked(env: Any, target: str, label: str) -> str:
    """A link to a note, the words alone, or the words muted when nobody has written that note."""
    if env.get("plain") or not target:
        return _words(label)
    note_id = env["note_href"](target)
    if note_id is None:
        return f'<span class="missing" title="No such note">{_words(label)}</span>'
    return note_link(note_id, label, "wiki")


def _open_link(renderer: RendererHTML, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    address = unquote(str(tokens[at].attrGet("href") or ""))
    signs = "".join(c for c in address if c in (OPEN, CLOSE))
    html, closing = _opening(without_signs(str(tokens[at].attrGet("href") or "")), env)
    env.setdefault("closing", []).append(closing + signs)
    return html


def _opening(address: str, env: Any) -> tuple[str, str]:
    if env.get("plain"):
        return "", ""
    if re.match(r"(?:https?://|mailto:)", address, re.I):
        return f'<a href="{escape(address)}" target="_blank" rel="noopener noreferrer nofollow">', "</a>"
    path = unquote(address).partition("#")[0]
    note_id = env["note_href"](path) if path and not re.match(r"[a-z][\w+.-]*:|//", path, re.I) else None
    if note_id is None:
        return '<span class="missing">', "</span>"
    return note_link(note_id, "", "wiki").removesuffix("</a>"), "</a>"


def _close_link(renderer: RendererHTML, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    closing = env.get("closing") or ["</a>"]
    return str(closing.pop())


def _set_image(_: RendererHTML, tokens: Sequence[Token], at: int, __: Any, ___: Any) -> str:
    return f'<span class="picture">[{_words(tokens[at].content or "picture")}]</span>'


def _set_block_link(_: RendererHTML, tokens: Sequence[Token], at: int, __: Any, env: Any) -> str:
    """A block has no name: the link shows the title of the note that holds it."""
    words, title_of = "a block of another note", env.get("title_of")
    if env.get("plain"):
        return words
    note_id = env["note_href"](tokens[at].meta["target"])
    if note_id is None:
        return f'<span class="missing" title="No such block">{words}</span>'
    return note_link(note_id, (title_of(note_id) if title_of else "") or words, "wiki")


def _set_property(renderer: RendererHTML, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    """Small and muted; the ids that a program wrote for itself are left out, but for signs."""
    token = tokens[at]
    if token.content.lower() in _OF_MACHINES:
        return "".join(c for c in token.meta["value"] if c in (OPEN, CLOSE))
    value = renderer.renderInline(token.children or [], options, env)
    key = f'<span class="property-key">{_words(token.content)}</span>'
    return f"{token.content}: {value}" if env.get("plain") else f'<span class="property">{key} {value}</span>'


def _set_macro(_: RendererHTML, tokens: Sequence[Token], at: int, __: Any, env: Any) -> str:
    words = _words(tokens[at].content.strip("{}:").strip())
    return words if env.get("plain") else f'<span class="macro">{words}</span>'


def _set_field(_: RendererHTML, tokens: Sequence[Token], at: int, __: Any, ___: Any) -> str:
    return f'<span class="field-type">{_words(tokens[at].content)}</span> '


def _set_callout(_: RendererHTML, tokens: Sequence[Token], at: int, __: Any, ___: Any) -> str:
    return f'<strong class="callout">{_words(tokens[at].content.capitalize())}</strong> '


def _set_maths(_: RendererHTML, tokens: Sequence[Token], at: int, __: Any, ___: Any) -> str:
    """The formula between the signs that stood in it."""
    token = tokens[at]
    before, after = (OPEN in token.content), (CLOSE in token.content)
    display = token.type != "math_inline"
    formula = mathml(without_signs(token.content).strip(), display)
    html = f"{OPEN * before}{formula}{CLOSE * after}"
    return f'<div class="display">{html}</div>\n' if token.type == "math_block" else html


def _set_footnote_number(_: RendererHTML, tokens: Sequence[Token], at: int, __: Any, ___: Any) -> str:
    """The same number wherever it is referred to."""
    return f"[{tokens[at].meta['id'] + 1}]"


def _parser() -> MarkdownIt:
    md = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    md.use(
        dollarmath_plugin,
        allow_labels=False,
        allow_space=False,
        allow_digits=False,
        allow_blank_lines=False,
        double_inline=True,
    )
    md.use(footnote_plugin)
    md.disable(["html_block", "html_inline"])
    md.inline.ruler.before("text", "typed_field", _typed_field)
    md.inline.ruler.before("text", "property", _property)
    md.inline.ruler.before("text", "macro", _macro)
    md.inline.ruler.before("text", "callout", _callout)
    md.inline.ruler.before("escape", "hidden", _hidden)
    md.inline.ruler.before("link", "wikilink", _wikilink)
    # A namespace of its own: the attribute is a module, which all parsers of the process share.
    md.helpers = SimpleNamespace(**{**vars(md.helpers), "parseLinkLabel": parse_link_label})  # type: ignore[assignment]
    md.core.ruler.push("smaller_headings", _smaller_headings)
    md.core.ruler.push("block_links", _block_links)
    md.validateLink = lambda url: True  # type: ignore[method-assign]  # which addresses are links is decided in _opening
    for name, rule in {
        "wikilink": _set_wikilink, "link_open": _open_link, "link_close": _close_link, "image": _set_image,
        "field": _set_field, "callout": _set_callout, "math_inline": _set_maths, "math_inline_double": _set_maths,
        "math_block": _set_maths, "block_link": _set_block_link, "property": _set_property, "macro": _set_macro,
        "footnote_caption": _set_footnote_number,
    }.items():  # fmt: skip
        md.add_render_rule(name, rule)
    return md


_MARKDOWN = _parser()
