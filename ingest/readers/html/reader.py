"""A saved web page into Markdown: its main text, not its navigation. Pure: bytes in, values out; nothing is fetched.

trafilatura says which words of the page are its text; the part of the page that holds them is then rendered whole, so that
headings, lists, tables and code keep their form. How long it takes is bounded by size, not by a clock, so that the same page
always gives the same note: what is too large or too deep for trafilatura is rendered without its judgement.
"""

from __future__ import annotations

import codecs
import copy
import logging
import re
from pathlib import PurePosixPath
from urllib.parse import unquote

import lxml.etree  # type: ignore[import-untyped]
import lxml.html  # type: ignore[import-untyped]
import trafilatura

from ingest.readers.extracted_document import ExtractedDocument, one_line
from ingest.readers.html.lines import page_lines
from ingest.readers.html.markdown import NON_TEXT_TAGS, Element, Renderer
from kb.notes import PasskbError

_LARGEST = 20 * 1024 * 1024  # bytes
_MOST_JUDGED, _DEEPEST_JUDGED = 30_000, 150  # elements: beyond them trafilatura's time grows too fast
_LONGEST_JUDGED = 2_000_000  # characters
_SHORT = 400  # words: a page with no more is read whole
_TRACE = 3  # words in a row that are looked for in trafilatura's text
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_META = re.compile(rb"<(?:meta\s[^>]{0,300}?charset|\?xml\s[^>]{0,200}?encoding)\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.I)
_CHARSETS = re.compile(
    r"utf-?8|iso-?8859-\d{1,2}|latin-?\d|(?:windows-|cp)(?:125\d|874|949|93[26])|(?:us-)?ascii|x-sjis|s(?:hift)?[_-]?jis|"
    r"euc-(?:jp|kr)|iso-2022-(?:jp|kr)|gb2312|gbk|gb18030|big5(?:-hkscs)?|koi8-[ru]|macintosh|tis-620|ks_c_5601-1987"
)
_ANY_BYTE = re.compile(r"iso-?8859-1|latin-?1|(?:windows-|cp)1252|(?:us-)?ascii")
_KNOWN = re.compile(
    r"<(?:!doctype\s+html|/?(?:html|head|body|title|meta|div|p|h[1-6]|span|a|br|ul|ol|dl|table|pre|article|section|main|"
    r"center|font|b|i|em|strong|img)[\s/>])",
    re.I,
)
_SAVED_FROM = re.compile(r"<!--\s*saved from url=\(\d+\)(https?://\S+?)\s*-->")
_ASIDE = re.compile(
    r"(?:^|[\s_-])(?:nav|navbar|navigation|menu|breadcrumbs?|sidebar|footer|cookies?|consent|promo|newsletter|subscribe|share|"
    r"sharing|social|related|recommended|comments?|advert(?:isement)?|ads?|banner|popup|modal|toolbar|pagination|skip-link)"
    r"(?:$|[\s_-])",
    re.I,
)
_PARTS = frozenset("div section article main p ul ol dl table aside nav footer header form figure li blockquote".split())
_BESIDE = frozenset(("nav", "aside", "footer"))
_WORD = re.compile(r"\w+")
_SCRIPT = re.compile(r"<(script|style)\b[^>]*>.*?</\1\s*>|<!--.*?-->", re.I | re.S)
_ANY_TAG = re.compile(r"</?[A-Za-z!?][^<>]*>")
_NEW_LINE = re.compile(r"</?(?:p|div|br|li|h[1-6]|tr|td|dt|dd|pre|blockquote|section|article|table|[uod]l)\b", re.I)

logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # a page that it cannot judge is no news


def read_html(data: bytes, *, path: str, charset: str = "", address: str = "") -> ExtractedDocument:
    """Read one page of at most 20 MB. `path` names it, in errors and for want of a title. `charset` is its encoding where the
    page itself names none, `address` where it was fetched, if it was.

    Raises PasskbError when it is empty, too large, no HTML, or holds no text.
    """
    if not data.strip():
        raise PasskbError(f"{path}: the file is empty: save the page again")
    if len(data) > _LARGEST:
        raise PasskbError(f"{path}: larger than 20 MB: save the part that matters, or save it as text")
    warnings: list[str] = []
    source = _decode(data, warnings, charset)
    start = source[:200_000]
    if data.startswith((b"%PDF-", b"PK\x03\x04")) or "\0" in source or not _KNOWN.search(start):
        raise PasskbError(f"{path}: not an HTML page: save it from the browser as HTML, or rename it to what it is")
    root = _tree(source, path, warnings)
    body = root.find(".//body")
    body = root if body is None else body
    lines = page_lines(body)
    part, kept = _main(body, warnings)
    title = _title(root, part) or PurePosixPath(unquote(path)).stem or "Untitled"
    base = _address(root, start, address)
    text = Renderer(part, lambda element: _beside(element, kept), base).markdown(part)
    if not text.strip() and part is not body:
        part = body
    if not text.strip():
        text = Renderer(part, lambda _: False, base).markdown(part)
    if not text.strip():
        raise PasskbError(f"{path}: no text in it: open the page in a browser, let it load, and save it complete")
    return ExtractedDocument(title, text, tuple(warnings), lines=lines)


def _decode(data: bytes, warnings: list[str], charset: str = "") -> str:
    """By byte-order mark, else by what the page declares, or for want of that `charset`, unless its bytes say UTF-8, else as
    UTF-8, else as Windows-1252."""
    for bom, name in _BOMS:
        if data.startswith(bom):
            return data[len(bom) :].decode(name, "replace")
    m = _META.search(data[:8192])
    declared = m[1].decode("ascii", "replace").lower() if m else charset.lower()
    names = [declared] if _CHARSETS.fullmatch(declared) else []
    if not names or _ANY_BYTE.fullmatch(declared):
        names = ["utf-8"]
    for name in (*names, "utf-8"):
        try:
            return data.decode(name)
        except (UnicodeDecodeError, LookupError):
            continue
    if declared in ("utf-8", "utf8") and (text := data.decode("utf-8", "replace")).count("\ufffd") * 1000 < len(text):
        warnings.append("not all of it is valid UTF-8; the characters that are not show as \ufffd")
        return text
    if not _ANY_BYTE.fullmatch(declared):
        warnings.append("neither UTF-8 nor what it declares: read as Windows-1252")
    return data.decode("cp1252", "replace")


def _tree(source: str, path: str, warnings: list[str]) -> Element:
    """Raises PasskbError. The parser drops what is nested more than 256 deep: such a page is read as paragraphs alone."""
    for text in (source, None):
        parser = lxml.html.HTMLParser(encoding="utf-8", huge_tree=True)
        flat = _SCRIPT.sub(" ", source) if text is None else ""
        written = text or "<p>" + _ANY_TAG.sub(lambda m: "<p>" if _NEW_LINE.match(m[0]) else "", flat)
        try:
            root = lxml.html.document_fromstring(written.encode("utf-8", "replace"), parser=parser)
        except (lxml.etree.LxmlError, ValueError) as error:
            raise PasskbError(f"{path}: no HTML that can be read: save the page again") from error
        if text is None or not any("depth" in entry.message for entry in parser.error_log):
            break
        warnings.append("nested too deep: its words were kept, its headings, lists and links were not")
    return root


def _title(root: Element, part: Element) -> str:
    """The first large heading of the text when the page's title holds it (the rest names the site), else that title."""
    declared = one_line(next(iter(root.xpath("//meta[@property='og:title']/@content")), ""))
    written = one_line(next((e.text for e in root.iter("title") if (e.text or "").strip()), ""))
    heading = next(filter(None, (one_line(" ".join(_readable(e))).strip("#¶§ ") for e in part.iter("h1", "h2"))), "")
    if heading.casefold() in written.casefold() and 5 * len(heading) > len(written):
        return str(heading)
    return str(declared or written or heading)


def _address(root: Element, start: str, fetched: str = "") -> str:
    """Where the page was: where it was fetched, as far as that and the page say."""
    saved = _SAVED_FROM.search(start)
    said = [*([saved[1]] if saved else []), *root.xpath("//link[@rel='canonical']/@href")]
    found = [*root.xpath("//base/@href"), fetched, *said]
    return next((str(one) for one in found if re.match(r"https?://[^\s/]+", one)), "")


def _words(element: Element) -> list[str]:
    return _WORD.findall(" ".join(_readable(element)).casefold())


def _readable(element: Element) -> list[str]:
    """The texts of an element in their order, without scripts and styles."""
    found: list[str] = []
    waiting: list[Element | str] = [element]
    while waiting:
        at = waiting.pop()
        if isinstance(at, str):
            found.append(at)
        elif isinstance(at.tag, str) and (at.tag not in NON_TEXT_TAGS):
            found.append(at.text or "")
            waiting += [part for child in reversed(at) for part in (child.tail or "", child)]
    return found


def _main(body: Element, warnings: list[str]) -> tuple[Element, set[tuple[str, ...]] | None]:
    """The smallest part of the page that holds what trafilatura takes for its text, and the traces of that text; None for
    traces when the page is to be read whole but for what calls itself navigation."""
    words = _words(body)
    if len(words) <= _SHORT:
        return body, None
    text = _judged(body, warnings)
    kept = _traces(_WORD.findall(text.casefold()))
    if len(kept) < max(50, len(words) // 50):
        warnings.append("its main text could not be told from the rest: all of the page's text was kept")
        return body, None
    return _holder(body, kept), kept


def _judged(body: Element, warnings: list[str]) -> str:
    size = depth = deepest = 0
    for event, _ in lxml.etree.iterwalk(body, events=("start", "end")):
        size, depth = size + (event == "start"), depth + (1 if event == "start" else -1)
        deepest = max(deepest, depth)
    if size > _MOST_JUDGED or deepest > _DEEPEST_JUDGED or sum(map(len, _readable(body))) > _LONGEST_JUDGED:
        return ""
    try:
        page = lxml.html.document_fromstring(lxml.etree.tostring(copy.deepcopy(body), encoding="utf-8", method="html"))
        return trafilatura.extract(page, output_format="txt", include_comments=False, favor_recall=True) or ""
    except Exception as error:  # a library reading what anyone may have written: whatever it raises, the page has text
        warnings.append(f"trafilatura could not judge it ({type(error).__name__})")
        return ""


def _traces(words: list[str]) -> set[tuple[str, ...]]:
    return set(zip(*(words[i:] for i in range(_TRACE)), strict=False))


def _holder(body: Element, kept: set[tuple[str, ...]]) -> Element:
    """Down from the body for as long as one child holds nine tenths of what is kept."""
    part, found = body, len(_traces(_words(body)) & kept)
    while True:
        children = [child for child in part if isinstance(child.tag, str) and child.tag in _PARTS]
        counts = [len(_traces(_words(child)) & kept) for child in children]
        if not counts or max(counts) < 0.9 * found:
            return part
        part = children[counts.index(max(counts))]


def _beside(element: Element, kept: set[tuple[str, ...]] | None) -> bool:
    """Whether an element stands beside the text: it calls itself navigation or the like, or is nearly all links, and its words
    are not in the text."""
    if element.tag not in _PARTS:
        return False
    named = element.tag in _BESIDE or bool(_ASIDE.search(f"{element.get('class', '')} {element.get('id', '')}"))
    role = element.get("role", "")
    if kept is None:
        return bool(element.tag == "nav" or role == "navigation")
    if element.tag not in ("div", "ul", "ol", "section") and not named:
        return False
    words = _words(element)
    if len(words) < _TRACE:
        return named and bool(words)
    traces = _traces(words)
    if len(traces & kept) > 0.3 * len(traces):
        return False
    linked = sum(len(_words(link)) for link in element.iter("a"))
    return bool(named or linked > 0.6 * len(words))
