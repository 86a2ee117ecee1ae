"""The log of the whole application: one format, one level, on standard error.

Loggers of passkb are named `passkb` or `passkb.PART`. Those of libraries stay at warning, whatever level passkb has.
Text of questions and notes is private: it is never logged at info or above.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import TextIO

LEVELS = ("debug", "info", "warning", "error")
ROOT = "passkb"
_LINES = {
    False: logging.Formatter("passkb: %(message)s"),
    True: logging.Formatter("%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S"),
}
_PREFIX = re.compile(r"(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [A-Z]+ +[\w.]+: |passkb: )")
_requested = ""


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to whatever standard error is at that moment."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)

    def filter(self, record: logging.LogRecord) -> bool:
        """Not what a library has written by a handler of its own."""
        source: logging.Logger | None = logging.getLogger(record.name)
        while source is not None and source is not logging.root:
            if source.handlers:
                return False
            source = source.parent
        return bool(super().filter(record))

    def handleError(self, record: logging.LogRecord) -> None:
        """A log that nobody reads any more must not stop what is logged."""


_handler = _Handler()


def logger(part: str) -> logging.Logger:
    """The logger of a part of passkb, such as "web" or "worker"."""
    return logging.getLogger(f"{ROOT}.{part}")


def configure(level: str, *, timestamps: bool = False, requested: str = "") -> None:
    """Sets up the log of this process; may be called again. `timestamps`: for processes that run for long, each line with
    its time, level and logger; else `passkb: MESSAGE`. `requested`: the level that an option asked for, for child processes.
    """
    global _requested
    _requested = requested
    root, own = logging.getLogger(), logging.getLogger(ROOT)
    _handler.setFormatter(_LINES[timestamps or level == "debug"])
    if _handler not in root.handlers:
        root.addHandler(_handler)
    root.setLevel(logging.WARNING)
    own.setLevel(level.upper())


def child_options() -> list[str]:
    """The global options with which a child process logs at the same level."""
    return ["--log-level", _requested] if _requested else []


def strip_prefix(line: str) -> str:
    """A line of a log without its time, level and logger."""
    return _PREFIX.sub("", line.strip(), count=1)
