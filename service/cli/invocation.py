"""Runs a command: configures the log, reports errors, handles interrupts and broken pipes, and returns the exit status."""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from kb.notes import PasskbError
from kb.os_errors import NO_PERMISSION, NO_ROOM, READ_ONLY, TOO_MANY_FILES, explanation
from service import log
from service.config import home_folder, read_config

DONE, NOTHING, PART = 0, 1, 3  # exit statuses; argparse uses 2 for usage errors


def invoke(parser: Callable[[], argparse.ArgumentParser], arguments: Sequence[str] | None) -> int:
    """The exit status of the command in `arguments` (default: those of the process)."""
    try:
        status = _run(parser, arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        if arguments is None:  # do not interrupt the cleanup at exit
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("passkb: stopped", file=sys.stderr)
        return NOTHING
    except BrokenPipeError:  # the reader closed the pipe: discard buffered output
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return DONE


def _run(parser: Callable[[], argparse.ArgumentParser], arguments: Sequence[str] | None) -> int:
    options = parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # arguments may contain bytes that no encoding can print
            stream.reconfigure(errors="backslashreplace")
    _configure_log(options)
    try:
        return int(options.run(options))
    except PasskbError as error:
        return _failed(options, str(error))
    except sqlite3.Error as error:
        return _failed(options, f"{home_folder(options.home) / 'kb.sqlite'}: {error}: run `passkb rebuild`")
    except ModuleNotFoundError as error:
        return _failed(options, f"the Python package {error.name} is missing: run `make install`", error)
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno in TOO_MANY_FILES | NO_ROOM | READ_ONLY | NO_PERMISSION:
            return _failed(
                options, f"{error.filename or home_folder(options.home)} cannot be used {explanation(error, '')}", error
            )
        where = f"{error.filename}: " if error.filename else ""
        return _failed(options, f"{where}{error.strerror or error}: check the path and its permissions", error)
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return _failed(
            options, f"internal error ({what}): run with `passkb --verbose` for details, and please report it", error
        )


def _failed(options: argparse.Namespace, sentence: str, error: Exception | None = None) -> int:
    """Prints the error on stderr, and with --json as an object on stdout. `error` is logged at debug level."""
    if error is not None:
        log.logger("cli").debug("the command failed", exc_info=error)
    if getattr(options, "json", False):
        print(json.dumps({"error": sentence}, ensure_ascii=False))
    print(f"passkb: {sentence}", file=sys.stderr)
    return NOTHING


def _configure_log(options: argparse.Namespace) -> None:
    """Uses the option, the setting or the command's default. The command itself reports an invalid setting."""
    lasting = getattr(options, "log_default", "warning")
    configured = ""
    with suppress(PasskbError):
        configured = read_config(home_folder(options.home)).log_level
    log.configure(options.log_level or configured or lasting, timestamps=lasting == "info", requested=options.log_level or "")
