"""Which files of a source are left out, and by which rule: `.passkbignore`, and Obsidian's own excluded files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from pathspec import GitIgnoreSpec

from kb.notes import PasskbError
from kb.os_errors import explanation

IGNORE_FILE = ".passkbignore"
OBSIDIAN_SETTINGS = PurePosixPath(".obsidian", "app.json")
Ignored = Callable[[str], str]


def ignore_rules(root: Path) -> Ignored:
    """A function from a path below `root` (POSIX) to the reason why it is left out; empty when it is not.

    `.passkbignore` has the syntax of `.gitignore`. Raises PasskbError when it cannot be read: leaving its rules out would
    index what should not be.
    """
    spec, excluded = _own_rules(root / IGNORE_FILE), _obsidians(root / OBSIDIAN_SETTINGS)

    def reason(relative: str) -> str:
        found = spec.check_file(relative)
        if found.include and found.index is not None:
            return f"left out by {IGNORE_FILE}, line {found.index + 1}: {lines[found.index]}"
        for rule, matches in excluded:
            if matches(relative):
                return f"left out by Obsidian's excluded files: {rule}"
        return ""

    lines = _lines(root / IGNORE_FILE)
    return reason


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines() if path.is_file() else []
    except (OSError, UnicodeDecodeError) as error:
        otherwise = "mend it, or delete it, and sync again"
        raise PasskbError(f"{path} cannot be read {explanation(error, otherwise)}") from error


def _own_rules(path: Path) -> GitIgnoreSpec:
    return GitIgnoreSpec.from_lines(_lines(path))


def _obsidians(path: Path) -> list[tuple[str, Callable[[str], bool]]]:
    """Obsidian's `userIgnoreFilters`: the beginnings of paths, or regular expressions between slashes."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        return []
    except OSError as error:  # notes that are to be left out must not be read for want of the rules
        raise PasskbError(f"{path} cannot be read {explanation(error, 'mend it, and sync again')}") from error
    filters = settings.get("userIgnoreFilters") if isinstance(settings, dict) else None
    rules: list[tuple[str, Callable[[str], bool]]] = []
    for rule in filters if isinstance(filters, list) else []:
        if not isinstance(rule, str) or not rule:
            continue
        if len(rule) > 2 and rule.startswith("/") and rule.endswith("/"):
            try:
                rules.append((rule, _searches(re.compile(rule[1:-1]))))
            except re.error:
                continue
        else:
            rules.append((rule, _begins(rule)))
    return rules


def _searches(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda relative: bool(pattern.search(relative))


def _begins(start: str) -> Callable[[str], bool]:
    return lambda relative: relative.startswith(start)
