"""Renders a note's Markdown as safe HTML, with the syntax of Obsidian and Logseq.

Raw HTML is shown as text. Only http, https and mailto addresses become links. Images are never loaded. Comments and block ids
are hidden, properties are shown as separate lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from html import escape
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, unquote

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markupsafe import Markup
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.footnote import footnote_plugin

from kb.markdown.blocks import FIELD, PROPERTY, UUID, blocks
from service.web.components.highlight import CLOSE, OPEN, highlight, insert_markers, remove_markers
from service.web.components.inline_lookup import closer_at, parse_link_label
from service.web.components.mathml import mathml

NoteHref = Callable[[str], str | None]
TitleOf = Callable[[str], str]

MAX_LENGTH = 300_000  # characters of a note that are rendered
_MARKERS = f"[{OPEN}{CLOSE}]*"
_WIKI = re.compile(r"(!?)\[\[([^\[\]\n]+?)\]\]")
_CALLOUT = re.compile(rf"({_MARKERS})\[!([\w-]+)\][+-]?[ \t]*")
_COMMENTS = {"<!--": "-->", "%%": "%%"}
_BLOCK_ID = re.compile(r"\^[\w-]+[ \t]*(?=\n|$)")
_IMAGE = re.compile(r"\.(?:png|jpe?g|gif|svg|webp|bmp|avif|pdf|mp[34]|webm|mov)$", re.I)
_BLOCK = re.compile(rf"\(\({UUID}\)\)")
_EMBED = re.compile(rf"\{{\{{embed[ \t]+(?:({_BLOCK.pattern})|\[\[([^\[\]\n]+)\]\])[ \t]*\}}\}}")
_MACRO = re.compile(r"\{\{[a-z][\w-]*[ \t][^{}\n]*\}\}|\{:[^{}\n]*\}")
_INTERNAL_PROPERTIES = ("id", "collapsed")
_QUOTE_MARKS = re.compile(r"\A[ \t]*(?:>[ \t]?)*")
_FOOTNOTE = re.compile(r"\[\^[^\[\]\s]+\]:?")
_NOTE_LINK = Markup('<a class="wiki" href="/?note={}" data-note="{}">')
_WEB_LINK = Markup('<a href="{}" target="_blank" rel="noopener noreferrer nofollow">')
_MISSING = Markup('<span class="missing" title="{}">{}</span>')
_PICTURE = Markup('<span class="picture">[{}]</span>')
_TRUNCATED = Markup('<p class="quiet">The note continues: {:,} more characters are not shown.</p>')


def render(
    text: str,
    *,
    marks: Sequence[tuple[int, int]] = (),
    note_href: NoteHref,
    title_of: TitleOf | None = None,
    pictures: Mapping[str, str] | None = None,
) -> Markup:
    """A note's body as HTML.

    `marks`: spans of `text` to highlight. `note_href`: maps a link target as written (no anchor, percent-decoded) to a note id,
    or None for an unknown note. `title_of`: maps a note id to its title. `pictures`: trusted HTML of embedded pictures by name.
    """
    rendered = text[:MAX_LENGTH]
    env = {"note_href": note_href, "title_of": title_of, "pictures": pictures or {}}
    html = Markup(highlight(_PARSER.render(insert_markers(rendered, marks), env)))
    return html + _TRUNCATED.format(len(text) - MAX_LENGTH) if len(text) > len(rendered) else html


@lru_cache(maxsize=4096)
def inline(text: str) -> Markup:
    """A sentence or two as inline HTML; links are shown as plain text."""
    first, *others = _FOOTNOTE.sub("", text).split("\n")
    lines = [first, *(_QUOTE_MARKS.sub("", line, 1) for line in others)]
    joined = " ".join(line.rstrip() for line in lines if line.strip()).strip()
    return Markup(highlight(str(_PARSER.renderInline(insert_markers(joined, ()), {"plain": True}))))


def passage(text: str, start: int, end: int, note_href: NoteHref) -> Markup:
    """The blocks (paragraph, list item, table) around `text[start:end]`, with the span highlighted."""
    around = [block for block in blocks(text) if block.start < end and start < block.end]
    low = min([block.start for block in around] + [start])
    high = max([block.end for block in around] + [end])
    return render(text[low:high], marks=[(start - low, end - low)], note_href=note_href)


# -- parser rules beyond CommonMark --------------------------------------------------------------------------------------


def _wikilink(state: StateInline, silent: bool) -> bool:
    match = _WIKI.match(state.src, state.pos, state.posMax) if state.src[state.pos] in "![" else None
    if match is None:
        return False
    if not silent:
        target, _, label = match[2].replace("\\|", "|").partition("|")
        name, _, anchor = remove_markers(target).partition("#")
        shown = label if remove_markers(label).strip() else target
        if not label and anchor:
            shown = target.replace("#", " > ") if name else target.lstrip("#")
        token = state.push("wikilink", "", 0)
        token.content = shown.split("#^")[0].split(" > ^")[0]
        token.meta = {"target": name.strip(), "embed": bool(match[1])}
    state.pos = match.end()
    return True


def _typed_field(state: StateInline, silent: bool) -> bool:
    """`contradicts:: [[X]] because …` at the start of a line."""
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
    """`key:: value` on a line; the value is parsed as inline Markdown without further properties."""
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
    """Logseq's `{{embed …}}` becomes a link, other macros become muted text."""
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


