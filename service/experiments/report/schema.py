"""The result of a run: the content of result.json, `experiment show --json` and every view of a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError

from kb.notes import PasskbError
from service.experiments.execution.run_store import read_json

_FIRST = ("run_id", "status", "name", "question", "claim", "progress")


def _finite(value: Any) -> Any:
    """None for NaN and infinities, which JSON lacks."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_finite)]
"""A finite number, or None when it is undefined."""


class Part(BaseModel):
    """Fields that are not set are absent from the JSON."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class Estimate(Part):
    """A value with its 95 % interval over problems."""

    estimate: Number
    low: Number = None
    high: Number = None


class CurvePoint(Estimate):
    """The value at k, and the number of problems that have one."""

    k: int
    problems: int | None = None


class Bounds(Part):
    k: int
    low: Number
    high: Number


class Direct(Part):
    """The direct-answer control."""

    problems: int
    attempts: int
    pass_rate: Estimate
    problems_passed: int


class Guessing(Part):
    """Distinct answers in total, and how often an answer to another problem is correct, over `problems` with known answers."""

    answer_space: int
    others_right: Number
    problems: int


class SolvedProblems(Part):
    problems: int


class NeverSolved(Part):
    """Problems without a pass, their smallest number of attempts, and the 95 % bound of their pass rate."""

    problems: int
    attempts: int | None
    p_at_most: Number


class ExpectedSolved(Part):
    """The expected number of problems with a pass rate above `epsilon`."""

    epsilon: float
    problems: float


class CurveAtTau(Part):
    tau: float
    curve: list[CurvePoint]


class ShareAtTau(Part):
    tau: float
    share: float


class Confounders(Part):
    """Other explanations of a curve; None for what was not recorded.

    `truncation` and `format_failures` are shares of attempts. `distinct_answers`: mean number per problem. `entropy`: of a
    problem's answers in bits, mean over problems (plug-in estimate, slightly low). `token_entropy`: nats per token, from the
    log-probabilities of `token_entropy_problems` problems."""

    truncation: Number = None
    format_failures: Number = None
    distinct_answers: Number = None
    entropy: Number = None
    token_entropy: Number = None
    token_entropy_problems: int | None = None
    tokens_mean: Number = None
    guessing: Guessing | None = None


class ModelResult(Confounders):
    """One model's figures. A model without counts has only those up to `pass_at_k`."""

    name: str
    n_problems: int = 0
    n: int = 0
    attempts: int = 0
    verdicts: dict[str, int] = Field(default_factory=dict)
    pass_at_k: list[CurvePoint]
    solved: SolvedProblems | None = None
    never_solved: NeverSolved | None = None
    expected_solved: ExpectedSolved | None = None
    pass_hat_k: list[CurvePoint] | None = None
    g_pass_at_k: list[CurveAtTau] | None = None
    mg_pass_at_k: list[CurvePoint] | None = None
    cover_at_tau: list[ShareAtTau] | None = None
    maj_at_k: list[CurvePoint] | None = None
    unknown_bounds: list[Bounds] | None = None
    direct: Direct | None = None

    @property
    def grader_failures(self) -> float | None:
        """The share of attempts with a timeout or grader error; None when it was not recorded."""
        unknown, total = self.verdicts.get("timeout", 0) + self.verdicts.get("error", 0), sum(self.verdicts.values())
        return unknown / total if total and self.unknown_bounds is not None else None


class SolvedSets(Part):
    """Numbers of problems; expected numbers are fractional."""

    both: float
    base_only: float
    tuned_only: float
    neither: float


class SolvedCounts(Part):
    both: int
    base_only: int
    tuned_only: int
    neither: int


class ExpectedSets(SolvedSets):
    """With solved meaning a pass rate above `epsilon`."""

    epsilon: float


class Crossover(Part):
    """The k where the curves cross. `open`: the interval reaches beyond n/2, and `high` is None."""

    k: Number
    low: Number
    high: Number
    probability_none: Number
    open: bool
    edge: int


class Recovery(Part):
    """A problem that only the tuned model solved: attempts after which the base model would solve it with 95 %."""

    problem: str
    tuned_passes: int
    k: Number
    low: Number
    high: Number


class Power(Part):
    """The share of runs like this one that decide the prediction, if the models are as measured."""

    decided: Number
    decided_more_problems: Number
    decided_more_attempts: Number
    problems_needed: int | None
    advice: str


