"""Finds a claim by its name, and the spec of the experiment that tests it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kb.knowledge_base import KnowledgeBase
from kb.notes import Claim, PasskbError


def claim_spec(kb: KnowledgeBase, name: str) -> dict[str, Any]:
    """The test of claim `NOTE#ID` as the mapping of a spec; name, question and claim have defaults.

    Raises PasskbError when the claim does not exist or has no test."""
    note_id, claim = find_claim(kb, name)
    if not claim.test:
        raise PasskbError(f"claim {name} has no `test` in its note: add one there, or pass a spec file")
    defaults = {"name": f"{note_id.rsplit('/', 1)[-1]}-{claim.id}", "question": claim.question}
    note = kb.store.notes([note_id])[note_id]
    return {**defaults, **_with_absolute_paths(dict(claim.test), Path(note.path).parent), "claim": f"{note_id}#{claim.id}"}


def _with_absolute_paths(test: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The test, with paths relative to its note's folder made absolute where the file or folder exists."""
    problems, models = test.get("problems"), test.get("models")
    if isinstance(problems, Mapping) and "file" in problems:
        test["problems"] = {**problems, "file": _absolute(problems["file"], folder)}
    if isinstance(models, Mapping):
        test["models"] = {name: _model_path(model, folder) for name, model in models.items()}
    return test


def _model_path(model: Any, folder: Path) -> Any:
    """A model's name on a server is never a path, even where a folder has that name."""
    if not isinstance(model, Mapping):
        return _absolute(model, folder)
    is_server_name = model.get("engine") == "openai" or "model" not in model
    return model if is_server_name else {**model, "model": _absolute(model["model"], folder)}


def _absolute(name: Any, folder: Path) -> Any:
    path = folder / str(name)
    return str(path.resolve()) if isinstance(name, str) and path.exists() else name


def find_claim(kb: KnowledgeBase, name: str) -> tuple[str, Claim]:
    """The note's id and the claim. Raises PasskbError that lists the note's claims."""
    note, _, claim_id = name.rpartition("#")
    note_id = kb.find(note)
    claims = kb.store.claims(note_id)
    for claim in claims:
        if claim.id == claim_id:
            return note_id, claim
    hint = f": it has {', '.join(claim.id for claim in claims)}" if claims else ": it has no claims"
    raise PasskbError(f"{note_id} has no claim {claim_id!r}{hint}")
