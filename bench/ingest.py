"""Cold ingest against the stock pipeline, ingest again, one note changed, and what the commands take."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.data import REPOSITORY, notes, questions, vault
from bench.figures import Figure, median, spread

STOCK_PYTHON = REPOSITORY / ".venv-bench" / "bin" / "python"
PAIRS = 3
_QUESTIONS = 20
_COMMANDS = 3


def measure(scratch: Path) -> list[Figure]:
    """Alternating runs, each in a fresh process; loading code and model is timed apart on both sides."""
    source = vault()
    asked = questions(source, _QUESTIONS)
    ours: list[dict[str, Any]] = []
    stock: list[dict[str, Any]] = []
    for i in range(PAIRS):
        sides = [lambda i=i: ours.append(_ours(source, scratch / f"ours{i}"))]
        if STOCK_PYTHON.exists():
            sides.append(lambda i=i: stock.append(_stock(source, scratch / f"stock{i}", asked)))
        for side in sides if i % 2 else reversed(sides):
            side()
    return [*_cold(ours, stock), *_warm(ours), *_commands(source, scratch)]


def _ours(source: Path, folder: Path) -> dict[str, Any]:
    copy = shutil.copytree(source, folder / "vault")
    return _json([sys.executable, "-m", "bench.ours", str(copy), str(folder / "home")])


def _stock(source: Path, folder: Path, asked: list[str]) -> dict[str, Any]:
    return _json([str(STOCK_PYTHON), str(REPOSITORY / "bench" / "stock.py"), str(source), str(folder), *asked])


def _json(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:3])} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _cold(ours: list[dict[str, Any]], stock: list[dict[str, Any]]) -> list[Figure]:
    mine = [run["ingest"] for run in ours]
    what = f"{ours[0]['notes']} notes, {ours[0]['chunks']} chunks"
    figures = [
        Figure(f"cold ingest, passkb, s ({what})", spread(mine)),
        Figure("loading code and model before it, passkb, s", spread([run["load"] for run in ours])),
    ]
    if not stock:
        return [*figures, Figure("cold ingest, stock pipeline", f"not measured: {STOCK_PYTHON} is not there")]
    theirs = [run["ingest"] for run in stock]
    ratios = [other / own for own, other in zip(mine, theirs, strict=True)]
    loaded = [(b["ingest"] + b["load"]) / (a["ingest"] + a["load"]) for a, b in zip(ours, stock, strict=True)]
    queries = [seconds * 1000 for run in stock for seconds in run["queries"][3:]]
    what = f"{stock[0]['documents']} documents, {stock[0]['nodes']} nodes"
    return [
        *figures,
        Figure(f"cold ingest, stock pipeline, s ({what})", spread(theirs)),
        Figure("loading code and model before it, stock pipeline, s", spread([run["load"] for run in stock])),
        Figure(
            f"**cold ingest: times as fast as stock**, loading left out, median of {len(ratios)} pairs",
            spread(ratios, 2),
            "at least 3",
            median(ratios) >= 3,
        ),
        Figure("the same with loading on both sides", spread(loaded, 2)),
        Figure("a query of the stock retriever, top 10, warm, ms (for orientation)", spread(queries)),
    ]


def _warm(ours: list[dict[str, Any]]) -> list[Figure]:
    rows = (("again", "nothing changed", 1), ("changed", "one note changed", 2))
    figures = []
    for key, words, budget in rows:
        shares = [100 * median(run[key]) / run["ingest"] for run in ours]
        seconds = [1000 * s for run in ours for s in run[key]]
        figures += [
            Figure(
                f"**ingest again, {words}**: % of the cold time",
                spread(shares, 2),
                f"under {budget} %",
                median(shares) < budget,
            ),
            Figure(f"ingest again, {words}, same process, ms", spread(seconds)),
        ]
    return figures


def _commands(source: Path, scratch: Path) -> list[Figure]:
    """Wall time of `passkb ingest` as a person runs it, interpreter start and model included."""
    took: dict[str, list[float]] = {"cold": [], "nothing changed": [], "one note changed": []}
    for i in range(_COMMANDS):
        copy = shutil.copytree(source, scratch / f"command{i}" / "vault")
        command = [sys.executable, "-m", "service.cli", "--home", str(copy.parent / "home"), "ingest", str(copy)]
        for state, seconds in took.items():
            if state == "one note changed":
                with max(notes(copy), key=lambda path: path.stat().st_size).open("a", encoding="utf-8") as file:
                    file.write("\n\nOne more line.\n")
            began = time.perf_counter()
            done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
            seconds.append(time.perf_counter() - began)
            if done.returncode:
                raise SystemExit(f"passkb ingest failed: {done.stderr[-2000:]}")
    return [Figure(f"`passkb ingest`, whole command, {state}, s", spread(seconds, 2)) for state, seconds in took.items()]