def _link_blocks(state: StateCore) -> None:
    """Replaces `((block id))` in text tokens, because markdown-it calls no inline rule at a parenthesis."""
    for token in state.tokens:
        if token.type == "inline" and "((" in token.content:
            token.children = _split_block_links(token.children or [])


def _split_block_links(children: Sequence[Token]) -> list[Token]:
    out: list[Token] = []
    for child in children:
        if child.children:
            child.children = _split_block_links(child.children)
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


def _comment(state: StateInline, silent: bool) -> bool:
    """Hides comments and the `^id` at the end of a block."""
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


def _demote_headings(state: StateCore) -> None:
    """Lowers every heading by one level: the only `h1` of the page is the note's title."""
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"


# -- render rules ----------------------------------------------------------------------------------------------------


def _escaped(text: str) -> str:
    return escape(text, quote=False)


def _tagged(tag: str, css_class: str, text: str) -> Markup:
    return Markup('<{0} class="{1}">{2}</{0}>').format(tag, css_class, text)


def _render_wikilink(_: RendererHTML, tokens: Sequence[Token], at: int, __: Any, env: Any) -> str:
    token = tokens[at]
    target, label = token.meta["target"], token.content.strip()
    if token.meta["embed"] and _IMAGE.search(target):
        picture = env.get("pictures", {}).get(target)
        return str(picture or _PICTURE.format(label))
    return _render_note_link(env, target, label)


def _render_note_link(env: Any, target: str, label: str) -> str:
    """A link to a note, or muted text for an unknown note."""
    if env.get("plain") or not target:
        return _escaped(label)
    note_id = env["note_href"](target)
    return _MISSING.format("No such note", label) if note_id is None else _note_link(note_id, label)


def _note_link(note_id: str, label: str) -> str:
    return _note_link_open(note_id) + Markup("{}</a>").format(label)


def _note_link_open(note_id: str) -> Markup:
    return _NOTE_LINK.format(quote(note_id), note_id)


