"""Error rates of checkers on labelled pairs, with 95 % intervals.

`blind_pairs.jsonl` is a test set written independently of the checker. Its results for the embedded checker ship with
passkb (written by the bench); those of language models are measured by `judge-check` and saved in the home.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kb.files import write_atomic
from kb.notes import PasskbError
from kb.os_errors import explanation
from service.answering.answer import Support
from service.answering.check.entailment import CheckResult, Pair

GRADES = (Support.SUPPORTED, Support.PARTIAL, Support.UNSUPPORTED)
CHECKER_RATES = Path(__file__).with_name("checker_figures.json")
LABELLED_PAIRS = Path(__file__).with_name("blind_pairs.jsonl")
JUDGE_RATES = "judge_figures.json"


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """A pair with its correct grade. `kind`: how the sentence was changed (true, number, negated, …)."""

    pair: Pair
    label: str
    kind: str


@dataclass(frozen=True, slots=True)
class Rate:
    """`hits` of `total`, with Wilson's 95 % interval; all NaN where there is nothing to count.

    >>> rate = Rate(39, 42)
    >>> f"{rate.share:.3f} {rate.low:.3f} {rate.high:.3f}"
    '0.929 0.810 0.975'
    """

    hits: int
    total: int

    @property
    def share(self) -> float:
        return self.hits / self.total if self.total else math.nan

    @property
    def low(self) -> float:
        return self._interval[0]

    @property
    def high(self) -> float:
        return self._interval[1]

    @property
    def _interval(self) -> tuple[float, float]:
        from scipy.stats import binomtest  # takes half a second to load

        if not self.total:
            return math.nan, math.nan
        interval = binomtest(self.hits, self.total).proportion_ci(method="wilson")
        return float(interval.low), float(interval.high)


@dataclass(frozen=True, slots=True)
class ErrorRates:
    """Results of a checker. `counts`: label -> grade -> pairs. `kinds`: kind -> (correct, total). `read`: the number of pairs
    graded by the model itself; None for the embedded checker."""

    check: str
    date: str
    counts: Mapping[str, Mapping[str, int]]
    kinds: Mapping[str, tuple[int, int]]
    seconds: float
    read: int | None = None

    @property
    def pairs(self) -> int:
        return sum(sum(row.values()) for row in self.counts.values())

    def precision(self, grade: str) -> Rate:
        """The share of pairs with this grade that have this label."""
        return Rate(self.counts[grade][grade], sum(row[grade] for row in self.counts.values()))

    def recall(self, grade: str) -> Rate:
        """The share of pairs with this label that have this grade."""
        return Rate(self.counts[grade][grade], sum(self.counts[grade].values()))

    def to_json(self) -> dict[str, Any]:
        rates = {
            grade: {name: _rate_json(rate(grade)) for name, rate in (("precision", self.precision), ("recall", self.recall))}
            for grade in map(str, GRADES)
        }
        own = {"check": self.check, "date": self.date, "pairs": self.pairs, "counts": self.counts, "kinds": self.kinds}
        return {**own, "rates": rates, "seconds": round(self.seconds, 3), "read": self.read}


def load_labelled_pairs() -> list[LabelledPair]:
    return [parse_labelled_pair(json.loads(line)) for line in LABELLED_PAIRS.read_text(encoding="utf-8").splitlines()]


def parse_labelled_pair(entry: Mapping[str, Any]) -> LabelledPair:
    """Parses an entry of a JSONL file of pairs."""
    return LabelledPair(Pair(entry["sentence"], [span["quote"] for span in entry["spans"]]), entry["label"], entry["kind"])


def count_grades(
    check: str, pairs: Sequence[LabelledPair], grades: Sequence[CheckResult], seconds: float = 0.0, read: int | None = None
) -> ErrorRates:
    pair_counts = Counter((pair.label, str(checked.grade)) for pair, checked in zip(pairs, grades, strict=True))
    total = Counter(pair.kind for pair in pairs)
    right = Counter(pair.kind for pair, checked in zip(pairs, grades, strict=True) if checked.grade == pair.label)
    counts = {str(label): {str(grade): pair_counts[label, grade] for grade in GRADES} for label in GRADES}
    kinds = {kind: (right[kind], total[kind]) for kind in sorted(total)}
    return ErrorRates(check, time.strftime("%Y-%m-%d"), counts, kinds, seconds, read)


def load_checker_rates() -> ErrorRates:
    """The error rates of the embedded checker that ship with passkb."""
    return _from_json(json.loads(CHECKER_RATES.read_text(encoding="utf-8")))


def load_judge_rates(home: Path) -> dict[str, ErrorRates]:
    """The error rates of judges measured in this home, by model. Raises PasskbError for an invalid file."""
    path = home / JUDGE_RATES
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
        return {name: _from_json(entry) for name, entry in loaded.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        otherwise = "delete it, and run `passkb judge-check` again"
        raise PasskbError(f"{path} cannot be read {explanation(error, otherwise)}") from error


def save_judge_rates(home: Path, figures: ErrorRates) -> None:
    """Saves the error rates of one judge. An invalid file is replaced."""
    try:
        known = load_judge_rates(home)
    except PasskbError as error:
        if isinstance(error.__cause__, OSError):  # the file may be valid
            raise
        known = {}
    entries = {name: entry.to_json() for name, entry in {**known, figures.check: figures}.items()}
    try:
        write_atomic(home / JUDGE_RATES, json.dumps(entries, ensure_ascii=False, indent=1))
    except OSError as error:
        cause = explanation(error, "choose another folder with --home")
        raise PasskbError(f"{home / JUDGE_RATES} cannot be written {cause}") from error


def describe(figures: ErrorRates) -> list[str]:
    """The error rates as sentences."""
    precision, recall = figures.precision(Support.SUPPORTED), figures.recall(Support.SUPPORTED)
    wrong, partly = figures.precision(Support.UNSUPPORTED), figures.precision(Support.PARTIAL)
    out = [
        f"Measured on {figures.date} with {figures.pairs} sentences on the sample notes, written independently of the check.",
        f"Of {precision.total} sentences called supported, {precision.hits} were ({_percent(precision)}).",
        f"Of {recall.total} true sentences, {recall.hits} were called supported ({_percent(recall)}).",
        f"Of {wrong.total} called unsupported, {wrong.hits} were ({_percent(wrong)}); of {partly.total} called partial, "
        f"{partly.hits} ({_percent(partly)}).",
    ]
    if figures.read is not None:
        out.append(f"The model graded {figures.read} of them itself.")
    return out


def _percent(rate: Rate) -> str:
    return f"{100 * rate.share:.0f} %, 95 % interval {100 * rate.low:.0f} to {100 * rate.high:.0f}" if rate.total else "none"


def _rate_json(rate: Rate) -> dict[str, float | int | None]:
    share, low, high = (None if math.isnan(value) else round(value, 4) for value in (rate.share, rate.low, rate.high))
    return {"hits": rate.hits, "total": rate.total, "share": share, "low": low, "high": high}


def _from_json(loaded: Mapping[str, Any]) -> ErrorRates:
    counts = {str(label): {str(grade): int(loaded["counts"][label][grade]) for grade in GRADES} for label in GRADES}
    kinds = {str(kind): (int(right), int(total)) for kind, (right, total) in loaded["kinds"].items()}
    return ErrorRates(str(loaded["check"]), str(loaded["date"]), counts, kinds, float(loaded["seconds"]), loaded["read"])
