"""The spec of an experiment: problems, models, sampling settings and the prediction, validated on reading."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails

from kb.notes import PasskbError, slug

EngineName = Literal["vllm", "openai", "transformers", "scripted"]
PredictionKind = Literal["crossover", "higher", "no_difference", "subset"]
ENGINES, PREDICTIONS = get_args(EngineName), get_args(PredictionKind)
_CONFIG = ConfigDict(extra="forbid")
_FORMATS = "humaneval, mbpp, gsm8k, math or countdown"
_EXPECTED = {
    "string_type": "a text", "int_type": "a whole number", "float_type": "a number", "bool_type": "true or false",
    "dataclass_type": "a mapping of keys to values", "dict_type": "a mapping of keys to values",
    "greater_than": "a number greater than {gt:g}", "greater_than_equal": "a number of at least {ge:g}",
    "less_than_equal": "a number of at most {le:g}", "literal_error": "{expected}",
}  # fmt: skip


class SpecError(PasskbError):
    """The spec can't be run; the message names the key and the remedy."""


@dataclass(frozen=True, config=_CONFIG)
class ProblemsSpec:
    """A named set (`countdown`), or a file with its format. `limit` 0: all. `split` and `size` are for generated sets."""

    set: StrictStr = ""
    file: StrictStr = ""
    format: StrictStr = ""
    limit: Annotated[StrictInt, Field(ge=0)] = 0
    seed: StrictInt = 0
    split: StrictStr = "test"
    size: StrictInt = 4

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require(bool(self.set) != bool(self.file), "needs either 'set' or 'file'")
        _require(not self.file or bool(self.format), f"'file' needs its 'format': {_FORMATS}")
        return self


@dataclass(frozen=True, config=_CONFIG)
class ModelSpec:
    """`model`: a folder or hub name; for the `openai` engine the server's name for the model.

    `template`: text around the problem with `{prompt}`. `chat`: use the model's chat template. `url`: completions servers for
    the `openai` engine, separated by commas."""

    model: Annotated[StrictStr, Field(min_length=1)]
    engine: EngineName = "transformers"
    chat: StrictBool = False
    template: StrictStr = "{prompt}"
    url: StrictStr = ""
    dtype: StrictStr = "auto"
    max_model_len: StrictInt = 0

    @property
    def named_by_server(self) -> bool:
        """Whether `model` is a server's name for the model, even where a folder has that name."""
        return self.engine == "openai"

    @model_validator(mode="after")
    def _check(self) -> Self:
        message = "the openai engine needs the 'url' of its server, for example http://127.0.0.1:8000/v1"
        _require(self.engine != "openai" or bool(self.url), message)
        _require("{prompt}" in self.template, "'template' must contain {prompt}, where the problem goes")
        return self


@dataclass(frozen=True, config=_CONFIG)
class SamplingSpec:
    """`n` attempts per problem. With `screen` every problem gets that many, and the rest only problems without a pass."""

    n: Annotated[StrictInt, Field(ge=1)] = 64
    temperature: Annotated[StrictFloat, Field(ge=0, le=10)] = 1.0
    top_p: Annotated[StrictFloat, Field(gt=0, le=1)] = 1.0
    max_tokens: Annotated[StrictInt, Field(ge=1)] = 512
    seed: StrictInt = 0
    screen: StrictInt = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require(self.temperature > 0 or self.n == 1, "at temperature 0 all attempts are the same: set n: 1 or raise it")
        _require(0 <= self.screen < self.n, f"'screen' must be less than n = {self.n} (0: no screening)")
        return self


@dataclass(frozen=True, config=_CONFIG)
class Prediction:
    """The expected outcome, stated before the run. `k1` and `k2` of a crossover default to 1 and the largest k up to n/2."""

    kind: PredictionKind = "crossover"
    model: StrictStr = ""
    k: StrictInt = 1
    margin: Annotated[StrictFloat, Field(gt=0)] = 0.02
    k1: StrictInt = 1
    k2: StrictInt = 0


def _expand_models(value: Any) -> Any:
    """Models by name; a text is short for `{model: TEXT}`."""
    if not isinstance(value, Mapping) or not 1 <= len(value) <= 2:
        raise ValueError("'models' needs one model, or two to compare: names with their models")
    return {str(name): {"model": model} if isinstance(model, str) else model for name, model in value.items()}


def _sort_ks(value: Any) -> Any:
    if value is None or value == ():
        return ()
    if not isinstance(value, list | tuple) or not value or any(type(k) is not int or k < 1 for k in value):
        raise ValueError("'ks' must be a list of whole numbers above zero, for example [1, 2, 4, 8]")
    return tuple(sorted(set(value)))


