"""Escapes text for prompts and estimates token counts."""

from __future__ import annotations

BYTES_PER_TOKEN = 3.0  # about 4 for English, less for other scripts and formulas
_ESCAPES = str.maketrans(
    {"[": "(", "]": ")", "【": "(", "】": ")", "<": "‹", ">": "›", "\n": " ", "\r": " ", "\u2028": " ", "\u2029": " "}
)
_MAX_PASSAGE = 700


def estimate_tokens(text: str) -> int:
    """An upper estimate of the number of tokens."""
    return int(len(text.encode()) / BYTES_PER_TOKEN) + 1


def escape_prompt(text: str) -> str:
    """The text on one line, without brackets that could look like citation keys or tags."""
    return " ".join(text.translate(_ESCAPES).split())


def shorten(text: str) -> str:
    return text if len(text) <= _MAX_PASSAGE else f"{text[:_MAX_PASSAGE].rsplit(' ', 1)[0]} …"
