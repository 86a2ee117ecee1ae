"""An experiment's spec: what is asked of which models, written down before the run. Pure.

An unknown key is an error that names the nearest known one; nothing is guessed.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import yaml

from kb.notes import PasskbError, slug

T = TypeVar("T")
ENGINES = ("vllm", "openai", "transformers", "scripted")
_DIRECT = "direct asks for answers without reasoning, which means something for maths (gsm8k, math) only: leave it out"
PREDICTIONS = ("crossover", "higher", "no_difference", "subset")


class SpecError(PasskbError):
    """The spec can't be run as it stands; the message names the key and what to write instead."""


@dataclass(frozen=True, slots=True)
class ProblemsSpec:
    """A named set (`countdown`), or a file with its format. `limit` 0: all. `split`: of the countdown generator."""

    set: str = ""
    file: str = ""
    format: str = ""
    limit: int = 0
    seed: int = 0
    split: str = "test"
    size: int = 4


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """`model`: a folder or a hub's name; for the `openai` engine what its server calls it, no path. `template`: text around
    the problem, with `{prompt}`; `chat`: the model's own chat template. `url`: one or more completions servers, separated by
    commas, for the `openai` engine."""

    model: str
    engine: str = "transformers"
    chat: bool = False
    template: str = "{prompt}"
    url: str = ""
    dtype: str = "auto"
    max_model_len: int = 0

    @property
    def named_by_server(self) -> bool:
        """Whether `model` is a server's name for it, even where a folder of that name is there."""
        return self.engine == "openai"


