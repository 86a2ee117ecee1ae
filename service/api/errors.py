"""What went wrong, for a program and for whoever reads its log: a sentence that says whose move it is. Pure."""

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
    """HTTP's number for it; what can't be asked as it stands is 422."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 422)


def error_body(error: PasskbError) -> dict[str, Any]:
    near = error.nearest if isinstance(error, UnknownNote) else []
    return {"error": str(error), "nearest": [{"id": note_id, "title": title} for note_id, title in near]}


def validation_message(errors: Iterable[Mapping[str, Any]]) -> str:
    """pydantic's findings as one sentence."""
    details = list(errors)
    words = []
    for entry in details[:_MAX_ERRORS]:
        where = ".".join(str(part) for part in entry["loc"] if part not in _LOCATIONS)[:100]
        message = "there is no such key" if entry["type"] == "extra_forbidden" else str(entry["msg"])
        words.append(f"{where}: {message}" if where else message)
    more = f" (and {len(details) - _MAX_ERRORS} more)" if len(details) > _MAX_ERRORS else ""
    return f"{'; '.join(words)}{more}. Correct it and ask again"


def internal_error_message(error: Exception) -> str:
    """What nobody foresaw: its kind, and nothing of its words, which may name files."""
    return f"passkb failed at this ({type(error).__name__}): its log says more; asking again may help"
