"""Runs the measurements: `python -m bench.run [PART ...] [--write]`; without a part, all of them."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from bench.data import Absent
from bench.figures import Figure, table
from bench.results import conditions, write

PARTS = (
    "ingest",
    "scale",
    "search",
    "retrieval",
    "memory",
    "many_clients",
    "resources",
    "hostile_input",
    "spans",
    "refusal",
    "checker",
    "writing",
    "suggesting",
    "readers",
    "grading",
    "coverage",
    "engines",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description="Measures passkb against its budgets.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--write", action="store_true", help="write the tables into bench/RESULTS.md")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}: known are {', '.join(PARTS)}")
    for part in options.parts or PARTS:
        before = conditions()
        module = import_module(f"bench.{part}")
        measure: Callable[[Path], list[Figure]] = module.measure
        with tempfile.TemporaryDirectory(prefix=f"passkb-bench-{part}-") as scratch:
            try:
                text = table(measure(Path(scratch)))
            except Absent as reason:
                print(f"{part}: skipped, {reason}")
                continue
        print(f"\n{part} ({before})\n\n{text}", flush=True)
        if options.write:
            write(part, f"{before}\n\n{text}")
            if publish := getattr(module, "publish", None):  # figures that the app itself shows
                publish()


if __name__ == "__main__":
    main()
