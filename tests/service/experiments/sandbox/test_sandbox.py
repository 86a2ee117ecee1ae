"""Values cross the wire as they are, tests see what they would have seen beside the program, sandboxes come and go cleanly."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.experiments.sandbox import Case, Examiner, Limits, Outcome, SandboxUnavailable
from service.experiments.sandbox.bubblewrap import Sandbox
from service.experiments.sandbox.program_host import fingerprint
from service.experiments.sandbox.protocol import Channel, WireError, decode, encode, send
from service.experiments.sandbox.test_runner import overwrite

ROOT = Path(__file__).parents[4]

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**4090, max_value=2**5000)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec=None))
    | st.binary(max_size=20)
    | st.complex_numbers(allow_nan=False)
    | st.fractions()
    | st.decimals(allow_nan=False)
    | st.builds(range, st.integers(), st.integers(), st.integers(min_value=1))
)
HASHABLE = st.recursive(SCALARS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=4)
VALUES = st.recursive(
    SCALARS | st.sets(HASHABLE, max_size=3) | st.binary(max_size=9).map(bytearray),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(HASHABLE, inner, max_size=3)
        | st.lists(inner, max_size=3).map(deque)
    ),
    max_leaves=12,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("itsdfbacuqrDFTCO"), inner, max_size=2),
    max_leaves=8,
)


def no_handles(value: Any) -> Any:
    raise WireError(f"{value!r} is not plain data")


def crossed(value: Any) -> Any:
    return decode(json.loads(json.dumps(encode(value, no_handles))), no_handles)


def same(one: Any, other: Any) -> bool:
    """Equal, of the same types throughout, in the same order; zeros of the same sign."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple | deque):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, float | complex):
        return repr(one) == repr(other)
    return bool(one == other)


@given(VALUES)
@settings(max_examples=300, deadline=None)
def test_a_value_crosses_unchanged(value: Any) -> None:
    assert same(crossed(value), value)


def test_containers_of_the_standard_library_cross_as_themselves() -> None:
    counted = [
        Counter("abca"),
        OrderedDict(b=1, a=2),
        defaultdict(int, {1: 2}),
        deque([1, 2], 3),
        {1: 2}.keys(),
        {1: 2}.items(),
    ]
    for value in counted:
        assert type(crossed(value)) is type(value) and crossed(value) == value
    assert crossed(deque([1], 3)).maxlen == 3 and list(crossed({1: 2}.values())) == [2]
    assert repr(crossed([float("nan"), float("-inf"), -0.0])) == "[nan, -inf, -0.0]"
    assert crossed((int, Decimal("1.10"), Fraction(1, 3), type(None))) == (int, Decimal("1.10"), Fraction(1, 3), type(None))


