"""Free memory of the machine, and the memory that a model's weights need."""

from __future__ import annotations

import json
import os
from pathlib import Path

GB = 1e9
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def free_memory(root: Path = Path("/")) -> int:
    """Bytes available to this process, by the kernel or the limit of its control group."""
    meminfo = _read(root / "proc/meminfo")
    for line in meminfo.splitlines():
        if line.startswith("MemAvailable:"):
            free = 1024 * int(line.split()[1])
            break
    else:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    limit, used = (_read(root / f"sys/fs/cgroup/memory.{name}").strip() for name in ("max", "current"))
    if limit.isdecimal() and used.isdecimal():
        free = min(free, max(0, int(limit) - int(used)))
    return free


def weights_bytes(folder: Path, width: int) -> int:
    """Bytes of a folder's weights when loaded with `width` bytes per parameter (0: as stored); 0 without weights."""
    for pattern in _WEIGHTS:
        if stored := sum(file.stat().st_size for file in folder.glob(pattern)):
            return stored * width // _stored_width(folder) if width else stored
    return 0


def _stored_width(folder: Path) -> int:
    try:
        config = json.loads(_read(folder / "config.json"))
        dtype = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    except (ValueError, AttributeError):
        return 4
    return 2 if dtype.endswith("16") else 4


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
