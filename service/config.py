"""Deployment settings. Precedence: flags, environment, `config.toml`, defaults."""

from __future__ import annotations

import difflib
import os
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from kb.notes import PasskbError
from kb.os_errors import explanation
from service.log import LEVELS

MAX_WAITING = 128
_BOOLEANS = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(("0", "false", "no", "off"), False)


@dataclass(frozen=True, slots=True)
class Config:
    """`llm`: URL of a model server, or PROVIDER/MODEL of a llama-index integration. `log_level` "": warning for commands, info
    for `serve` and `worker`. `max_waiting`: limit of the queue of questions in a served app."""

    host: str = "127.0.0.1"
    port: int = 7860
    auth: str = ""
    auth_file: str = ""
    llm: str = ""
    llm_url: str = ""
    llm_model: str = ""
    llm_api_key: str = ""
    llm_judge: bool = False
    llm_rescore: bool = False
    vllm_python: str = ""
    allow_private_addresses: bool = False
    log_level: str = ""
    max_waiting: int = MAX_WAITING


def home_folder(flag: str | None) -> Path:
    """`--home`, else `$PASSKB_HOME`, else `~/.passkb`."""
    return Path(flag or os.environ.get("PASSKB_HOME") or "~/.passkb").expanduser().absolute()


def read_config(home: Path) -> Config:
    """The settings of a home. Raises PasskbError for an unknown key or a value of the wrong type."""
    path = home / "config.toml"
    values: dict[str, object] = {}
    if path.exists():
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise PasskbError(f"{path} cannot be read {explanation(error, 'correct or delete it')}") from error
    for field in fields(Config):
        variable = os.environ.get(f"PASSKB_{field.name.upper()}")
        if variable:
            values[field.name] = _parse_variable(variable, type(field.default))
    known = {field.name: type(field.default) for field in fields(Config)}
    for key, value in values.items():
        if key not in known:
            matches = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f", did you mean {matches[0]!r}?" if matches else f": the settings are {', '.join(known)}"
            raise PasskbError(f"{path}: there is no setting {key!r}{hint}")
        if type(value) is not known[key]:
            expected = "true or false" if known[key] is bool else known[key].__name__
            raise PasskbError(f"setting {key!r} must be {expected}, not {value!r}")
    config = Config(**values)  # type: ignore[arg-type]
    if config.log_level not in ("", *LEVELS):
        raise PasskbError(f"setting 'log_level' must be one of {', '.join(LEVELS)}, not {config.log_level!r}")
    if config.max_waiting < 0:
        raise PasskbError(f"setting 'max_waiting' must be 0 or more, not {config.max_waiting}")
    return config


def _parse_variable(variable: str, kind: type) -> object:
    """An environment variable as an integer or a boolean if `kind` requires it and the text allows it, otherwise unchanged."""
    if kind is int and variable.isdecimal():
        return int(variable)
    return _BOOLEANS.get(variable.strip().lower(), variable) if kind is bool else variable
