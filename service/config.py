"""The deployment's settings, read once: flags over environment over `config.toml` over defaults."""

from __future__ import annotations

import difflib
import os
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from kb.notes import PasskbError
from kb.os_errors import explanation
from service.log import LEVELS

MAX_WAITING = 128  # questions that may wait for their turn
_TRUTH = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(("0", "false", "no", "off"), False)


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
    """Raises PasskbError that names a key nobody knows, or a value of the wrong kind."""
    path = home / "config.toml"
    values: dict[str, object] = {}
    if path.exists():
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise PasskbError(f"{path} cannot be read {explanation(error, 'mend it or delete it')}") from error
    for field in fields(Config):
        variable = os.environ.get(f"PASSKB_{field.name.upper()}")
        if variable:
            values[field.name] = _of_kind(variable, type(field.default))
    known = {field.name: type(field.default) for field in fields(Config)}
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f", did you mean {near[0]!r}?" if near else f": known are {', '.join(known)}"
            raise PasskbError(f"{path}: there is no setting {key!r}{hint}")
        if type(value) is not known[key]:
            wanted = "true or false" if known[key] is bool else known[key].__name__
            raise PasskbError(f"setting {key!r} wants {wanted}, got {value!r}")
    config = Config(**values)  # type: ignore[arg-type]
    if config.log_level not in ("", *LEVELS):
        raise PasskbError(f"setting 'log_level' is one of {', '.join(LEVELS)}, not {config.log_level!r}")
    if config.max_waiting < 0:
        raise PasskbError(f"setting 'max_waiting' is 0 or more, got {config.max_waiting}")
    return config


def _of_kind(variable: str, kind: type) -> object:
    """A variable's text as a number or a truth value where one is wanted and it is one, else as it is."""
    if kind is int and variable.isdecimal():
        return int(variable)
    return _TRUTH.get(variable.strip().lower(), variable) if kind is bool else variable
