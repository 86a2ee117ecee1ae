"""`make smoke`: clones a checkout, installs it as README says, and does every main job in that environment.

Runs on a bare Python: the environment under test has no packages of the tests, and this program needs none. Prints a line for
each journey and closes with 'N passed, N failed'; the exit status is 1 where one failed.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.smoke.client import Passkb
from tests.smoke.environment import Failure, Shipped, clone, head, make_install, temporary, uncommitted
from tests.smoke.journeys import JOURNEYS, ROOT, Context

_T = TypeVar("_T")


def main() -> int:
    parser = argparse.ArgumentParser(description="Do every main job in the shipped environment.")
    parser.add_argument("--from", dest="source", type=Path, default=ROOT, help="the checkout to clone (default: this one)")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder")
    options = parser.parse_args()
    source = options.source.resolve()
    print(f"smoke: {source} at {head(source)}", flush=True)
    if changed := uncommitted(source):
        print(f"smoke: {len(changed)} uncommitted changes are not in the clone, {changed[0].strip()} for one", flush=True)
    with temporary(source, options.keep) as shipped:
        passed, failed = _all(shipped)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


def _all(shipped: Shipped) -> tuple[int, int]:
    passed = 0
    for step in (clone, make_install):
        if not _passes(step, shipped):
            return passed, 1 + len(JOURNEYS)
    passed += 1
    folder = shipped.folder / "work"
    folder.mkdir()
    context = Context(shipped, Passkb(shipped.command, shipped.folder / "home", folder))
    results = [_passes(journey, context) for journey in JOURNEYS]
    return passed + results.count(True), results.count(False)


def _passes(step: Callable[[_T], None], argument: _T) -> bool:
    began = time.monotonic()
    try:
        step(argument)
        fault = ""
    except Failure as error:
        fault = str(error)
    except Exception:
        fault = traceback.format_exc(limit=-2)
    name = step.__name__.replace("_", " ")
    print(f"{'FAIL' if fault else 'PASS'}  {name} ({time.monotonic() - began:.0f} s)", flush=True)
    if fault:
        print("\n".join("      " + line for line in fault.strip().splitlines()), flush=True)
    return not fault


if __name__ == "__main__":
    sys.exit(main())
