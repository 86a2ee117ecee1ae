"""The version of passkb, from its package metadata or, in a checkout that is not installed, from pyproject.toml."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path

_PROJECT = Path(__file__).parents[1] / "pyproject.toml"
UNKNOWN = "unknown"


@cache
def version() -> str:
    """Such as "0.3.0"; "unknown" without package metadata and pyproject.toml."""
    try:
        return version_of("passkb")
    except PackageNotFoundError:
        return version_in(_PROJECT)


def version_in(project: Path) -> str:
    """passkb's version in a pyproject.toml, or "unknown"."""
    try:
        table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        return str(table["version"]) if table["name"] == "passkb" else UNKNOWN
    except (OSError, ValueError, KeyError, TypeError):
        return UNKNOWN
