"""Dismissed suggestions: pairs of notes in `dismissed.json` in the home. Not derived, so a rebuild keeps the file."""

from __future__ import annotations

import json
from pathlib import Path

from ingest.lock import lock_home
from kb.files import write_atomic
from kb.notes import PasskbError
from kb.os_errors import explanation


def list_dismissed(home: Path, note_id: str) -> set[str]:
    """The notes dismissed as suggestions for `note_id`. Raises PasskbError if the file is not valid."""
    return {other for pair in _read(home) if note_id in pair for other in pair} - {note_id}


def dismiss(home: Path, one: str, other: str) -> None:
    """Dismisses the pair. Idempotent."""
    with lock_home(home):
        pairs = _read(home)
        if sorted((one, other)) not in pairs:
            _write(home, [*pairs, sorted((one, other))])


def undismiss(home: Path, one: str, other: str) -> None:
    """Allows the pair to be suggested again. Idempotent."""
    with lock_home(home):
        pairs = _read(home)
        if sorted((one, other)) in pairs:
            _write(home, [pair for pair in pairs if pair != sorted((one, other))])


def _path(home: Path) -> Path:
    return home / "dismissed.json"


def _read(home: Path) -> list[list[str]]:
    path = _path(home)
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(loaded, list) or not all(isinstance(p, list) and len(p) == 2 for p in loaded):
            raise ValueError("not a list of pairs")
        return [sorted(map(str, pair)) for pair in loaded]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        otherwise = "correct it, or delete it to see dismissed suggestions again"
        raise PasskbError(f"{path} cannot be read {explanation(error, otherwise)}") from error


def _write(home: Path, pairs: list[list[str]]) -> None:
    write_atomic(_path(home), json.dumps(pairs, indent=1, ensure_ascii=False) + "\n")
