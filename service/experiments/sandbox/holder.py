"""Holds a model's program and calls it on request. Runs inside the sandbox, in the process that the program runs in, so
whatever this says is data from the program: nothing here decides anything. Standard library only.

Knows the arguments of the calls it is asked for, and nothing about what they ought to give.
"""

from __future__ import annotations

import ast
import hashlib
import os
import random
import socket
import sys
import types
from collections.abc import Iterator
from typing import Any

from service.experiments.sandbox.wire import Channel, WireError, decode, encode

_FRAMES = 1000


def hold(end: socket.socket) -> None:
    """Loads the program that arrives, then answers calls until the other side goes. Never returns."""
    status = 0
    try:
        channel = Channel(end)
        _, source, entry_point = channel.receive()
        sys.setrecursionlimit(_FRAMES + _depth())
        random.seed(0)
        _serve(channel, source, entry_point)
    except BaseException:
        status = 1
    os._exit(status)


def _serve(channel: Channel, source: str, entry_point: str) -> None:
    held = _Held()
    try:
        tree = ast.parse(source)
        code = compile(tree, "<program>", "exec")
        shape, defined = fingerprint(tree), entry_point in _defined(tree)
    except Exception as error:
        return channel.send(_raised(error))
    channel.send(["parsed", shape, defined])
    answer = held.load(code)
    while True:
        channel.send(answer)
        answer = held.answer(channel.receive())


def fingerprint(tree: ast.Module) -> str:
    """Equal for programs that differ in comments, docstrings and layout only. Takes the docstrings out of the tree."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body[0] = ast.Pass()
    return hashlib.sha256(ast.dump(tree, annotate_fields=False).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


class _Held:
    """The program's module, and the objects of it that a handle was given for."""

    def __init__(self) -> None:
        self.module = types.ModuleType("__main__")
        self.objects: list[Any] = []

    def load(self, code: types.CodeType) -> list[Any]:
        sys.modules["__main__"] = self.module
        try:
            exec(code, self.module.__dict__)
        except Exception as error:
            return _raised(error)
        return ["value", None, None]

    def answer(self, request: Any) -> list[Any]:
        try:
            if request[0] == "next":
                return self._next(request[1])
            return self._call(*request[1:])
        except Exception as error:
            return _raised(error)

    def _call(self, target: Any, sent: Any, keywords: Any) -> list[Any]:
        function = self.objects[target] if type(target) is int else self._named(target)
        arguments = decode(sent, self._revive)
        result = function(*arguments, **decode(keywords, self._revive))
        # The result first: an iterator over an argument must not be run to its end by looking at that.
        value = encode(result, self._keep)
        after = encode(arguments, self._keep) if any(map(_changeable, sent)) else sent
        return ["value", value, None if after == sent else after]

    def _next(self, handle: int) -> list[Any]:
        held = self.objects[handle]
        try:
            if not hasattr(held, "__next__"):
                held = self.objects[handle] = iter(held)
            return ["value", encode(next(held), self._keep), None]
        except StopIteration:
            return ["end"]

    def _named(self, name: str) -> Any:
        try:
            return self.module.__dict__[name]
        except KeyError:
            raise NameError(f"name {name!r} is not defined") from None

    def _keep(self, value: Any) -> list[Any]:
        self.objects.append(value)
        try:
            truth = bool(value)
        except Exception:
            truth = True
        return [len(self.objects) - 1, truth, type(value).__name__]

    def _revive(self, payload: Any) -> Any:
        return self.objects[payload[0]]


def _changeable(data: Any) -> bool:
    return isinstance(data, list | dict)


def _raised(error: Exception) -> list[Any]:
    """The name of the first builtin type among the error's, and its message."""
    if isinstance(error, WireError):
        return ["raise", "ValueError", str(error)]
    name = next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins")
    try:
        message = str(error)[:500].encode("ascii", "backslashreplace").decode()
    except Exception:
        message = ""
    return ["raise", name, message]


def _depth() -> int:
    frame, depth = sys._getframe(), 0
    while frame.f_back:
        frame, depth = frame.f_back, depth + 1
    return depth
