"""Text from notes made safe for a prompt, and the length of a prompt in tokens. Pure."""

from __future__ import annotations

BYTES_PER_TOKEN = 3.0  # English takes four and more; what a tokenizer makes of other scripts and of formulas is nearer to this
_ESCAPES = str.maketrans(
    {"[": "(", "]": ")", "【": "(", "】": ")", "<": "‹", ">": "›", "\n": " ", "\r": " ", "\u2028": " ", "\u2029": " "}
)
_MAX_PASSAGE = 700


def estimate_tokens(text: str) -> int:
    """An estimate of a text's length in tokens, rather too high than too low."""
    return int(len(text.encode()) / BYTES_PER_TOKEN) + 1


def escape_prompt(text: str) -> str:
    """Text that can stand in a prompt on a line of its own and means nothing there but its words."""
    return " ".join(text.translate(_ESCAPES).split())


def shorten(text: str) -> str:
    return text if len(text) <= _MAX_PASSAGE else f"{text[:_MAX_PASSAGE].rsplit(' ', 1)[0]} …"