@dataclass(frozen=True, config=_CONFIG)
class ExperimentSpec:
    """The first of `models` is the base, the second the tuned model. `ks` default to `default_ks`.

    `perplexity`: score each model's correct completions with the other. `direct`: attempts per problem that answer without
    reasoning, a control for guessing (0: none)."""

    problems: ProblemsSpec
    models: Annotated[dict[str, ModelSpec], BeforeValidator(_expand_models)]
    name: StrictStr = ""
    question: StrictStr = ""
    claim: StrictStr = ""
    sampling: SamplingSpec = Field(default_factory=SamplingSpec)
    ks: Annotated[tuple[int, ...], BeforeValidator(_sort_ks)] = ()
    prediction: Prediction | None = None
    perplexity: StrictBool = False
    direct: Annotated[StrictInt, Field(ge=0)] = 0

    @property
    def claimed_ks(self) -> tuple[int, ...]:
        """The k up to n/2, for which claims are made."""
        return tuple(k for k in self.ks if k <= self.sampling.n // 2) or self.ks[:1]

    def to_json(self) -> dict[str, Any]:
        """All keys with their defaults; `from_mapping` reads them back."""
        values: dict[str, Any] = _ADAPTER.dump_python(self, mode="json", exclude_none=True)
        return values

    @property
    def sha256(self) -> str:
        """Hash of everything that affects the outcome, so not of name, question and claim."""
        body = {key: value for key, value in self.to_json().items() if key not in ("name", "question", "claim")}
        return hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    @model_validator(mode="after")
    def _check(self) -> Self:
        n, largest = self.sampling.n, max(self.ks, default=0)
        if not self.ks:
            object.__setattr__(self, "ks", default_ks(n))
        _require(largest <= n, f"'ks' go up to {largest}, but there are only n = {n} attempts: raise sampling.n or lower ks")
        labels = [slug(name + control) for name in self.models for control in ("", ".direct")]
        _require(len(set(labels)) == len(labels), f"the model names {' and '.join(self.models)} are too similar for file names")
        _require(not self.direct or self.problems.format in ("gsm8k", "math"), "'direct' works for gsm8k and math only")
        if self.prediction:
            self._check_prediction(self.prediction, max(1, n // 2))
        return self

    def _check_prediction(self, prediction: Prediction, edge: int) -> None:
        kind, k, k1, k2 = prediction.kind, prediction.k, prediction.k1, prediction.k2
        _require(len(self.models) == 2, "a prediction compares two models: add a second model or remove the prediction")
        if kind == "higher":
            _require(prediction.model in self.models, f"prediction.model must be one of {', '.join(self.models)}")
        if kind in ("higher", "no_difference"):
            _require(1 <= k <= edge, f"prediction.k = {k}: must be from 1 to n/2 = {edge}")
        if kind == "crossover":
            _require(k1 >= 1 and (not k2 or k1 < k2 <= edge), f"prediction needs 1 <= k1 < k2 <= n/2 = {edge}")


_ADAPTER = TypeAdapter(ExperimentSpec)
_PARTS: Mapping[str, type] = {
    "problems": ProblemsSpec, "models": ModelSpec, "sampling": SamplingSpec, "prediction": Prediction,
}  # fmt: skip


def read_spec(text: str, where: str = "the spec") -> ExperimentSpec:
    """Reads a spec from YAML or JSON. Raises SpecError."""
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise SpecError(f"{where} is neither YAML nor JSON: {' '.join(str(error).split())[:200]}") from error
    return from_mapping(value, where)


def from_mapping(value: Any, where: str = "the spec") -> ExperimentSpec:
    """Validates a mapping as a spec. Raises SpecError with the path of the first invalid key."""
    if not isinstance(value, Mapping):
        raise SpecError(f"{where} is not a mapping of keys to values")
    try:
        return _ADAPTER.validate_python({str(key): entry for key, entry in value.items()})
    except ValidationError as error:
        errors = error.errors(include_url=False)
        first = next((entry for entry in errors if entry["type"] == "unexpected_keyword_argument"), errors[0])
        raise SpecError(f"{where}: {_message(first)}") from None


def default_ks(n: int) -> tuple[int, ...]:
    """Powers of two up to n/2, and n itself, the noisy edge."""
    powers = [1 << i for i in range(n.bit_length()) if 1 << i <= max(1, n // 2)]
    return tuple(dict.fromkeys([*powers, n]))


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _message(error: ErrorDetails) -> str:
    path = ".".join(map(str, error["loc"]))
    key, value = str(error["loc"][-1]) if error["loc"] else "", error["input"]
    if error["type"] == "unexpected_keyword_argument":
        part = ExperimentSpec if len(error["loc"]) == 1 else _PARTS[str(error["loc"][0])]
        known = [field.name for field in fields(part)]
        return f"unknown key {path!r}{_nearest(key, known) or '; known keys: ' + ', '.join(known)}"
    if error["type"] in ("missing", "string_too_short"):
        return f"{path!r} is missing"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"]) if path in ("", "models", "ks") else f"{path}: {error['ctx']['error']}"
    if error["type"] not in _EXPECTED:
        return f"{path!r}: {error['msg']}"
    expected = _EXPECTED[error["type"]].format(**error.get("ctx", {}))
    hint = _nearest(str(value), ENGINES if key == "engine" else PREDICTIONS) if error["type"] == "literal_error" else ""
    return f"{path!r} must be {expected}, not {value!r:.80}{hint}"


def _nearest(word: str, known: Any) -> str:
    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    return f", did you mean {matches[0]!r}?" if matches else ""
