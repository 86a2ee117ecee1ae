"""Ignore rules of a source: `.passkbignore` and Obsidian's excluded files."""

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
    """A function from a path below `root` (POSIX) to the reason why the file is ignored; empty when it is not.

    `.passkbignore` has the syntax of `.gitignore`. Raises PasskbError when it cannot be read, because private files could be
    indexed without its rules.
    """
    spec, filters = _read_rules(root / IGNORE_FILE), _read_obsidian_filters(root / OBSIDIAN_SETTINGS)

    def reason(relative: str) -> str:
        result = spec.check_file(relative)
        if result.include and result.index is not None:
            return f"ignored by {IGNORE_FILE}, line {result.index + 1}: {lines[result.index]}"
        for rule, matches in filters:
            if matches(relative):
                return f"ignored by Obsidian's excluded files: {rule}"
        return ""

    lines = _read_lines(root / IGNORE_FILE)
    return reason


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines() if path.is_file() else []
    except (OSError, UnicodeDecodeError) as error:
        default = "correct or delete it, then sync again"
        raise PasskbError(f"{path} cannot be read {explanation(error, default)}") from error


def _read_rules(path: Path) -> GitIgnoreSpec:
    return GitIgnoreSpec.from_lines(_read_lines(path))


def _read_obsidian_filters(path: Path) -> list[tuple[str, Callable[[str], bool]]]:
    """Obsidian's `userIgnoreFilters`: path prefixes, or regular expressions between slashes."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        return []
    except OSError as error:  # without the rules, private notes could be indexed
        raise PasskbError(f"{path} cannot be read {explanation(error, 'correct it, then sync again')}") from error
    filters = settings.get("userIgnoreFilters") if isinstance(settings, dict) else None
    rules: list[tuple[str, Callable[[str], bool]]] = []
    for rule in filters if isinstance(filters, list) else []:
        if not isinstance(rule, str) or not rule:
            continue
        if len(rule) > 2 and rule.startswith("/") and rule.endswith("/"):
            try:
                rules.append((rule, _match_pattern(re.compile(rule[1:-1]))))
            except re.error:
                continue
        else:
            rules.append((rule, _match_prefix(rule)))
    return rules


def _match_pattern(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda relative: bool(pattern.search(relative))


def _match_prefix(prefix: str) -> Callable[[str], bool]:
    return lambda relative: relative.startswith(prefix)
