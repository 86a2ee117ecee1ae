"""Logging of the application to standard error, in one format.

Loggers are named `passkb` or `passkb.PART`; libraries always log at warning. The text of questions and notes is private and
never logged at info or above.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import TextIO

LEVELS = ("debug", "info", "warning", "error")
ROOT = "passkb"
_FORMATTERS = {
    False: logging.Formatter("passkb: %(message)s"),
    True: logging.Formatter("%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S"),
}
_PREFIX = re.compile(r"(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [A-Z]+ +[\w.]+: |passkb: )")
_requested = ""


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to the current `sys.stderr`, which may be replaced at any time."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)

    def filter(self, record: logging.LogRecord) -> bool:
        """Drops records that a library's own handler has already written."""
        source: logging.Logger | None = logging.getLogger(record.name)
        while source is not None and source is not logging.root:
            if source.handlers:
                return False
            source = source.parent
        return bool(super().filter(record))

    def handleError(self, record: logging.LogRecord) -> None:
        """Ignores errors: a closed stream must not stop the application."""


_handler = _Handler()


def logger(part: str) -> logging.Logger:
    """The logger of a part of passkb, such as "web" or "worker"."""
    return logging.getLogger(f"{ROOT}.{part}")


def configure(level: str, *, timestamps: bool = False, requested: str = "") -> None:
    """Configures logging for this process; can be called again. `timestamps`: for long-running processes, adds time, level and
    logger to each line; otherwise a line is `passkb: MESSAGE`. `requested`: the level of the option, passed on to child
    processes.
    """
    global _requested
    _requested = requested
    root, passkb_logger = logging.getLogger(), logging.getLogger(ROOT)
    _handler.setFormatter(_FORMATTERS[timestamps or level == "debug"])
    if _handler not in root.handlers:
        root.addHandler(_handler)
    root.setLevel(logging.WARNING)
    passkb_logger.setLevel(level.upper())


def child_options() -> list[str]:
    """The global options that make a child process log at the same level."""
    return ["--log-level", _requested] if _requested else []


def strip_prefix(line: str) -> str:
    """A log line without its time, level and logger."""
    return _PREFIX.sub("", line.strip(), count=1)
