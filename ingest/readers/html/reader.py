"""Converts a saved web page into Markdown: its main text without navigation. Fetches nothing.

trafilatura finds the main text; the element that contains it is then rendered completely, so that headings, lists, tables and
code keep their form. Limits are sizes, not times, so that a page always gives the same note: a page that is too large or too
deep for trafilatura is rendered as a whole.
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

_MAX_BYTES = 20 * 1024 * 1024  # bytes
_MAX_ELEMENTS, _MAX_DEPTH = 30_000, 150  # beyond which trafilatura takes too long
_MAX_LENGTH = 2_000_000  # characters
_SHORT_PAGE_WORDS = 400  # a page with at most that many words is rendered completely
_NGRAM = 3  # words
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_META = re.compile(rb"<(?:meta\s[^>]{0,300}?charset|\?xml\s[^>]{0,200}?encoding)\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.I)
_CHARSETS = re.compile(
    r"utf-?8|iso-?8859-\d{1,2}|latin-?\d|(?:windows-|cp)(?:125\d|874|949|93[26])|(?:us-)?ascii|x-sjis|s(?:hift)?[_-]?jis|"
    r"euc-(?:jp|kr)|iso-2022-(?:jp|kr)|gb2312|gbk|gb18030|big5(?:-hkscs)?|koi8-[ru]|macintosh|tis-620|ks_c_5601-1987"
)
_ANY_BYTE = re.compile(r"iso-?8859-1|latin-?1|(?:windows-|cp)1252|(?:us-)?ascii")
_HTML_TAG = re.compile(
    r"<(?:!doctype\s+html|/?(?:html|head|body|title|meta|div|p|h[1-6]|span|a|br|ul|ol|dl|table|pre|article|section|main|"
    r"center|font|b|i|em|strong|img)[\s/>])",
    re.I,
)
_SAVED_FROM = re.compile(r"<!--\s*saved from url=\(\d+\)(https?://\S+?)\s*-->")
_NAVIGATION_NAMES = re.compile(
    r"(?:^|[\s_-])(?:nav|navbar|navigation|menu|breadcrumbs?|sidebar|footer|cookies?|consent|promo|newsletter|subscribe|share|"
    r"sharing|social|related|recommended|comments?|advert(?:isement)?|ads?|banner|popup|modal|toolbar|pagination|skip-link)"
    r"(?:$|[\s_-])",
    re.I,
)
_CONTAINERS = frozenset("div section article main p ul ol dl table aside nav footer header form figure li blockquote".split())
_NAVIGATION_TAGS = frozenset(("nav", "aside", "footer"))
_WORD = re.compile(r"\w+")
_SCRIPT = re.compile(r"<(script|style)\b[^>]*>.*?</\1\s*>|<!--.*?-->", re.I | re.S)
_ANY_TAG = re.compile(r"</?[A-Za-z!?][^<>]*>")
_NEW_LINE = re.compile(r"</?(?:p|div|br|li|h[1-6]|tr|td|dt|dd|pre|blockquote|section|article|table|[uod]l)\b", re.I)

logging.getLogger("trafilatura").setLevel(logging.CRITICAL)


def read_html(data: bytes, *, path: str, charset: str = "", address: str = "") -> ExtractedDocument:
    """Reads one page of at most 20 MB. `path` serves for errors and as the default title, `charset` as the default encoding;
    `address`: of a fetched page.

    Raises PasskbError when the page is empty, too large, not HTML, or without text.
    """
    if not data.strip():
        raise PasskbError(f"{path}: the file is empty: save the page again")
    if len(data) > _MAX_BYTES:
        raise PasskbError(f"{path}: larger than 20 MB: save the part that you need, or save it as text")
    warnings: list[str] = []
    source = _decode(data, warnings, charset)
    start = source[:200_000]
    if data.startswith((b"%PDF-", b"PK\x03\x04")) or "\0" in source or not _HTML_TAG.search(start):
        raise PasskbError(f"{path}: not an HTML page: save it from the browser as HTML, or correct its suffix")
    root = _tree(source, path, warnings)
    body = root.find(".//body")
    body = root if body is None else body
    lines = page_lines(body)
    part, text_ngrams = _find_main_part(body, warnings)
    title = _title(root, part) or PurePosixPath(unquote(path)).stem or "Untitled"
    base = _address(root, start, address)
    text = Renderer(part, lambda element: _is_navigation(element, text_ngrams), base).markdown(part)
    if not text.strip() and part is not body:
        part = body
    if not text.strip():
        text = Renderer(part, lambda _: False, base).markdown(part)
    if not text.strip():
        raise PasskbError(f"{path}: it contains no text: open the page in a browser, let it load, and save the complete page")
    return ExtractedDocument(title, text, tuple(warnings), lines=lines)


def _decode(data: bytes, warnings: list[str], charset: str = "") -> str:
    """Decodes by byte-order mark, else by the declared encoding or `charset`, else as UTF-8, else as Windows-1252. UTF-8
    bytes take precedence over a declaration of Latin-1."""
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
        warnings.append("not entirely valid UTF-8: invalid characters appear as \ufffd")
        return text
    if not _ANY_BYTE.fullmatch(declared):
        warnings.append("neither UTF-8 nor the declared encoding: read as Windows-1252")
    return data.decode("cp1252", "replace")


def _tree(source: str, path: str, warnings: list[str]) -> Element:
    """The parsed page. The parser drops elements below 256 levels: a page with such elements is read as paragraphs only.

    Raises PasskbError when it cannot be parsed.
    """
    for text in (source, None):
        parser = lxml.html.HTMLParser(encoding="utf-8", huge_tree=True)
        flat = _SCRIPT.sub(" ", source) if text is None else ""
        written = text or "<p>" + _ANY_TAG.sub(lambda m: "<p>" if _NEW_LINE.match(m[0]) else "", flat)
        try:
            root = lxml.html.document_fromstring(written.encode("utf-8", "replace"), parser=parser)
        except (lxml.etree.LxmlError, ValueError) as error:
            raise PasskbError(f"{path}: its HTML cannot be parsed: save the page again") from error
        if text is None or not any("depth" in entry.message for entry in parser.error_log):
            break
        warnings.append("nested too deeply: its text was kept without headings, lists and links")
    return root


def _title(root: Element, part: Element) -> str:
    """The first heading when the page's title contains it (the remainder names the site), otherwise the page's title."""
    declared = one_line(next(iter(root.xpath("//meta[@property='og:title']/@content")), ""))
    written = one_line(next((e.text for e in root.iter("title") if (e.text or "").strip()), ""))
    heading = next(filter(None, (one_line(" ".join(_readable(e))).strip("#¶§ ") for e in part.iter("h1", "h2"))), "")
    if heading.casefold() in written.casefold() and 5 * len(heading) > len(written):
        return str(heading)
    return str(declared or written or heading)


def _address(root: Element, start: str, fetched: str = "") -> str:
    """The page's address by its base element, its fetch, or its own metadata; empty when unknown."""
    saved = _SAVED_FROM.search(start)
    declared = [*([saved[1]] if saved else []), *root.xpath("//link[@rel='canonical']/@href")]
    candidates = [*root.xpath("//base/@href"), fetched, *declared]
    return next((str(one) for one in candidates if re.match(r"https?://[^\s/]+", one)), "")


