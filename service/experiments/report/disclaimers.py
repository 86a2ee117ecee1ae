"""Disclaimers that every view of a result shows: its models are toys, or no model was run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from service.experiments.organisms.family import CAUTION, RECORD
from service.experiments.spec import ExperimentSpec

DRY = "No model was run: the scripted engine generates completions at preset pass rates."


def toys(spec: ExperimentSpec) -> list[str]:
    """The names of the models whose folders are organisms."""
    return [name for name, model in spec.models.items() if _is_toy(model.model)]


def cautions(spec: ExperimentSpec, state: Mapping[str, Any]) -> list[str]:
    """The disclaimers of a run; most have none. `state` is the run's, which records the toys because folders can move."""
    if state.get("imported"):
        return []
    toy_names: Sequence[str] = state.get("toys", toys(spec))
    verb = "are toy models" if len(toy_names) > 1 else "is a toy model"
    sentences = [f"{CAUTION} Here {' and '.join(toy_names)} {verb}."] if toy_names else []
    return [*sentences, DRY] if scripted(spec) else sentences


def origin(spec: ExperimentSpec, state: Mapping[str, Any]) -> str:
    """A short form for titles and claims: `a dry run`, `toy models`, or nothing."""
    return "" if not cautions(spec, state) else "a dry run" if scripted(spec) else "toy models"


def scripted(spec: ExperimentSpec) -> bool:
    return any(model.engine == "scripted" for model in spec.models.values())


def _is_toy(model: str) -> bool:
    try:
        return (Path(model).expanduser() / RECORD).is_file()
    except (OSError, ValueError):
        return False