def test_a_subclass_crosses_as_the_content_that_its_base_holds() -> None:
    class Sly(list[int]):
        def __iter__(self) -> Iterator[int]:
            return iter([42])

    class Yes(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    assert crossed(Sly([1])) == [1] and type(crossed(Sly())) is list
    assert crossed(Yes(1)) == 1 and crossed(Yes(1)) != 2 and type(crossed(True)) is bool


@given(JSON)
@settings(max_examples=300, deadline=None)
def test_what_is_no_value_is_a_wire_error(data: Any) -> None:
    try:
        value = decode(data, no_handles)
    except WireError:
        return
    assert same(crossed(value), value) or "nan" in repr(value).lower()


@pytest.mark.parametrize(
    "data",
    [{"x": 1}, {"t": 1}, {"t": [], "s": []}, {"i": "g"}, {"D": "1E+99999999"}, {"F": [1, 0]}, {"T": "eval"}, {"s": [[]]}],
)
def test_bad_data_is_refused(data: Any) -> None:
    with pytest.raises(WireError):
        decode(data, no_handles)


@pytest.mark.parametrize("sent", [b"\xff\xff\xff\xff", b"\0\0\0\1{", b"\0\0\0\2\xff\xff", b"\0\0\1\0" + b"[" * 256])
def test_a_frame_that_is_none_is_refused(sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(sent)
        theirs.close()
        with pytest.raises((WireError, EOFError)):
            Channel(ours).receive()


def test_frames_arrive_one_by_one_however_they_were_sent() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for message in ([1], {"a": "x" * 100_000}, "last"):
            send(theirs, message)
        channel = Channel(ours)
        assert [channel.receive(), len(channel.receive()["a"]), channel.receive()] == [[1], 100_000, "last"]


@given(VALUES, VALUES)
def test_overwriting_makes_the_old_argument_equal_to_the_new(old: Any, new: Any) -> None:
    assert same(overwrite(crossed([old]), [new]), [new])


def test_overwriting_keeps_the_objects_that_the_tests_hold() -> None:
    inner = [1]
    outer = {"a": inner, "b": ([2],)}
    overwrite(outer, {"a": [1, 5], "b": ([3],)})
    assert inner == [1, 5] and outer == {"a": [1, 5], "b": ([3],)}


@pytest.fixture(scope="module")
def examiner(bubblewrap: str) -> Iterator[Examiner]:
    opened = Examiner(Limits(cpu_s=2, wall_s=20))
    yield opened
    opened.close()


def examine(examiner: Examiner, program: str, tests: str, prefix: str = "") -> Outcome:
    return examiner.examine(Case(prefix + program, textwrap.dedent(tests), "f", prefix))


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("def f(): return (1, [2, {3}], {'a': None})", "assert f() == (1, [2, {3}], {'a': None}) and type(f()) is tuple"),
        ("def f(a): a.sort(); return None", "a = [3, 1]\nassert f(a) is None\nassert a == [1, 3]"),
        ("def f(a, *, b=2): return a * b", "assert f(4, b=3) == 12 and f(4) == 8"),
        ("def f(n): yield from range(n)", "assert list(f(3)) == [0, 1, 2] and tuple(f(0)) == ()"),
        (
            "import itertools\ndef f(): return itertools.count()",
            "assert next(iter(f())) == 0 and [a for a, _ in zip(f(), 'ab')] == [0, 1]",
        ),
        ("def f(x): return map(abs, x)", "assert f([1]) != [1] and sorted(f([-1, 2])) == [1, 2]"),
        ("def f(x): return lambda y: x + y", "assert f(1)(2) == 3"),
        ("import re\ndef f(x): return re.match('a', x)", "assert f('ab')\nassert not f('b')"),
        ("def f(x): return {}[x]", "try: f(1)\nexcept KeyError as e: assert '1' in str(e)\nelse: assert False"),
        ("class Odd(ValueError): pass\ndef f(): raise Odd('no')", "try: f()\nexcept ValueError as e: assert str(e) == 'no'"),
        (
            "class Pair:\n    def __init__(self, a, b): self.a, self.b = a, b\ndef f(p): return p.a + p.b",
            "assert f(Pair(1, 2)) == 3",
        ),
        ("def f(): return __name__", "assert f() == '__main__'"),
        ("from dataclasses import dataclass\n@dataclass\nclass A: x: int\ndef f(): return A(1) == A(1)", "assert f()"),
        ("def f(s): return s[::-1]", "assert f('\\ud83d\\ude00x') == 'x\\ude00\\ud83d'"),
        (
            "import threading\ndef f():\n    t = threading.Thread(target=print); t.start(); t.join(); return 1",
            "assert f() == 1",
        ),
    ],
)
def test_tests_see_what_they_would_see_beside_the_program(examiner: Examiner, program: str, tests: str) -> None:
    outcome = examine(examiner, program, tests)
    assert outcome.kind == "pass", outcome


@pytest.mark.parametrize(
    ("program", "tests", "reason"),
    [
        ("def f(): return [1, 2]", "assert f() == (1, 2)", "AssertionError, at: assert f() == (1, 2)"),
        ("def f(): return 1 / 0", "assert f() == 1", "ZeroDivisionError: division by zero, at: assert f() == 1"),
        ("def g(): pass", "assert f() == 1", "NameError: name 'f' is not defined"),
        ("def f(:", "assert f() == 1", "the program does not load: SyntaxError"),
        (
            "def f(x: Missing): return 1",
            "assert f(1) == 1",
            "the program does not load: NameError: name 'Missing' is not defined",
        ),
        ("import numpy\ndef f(): return 1", "assert f() == 1", "the program does not load: ModuleNotFoundError"),
        ("def f(n): return f(n)", "assert f(1) == 1", "RecursionError"),
        ("def f(): return input()", "assert f() == ''", "EOFError"),
        ("class A: pass\ndef f(): return A()", "assert f() == f()", "AssertionError"),
    ],
)
def test_a_failure_says_why(examiner: Examiner, program: str, tests: str, reason: str) -> None:
    outcome = examine(examiner, program, tests)
    assert outcome.kind == "fail" and reason in outcome.reason, outcome


@pytest.mark.parametrize(
    ("tests", "reason"),
    [
        ("assert True", "never called f"),
        ("def check(candidate): pass", "never called f"),
        ("assert f(", "not Python"),
        ("assert f(lambda: 1)", "can't be sent"),
        ("f()\nraise SystemExit", "ended themselves"),
    ],
)
def test_tests_that_prove_nothing_pass_nothing(examiner: Examiner, tests: str, reason: str) -> None:
    outcome = examine(examiner, "def f(*a): return 1", tests)
    assert outcome.kind == "tests" and reason in outcome.reason, outcome


