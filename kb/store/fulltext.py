"""Lexical search over the full text of chunks (SQLite FTS5, Porter stems, BM25)."""

from __future__ import annotations

import re
import sqlite3
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
_WORD = re.compile(r"\w+(?:['’@^]\w+)*")


def content_words(text: str) -> list[str]:
    """The words of a text that are no stop words: lower case, in order, without repetition; all words when only stop words
    remain."""
    words = list(dict.fromkeys(word.replace("’", "'") for word in _WORD.findall(text.casefold())))
    return [word for word in words if word not in STOP_WORDS] or words


def match_expression(text: str) -> str:
    """An FTS5 query that matches any content word of `text`; empty when there is no word."""
    return " OR ".join(f'"{word}"' for word in content_words(text)[:MAX_WORDS])


def lexical_search(connection: sqlite3.Connection, text: str, limit: int) -> list[tuple[int, float]]:
    """Chunk numbers with their BM25 score (higher is better), best first."""
    expression = match_expression(text)
    if not expression:
        return []
    rows = connection.execute("SELECT rowid, -rank FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?", (expression, limit))
    return rows.fetchall()


def phrase_search(connection: sqlite3.Connection, phrase: str, limit: int) -> list[int]:
    """Numbers of chunks that contain the words of `phrase` in sequence, compared by stem and regardless of punctuation."""
    words = " ".join(_WORD.findall(phrase.casefold()))
    if not words:
        return []
    rows = connection.execute("SELECT rowid FROM words WHERE words MATCH ? LIMIT ?", (f'text : "{words}"', limit))
    return [row[0] for row in rows]


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """A word's Porter stem, as used by the full-text index."""
    return str(_stemmer.stemWord(word))


def stems(text: str) -> frozenset[str]:
    """The stems of all words of a text but stop words."""
    words = (word.replace("’", "'") for word in _WORD.findall(text.casefold()))
    return frozenset(stem(word) for word in words if word not in STOP_WORDS)


def document_frequency(connection: sqlite3.Connection, word: str) -> int:
    """The number of chunks that contain a word of the same stem."""
    return int(connection.execute("SELECT count(*) FROM words WHERE words MATCH ?", (f'"{word}"',)).fetchone()[0])
