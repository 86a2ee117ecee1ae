"""Loads a model's program in the sandbox and executes calls to it. Standard library only.

It shares a process with the program, so all its output is untrusted.
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
    # `hashlib` would load OpenSSL, whose pages every fork of this process would copy.
    from _sha256 import sha256  # type: ignore[import-not-found]
except ImportError:
    from hashlib import sha256

_FRAMES = 1000
# The interpreter specializes code after eight runs.
_WARMUP_RUNS = 16
# Uses the features that most programs use.
_WARMUP_PROGRAM = """
from typing import Dict, List, Optional

class Box:
    def __init__(self, content):
        self.content = content

def f(xs: List[int], s: str, d: Dict[str, int]) -> Optional[tuple]:
    'A docstring.'
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
    return sorted(set(words)), f'{n}', {'x': True, 'y': None}, ''.join(reversed(s)), Box(out)
"""


def run_host(end: socket.socket) -> None:
    """Loads the received program and answers calls until the channel closes. Never returns."""
    status = 0
    try:
        channel = Channel(end)
        _, source, entry_point = channel.receive()
        sys.setrecursionlimit(_FRAMES + _depth())
        _serve(channel, source, entry_point)
    except BaseException:
        status = 1
    os._exit(status)


def warm_up() -> None:
    """Runs a sample program in the process from which all programs are forked, so that they share what the interpreter
    initializes."""
    main = sys.modules["__main__"]
    calls = [["call", "f", [[3, 1, 2], "A b", {"d": []}], {"d": []}], ["call", 0, [], {"d": []}], ["call", "g", [], {"d": []}]]
    for _ in range(_WARMUP_RUNS):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            for request in (["load", _WARMUP_PROGRAM, "f"], *calls):
                send(theirs, request)
            theirs.shutdown(socket.SHUT_WR)
            channel = Channel(ours)
            _, source, entry_point = channel.receive()
            with contextlib.suppress(EOFError):
                _serve(channel, source, entry_point)
    sys.modules["__main__"] = main


def _serve(channel: Channel, source: str, entry_point: str) -> None:
    program = _LoadedProgram()
    try:
        tree = ast.parse(source)
        # dont_inherit: the program must not inherit this module's `annotations` feature.
        code = compile(tree, "<program>", "exec", dont_inherit=True)
        shape, defined = fingerprint(tree), entry_point in _defined_names(tree)
    except Exception as error:
        return channel.send(_encode_error(error))
    channel.send(["parsed", shape, defined])
    # The parent disabled it, because parsing a program allocates much and frees little.
    gc.enable()
    answer = program.load(code)
    while True:
        channel.send(answer)
        answer = program.answer(channel.receive())


def fingerprint(tree: ast.Module) -> str:
    """Equal for programs that differ in comments, docstrings and layout only. Removes the docstrings from the tree."""
    return str(sha256(_dump(tree).encode("utf-8", "surrogatepass")).hexdigest()[:16])


# For each kind of node: its name, and its fields with whether each is optional.
_NODES: dict[type, tuple[str, list[tuple[str, bool]]]] = {
    kind: (kind.__name__, [(field, getattr(kind, field, 0) is None) for field in kind._fields])
    for kind in vars(ast).values()
    if isinstance(kind, type) and issubclass(kind, ast.AST)
}
_DOCUMENTED = frozenset({ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef})


def _dump(node: Any) -> str:
    """Like `ast.dump(node, annotate_fields=False)` with docstrings replaced by `pass`, in a third of the time."""
    known = _NODES.get(type(node))
    if known is None:
        return repr(node)
    name, fields = known
    if type(node) in _DOCUMENTED and node.body and _is_docstring(node.body[0]):
        node.body[0] = ast.Pass()
    parts, left_out = [], False
    for field, optional in fields:
        value = getattr(node, field)
        if value is None and optional:
            left_out = True
            continue
        text = f"[{', '.join([_dump(part) for part in value])}]" if type(value) is list else _dump(value)
        parts.append(f"{field}={text}" if left_out else text)
    return f"{name}({', '.join(parts)})"


def _is_docstring(node: ast.stmt) -> bool:
    return type(node) is ast.Expr and type(node.value) is ast.Constant and type(node.value.value) is str


def _defined_names(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


class _LoadedProgram:
    """The program's module, and its objects that have a handle."""

    def __init__(self) -> None:
        self.module = types.ModuleType("__main__")
        self.objects: list[Any] = []

    def load(self, code: types.CodeType) -> list[Any]:
        sys.modules["__main__"] = self.module
        try:
            exec(code, self.module.__dict__)
        except Exception as error:
            return _encode_error(error)
        return ["value", None, None]

    def answer(self, request: Any) -> list[Any]:
        try:
            if request[0] == "next":
                return self._next(request[1])
            return self._call(*request[1:])
        except Exception as error:
            return _encode_error(error)

    def _call(self, target: Any, sent: Any, keywords: Any) -> list[Any]:
        function = self.objects[target] if type(target) is int else self._named(target)
        arguments = decode(sent, self._revive)
        result = function(*arguments, **decode(keywords, self._revive))
        # Encode the result first: encoding an argument could exhaust an iterator over it.
        value = encode(result, self._add_handle)
        after = encode(arguments, self._add_handle) if any(map(_changeable, sent)) else sent
        return ["value", value, None if after == sent else after]

    def _next(self, handle: int) -> list[Any]:
        iterator = self.objects[handle]
        try:
            if not hasattr(iterator, "__next__"):
                iterator = self.objects[handle] = iter(iterator)
            return ["value", encode(next(iterator), self._add_handle), None]
        except StopIteration:
            return ["end"]

    def _named(self, name: str) -> Any:
        try:
            return self.module.__dict__[name]
        except KeyError:
            raise NameError(f"name {name!r} is not defined") from None

    def _add_handle(self, value: Any) -> list[Any]:
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


def _encode_error(error: Exception) -> list[Any]:
    """The error's nearest builtin type and its message."""
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
