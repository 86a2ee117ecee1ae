"""Errors and hints as text and as HTML."""

from __future__ import annotations

from markupsafe import Markup

from kb.notes import PasskbError
from service.log import logger
from service.web.components.templates import render

_log = logger("web")


def message_html(message: object) -> Markup:
    """A message as an alert."""
    return render("components/message.html", message=message)


def error_text(error: Exception) -> str:
    """The message of an error. Logs the traceback of an unexpected one."""
    if isinstance(error, PasskbError):
        return str(error)
    _log.error("%s", type(error).__name__, exc_info=error)
    reason = f"{type(error).__name__}: {error}".rstrip(".")
    return f"Something went wrong ({reason}). Try again. See the server log for details."


def error_html(error: Exception) -> Markup:
    """An error as an alert. Logs the traceback of an unexpected one."""
    return message_html(error_text(error))