def test_helpers_of_the_prefix_are_the_authors_own(examiner: Examiner) -> None:
    """A program that defines a checking helper anew does not check itself."""
    prefix = "def poly(xs, x):\n    return sum(c * x**i for i, c in enumerate(xs))\n\ndef f(xs):\n"
    tests = "def check(candidate):\n    assert abs(poly([-4, 2], candidate([-4, 2]))) < 1e-6"
    assert examine(examiner, "    return 2.0", tests, prefix).kind == "pass"
    assert examine(examiner, "    return 1.0\ndef poly(xs, x): return 0", tests, prefix).kind == "fail"


def test_checks_are_called_once_whether_or_not_the_tests_call_them(examiner: Examiner) -> None:
    program = "n = 0\ndef f():\n    global n\n    n += 1\n    return n"
    for ending in ("", "\ncheck(f)"):
        assert examine(examiner, program, "def check(g):\n    assert g() == 1" + ending).kind == "pass"


def test_a_shape_knows_layout_and_comments_from_content(examiner: Examiner) -> None:
    one, same_, other = (
        examine(examiner, program, "assert f(1) == 1")
        for program in (
            "def f(x):\n    '''Says.'''\n    return x",
            "def f( x ): pass; return x # twice",
            "def f(y):\n    return y",
        )
    )
    assert one.shape == same_.shape != other.shape and len(one.shape) == 16 and one.defined
    assert examine(examiner, "def g(: 1", "f()").shape == ""


@pytest.mark.parametrize(
    "source", ["x = 1", "class A:\n    'Says.'\n    b: int", "def f(a, *, b=None): 'Says.'", "f = lambda x, /: {**x}"]
)
def test_a_shape_is_that_of_the_tree_as_python_writes_it(source: str) -> None:
    written = ast.dump(ast.parse(source.replace("'Says.'", "pass")), annotate_fields=False)
    assert fingerprint(ast.parse(source)) == hashlib.sha256(written.encode()).hexdigest()[:16]


def test_verdicts_repeat_where_programs_draw_lots(examiner: Examiner) -> None:
    program = "import random\ndef f(): return [random.random(), hash('a'), *{'x', 'y', 'z'}]"
    first = examine(examiner, program, "assert f() == 0 or print(f())").kind
    told = [examine(examiner, program, "raise ValueError(f())").reason for _ in range(3)]
    assert first == "fail" and len(set(told)) == 1


def test_200_programs_in_a_row_leave_neither_processes_nor_descriptors(examiner: Examiner) -> None:
    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), sum(len(descendants(box.process.pid)) for box in examiner.sandboxes.values())

    before = held()
    for i in range(200):
        program = ("def f(): return 1", "import os\nos._exit(1)", "def f(): raise OSError", "x = (")[i % 4]
        assert (examine(examiner, program, "assert f() == 1").kind == "pass") == (i % 4 == 0)
    assert held() == before == (before[0], 2)


@pytest.mark.parametrize("role", ["programs", "tests"])
def test_a_sandbox_that_dies_costs_its_program_only(bubblewrap: str, role: str) -> None:
    own = Examiner(Limits(cpu_s=5, wall_s=20))
    victim = descendants(own.sandboxes[role].process.pid)[0]
    killer = subprocess.Popen([sys.executable, "-c", f"import os, time; time.sleep(0.5); os.kill({victim}, 9)"])
    outcome = examine(own, "import time\ndef f(): time.sleep(60)", "f()")
    assert killer.wait() == 0 and outcome.kind == "lost", outcome
    assert examine(own, "def f(): return 1", "assert f() == 1").kind == "pass"
    own.close()


def test_killing_who_opened_it_leaves_nothing_running(bubblewrap: str) -> None:
    program = "from service.experiments.sandbox import *; e = Examiner(); print('open', flush=True)\n"
    program += "e.examine(Case('def f():\\n    while True: pass', 'f()', 'f'))"
    owner = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE)
    assert owner.stdout is not None and owner.stdout.readline() == b"open\n"
    time.sleep(0.3)
    started = descendants(owner.pid)
    assert len(started) == 5, "two sandboxes, their first processes, and the program"
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    assert soon(lambda: not any(map(running, started)))


def test_closing_ends_the_processes(bubblewrap: str) -> None:
    own = Examiner()
    started = [pid for box in own.sandboxes.values() for pid in (box.process.pid, *descendants(box.process.pid))]
    own.close()
    assert soon(lambda: not any(map(running, started)))


def test_without_bubblewrap_there_is_no_sandbox_and_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SandboxUnavailable, match="apt-get install bubblewrap"):
        Sandbox("tests", Limits())


def test_where_namespaces_are_forbidden_there_is_no_sandbox_and_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in = tmp_path / "bwrap"
    stand_in.write_text("#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2\nexit 1\n")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(SandboxUnavailable, match=r"No permissions.*allow unprivileged user namespaces"):
        Sandbox("tests", Limits())


def descendants(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [deeper for child in children for deeper in descendants(child)]


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def soon(holds: Any) -> bool:
    for _ in range(100):
        if holds():
            return True
        time.sleep(0.05)
    return False