class ComparisonResult(Part):
    """Two models compared on `problems` common problems. `difference` is tuned minus base; `band` holds at all k together."""

    base: str
    tuned: str
    problems: int
    problems_left_out: int
    difference: list[CurvePoint]
    band: list[CurvePoint]
    crossover: Crossover
    solved: SolvedCounts
    expected_solved: list[ExpectedSets]
    ratios: dict[str, Number]
    recovery: list[Recovery]
    mcnemar_p: Number
    edge: int
    power: Power | None


class PredictionResult(Part):
    """The verdict on the prediction; None while the run is not finished.

    `comparisons_made`: runs on the claim up to this one, for `p_value_corrected` (Holm). `claims_tested`: this claim and those
    tested before in this home, for `p_value_over_claims`."""

    kind: str
    model: str = ""
    k: int = 0
    margin: float = 0.0
    k1: int = 0
    k2: int = 0
    verdict: str | None
    sentence: str
    p_value: Number
    p_support: Number = None
    p_refute: Number = None
    comparisons_made: int = 0
    p_value_corrected: Number = None
    claims_tested: int = 0
    p_value_over_claims: Number = None


class BackTest(Part):
    """A fitted model's prediction at `k` from `attempts` attempts, and the observed value."""

    attempts: int
    k: int
    predicted: Number
    observed: Number
    rmse: Number


class Extrapolation(Part):
    """The range of fitted models beyond n, their curves and back-tests."""

    band: list[Bounds]
    models: dict[str, list[Number]]
    back_tests: dict[str, BackTest]


class Perplexity(Part):
    """Correct completions `of` one model scored by (`under`) a model: perplexity per token, log-probabilities in nats."""

    of: str
    under: str
    problems: int
    completions: int
    perplexity: Number
    logprob_mean: Number
    logprob_median: Number
    tokens_mean: Number


class ModelEnvironment(Part):
    """A model's engine, device and settings. `differs`: key -> [requested, effective]."""

    model: str
    engine: str | None = None
    engine_version: str | None = None
    device: str | None = None
    asked: dict[str, JsonValue] = Field(default_factory=dict)
    effective: dict[str, JsonValue] = Field(default_factory=dict)
    differs: dict[str, list[JsonValue]] = Field(default_factory=dict)


class Environment(Part):
    """What the models ran on. None: not recorded."""

    engine: str
    engine_version: str | None
    device: str | None
    problems_sha256: str | None
    settings: dict[str, JsonValue]
    models: dict[str, ModelEnvironment]


class Progress(Part):
    """Attempts done and in total, and the remaining seconds; the other fields only while the run is executed."""

    done: int
    total: int
    eta_s: Number
    rate: Number = None
    tokens: int = 0
    model: str = ""
    doing: str = ""


class ImportedFile(Part):
    file: str
    sha256: str
    layout: str = ""


class Imported(Part):
    """The files of an imported run. `models`: name in the run -> name in the file."""

    files: list[ImportedFile]
    digest: str = ""
    recorded: list[str] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    models: dict[str, str] = Field(default_factory=dict)


class Figures(Part):
    """Everything that is computed from the counts; `counted` is the hash of what it was computed from."""

    finished_counts: bool
    noisy_edge: list[int]
    models: list[ModelResult]
    comparison: ComparisonResult | None
    prediction: PredictionResult | None
    extrapolation: dict[str, Extrapolation | None] | None
    perplexity: list[Perplexity] | None
    counted: str = ""


class Result(Figures):
    """A run with its figures. Undefined numbers are None."""

    run_id: str
    status: str
    name: str = ""
    question: str = ""
    claim: str = ""
    progress: Progress
    cautions: list[str] = Field(default_factory=list)
    environment: Environment
    imported: Imported | None = None
    error: str = ""
    created: str | None = None
    finished: str | None = None
    seconds: float | None = None
    evidence_note_id: str | None = None

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a result.json. Raises PasskbError when it can't be read or is not a result."""
        try:
            return cls.model_validate(read_json(path))
        except ValidationError as error:
            raise PasskbError(f"{path} is not a result: delete it, and it is computed again") from error

    def to_json(self) -> dict[str, Any]:
        values = self.model_dump(mode="json", exclude_unset=True)
        return {**{key: values[key] for key in _FIRST}, **values}
