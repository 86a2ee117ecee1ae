"""What went wrong, for a program and for whoever reads its log: a sentence that says whose move it is. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kb.notes import PasskbError
from service.api.admission import Busy
from service.api.operations import NoModel, SeveralNotes, UnknownNote

_STATUS: tuple[tuple[type[PasskbError], int], ...] = ((SeveralNotes, 409), (UnknownNote, 404), (NoModel, 409), (Busy, 503))
_NAMED = 5
_PLACES = ("body", "query", "path")


def status_of(error: PasskbError) -> int:
    """HTTP's number for it; what can't be asked as it stands is 422."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 422)


def fault(error: PasskbError) -> dict[str, Any]:
    near = error.nearest if isinstance(error, UnknownNote) else []
    return {"error": str(error), "nearest": [{"id": note_id, "title": title} for note_id, title in near]}


def corrected(errors: Iterable[Mapping[str, Any]]) -> str:
    """pydantic's findings as one sentence."""
    found = list(errors)
    words = []
    for entry in found[:_NAMED]:
        where = ".".join(str(part) for part in entry["loc"] if part not in _PLACES)[:100]
        said = "there is no such key" if entry["type"] == "extra_forbidden" else str(entry["msg"])
        words.append(f"{where}: {said}" if where else said)
    more = f" (and {len(found) - _NAMED} more)" if len(found) > _NAMED else ""
    return f"{'; '.join(words)}{more}. Correct it and ask again"


def internal(error: Exception) -> str:
    """What nobody foresaw: its kind, and nothing of its words, which may name files."""
    return f"passkb failed at this ({type(error).__name__}): its log says more; asking again may help"
