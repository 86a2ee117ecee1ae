"""Runs a problem's tests in their own sandbox; `candidate` calls the program in another process and returns plain data.

A pass is positive proof: the tests finished, the program was alive until then, and the tests called it. The tests and the code
prefix are trusted. Standard library only.
"""

from __future__ import annotations

import ast
import builtins
import functools
import random
import socket
import types
from collections import deque
from collections.abc import Iterator
from typing import Any

from service.experiments.sandbox.protocol import Channel, WireError, decode, encode

_TESTS = "<tests>"


class ProgramEnded(BaseException):
    """The program ended or violated the protocol. Not an Exception, so that no test can catch it."""


class TestsAtFault(BaseException):
    """The tests can't run on any program; the message has the reason."""


class Opaque:
    """An object of the program that is not plain data. It equals only itself; calls and iteration go to the program."""

    def __init__(self, program: Program, payload: Any) -> None:
        handle, truth, name = payload
        if type(handle) is not int or type(truth) is not bool or type(name) is not str:
            raise WireError("a handle is an id, a truth value and a name")
        self._program, self._handle, self._truth, self._name = program, handle, truth, name

    def __bool__(self) -> bool:
        return self._truth

    def __repr__(self) -> str:
        return f"<{self._name[:60]} of the program>"

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._program.call(self._handle, arguments, keywords)

    def __iter__(self) -> Iterator[Any]:
        while True:
            reply = self._program.ask(["next", self._handle])
            if reply[0] == "end":
                return
            yield self._program.value(reply)