def _render_link_open(renderer: RendererHTML, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    address = unquote(str(tokens[at].attrGet("href") or ""))
    markers = "".join(c for c in address if c in (OPEN, CLOSE))
    opening, closing = _link_tags(remove_markers(str(tokens[at].attrGet("href") or "")), env)
    env.setdefault("closing", []).append(closing + markers)
    return opening


def _link_tags(address: str, env: Any) -> tuple[str, str]:
    if env.get("plain"):
        return "", ""
    if re.match(r"(?:https?://|mailto:)", address, re.I):
        return _WEB_LINK.format(address), "</a>"
    path = unquote(address).partition("#")[0]
    note_id = env["note_href"](path) if path and not re.match(r"[a-z][\w+.-]*:|//", path, re.I) else None
    if note_id is None:
        return '<span class="missing">', "</span>"
    return _note_link_open(note_id), "</a>"


def _render_link_close(renderer: RendererHTML, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    closing = env.get("closing") or ["</a>"]
    return str(closing.pop())


def _render_image(_: RendererHTML, tokens: Sequence[Token], at: int, __: Any, ___: Any) -> str:
    return _PICTURE.format(tokens[at].content or "picture")


def _render_block_link(_: RendererHTML, tokens: Sequence[Token], at: int, __: Any, env: Any) -> str:
    """A link with the title of the note that contains the block."""
    label, title_of = "a block of another note", env.get("title_of")
    if env.get("plain"):
        return label
    note_id = env["note_href"](tokens[at].meta["target"])
    if note_id is None:
        return _MISSING.format("No such block", label)
    return _note_link(note_id, (title_of(note_id) if title_of else "") or label)


def _render_property(renderer: RendererHTML, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    """Muted text; internal properties are hidden, except for highlight markers in them."""
    token = tokens[at]
    if token.content.lower() in _INTERNAL_PROPERTIES:
        return "".join(c for c in token.meta["value"] if c in (OPEN, CLOSE))
    value = Markup(renderer.renderInline(token.children or [], options, env))
    if env.get("plain"):
        return f"{token.content}: {value}"
    return Markup('<span class="property">{} {}</span>').format(_tagged("span", "property-key", token.content), value)


def _render_macro(_: RendererHTML, tokens: Sequence[Token], at: int, __: Any, env: Any) -> str:
    content = tokens[at].content.strip("{}:").strip()
    return _escaped(content) if env.get("plain") else _tagged("span", "macro", content)


def _render_field(_: RendererHTML, tokens: Sequence[Token], at: int, __: Any, ___: Any) -> str:
    return _tagged("span", "field-type", tokens[at].content) + " "


def _render_callout(_: RendererHTML, tokens: Sequence[Token], at: int, __: Any, ___: Any) -> str:
    return _tagged("strong", "callout", tokens[at].content.capitalize()) + " "


def _render_math(_: RendererHTML, tokens: Sequence[Token], at: int, __: Any, ___: Any) -> str:
    """The formula as MathML; highlight markers inside it move to its ends."""
    token = tokens[at]
    before, after = (OPEN in token.content), (CLOSE in token.content)
    formula = mathml(remove_markers(token.content).strip(), display=token.type != "math_inline")
    html = Markup(f"{OPEN * before}{formula}{CLOSE * after}")
    return _tagged("div", "display", html) + "\n" if token.type == "math_block" else html


def _render_footnote_number(_: RendererHTML, tokens: Sequence[Token], at: int, __: Any, ___: Any) -> str:
    """One number per footnote, for every reference to it."""
    return f"[{tokens[at].meta['id'] + 1}]"


def _build_parser() -> MarkdownIt:
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
    md.inline.ruler.before("escape", "hidden", _comment)
    md.inline.ruler.before("link", "wikilink", _wikilink)
    # A copy, because `helpers` is a module that all parsers share.
    md.helpers = SimpleNamespace(**{**vars(md.helpers), "parseLinkLabel": parse_link_label})  # type: ignore[assignment]
    md.core.ruler.push("smaller_headings", _demote_headings)
    md.core.ruler.push("block_links", _link_blocks)
    md.validateLink = lambda url: True  # type: ignore[method-assign]  # _link_tags decides which addresses become links
    for name, rule in {
        "wikilink": _render_wikilink, "link_open": _render_link_open, "link_close": _render_link_close, "image": _render_image,
        "field": _render_field, "callout": _render_callout, "math_inline": _render_math, "math_inline_double": _render_math,
        "math_block": _render_math, "block_link": _render_block_link, "property": _render_property, "macro": _render_macro,
        "footnote_caption": _render_footnote_number,
    }.items():  # fmt: skip
        md.add_render_rule(name, rule)
    return md


_PARSER = _build_parser()
