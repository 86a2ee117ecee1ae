"""From a claim of a note to the experiment that its author wrote down for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kb.knowledge_base import KnowledgeBase
from kb.notes import Claim, PasskbError


def spec_of(kb: KnowledgeBase, name: str) -> dict[str, Any]:
    """The test of claim `NOTE#ID` as a spec's mapping, with its name, question and claim filled in where it leaves them out.

    Raises PasskbError when there is no such claim, or it has no test."""
    note_id, claim = claim_named(kb, name)
    if not claim.test:
        raise PasskbError(f"claim {name} has no `test` in its note: write one there, or give a spec as a file")
    given = dict(claim.test)
    filled = {"name": f"{note_id.rsplit('/', 1)[-1]}-{claim.id}", "question": claim.question}
    note = kb.store.notes([note_id])[note_id]
    return {**filled, **_beside(given, Path(note.path).parent), "claim": f"{note_id}#{claim.id}"}


def _beside(test: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The test with the files and model folders that stand beside its note by their absolute paths."""
    problems, models = test.get("problems"), test.get("models")
    if isinstance(problems, Mapping) and "file" in problems:
        test["problems"] = {**problems, "file": _found(problems["file"], folder)}
    if isinstance(models, Mapping):
        test["models"] = {name: _model_beside(model, folder) for name, model in models.items()}
    return test


def _model_beside(model: Any, folder: Path) -> Any:
    """A model behind a server is named by that server, whatever folders are there."""
    if not isinstance(model, Mapping):
        return _found(model, folder)
    known_by_name = model.get("engine") == "openai" or "model" not in model
    return model if known_by_name else {**model, "model": _found(model["model"], folder)}


def _found(name: Any, folder: Path) -> Any:
    path = folder / str(name)
    return str(path.resolve()) if isinstance(name, str) and path.exists() else name


def claim_named(kb: KnowledgeBase, name: str) -> tuple[str, Claim]:
    """The note's id and the claim. Raises PasskbError that names the note's claims."""
    note, _, wanted = name.rpartition("#")
    note_id = kb.find(note)
    claims = kb.store.claims(note_id)
    for claim in claims:
        if claim.id == wanted:
            return note_id, claim
    listed = f": it has {', '.join(claim.id for claim in claims)}" if claims else ": it has none"
    raise PasskbError(f"{note_id} has no claim {wanted!r}{listed}")