@dataclass(frozen=True, slots=True)
class SamplingSpec:
    """`n` attempts a problem. `screen` below n: that many at every problem, the rest only where none of them passed."""

    n: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 512
    seed: int = 0
    screen: int = 0


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is said to come out, before the run. `k1`, `k2` of a crossover default to 1 and the largest k up to n/2."""

    kind: str = "crossover"
    model: str = ""
    k: int = 1
    margin: float = 0.02
    k1: int = 1
    k2: int = 0


@dataclass(frozen=True, slots=True)
class ExperimentSpec:
    """`models` keeps its order: the first is the base, the second the tuned one. `perplexity`: score each model's correct
    completions under the other. `direct`: attempts a problem that answer at once, as a control for guessing (0: none)."""

    problems: ProblemsSpec
    models: Mapping[str, ModelSpec]
    name: str = ""
    question: str = ""
    claim: str = ""
    sampling: SamplingSpec = field(default_factory=SamplingSpec)
    ks: tuple[int, ...] = ()
    prediction: Prediction | None = None
    perplexity: bool = False
    direct: int = 0

    @property
    def claimed_ks(self) -> tuple[int, ...]:
        """The k that may be claimed: those up to n/2."""
        return tuple(k for k in self.ks if k <= self.sampling.n // 2) or self.ks[:1]

    def to_json(self) -> dict[str, Any]:
        """Round-trips through `from_mapping`; defaults are written out."""
        out = {f.name: _plain(getattr(self, f.name)) for f in fields(self)}
        if self.prediction is None:
            del out["prediction"]
        return out

    @property
    def sha256(self) -> str:
        """Of all that decides the outcome: not of name, question and claim."""
        body = {key: value for key, value in self.to_json().items() if key not in ("name", "question", "claim")}
        return hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def read_spec(text: str, where: str = "the spec") -> ExperimentSpec:
    """YAML or JSON text as a spec. Raises SpecError."""
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise SpecError(f"{where} is neither YAML nor JSON: {' '.join(str(error).split())[:200]}") from error
    return from_mapping(value, where)


def from_mapping(value: Any, where: str = "the spec") -> ExperimentSpec:
    """Raises SpecError that names the key which is unknown, missing or of the wrong kind."""
    entries = _mapping(value, where, ExperimentSpec)
    for needed in ("problems", "models"):
        if needed not in entries:
            raise SpecError(f"{where} says no {needed!r}: every experiment names its problems and its models")
    models = entries["models"]
    if not isinstance(models, Mapping) or not 1 <= len(models) <= 2:
        raise SpecError(f"{where}: 'models' wants one model, or two to compare: a name, then what it is")
    sampling = _read(SamplingSpec, entries.get("sampling", {}), f"{where}, sampling")
    prediction = entries.get("prediction")
    spec = ExperimentSpec(
        problems=_read(ProblemsSpec, entries["problems"], f"{where}, problems"),
        models={str(name): _model(str(name), given, where) for name, given in models.items()},
        **{key: _text(entries.get(key, ""), key, where) for key in ("name", "question", "claim")},
        sampling=sampling,
        ks=_ks(entries.get("ks"), sampling.n, where),
        prediction=None if prediction is None else _read(Prediction, prediction, f"{where}, prediction"),
        perplexity=_typed(entries.get("perplexity", False), bool, f"{where}: 'perplexity'"),
        direct=_typed(entries.get("direct", 0), int, f"{where}: 'direct'"),
    )
    _check(spec, where)
    return spec


def default_ks(n: int) -> tuple[int, ...]:
    """Powers of two up to n/2, and n itself, which is the noisy edge."""
    powers = [1 << i for i in range(n.bit_length()) if 1 << i <= max(1, n // 2)]
    return tuple(dict.fromkeys([*powers, n]))


def _check(spec: ExperimentSpec, where: str) -> None:
    for holds, problem in (*_sampling_checks(spec), *_prediction_checks(spec)):
        if not holds:
            raise SpecError(f"{where}: {problem}")


def _sampling_checks(spec: ExperimentSpec) -> list[tuple[bool, str]]:
    sampling, problems, most = spec.sampling, spec.problems, max(spec.ks, default=0)
    too_far = f"ks go up to {most}, but only n = {sampling.n} attempts are made: raise sampling.n or leave the larger k out"
    formats = "humaneval, mbpp, gsm8k, math or countdown"
    labels = [slug(name + control) for name in spec.models for control in ("", ".direct")]
    return [
        (len(set(labels)) == len(labels), f"the models' names {' and '.join(spec.models)} are too alike to keep apart on disk"),
        (sampling.n >= 1, "sampling.n is how many attempts a problem gets: 1 or more"),
        (most <= sampling.n, too_far),
        (0 <= sampling.temperature <= 10, "sampling.temperature is from 0 to 10"),
        (sampling.temperature > 0 or sampling.n == 1, "at temperature 0 all attempts are the same: set n: 1, or raise it"),
        (0 < sampling.top_p <= 1, "sampling.top_p is above 0, and at most 1"),
        (sampling.max_tokens >= 1, "sampling.max_tokens is 1 or more"),
        (0 <= sampling.screen < sampling.n, f"sampling.screen is below n = {sampling.n} (0: no screening)"),
        (bool(problems.set) != bool(problems.file), "problems wants a 'set' or a 'file', one of the two"),
        (not problems.file or bool(problems.format), f"problems.file wants its 'format': {formats}"),
        (problems.limit >= 0, "problems.limit is 0 (all) or more"),
        (spec.direct >= 0, "direct is 0 (no control) or more"),
        (not spec.direct or problems.format in ("gsm8k", "math"), _DIRECT),
    ]


def _prediction_checks(spec: ExperimentSpec) -> list[tuple[bool, str]]:
    prediction, edge = spec.prediction, max(1, spec.sampling.n // 2)
    if prediction is None:
        return []
    kind, k = prediction.kind, prediction.k
    return [
        (kind in PREDICTIONS, f"prediction.kind is one of {', '.join(PREDICTIONS)}, not {kind!r}{_near(kind, PREDICTIONS)}"),
        (len(spec.models) == 2, "a prediction compares two models: name a second one, or leave the prediction out"),
        (kind != "higher" or prediction.model in spec.models, f"prediction.model is one of {', '.join(spec.models)}"),
        (kind not in ("higher", "no_difference") or 1 <= k <= edge, f"prediction.k = {k}: claims go up to n/2 = {edge}"),
        (kind != "crossover" or prediction.k1 >= 1, "prediction.k1 is 1 or more"),
        (kind != "crossover" or not prediction.k2 or prediction.k1 < prediction.k2 <= edge, f"k1 < k2 <= n/2 = {edge}"),
        (prediction.margin > 0, "prediction.margin is above 0"),
    ]


def _model(name: str, given: Any, where: str) -> ModelSpec:
    at = f"{where}, models.{name}"
    entries = {"model": given} if isinstance(given, str) else _mapping(given, at, ModelSpec)
    if not entries.get("model"):
        raise SpecError(f"{at} says no 'model': a folder, or a hub's name")
    model = _read(ModelSpec, entries, at)
    if model.engine not in ENGINES:
        raise SpecError(f"{at}: engine is one of {', '.join(ENGINES)}, not {model.engine!r}{_near(model.engine, ENGINES)}")
    if model.engine == "openai" and not model.url:
        raise SpecError(f"{at}: the openai engine wants the 'url' of its server, for example http://127.0.0.1:8000/v1")
    if "{prompt}" not in model.template:
        raise SpecError(f"{at}: 'template' has to hold {{prompt}}, where the problem goes")
    return model


def _ks(given: Any, n: int, where: str) -> tuple[int, ...]:
    if given is None:
        return default_ks(max(1, n))
    if not isinstance(given, list) or not given or any(type(k) is not int or k < 1 for k in given):
        raise SpecError(f"{where}: 'ks' is a list of whole numbers above zero, for example [1, 2, 4, 8]")
    return tuple(sorted(set(given)))


def _read(kind: type[T], value: Any, where: str) -> T:
    entries = _mapping(value, where, kind)
    types = {f.name: f.type for f in fields(kind)}  # type: ignore[arg-type]
    known = {"str": str, "int": int, "float": float, "bool": bool}
    return kind(**{key: _typed(given, known[str(types[key])], f"{where}: {key!r}") for key, given in entries.items()})


def _mapping(value: Any, where: str, kind: type) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise SpecError(f"{where} is not a mapping of keys to values")
    known = [f.name for f in fields(kind)]
    for key in value:
        if key not in known:
            raise SpecError(f"{where}: there is no key {key!r}{_near(str(key), known) or '; known are ' + ', '.join(known)}")
    return dict(value)


def _near(word: str, known: Any) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    return f", did you mean {near[0]!r}?" if near else ""


def _typed(value: Any, kind: type[T], where: str) -> T:
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        words = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
        raise SpecError(f"{where} wants {words[kind]}, got {value!r}")
    return value


def _text(value: Any, key: str, where: str) -> str:
    return _typed(value, str, f"{where}: {key!r}")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    if hasattr(value, "__dataclass_fields__"):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    return value
