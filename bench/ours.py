"""passkb's ingest over a folder, in a process of its own, as `stock.py` times it: `python -m bench.ours FOLDER HOME`.

Prints one JSON object: seconds to import and load, to ingest a new home, again with nothing changed, and with one note
changed. Changes notes of FOLDER: give it a copy.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

_REPEATS = 9


def main(folder: Path, home: Path) -> None:
    began = time.perf_counter()
    from ingest.pipeline import ingest
    from kb.knowledge_base import KnowledgeBase

    with KnowledgeBase(home) as kb:
        kb.embedder(["warm"])
        loaded = time.perf_counter()
        report = ingest(kb, [folder])
        ingested = time.perf_counter()
        if report.failed:
            raise SystemExit(f"passkb could not read {report.failed[0]}")
        again = [ingest(kb, [folder]).seconds for _ in range(_REPEATS)]
        changed = []
        for i, path in enumerate(_middling(folder, _REPEATS)):
            with path.open("a", encoding="utf-8") as file:
                file.write(f"\n\nA line added to see what one change costs, number {i}.\n")
            once = ingest(kb, [folder])
            assert once.updated == 1, once
            changed.append(once.seconds)
        chunks = kb.store.counts()[2]
    result = {
        "load": loaded - began,
        "ingest": ingested - loaded,
        "notes": report.notes,
        "chunks": chunks,
        "embedded": report.embedded,
        "again": again,
        "changed": changed,
    }
    print(json.dumps(result))


def _middling(folder: Path, count: int) -> list[Path]:
    """Notes of middling size, among those that are not empty."""
    files = sorted((path for path in folder.rglob("*.md") if path.stat().st_size), key=lambda path: path.stat().st_size)
    first = (len(files) - count) // 2
    return files[first : first + count]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