class Program:
    """The client side of a model's program."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.calls = 0
        self.end_reason = ""
        self.shape = ""
        self.defined = False

    def load(self, source: str, entry_point: str) -> None:
        """Raises the program's own errors."""
        reply = self.ask(["load", source, entry_point])
        if reply[0] == "parsed" and len(reply) == 3:
            self.shape, self.defined = str(reply[1])[:64], bool(reply[2])
            reply = self._receive()
        self.value(reply)

    def call(self, target: str | int, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        self.calls += 1
        try:
            request = ["call", target, encode(list(arguments), self._handle), encode(keywords, self._handle)]
        except WireError as error:
            raise TestsAtFault(f"the tests pass an argument that can't be sent: {error}") from None
        reply = self.ask(request)
        value = self.value(reply)
        if reply[2] is not None:
            self._decoded(lambda: overwrite(list(arguments), decode(reply[2], self._revive)))
        return value

    def ask(self, request: list[Any]) -> list[Any]:
        try:
            self.channel.send(request)
        except OSError as error:
            self._fail(f"it ended: {error}")
        except WireError as error:
            raise TestsAtFault(f"the tests pass too much: {error}") from None
        return self._receive()

    def value(self, reply: list[Any]) -> Any:
        if reply[0] == "value" and len(reply) == 3:
            return self._decoded(lambda: decode(reply[1], self._revive))
        if reply[0] == "raise" and len(reply) == 3:
            raise _exception(str(reply[1]), str(reply[2])[:500])
        return self._fail("it violated the protocol")

    def _receive(self) -> list[Any]:
        try:
            reply = self.channel.receive()
        except (EOFError, OSError):
            self._fail("it ended before its checks did")
        except WireError as error:
            self._fail(str(error))
        if type(reply) is not list or not reply:
            self._fail("it violated the protocol")
        return list(reply)

    def _decoded(self, read: Any) -> Any:
        try:
            return read()
        except (WireError, TypeError, ValueError) as error:
            return self._fail(str(error))

    def _fail(self, reason: str) -> Any:
        self.end_reason = self.end_reason or reason
        raise ProgramEnded(self.end_reason)

    def _revive(self, payload: Any) -> Opaque:
        return Opaque(self, payload)

    def _handle(self, value: Any) -> Any:
        if type(value) is Opaque and value._program is self:
            return [value._handle, True, ""]
        raise WireError(f"a {type(value).__name__} is not plain data")


def examine(end: socket.socket, case: dict[str, str]) -> dict[str, Any]:
    """The report on a case with `program`, `tests`, `entry_point` and `prefix`; `outcome` is pass, fail, ended or tests."""
    program = Program(Channel(end))
    try:
        outcome, reason = _run(program, case)
    except ProgramEnded as error:
        outcome, reason = "ended", str(error)
    except TestsAtFault as fault:
        outcome, reason = "tests", str(fault)
    if program.end_reason:
        outcome, reason = "ended", program.end_reason
    elif outcome == "pass" and not program.calls:
        outcome, reason = "tests", f"the tests never called {case['entry_point']}"
    return {"outcome": outcome, "reason": reason, "shape": program.shape, "defined": program.defined}


def _run(program: Program, case: dict[str, str]) -> tuple[str, str]:
    helpers, tests, names, checks = prepared(case["tests"], case["prefix"], case["entry_point"])
    try:
        program.load(case["program"], case["entry_point"])
    except Exception as error:
        return "fail", f"the program does not load: {_describe(error)}"
    space: dict[str, Any] = {"__name__": "__main__"}
    for name in names:
        space[name] = functools.partial(_named_call, program, name)
    _define(helpers, space)
    space[case["entry_point"]] = functools.partial(_named_call, program, case["entry_point"])
    random.seed(0)
    try:
        exec(tests, space)
        if checks:
            space["check"](space[case["entry_point"]])
    except Exception as error:
        return "fail", _describe(error) + _where(error, case["tests"])
    except (SystemExit, KeyboardInterrupt) as error:
        raise TestsAtFault(f"the tests ended themselves: {type(error).__name__}") from None
    return "pass", ""


def _named_call(program: Program, name: str, /, *arguments: Any, **keywords: Any) -> Any:
    return program.call(name, arguments, keywords)


@functools.lru_cache(maxsize=256)
def prepared(tests: str, prefix: str, entry_point: str) -> tuple[list[types.CodeType], types.CodeType, list[str], bool]:
    """The compiled statements of the prefix without the entry point; the tests; names that only the program can define; whether
    `check` must still be called."""
    try:
        tree = ast.parse(tests)
        code = compile(tests, _TESTS, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise TestsAtFault(f"the tests are not Python: {error}") from None
    helpers = [node for node in _statements(prefix) if getattr(node, "name", None) != entry_point]
    used = {node.id for part in (tree, *helpers) for node in ast.walk(part) if isinstance(node, ast.Name)}
    names = sorted(name for name in used if not hasattr(builtins, name))
    defines = any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in tree.body)
    compiled = [compile(ast.Module([node], []), "<prefix>", "exec", dont_inherit=True) for node in helpers]
    return compiled, code, names, defines and not any(map(_calls_check, tree.body))


def _calls_check(node: ast.stmt) -> bool:
    called = node.value.func if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else None
    return isinstance(called, ast.Name) and called.id == "check"


def _statements(prefix: str) -> list[ast.stmt]:
    """The statements of a prefix, which can end in a function without a body."""
    for text in (prefix, prefix.rstrip() + "\n    pass\n"):
        try:
            return ast.parse(text).body
        except (SyntaxError, ValueError):
            continue
    return []


def _define(helpers: list[types.CodeType], space: dict[str, Any]) -> None:
    for helper in helpers:
        try:
            exec(helper, space)
        except Exception:
            # Names that this statement defines are then requested from the program.
            continue


def _exception(name: str, message: str) -> Exception:
    kind = getattr(builtins, name, None)
    if not isinstance(kind, type) or not issubclass(kind, Exception):
        kind = Exception
    try:
        return kind(message)
    except TypeError:
        return Exception(f"{name}: {message}")


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300].rstrip(": ")


def _where(error: Exception, tests: str) -> str:
    """The last line of the tests in the traceback."""
    trace, line = error.__traceback__, 0
    while trace:
        line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == _TESTS else line
        trace = trace.tb_next
    return f", at: {tests.splitlines()[line - 1].strip()[:200]}" if line else ""


def overwrite(old: Any, new: Any) -> Any:
    """Updates a changed argument in place, and returns the object that replaces it."""
    if type(old) is not type(new):
        return new
    if isinstance(old, list):
        old[:] = _over(old, new)
    elif isinstance(old, bytearray):
        old[:] = new
    elif isinstance(old, deque):
        old.clear()
        old.extend(new)
    elif isinstance(old, dict):
        entries = {key: overwrite(old[key], value) if key in old else value for key, value in new.items()}
        old.clear()
        old.update(entries)
    elif isinstance(old, set):
        old.clear()
        old.update(new)
    elif isinstance(old, tuple) and len(old) == len(new):
        return type(old)(_over(old, new))
    else:
        return new
    return old


def _over(old: Any, new: Any) -> list[Any]:
    if len(old) != len(new):
        return list(new)
    return [overwrite(before, after) for before, after in zip(old, new, strict=True)]
