"""The tables of `RESULTS.md`: each part's stands between two comments, and is replaced when it is measured again."""

from __future__ import annotations

import os
import platform
import re
import time
from importlib.metadata import version
from pathlib import Path

FILE = Path(__file__).with_name("RESULTS.md")
_PACKAGES = ("openvino", "chromadb", "numpy", "gradio")


def conditions() -> str:
    """Date, machine, load and versions, in a sentence; taken before a measurement."""
    model = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.M)
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"{time.strftime('%Y-%m-%d %H:%M')}; {model[1] if model else platform.processor()}, {os.cpu_count()} cores, "
        f"load average {os.getloadavg()[0]:.1f} before; Python {platform.python_version()}, {versions}."
    )


def write(part: str, text: str) -> None:
    """Raises SystemExit when the file has no place for the part."""
    opening, closing = f"<!-- bench:{part} -->", f"<!-- end:{part} -->"
    before = FILE.read_text(encoding="utf-8")
    start, end = before.find(opening), before.find(closing)
    if start < 0 or end < start:
        raise SystemExit(f"{FILE} has no place for {part!r}: it wants a line {opening} and a line {closing}")
    FILE.write_text(f"{before[: start + len(opening)]}\n{text}\n{before[end:]}", encoding="utf-8")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
