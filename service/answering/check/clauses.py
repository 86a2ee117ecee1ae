"""Splits sentences into clauses and words, at punctuation and conjunctions."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kb.markdown.blocks import plain
from kb.store.fulltext import STOP_WORDS, stem

_WORD = re.compile(r"[^\W_]+(?:['’@^._+-][^\W_]+)*|\d+")
_MARKUP = re.compile(r"\\(?:hat|text|mathrm|log|le|ge|cdot|times|nabla|sigma)\b|[${}`\\]")
_POWER = re.compile(r"(\d[\d.]*)\s*\\(?:cdot|times)\s*10\^\{(-?\d+)\}")
_ALONE = re.compile(r"(?<![\d.])10\^\{(-\d+)\}")
_CLAUSE = re.compile(
    r"[;:]\s+|\s+[—–]\s+|\.\s+(?=[A-Z])"
    r"|,?\s+\b(?:but|while|whereas|although|though|because|since|which|so that|as well as|unless|if|when|where|even though"
    r"|even if|yet)\b\s+"
    r"|,\s+(?:and|or|so|as|than|with|given|provided|compared with|following|versus|against)\s+|,\s+"
    r"|\s+and\s+(?=(?:it|they|the|that|this|he|she|its|their|most|both|all|no|some|none)\b)",
    re.I,
)
_FRAME = re.compile(
    r"^(?:according to (?:the|these|this|my|your|our)? ?(?:notes?|sources?|vault|quoted passages?|text)\s*,?\s*"
    r"|(?:the|these) (?:notes?|sources?)"
    r" (?:say|says|state|states|report|reports|show|shows|suggest|suggests)(?: that)?\s+"
    r"|(?:in short|overall|in summary|in fact|notably|indeed|moreover|furthermore|in addition|also|thus|therefore"
    r"|hence|finally)\s*,\s*)",
    re.I,
)
_GENERIC_WORDS = frozenset(
    """
    according note notes report reports reported find finds found show shows showed shown argue argues say said
    state states stated write writes seem seems appear appears tend tends usually mostly often generally typically
    roughly about nearly almost around approximately quite rather fairly simply merely mainly largely considerably
    substantially exactly actually indeed even yet still thus hence therefore however moreover instead well good
    make makes made making take takes took taken come comes came become becomes became go goes went gone going way
    thing case cases kind percent per cent number numbers figure figures many much lot several various one two
    three be been being count counts reach reaches reached stand stands lie lies turn turns turned keep keeps kept
    leave leaves left lead leads led put puts set sets colleagues study work paper author authors view result
    results
    """.split()
)


@dataclass(frozen=True, slots=True)
class Word:
    """A word: as written, its Porter stem, whether it is a content word, and whether it looks like a name."""

    text: str
    stem: str
    content: bool
    name: bool


@dataclass(frozen=True, slots=True)
class Clause:
    text: str
    words: tuple[Word, ...]

    @property
    def content(self) -> list[Word]:
        return [word for word in self.words if word.content]

    @property
    def stems(self) -> frozenset[str]:
        return frozenset(word.stem for word in self.words if word.content)


def strip_markup(text: str) -> str:
    """The text without Markdown, formula markup and phrases such as “According to the notes,”."""
    powers = _ALONE.sub(r"1e\1", _POWER.sub(r"\1e\2", plain(text).replace("\\%", "%")))
    words = " ".join(_MARKUP.sub(" ", powers).split())
    return _FRAME.sub("", words)


def split_clauses(text: str) -> list[Clause]:
    """The clauses of a text without markup. A clause with fewer than two content words is joined to the previous one."""
    out: list[Clause] = []
    pos = 0
    for cut in (*(m.span() for m in _CLAUSE.finditer(text)), (len(text), len(text))):
        piece = text[pos : cut[0]]
        pos = cut[1]
        clause = Clause(piece.strip(), split_words(piece, first=not out))
        if out and len(clause.content) < 2:
            out[-1] = Clause(f"{out[-1].text}, {clause.text}", (*out[-1].words, *clause.words))
        elif clause.words:
            out.append(clause)
    return out


def split_words(text: str, *, first: bool = True) -> tuple[Word, ...]:
    """The words of a text. `first`: it starts a sentence, so the capital of the first word does not count."""
    tokens = _WORD.findall(text)
    return tuple(_make_word(token, i == 0 and first) for i, token in enumerate(tokens) if token != "A" or i)


def _make_word(token: str, opens: bool) -> Word:
    low = token.casefold().replace("’", "'")
    letters = [c for c in token if c.isalpha()]
    capitals = sum(c.isupper() for c in letters)
    odd = bool(letters) and any(c.isdigit() for c in token)
    name = (
        bool(letters)
        and token != "I"
        and (len(token) > 1 or token.isupper())
        and (capitals > 1 or odd or (capitals == 1 and not opens))
    )
    name = name and (low not in STOP_WORDS or len(token) == 1) and not re.fullmatch(r"[\d.]+[kmb]?|\d+e-?\d+", low)
    content = (low not in STOP_WORDS and low not in _GENERIC_WORDS and bool(letters) and len(low) > 1) or name
    return Word(token, stem(low.removesuffix("'s")), content and not re.fullmatch(r"[\d.]+[kmb]?|\d+e-?\d+", low), name)
