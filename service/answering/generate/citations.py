"""Parses citation keys in generated text and removes all others; builds the pattern for constrained decoding.

Keys are the numbers 1 to n of the passages in the context.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from kb.markdown.sentences import sentences

NO_ANSWER = "NO ANSWER"
_WORD = r"(?:(?:sources?|passages?|notes?|keys?|refs?\.?|citations?|nos?\.)\s*)"
_LIST = r"#?\d{1,3}(?:\s*(?:[,;&–-]|and|to|,\s*and)\s*#?\d{1,3})*"
_KEYS = re.compile(
    rf"[ \t]{{0,4}}(?:[\[【]\^?\s*{_WORD}?({_LIST})\s*(?:†[^\]】]*)?[\]】]|\(\s*(?:see\s+)?{_WORD}({_LIST})\s*\))", re.I
)
_INTERVAL_CUE = re.compile(r"(?:\b(?:intervals?|CI|CrI|bounds)\s*(?:of|is|=|:)?|[=∈])\s*\Z")
_AUTHORS = r"[A-Z][\w’'-]+(?:\s+et\s+al\.?|\s+(?:and|&)\s+[A-Z][\w’'-]+)?"
_YEAR = r"\(?(?:(?:19|20)\d\d[a-z]?|n\.d\.)\)?"
_FOREIGN = re.compile(
    rf"[ \t]{{0,4}}[\[(](?:see |cf\.? |e\.g\.,? )?{_AUTHORS},?\s*{_YEAR}(?:[;,][^\])]{{0,200}})?[\])]"
    rf"|[ \t]{{0,4}}[\[(][A-Z][\w’'-]+\s+et\s+al\.?[^\])]{{0,40}}[\])]"
    r"|(?<!\[)[ \t]{0,4}\[(?!\[)(?:[A-Z#@^]|[\w./-]*[/_]|[\w-]+\.md|citation|source|note)[^\[\]\n]{0,80}\](?![(\]])"
)
_WIKI = re.compile(r"\[\[(?:[^\[\]\n|]*\|)?([^\[\]\n]*)\]\]")
_ADDRESS = re.compile(r"!?\[([^\[\]\n]{0,200})\]\([^()\n]{0,2000}\)|<?https?://[^\s<>)]+>?")
_HALF_ADDRESS = re.compile(r"!?\[[^\[\]\n]{0,200}\]\([^()\s]*\Z")
_SOURCE_LIST = re.compile(r"(?im)^[^\w\n]*(?:sources?|references?|citations?|bibliography|works cited|notes cited)[^\w\n]*$")
_MAX_SENTENCE = 1500  # characters of a sentence
_PLACEHOLDER = "\ue000"  # replaces a group of keys while sentences are split
_AFTER_STOP = re.compile(rf"([.!?…。！？][\"'”’»)*_]*)((?:\s*{_PLACEHOLDER})+)(?!\s*[a-z])")
_ATTRIBUTION = re.compile(
    rf"(?i)\b(?:according to|as (?:shown|noted|stated|described|reported) (?:in|by)|per)(\s*{_PLACEHOLDER}+),?\s*(\w)"
)
_AS_SUBJECT = re.compile(rf"((?:\A|\n|[.!?])\s*)({_PLACEHOLDER}+)\s+(?=[a-z])")
_HALF_KEY = re.compile(r"[ \t]?[\[【][^\]】\n]{0,48}\Z")
_SENTENCE_END = re.compile(r"[.!?…。！？:][\"'”’»)*_]*\Z")


@dataclass(frozen=True, slots=True)
class DraftSentence:
    """A sentence of a draft. `keys`: valid citations in order; `removed`: invalid citations as written; `paragraph`: from 0;
    `cut`: the last sentence is incomplete."""

    text: str
    keys: tuple[int, ...]
    removed: tuple[str, ...] = ()
    paragraph: int = 0
    cut: bool = False


def parse_keys(listed: str) -> list[int]:
    """The keys of a list such as `1, 3-5`, without duplicates. Ranges have at most thirteen keys.

    >>> parse_keys("1, 3-5 and 3")
    [1, 3, 4, 5]
    """
    keys: list[int] = []
    for first, last in re.findall(r"(\d+)(?:\s*(?:[–-]|to)\s*#?(\d+))?", listed):
        end = int(last or first)
        keys += range(int(first), end + 1) if int(first) <= end <= int(first) + 12 else [int(first), end]
    return list(dict.fromkeys(keys))


def parse_draft(text: str, offered: Collection[int]) -> list[DraftSentence]:
    """The sentences of a draft without duplicates, headings, code and a list of sources at the end."""
    groups: list[tuple[list[int], list[str]]] = []

    def replace_keys(match: re.Match[str]) -> str:
        cited = parse_keys(match[1] or match[2])
        if _is_interval(cited, text_so_far[: match.start()]):
            return match[0]
        keys = [key for key in cited if key in offered]
        groups.append((keys, [f"[{key}]" for key in cited if key not in offered]))
        return _PLACEHOLDER

    def remove_citation(match: re.Match[str]) -> str:
        groups.append(([], [match[0].strip()]))
        return _PLACEHOLDER

    text_so_far = _remove_source_list(text.replace(_PLACEHOLDER, ""))
    text_so_far = _HALF_KEY.sub("", _ADDRESS.sub(lambda match: match[1] or "", _WIKI.sub(r"\1", text_so_far)))
    marked = _replace_in_order(text_so_far, [(_KEYS, replace_keys), (_FOREIGN, remove_citation)])
    marked = _AFTER_STOP.sub(lambda match: re.sub(r"\s", "", match[2]) + match[1], marked)
    marked = _ATTRIBUTION.sub(lambda match: match[1].strip() + match[2].upper(), marked)
    marked = _AS_SUBJECT.sub(lambda match: f"{match[1].rstrip(chr(32))} One note{match[2]} ".lstrip(chr(32)), marked)
    return _split_sentences(marked, groups)


def _is_interval(cited: Collection[int], before: str) -> bool:
    """Whether numbers in brackets are an interval, not a citation."""
    return 0 in cited or (len(cited) == 2 and _INTERVAL_CUE.search(before[-24:]) is not None)


def _replace_in_order(text: str, rules: list[tuple[re.Pattern[str], object]]) -> str:
    """Replaces the matches of all patterns from left to right; the first rule wins."""
    parts: list[str] = []
    position = 0
    while position < len(text):
        matches = [rule.search(text, position) for rule, _ in rules]
        earliest = [(match.start(), i, match) for i, match in enumerate(matches) if match]
        if not earliest:
            break
        _, i, match = min(earliest, key=lambda entry: entry[:2])
        parts += [text[position : match.start()], rules[i][1](match)]  # type: ignore[operator]
        position = match.end()
    return "".join((*parts, text[position:]))


def _remove_source_list(text: str) -> str:
    headings = [match for match in _SOURCE_LIST.finditer(text) if text[: match.start()].strip()]
    return text[: headings[0].start()] if headings else text


def _split_sentences(marked: str, groups: list[tuple[list[int], list[str]]]) -> list[DraftSentence]:
    out: list[DraftSentence] = []
    seen: set[str] = set()
    used = paragraph = last = 0
    for sentence in sentences(marked):
        used += marked.count(_PLACEHOLDER, last, sentence.start)
        paragraph += "\n\n" in marked[last : sentence.start] and bool(out)
        last = sentence.end
        piece = marked[sentence.start : sentence.end]
        own_groups = groups[used : used + piece.count(_PLACEHOLDER)]
        used += len(own_groups)
        words = " ".join(piece.replace(_PLACEHOLDER, "").split())[:_MAX_SENTENCE]
        if words.casefold() in seen or not any(map(str.isalnum, words)):
            continue
        seen.add(words.casefold())
        keys = dict.fromkeys(key for cited, _ in own_groups for key in cited)
        out.append(DraftSentence(words, tuple(keys), tuple(entry for _, refused in own_groups for entry in refused), paragraph))
    if out and not _SENTENCE_END.search(out[-1].text):
        final = out[-1]
        out[-1] = DraftSentence(final.text, final.keys, final.removed, final.paragraph, cut=True)
    return out


def renumber_keys(text: str, offered: Collection[int]) -> str:
    """Partial text for display: keys numbered by first use, without invalid keys and URLs."""
    order: dict[int, int] = {}
    text = _ADDRESS.sub(lambda match: match[1] or "", _HALF_ADDRESS.sub("", text))

    def show(match: re.Match[str]) -> str:
        cited = parse_keys(match[1] or match[2])
        if _is_interval(cited, text[: match.start()]):
            return match[0]
        numbers = [order.setdefault(key, len(order) + 1) for key in cited if key in offered]
        return "".join(f" [{number}]" if i == 0 else f"[{number}]" for i, number in enumerate(numbers))

    return _KEYS.sub(show, text)


def answer_pattern(count: int) -> str:
    """A regular expression for prose in which every sentence ends with keys from 1 to `count`, or for NO_ANSWER."""
    key = r"\[(?:" + "|".join(map(str, range(1, count + 1))) + r")\]"
    words = r"(?:[^\[\]【】\n.!?]|[.!?][0-9A-Za-z,;:/-])+"  # “0.5”, “e.g.,”: a full stop inside a sentence
    sentence = rf"{words} {key}(?:{key}){{0,3}}[.!?]"
    return rf"(?:{NO_ANSWER}|{sentence}(?:(?: |\n\n){sentence})*)"
