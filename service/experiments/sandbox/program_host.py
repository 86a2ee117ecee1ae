"""Holds a model's program and calls it on request. Runs inside the sandbox, in the process that the program runs in, so
whatever this says is data from the program: nothing here decides anything. Standard library only.

Knows the arguments of the calls it is asked for, and nothing about what they ought to give.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import os
import socket
import sys
import types
from collections.abc import Iterator
from typing import Any

from service.experiments.sandbox.protocol import Channel, WireError, decode, encode, send

try:
    # The interpreter's own: `hashlib` brings in all of OpenSSL, whose pages every fork of this process would copy.
    from _sha256 import sha256  # type: ignore[import-not-found]
except ImportError:
    from hashlib import sha256

_FRAMES = 1000
# The interpreter adapts code to what it works on after eight runs.
_REHEARSALS = 16
# Of our own; what it uses is what most programs use.
_REHEARSED = """
from typing import Dict, List, Optional

class Kept:
    def __init__(self, held):
        self.held = held

def f(xs: List[int], s: str, d: Dict[str, int]) -> Optional[tuple]:
    'Says what it does.'
    out = []
    for i, x in enumerate(xs):
        if x % 2 == 0 and not x < 0 or s:
            out.append(x ** 2 - 1 / (i + 1))
        elif x > 3:
            continue
    n = 0
    while n < len(s):
        n += 1
    xs.sort(key=lambda x: -x)
    words = [word.strip().lower() for word in s.split(' ') if word != '']
    try:
        d['a'] = max(out) + sum(xs[1:]) + d.get('b', 0)
    except (ValueError, KeyError) as error:
        return str(error)
    return sorted(set(words)), f'{n}', {'x': True, 'y': None}, ''.join(reversed(s)), Kept(out)
"""


def hold(end: socket.socket) -> None:
    """Loads the program that arrives, then answers calls until the other side goes. Never returns."""
    status = 0
    try:
        channel = Channel(end)
        _, source, entry_point = channel.receive()
        sys.setrecursionlimit(_FRAMES + _depth())
        _serve(channel, source, entry_point)
    except BaseException:
        status = 1
    os._exit(status)


def rehearse() -> None:
    """Goes the way of a program once, in the process that all of them are forked from: what the interpreter sets up on the way,
    and writes into memory, is then set up for all, and their processes share that memory."""
    main = sys.modules["__main__"]
    calls = [["call", "f", [[3, 1, 2], "A b", {"d": []}], {"d": []}], ["call", 0, [], {"d": []}], ["call", "g", [], {"d": []}]]
    for _ in range(_REHEARSALS):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            for request in (["load", _REHEARSED, "f"], *calls):
                send(theirs, request)
            theirs.shutdown(socket.SHUT_WR)
            channel = Channel(ours)
            _, source, entry_point = channel.receive()
            with contextlib.suppress(EOFError):
                _serve(channel, source, entry_point)
    sys.modules["__main__"] = main


def _serve(channel: Channel, source: str, entry_point: str) -> None:
    held = _Held()
    try:
        tree = ast.parse(source)
        # Without this module's own `annotations` feature, which would otherwise be the program's too.
        code = compile(tree, "<program>", "exec", dont_inherit=True)
        shape, defined = fingerprint(tree), entry_point in _defined(tree)
    except Exception as error:
        return channel.send(_raised(error))
    channel.send(["parsed", shape, defined])
    # Off until here, by whoever forked this process: reading a program makes much that is no garbage.
    gc.enable()
    answer = held.load(code)
    while True:
        channel.send(answer)
        answer = held.answer(channel.receive())


def fingerprint(tree: ast.Module) -> str:
    """Equal for programs that differ in comments, docstrings and layout only. Takes the docstrings out of the tree."""
    return str(sha256(_written(tree).encode("utf-8", "surrogatepass")).hexdigest()[:16])


# Of each kind of node: its name, and its fields with whether each may be left out.
_NODES: dict[type, tuple[str, list[tuple[str, bool]]]] = {
    kind: (kind.__name__, [(field, getattr(kind, field, 0) is None) for field in kind._fields])
    for kind in vars(ast).values()
    if isinstance(kind, type) and issubclass(kind, ast.AST)
}
_DOCUMENTED = frozenset({ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef})


def _written(node: Any) -> str:
    """What `ast.dump(node, annotate_fields=False)` gives once docstrings are a `pass`, in a third of the time."""
    known = _NODES.get(type(node))
    if known is None:
        return repr(node)
    name, fields = known
    if type(node) in _DOCUMENTED and node.body and _says(node.body[0]):
        node.body[0] = ast.Pass()
    parts, left_out = [], False
    for field, optional in fields:
        value = getattr(node, field)
        if value is None and optional:
            left_out = True
            continue
        text = f"[{', '.join([_written(part) for part in value])}]" if type(value) is list else _written(value)
        parts.append(f"{field}={text}" if left_out else text)
    return f"{name}({', '.join(parts)})"


def _says(node: ast.stmt) -> bool:
    return type(node) is ast.Expr and type(node.value) is ast.Constant and type(node.value.value) is str


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
