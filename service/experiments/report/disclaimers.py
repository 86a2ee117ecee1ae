"""What nobody may quote a run's figures without: that its models are toys, or that no model was run. Pure but for one look.

Goes wherever a result goes: its page and curve, the terminal, its evidence note, the ledger of claims.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from service.experiments.organisms.family import CAUTION, RECORD
from service.experiments.spec import ExperimentSpec

DRY = "No model was run: the scripted engine makes completions up, at pass rates it is given."


def toys(spec: ExperimentSpec) -> list[str]:
    """The names of models whose folder says that they are organisms."""
    return [name for name, model in spec.models.items() if _is_toy(model.model)]


def cautions(spec: ExperimentSpec, state: Mapping[str, Any]) -> list[str]:
    """Sentences, none for most runs. `state`: of the run; it keeps which models were toys, as folders come and go."""
    if state.get("imported"):
        return []
    found: Sequence[str] = state.get("toys", toys(spec))
    said = [f"{CAUTION} That is {' and '.join(found)} here."] if found else []
    return [*said, DRY] if scripted(spec) else said


def origin(spec: ExperimentSpec, state: Mapping[str, Any]) -> str:
    """The same in two words, for titles and ledgers; "" for most runs."""
    found = cautions(spec, state)
    return "" if not found else "a dry run" if scripted(spec) else "toy models"


def scripted(spec: ExperimentSpec) -> bool:
    return any(model.engine == "scripted" for model in spec.models.values())


def _is_toy(model: str) -> bool:
    try:
        return (Path(model).expanduser() / RECORD).is_file()
    except (OSError, ValueError):
        return False
