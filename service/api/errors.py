"""Errors as HTTP status codes and JSON bodies, with a message that tells the user what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kb.notes import PasskbError
from service.api.admission import Busy
from service.api.operations import AmbiguousNote, NoModel, UnknownNote

_STATUS: tuple[tuple[type[PasskbError], int], ...] = ((AmbiguousNote, 409), (UnknownNote, 404), (NoModel, 409), (Busy, 503))
_MAX_ERRORS = 5
_LOCATIONS = ("body", "query", "path")


def http_status(error: PasskbError) -> int:
    """The HTTP status of an error; 422 for any other invalid request."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 422)


def error_body(error: PasskbError) -> dict[str, Any]:
    near = error.nearest if isinstance(error, UnknownNote) else []
    return {"error": str(error), "nearest": [{"id": note_id, "title": title} for note_id, title in near]}


def validation_message(errors: Iterable[Mapping[str, Any]]) -> str:
    """Pydantic's validation errors as one sentence."""
    details = list(errors)
    words = []
    for entry in details[:_MAX_ERRORS]:
        where = ".".join(str(part) for part in entry["loc"] if part not in _LOCATIONS)[:100]
        message = "unknown key" if entry["type"] == "extra_forbidden" else str(entry["msg"])
        words.append(f"{where}: {message}" if where else message)
    more = f" (and {len(details) - _MAX_ERRORS} more)" if len(details) > _MAX_ERRORS else ""
    return f"{'; '.join(words)}{more}. Correct the request and try again"


def internal_error_message(error: Exception) -> str:
    """An unexpected error by its type only: its message may contain file names."""
    return f"internal error ({type(error).__name__}): see the server log for details, or try again"
