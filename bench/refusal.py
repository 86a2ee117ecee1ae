"""How often passkb answers what the sample vault answers, and refuses what it does not; and the fit behind that judgement."""

from __future__ import annotations

import json
from dataclasses import astuple, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from bench.figures import Figure
from ingest.pipeline import ingest
from kb.knowledge_base import KnowledgeBase
from kb.notes import NoteKind
from service.answering.extractive import ask
from service.answering.retrieve.candidates import retrieve
from service.answering.retrieve.sufficiency import BIAS, WEIGHTS, Features, extract_features

ROOT = Path(__file__).parent.parent
QUESTIONS = ROOT / "tests" / "service" / "answering"
DEVELOPMENT = ("questions_dev", "questions_dev2", "questions_dev3", "questions_details")
JUDGING = "questions"
_RIDGE = 0.003
_NEARLY_BEST = 0.01

Floats = NDArray[np.float64]


def measure(scratch: Path) -> list[Figure]:
    with KnowledgeBase(scratch / "home") as kb:
        ingest(kb, [ROOT / "samples" / "vault"])
        tables = {name: _measured(kb, name) for name in (*DEVELOPMENT, JUDGING)}
        weights, bias = _fitted(*(np.concatenate(part) for part in zip(*(tables[name] for name in DEVELOPMENT), strict=True)))
        figures = [_figure(name, *tables[name]) for name in (JUDGING, *DEVELOPMENT)]
        figures.append(_first_note(kb))
    names = [field.name for field in fields(Features)]
    fit = ", ".join(f"{name} {weight:.2f}" for name, weight in zip(names, weights, strict=True))
    in_use = ", ".join(f"{name} {weight:.2f}" for name, weight in zip(names, astuple(WEIGHTS), strict=True))
    return [*figures, Figure("weights and bias fitted now", f"{fit}; {bias:.2f}"), Figure("in use", f"{in_use}; {BIAS:.2f}")]


def _entries(name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (QUESTIONS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def _measured(kb: KnowledgeBase, name: str) -> tuple[Floats, NDArray[np.bool_]]:
    """Measures, shape (questions, 5), and which of the questions the vault answers."""
    entries = _entries(name)
    rows = [astuple(extract_features(retrieve(kb, str(entry["question"]), (NoteKind.INQUIRY,)))) for entry in entries]
    return np.array(rows, np.float64), np.array([bool(entry["answerable"]) for entry in entries])


def _figure(name: str, rows: Floats, answerable: NDArray[np.bool_]) -> Figure:
    enough = rows @ np.array(astuple(WEIGHTS)) + BIAS >= 0
    answered, refused = int(enough[answerable].sum()), int((~enough)[~answerable].sum())
    counts = f"{answered} of {answerable.sum()} answered, {refused} of {(~answerable).sum()} refused"
    budget = "36 and 36 of 40" if name == JUDGING else ""
    return Figure(f"{name}.jsonl", counts, budget, min(answered, refused) >= 36 if budget else None)


def _first_note(kb: KnowledgeBase) -> Figure:
    entries = [entry for entry in _entries(JUDGING) if entry["answerable"]]
    first = [ask(kb, str(entry["question"])).statements[:1] for entry in entries]
    right = sum(bool(s) and s[0].citations[0].note_id in list(entry["notes"]) for s, entry in zip(first, entries, strict=True))  # type: ignore[call-overload]
    return Figure("lede from a note named as answering", f"{right} of {len(entries)}")


def _fitted(rows: Floats, answerable: NDArray[np.bool_]) -> tuple[Floats, float]:
    """Logistic regression, classes balanced, ridge on standardised measures; the bias sits amid the thresholds whose balanced
    accuracy is nearly best."""
    mean, deviation = rows.mean(axis=0), rows.std(axis=0)
    scaled = (rows - mean) / deviation
    share = np.where(answerable, 0.5 / answerable.sum(), 0.5 / (~answerable).sum())

    def loss(parameters: Floats) -> float:
        odds = scaled @ parameters[:-1] + parameters[-1]
        likelihood = -np.logaddexp(0, np.where(answerable, -odds, odds))
        return float(-(share * likelihood).sum() + _RIDGE * (parameters[:-1] ** 2).sum())

    best = minimize(loss, np.zeros(rows.shape[1] + 1)).x
    weights = best[:-1] / deviation
    odds = np.sort(rows @ weights)
    scores = rows @ weights
    accuracy = np.array([((scores >= t)[answerable].mean() + (scores < t)[~answerable].mean()) for t in odds])
    return weights, -float(odds[accuracy >= accuracy.max() - _NEARLY_BEST].mean())
