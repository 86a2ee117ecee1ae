"""Lexical search over the full text of chunks (SQLite FTS5, Porter stems, BM25)."""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from functools import lru_cache

import snowballstemmer  # type: ignore[import-untyped]

MAX_WORDS = 48
STOP_WORDS = frozenset(
    """a about above after again against all also am an and any are aren't as at be because been before being below
    between both but by can can't cannot could couldn't d did didn't do does doesn't doing don't down during each either
    else ever few for from further get gets give given gives had hadn't has hasn't have haven't having he her here hers
    him his how i if in into is isn't it its itself just let like ll m may me might more most much must my neither no nor
    not of off on once one only or other our ours out over own per re really s same say says shall she should
    shouldn't so some such t tell than that the their theirs them then there these they thing things this those through
    thus to too under until up upon us use used uses using ve very via was wasn't way ways we were weren't what
    whatever when where whether which while who whom whose why will with without won't would wouldn't yet you your
    yours""".split()
)
_stemmer = snowballstemmer.stemmer("porter")
# Scripts written without spaces between words, and Hangul, whose words carry particles: indexed by character.
_SPACELESS = (
    "\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff"
)
_CHARACTER = re.compile(rf"[{_SPACELESS}]")
_LETTER = rf"(?:(?![{_SPACELESS}])\w)"
_TOKEN = re.compile(rf"[{_SPACELESS}]+|{_LETTER}+(?:['’@^]{_LETTER}+)*")
# Grammar words of Chinese, and Hiragana, which writes Japanese endings and particles.
_GRAMMAR = re.compile("[的了吗呢吧啊么什怎哪谁是在和与或及\u3041-\u309f]+")
_POSSESSIVE = re.compile(r"(?<=\w)'s?\Z")


def tokenize(text: str) -> list[str]:
    """The words of a text in order, lower case, without possessive endings. Of a script without spaces, every two neighbouring
    characters.

    >>> tokenize("Noether’s pass@k 強化学習とは")
    ['noether', 'pass@k', '強化', '化学', '学習', '習と', 'とは']
    """
    words: list[str] = []
    for match in _TOKEN.finditer(unicodedata.normalize("NFC", text).lower()):
        token = match[0].replace("’", "'")
        if _CHARACTER.match(token):
            words += _pairs(token)
        else:
            words.append(_POSSESSIVE.sub("", token))
    return words


def content_words(text: str) -> list[str]:
    """The words of a text that are no stop words, in order, without repetition; all words when only stop words remain.

    Of scripts without spaces: pairs of characters within stretches that are not grammar."""
    spaced = _GRAMMAR.sub(" ", text)
    words = list(dict.fromkeys(tokenize(spaced)))
    return [word for word in words if word not in STOP_WORDS] or list(dict.fromkeys(tokenize(text)))


def index_text(text: str) -> str:
    """A text as the full-text index stores it: characters of scripts without spaces stand apart, so that each is a token."""
    return _CHARACTER.sub(r" \g<0> ", text)


def _phrase(word: str) -> str:
    return f'"{" ".join(index_text(word).split())}"'


def _pairs(characters: str) -> list[str]:
    letters = [character for character in characters if character.isalnum()]  # vowel signs and tone marks are no tokens
    return ["".join(letters[i : i + 2]) for i in range(max(1, len(letters) - 1))] if letters else []


def match_expression(text: str) -> str:
    """An FTS5 query that matches any content word of `text`; empty when there is no word."""
    return " OR ".join(map(_phrase, content_words(text)[:MAX_WORDS]))


def lexical_search(connection: sqlite3.Connection, text: str, limit: int) -> list[tuple[int, float]]:
    """Chunk numbers with their BM25 score (higher is better), best first."""
    expression = match_expression(text)
    if not expression:
        return []
    rows = connection.execute("SELECT rowid, -rank FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?", (expression, limit))
    return rows.fetchall()


def phrase_search(connection: sqlite3.Connection, phrase: str, limit: int) -> list[int]:
    """Numbers of chunks that contain the words of `phrase` in sequence, compared by stem and regardless of punctuation."""
    words = _TOKEN.findall(phrase.lower())
    if not words:
        return []
    expression = f"text : {_phrase(' '.join(words))}"
    rows = connection.execute("SELECT rowid FROM words WHERE words MATCH ? LIMIT ?", (expression, limit))
    return [row[0] for row in rows]


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """A word's Porter stem, as used by the full-text index."""
    return str(_stemmer.stemWord(word))


def stems(text: str) -> frozenset[str]:
    """The stems of all words of a text but stop words."""
    return frozenset(stem(word) for word in tokenize(_GRAMMAR.sub(" ", text)) if word not in STOP_WORDS)


def document_frequency(connection: sqlite3.Connection, word: str) -> int:
    """The number of chunks that contain a word of the same stem."""
    return int(connection.execute("SELECT count(*) FROM words WHERE words MATCH ?", (_phrase(word),)).fetchone()[0])
