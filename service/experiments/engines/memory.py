"""How much memory a machine has left and a model's files ask for. Standard library only; a GPU's is not known here."""

from __future__ import annotations

import json
import os
from pathlib import Path

GB = 1e9
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that this process may still take: what the kernel calls available, or what its control group leaves."""
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
    """Bytes of the weights in a model's folder once they are loaded with `width` bytes a parameter (0: as they are stored);
    0 where the folder holds none."""
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