def _words(element: Element) -> list[str]:
    return _WORD.findall(" ".join(_readable(element)).casefold())


def _readable(element: Element) -> list[str]:
    """The texts of an element in order, without scripts and styles."""
    candidates: list[str] = []
    stack: list[Element | str] = [element]
    while stack:
        at = stack.pop()
        if isinstance(at, str):
            candidates.append(at)
        elif isinstance(at.tag, str) and (at.tag not in NON_TEXT_TAGS):
            candidates.append(at.text or "")
            stack += [part for child in reversed(at) for part in (child.tail or "", child)]
    return candidates


def _find_main_part(body: Element, warnings: list[str]) -> tuple[Element, set[tuple[str, ...]] | None]:
    """The smallest element that contains trafilatura's main text, and the word n-grams of that text.

    The n-grams are None for a page that is rendered completely except for elements declared as navigation.
    """
    words = _words(body)
    if len(words) <= _SHORT_PAGE_WORDS:
        return body, None
    text = _extract_text(body, warnings)
    text_ngrams = _ngrams(_WORD.findall(text.casefold()))
    if len(text_ngrams) < max(50, len(words) // 50):
        warnings.append("its main text could not be identified: the whole page was kept")
        return body, None
    return _find_container(body, text_ngrams), text_ngrams


def _extract_text(body: Element, warnings: list[str]) -> str:
    count = depth = max_depth = 0
    for event, _ in lxml.etree.iterwalk(body, events=("start", "end")):
        count, depth = count + (event == "start"), depth + (1 if event == "start" else -1)
        max_depth = max(max_depth, depth)
    if count > _MAX_ELEMENTS or max_depth > _MAX_DEPTH or sum(map(len, _readable(body))) > _MAX_LENGTH:
        return ""
    try:
        page = lxml.html.document_fromstring(lxml.etree.tostring(copy.deepcopy(body), encoding="utf-8", method="html"))
        return trafilatura.extract(page, output_format="txt", include_comments=False, favor_recall=True) or ""
    except Exception as error:  # whatever the library raises on hostile input, the page still has text
        warnings.append(f"trafilatura failed ({type(error).__name__})")
        return ""


def _ngrams(words: list[str]) -> set[tuple[str, ...]]:
    return set(zip(*(words[i:] for i in range(_NGRAM)), strict=False))


def _find_container(body: Element, text_ngrams: set[tuple[str, ...]]) -> Element:
    """Descends from the body as long as one child contains nine tenths of the main text."""
    part, candidates = body, len(_ngrams(_words(body)) & text_ngrams)
    while True:
        children = [child for child in part if isinstance(child.tag, str) and child.tag in _CONTAINERS]
        counts = [len(_ngrams(_words(child)) & text_ngrams) for child in children]
        if not counts or max(counts) < 0.9 * candidates:
            return part
        part = children[counts.index(max(counts))]


def _is_navigation(element: Element, text_ngrams: set[tuple[str, ...]] | None) -> bool:
    """Whether an element is navigation: it is named so or consists mostly of links, and its words are not in the main text."""
    if element.tag not in _CONTAINERS:
        return False
    named = element.tag in _NAVIGATION_TAGS or bool(
        _NAVIGATION_NAMES.search(f"{element.get('class', '')} {element.get('id', '')}")
    )
    role = element.get("role", "")
    if text_ngrams is None:
        return bool(element.tag == "nav" or role == "navigation")
    if element.tag not in ("div", "ul", "ol", "section") and not named:
        return False
    words = _words(element)
    if len(words) < _NGRAM:
        return named and bool(words)
    traces = _ngrams(words)
    if len(traces & text_ngrams) > 0.3 * len(traces):
        return False
    linked = sum(len(_words(link)) for link in element.iter("a"))
    return bool(named or linked > 0.6 * len(words))
