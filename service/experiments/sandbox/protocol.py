"""Serializes values between a model's program and its tests. Standard library only.

A frame is a length in four bytes, then JSON. Values that JSON represents exactly are themselves, others an object with one
tag. Builtin types and some standard containers are supported; other objects become handles, which equal nothing. The encoder
uses the methods of the base types, never a program's `__eq__`, `__iter__`, `__class__` or `__reduce__`.

The decoder does not trust its input: anything unknown is a WireError.
"""

from __future__ import annotations

import json
import socket
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

LARGEST_FRAME = 16 * 2**20
DEEPEST = 200
MOST_VALUES = 2_000_000
_LONG_INT = 4096
_TYPES = {kind.__name__: kind for kind in (int, float, complex, bool, str, bytes, list, tuple, dict, set, frozenset, object)}
_TYPES["NoneType"] = type(None)

# `json.dumps` would create one for each message.
_JSON = json.JSONEncoder(separators=(",", ":"))

Keep = Callable[[Any], Any]
Revive = Callable[[Any], Any]


class WireError(Exception):
    """A frame or value that is not of this format, too large or too deep."""


def send(channel: socket.socket, message: Any, passed: socket.socket | None = None) -> None:
    """Sends a frame, optionally with a socket. Raises WireError for a large frame, OSError when the channel is closed."""
    body = _JSON.encode(message).encode()
    head = _checked_length(len(body)).to_bytes(4, "big")
    if passed is None:
        return channel.sendall(head + body)
    socket.send_fds(channel, [head], [passed.fileno()])
    channel.sendall(body)


def receive(channel: socket.socket) -> Any:
    """The next message. Raises EOFError at the end, WireError for an invalid frame."""
    return receive_body(channel, int.from_bytes(_exactly(channel, 4), "big"))


def receive_body(channel: socket.socket, length: int) -> Any:
    """The message of a frame whose length is known."""
    return _message(_exactly(channel, _checked_length(length)))


