"""Removes reasoning, tool calls and chat-format markers from the output of a model.

Works on streams: call `sanitize` with the whole text so far. The result is not HTML-escaped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_REASONING = r"think|thinking|thought|thoughts|reasoning|reflection|seed:think"
_CLOSED = re.compile(rf"(?is)<({_REASONING})>(.*?)(?:</\1\s*>|\Z)|\[THINK\](?P<bracketed>.*?)(?:\[/THINK\]|\Z)")
_UNOPENED = re.compile(rf"(?is)\A(.*)</(?:{_REASONING})\s*>")  # many chat templates open the block in the prompt
_CHANNEL = re.compile(
    r"(?s)(?:<\|start\|>\w+)?<\|channel\|>(\w+)(?:(?!<\|message\|>).)*(?:<\|message\|>|\Z)(.*?)(?=<\|(?:end|start|return|call|channel)\||\Z)"
)
_TOOLS = re.compile(
    r"(?is)<(tool_calls?|tools?|function_calls?|functions?|invoke|tool_use)\b[^>]*>.*?(?:</\1\s*>|\Z)"
    r"|<(function|invoke)=[^>]*>.*?(?:</\2\s*>|\Z)|\[TOOL_CALLS\].*\Z|<\|python_tag\|>.*\Z|<｜tool▁calls▁begin｜>.*?(?:<｜tool▁calls▁end｜>|\Z)"
)
_CALL = re.compile(r'(?m)^[ \t]*[{\[].*"(?:arguments|parameters|tool_call|function)"\s*:.*$\n?')
_SPECIAL = re.compile(r"<\|start\|>\w+|<[|｜][^|｜<>\n]{1,40}[|｜]>|</?s>")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f\ue000-\uf8ff]|[\u202a-\u202e\u2066-\u2069]")
_INCOMPLETE_MARK = re.compile(
    r"<[|｜/\w:=]{0,24}\Z|\[/?[A-Z_]{0,12}\Z|\[[^\]\n]{0,48}\Z|【[^】\n]{0,48}\Z"
)  # may become a marker


@dataclass(frozen=True, slots=True)
class SanitizedText:
    text: str
    reasoning: str


def sanitize(raw: str, *, ended: bool) -> SanitizedText:
    """`raw`: the whole output so far. Until it has `ended`, a tail that may become a marker is held back.

    A closing marker without an opening one turns everything before it into reasoning, so the text may become shorter.
    """
    raw = _CONTROL.sub("", raw.replace("\r\n", "\n"))
    thoughts: list[str] = []

    def fold(match: re.Match[str]) -> str:
        thoughts.append(match[2] if match[1] else match["bracketed"])
        return "\n"

    def channel(match: re.Match[str]) -> str:
        if match[1] == "final":
            return match[2]
        if match[1] == "analysis":
            thoughts.append(match[2])
        return ""

    text = _CLOSED.sub(fold, raw)
    if orphan := _UNOPENED.match(text):
        thoughts.append(orphan[1])
        text = text[orphan.end() :]
    text = _CHANNEL.sub(channel, text)
    text = _CALL.sub("", _TOOLS.sub("\n", text))
    text = _SPECIAL.sub("", text)
    if not ended:
        text = _INCOMPLETE_MARK.sub("", text)
    return SanitizedText(text.strip(), "\n\n".join(filter(None, (thought.strip() for thought in thoughts))))