class Channel:
    """Frames over a socket with few system calls. Raises like `send` and `receive`."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self._read = b""

    def send(self, message: Any) -> None:
        send(self.end, message)

    def receive(self) -> Any:
        self._fill(4)
        length = 4 + _checked_length(int.from_bytes(self._read[:4], "big"))
        self._fill(length)
        body, self._read = self._read[4:length], self._read[length:]
        return _message(body)

    def _fill(self, count: int) -> None:
        if len(self._read) >= count:
            return
        parts, have = [self._read], len(self._read)
        while have < count:
            parts.append(self.end.recv(1 << 16))
            if not parts[-1]:
                raise EOFError("the channel is closed")
            have += len(parts[-1])
        self._read = b"".join(parts)


def _checked_length(length: int) -> int:
    if length > LARGEST_FRAME:
        raise WireError(f"a message of {length} bytes is over the limit of {LARGEST_FRAME}")
    return length


def _message(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {str(error)[:100]}") from error


def _exactly(channel: socket.socket, count: int) -> bytes:
    parts = []
    while count:
        part = channel.recv(min(count, 1 << 20))
        if not part:
            raise EOFError("the channel is closed")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def encode(value: Any, keep: Keep) -> Any:
    """Encodes a value as JSON data. `keep` returns the JSON payload of a handle for other objects, or raises WireError.

    A subclass of a plain type is encoded as that type. Raises WireError."""
    return _Encoder(keep).value(value, 0)


class _Encoder:
    def __init__(self, keep: Keep) -> None:
        self.keep = keep
        self.left = MOST_VALUES

    def value(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if value is None or kind is bool or kind is float:
            return value
        self.left -= 1
        if depth > DEEPEST or self.left < 0:
            raise WireError(f"a value is nested deeper than {DEEPEST}, or larger than {MOST_VALUES} parts")
        for base in type.mro(kind)[:-1]:
            writer = _WRITERS.get(base)
            if writer:
                return writer(self, value, depth + 1)
        return {"o": self.keep(value)}

    def values(self, values: Any, depth: int) -> list[Any]:
        return [self.value(value, depth) for value in values]

    def pairs(self, value: Any, depth: int) -> list[Any]:
        return [[self.value(key, depth), self.value(entry, depth)] for key, entry in dict.items(value)]


def _int(_: _Encoder, value: Any, __: int) -> Any:
    plain = int.__int__(value)
    return plain if plain.bit_length() < _LONG_INT else {"i": f"{plain:x}"}


def _str(_: _Encoder, value: Any, __: int) -> Any:
    plain = str.__str__(value)
    try:
        plain.encode()
    except UnicodeEncodeError:
        return {"u": plain.encode("utf-8", "surrogatepass").decode("latin-1")}
    return plain


def _type(encoder: _Encoder, value: Any, _: int) -> Any:
    name = next((name for name, kind in _TYPES.items() if kind is value), None)
    return {"T": name} if name else {"o": encoder.keep(value)}


_WRITERS: dict[type, Callable[[_Encoder, Any, int], Any]] = {
    int: _int,
    float: lambda _, v, __: float.__float__(v),
    str: _str,
    list: lambda e, v, d: e.values(list.__iter__(v), d),
    tuple: lambda e, v, d: {"t": e.values(tuple.__iter__(v), d)},
    Counter: lambda e, v, d: {"C": e.pairs(v, d)},
    OrderedDict: lambda e, v, d: {"O": e.pairs(v, d)},
    defaultdict: lambda e, v, d: {"dd": e.pairs(v, d)},
    dict: lambda e, v, d: {"d": e.pairs(v, d)},
    set: lambda e, v, d: {"s": e.values(set.__iter__(v), d)},
    frozenset: lambda e, v, d: {"f": e.values(frozenset.__iter__(v), d)},
    deque: lambda e, v, d: {"q": [e.values(deque.__iter__(v), d), v.maxlen]},
    bytes: lambda _, v, __: {"b": bytes.decode(v, "latin-1")},
    bytearray: lambda _, v, __: {"a": bytearray.decode(v, "latin-1")},
    complex: lambda _, v, __: {"c": [v.real, v.imag]},
    range: lambda e, v, d: {"r": e.values((v.start, v.stop, v.step), d)},
    Decimal: lambda _, v, __: {"D": Decimal.__str__(v)},
    Fraction: lambda e, v, d: {"F": e.values((v._numerator, v._denominator), d)},
    type({}.keys()): lambda e, v, d: {"dk": e.values(list(v), d)},
    type({}.values()): lambda e, v, d: {"dv": e.values(list(v), d)},
    type({}.items()): lambda e, v, d: {"di": [e.values(pair, d) for pair in v]},
    type: _type,
}


def decode(data: Any, revive: Revive) -> Any:
    """Decodes the data of `encode`. `revive` receives the payload of a handle. Raises WireError."""
    try:
        return _decode(data, revive)
    except WireError:
        raise
    except (ArithmeticError, LookupError, MemoryError, RecursionError, TypeError, ValueError) as error:
        raise WireError(f"not a value: {type(error).__name__}") from error


def _decode(data: Any, revive: Revive) -> Any:
    if type(data) is list:
        return [_decode(part, revive) for part in data]
    if type(data) is not dict:
        return data
    if len(data) != 1:
        raise WireError("a value has one tag")
    ((tag, body),) = data.items()
    if tag == "o":
        return revive(body)
    reader = _READERS.get(tag)
    if reader is None:
        raise WireError("a value has an unknown tag")
    nested = tag not in _LEAVES
    if type(body) is not (list if nested or tag == "c" else str):
        raise WireError("a value's body is of the wrong kind")
    return reader(_decode(body, revive) if nested else body)


def _complex(parts: Any) -> complex:
    real, imaginary = parts
    if type(real) is not float or type(imaginary) is not float:
        raise WireError("a complex number has two floats")
    return complex(real, imaginary)


def _decimal(text: str) -> Decimal:
    number = Decimal(text)
    if number.is_finite() and abs(number.adjusted()) > 10_000:
        # A comparison with an int would expand it in full.
        raise WireError("a decimal number is out of range")
    return number


def _fraction(parts: Any) -> Fraction:
    numerator, denominator = parts
    if type(numerator) is not int or type(denominator) is not int:
        raise WireError("a fraction has two whole numbers")
    return Fraction(numerator, denominator)


_LEAVES = {"i", "u", "b", "a", "c", "D", "T"}
_READERS: dict[str, Callable[[Any], Any]] = {
    "i": lambda text: int(text, 16),
    "u": lambda text: text.encode("latin-1").decode("utf-8", "surrogatepass"),
    "b": lambda text: text.encode("latin-1"),
    "a": lambda text: bytearray(text.encode("latin-1")),
    "c": _complex,
    "D": _decimal,
    "T": lambda name: _TYPES[name],
    "t": tuple,
    "s": set,
    "f": frozenset,
    "d": dict,
    "O": OrderedDict,
    "C": lambda pairs: Counter(dict(pairs)),
    "dd": lambda pairs: defaultdict(None, pairs),
    "q": lambda parts: deque(parts[0], parts[1]),
    "r": lambda parts: range(*parts),
    "F": _fraction,
    "dk": lambda keys: dict.fromkeys(keys).keys(),
    "dv": lambda values: dict(enumerate(values)).values(),
    "di": lambda pairs: dict(pairs).items(),
}
