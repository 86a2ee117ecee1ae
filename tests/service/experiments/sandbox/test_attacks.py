"""What a model's program may try, one property a test. Each says what it saw by what it returns, which is all it can do."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.experiments.sandbox import Case, Examiner, Limits, Outcome

SECRET = "PASSKB_TEST_SECRET"


@pytest.fixture(scope="module")
def examiner(bubblewrap: str) -> Iterator[Examiner]:
    os.environ[SECRET] = "in the environment"
    opened = Examiner(Limits(cpu_s=1, wall_s=5, memory=256 * 2**20, file=2**20, temporary=4 * 2**20, threads=16))
    yield opened
    opened.close()
    del os.environ[SECRET]


@pytest.fixture(autouse=True)
def the_next_program_is_fine(examiner: Examiner) -> Iterator[None]:
    before = dict(examiner.sandboxes)
    yield
    assert examine(examiner, "def f(x): return x + 1", "assert f(1) == 2").kind == "pass"
    assert examiner.sandboxes == before, "a sandbox had to be replaced"
    assert inside(examiner) == 2


def examine(examiner: Examiner, program: str, tests: str = "assert f() == 42") -> Outcome:
    return examiner.examine(Case(textwrap.dedent(program), tests, "f"))


def inside(examiner: Examiner) -> int:
    """How many processes run in the sandboxes, their first ones counted."""
    return sum(len(_descendants(sandbox.process.pid)) for sandbox in examiner.sandboxes.values())


def _descendants(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [deeper for child in children for deeper in _descendants(child)]


def refused(examiner: Examiner, attempt: str, error: str) -> None:
    """That an attempt raises, and what."""
    program = f"def f():\n    import os, socket, resource, signal, ctypes\n    {attempt}\n    return 'done'"
    outcome = examine(examiner, program)
    assert outcome.kind == "fail" and error in outcome.reason, outcome


def test_an_honest_wrong_program_fails_and_an_honest_right_one_passes(examiner: Examiner) -> None:
    assert examine(examiner, "def f(): return 42").kind == "pass"
    assert examine(examiner, "def f(): return 41").kind == "fail"


def test_a_fork_bomb_gets_no_second_process(examiner: Examiner) -> None:
    refused(examiner, "while True: os.fork()", "PermissionError")


def test_no_other_program_is_started(examiner: Examiner) -> None:
    refused(examiner, "os.execv('/proc/self/exe', ['python', '-c', ''])", "PermissionError")
    refused(examiner, "os.posix_spawn('/proc/self/exe', ['python'], {})", "PermissionError")


def test_memory_ends_in_an_error_of_the_program(examiner: Examiner) -> None:
    refused(examiner, "x = bytearray(2**30)", "MemoryError")
    refused(examiner, "x = [b'']\n    while True: x.append(bytes(2**20))", "MemoryError")


def test_output_goes_nowhere_and_without_end_it_costs_the_time_limit(examiner: Examiner) -> None:
    assert examine(examiner, "def f():\n    for _ in range(2000): print('x' * 10_000)\n    return 42").kind == "pass"
    outcome = examine(examiner, "import sys\ndef f():\n    while True: print('x' * 10_000, file=sys.stderr)")
    assert outcome.kind == "timeout", outcome


def test_files_are_small_and_all_of_them_together_too(examiner: Examiner) -> None:
    refused(examiner, "open('/tmp/a', 'wb').write(bytes(2**21))", "File too large")
    refused(examiner, "[open(f'/tmp/{i}', 'wb').write(bytes(2**20)) for i in range(9)]", "No space left")


def test_there_are_no_sockets(examiner: Examiner) -> None:
    for family in ("AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"):
        refused(examiner, f"socket.socket(socket.{family}, socket.SOCK_DGRAM)", "PermissionError")


def test_neither_home_nor_project_can_be_read(examiner: Examiner, tmp_path: Path) -> None:
    (tmp_path / "note.md").write_text("private")
    root = Path(__file__).parents[4]
    names = [
        tmp_path,
        tmp_path / "note.md",
        root / "pyproject.toml",
        root / "kb",
        root / "samples",
        root / ".venv",
        "/etc/passwd",
    ]
    for name in names:
        program = f"def f():\n    import os\n    return os.path.exists({str(name)!r})"
        assert examine(examiner, program, "assert f() is False").kind == "pass", name


def test_the_environment_is_not_ours(examiner: Examiner) -> None:
    program = "def f():\n    import os\n    return dict(os.environ), open('/proc/1/cmdline').read()"
    tests = f"seen, command = f()\nassert {SECRET!r} not in seen and 'PATH' not in seen\nassert 'passkb' in command"
    assert examine(examiner, program, tests).kind == "pass"


def test_nothing_can_be_written_but_in_the_temporary_folder(examiner: Examiner) -> None:
    for name in ("/x", "/usr/lib/x", "/dev/x", "/dev/shm/x", "/passkb/x", "/proc/sys/kernel/core_pattern", os.__file__):
        program = f"def f():\n    try: open({name!r}, 'w')\n    except OSError: return 42"
        assert examine(examiner, program).kind == "pass", name


def test_another_completion_is_not_found_in_files(examiner: Examiner) -> None:
    leave = """
        import os
        os.makedirs('/tmp/a/b')
        open('/tmp/a/b/solution', 'w').write('return 42')
        os.symlink('/proc', '/tmp/link')
        os.chmod('/tmp/a/b', 0)
        os.chmod('/tmp/a', 0)
        def f(): return 42
    """
    assert examine(examiner, leave).kind == "pass"
    assert examine(examiner, "def f():\n    import os\n    return os.listdir('/tmp')", "assert f() == []").kind == "pass"


@pytest.mark.parametrize("name", ["d", "d" * 200, "0"])
def test_folders_nested_beyond_any_path_are_removed(examiner: Examiner, name: str) -> None:
    nest = f"""
        import os
        os.chdir('/tmp')
        os.mkdir('1')
        for _ in range(1500):
            os.mkdir({name!r})
            os.chdir({name!r})
            open('file', 'w').close()
        os.chmod('.', 0)
        def f(): return 42
    """
    assert examine(examiner, nest).kind == "pass"
    assert examine(examiner, "def f():\n    import os\n    return os.listdir('/tmp')", "assert f() == []").kind == "pass"


def test_another_completion_is_not_found_in_memory(examiner: Examiner) -> None:
    search = """
        import ctypes, re
        def f():
            sought, found = bytes(reversed(b'esle-ydobemos-fo-noitulos-a')), 0
            for line in open('/proc/self/maps'):
                start, end, mode, name = re.match(r'(\\w+)-(\\w+) (....) \\S+ \\S+ \\S+ *(.*)', line).groups()
                if mode.startswith('rw') and not name.startswith(('[v', '/dev')):
                    memory = ctypes.string_at(int(start, 16), int(end, 16) - int(start, 16))
                    found += memory.count(sought)
            return found > FLOOR
    """
    # The control: the program's own text is found, by the same search, once it stands there.
    own = search.replace("FLOOR", "1  # a-solution-of-somebody-else")
    assert examine(examiner, own, "assert f() is True").kind == "pass"
    assert examine(examiner, "mine = 'a-solution-of-somebody-else' * 1000\ndef f(): return 42").kind == "pass"
    # One place is where the search itself holds what it looks for.
    outcome = examine(examiner, search.replace("FLOOR", "1"), "assert f() is False")
    assert outcome.kind == "pass", outcome


def test_what_is_expected_is_not_in_the_process(examiner: Examiner) -> None:
    peek = """
        import gc, sys
        def f():
            frame, seen = sys._getframe(), []
            while frame:
                seen += [repr(frame.f_locals), repr(frame.f_code.co_consts)]
                frame = frame.f_back
            sought = ''.join(reversed('7978642'))
            return any(sought in text for text in seen + list(map(repr, gc.get_objects())))
    """
    assert examine(examiner, peek, "expected = 2468797\nassert f() is False").kind == "pass"


def test_signals_do_not_reach_the_first_process(examiner: Examiner) -> None:
    program = """
        import os, signal
        def f():
            for number in set(signal.Signals) - {signal.SIGCHLD}:
                for target in (1, os.getppid()):
                    os.kill(target, number)
            try: os.kill(-1, signal.SIGKILL)
            except OSError: pass
            return 42
    """
    assert examine(examiner, program).kind == "pass"


def test_the_first_process_can_not_be_read_or_changed(examiner: Examiner) -> None:
    refused(examiner, "open('/proc/1/mem', 'rb')", "PermissionError")
    refused(examiner, "os.open('/proc/1/fd/0', 0)", "PermissionError")
    refused(examiner, "resource.prlimit(1, resource.RLIMIT_NOFILE, (3, 3))", "PermissionError")
    refused(examiner, "os.sched_setaffinity(1, {0})", "PermissionError")
    ptrace = "if ctypes.CDLL(None, use_errno=True).ptrace(16, 1, 0, 0): raise OSError(ctypes.get_errno(), 'ptrace')"
    refused(examiner, ptrace, "PermissionError")


def test_limits_can_not_be_raised(examiner: Examiner) -> None:
    refused(examiner, "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))", "ValueError")


def test_queues_that_outlive_a_program_are_refused(examiner: Examiner) -> None:
    attempt = "if ctypes.CDLL(None, use_errno=True).shmget(1, 4096, 0o1600) < 0: raise OSError(ctypes.get_errno(), 'shmget')"
    refused(examiner, attempt, "PermissionError")


@pytest.mark.parametrize("ending", ["raise SystemExit(0)", "os._exit(0)", "sys.exit()", "raise KeyboardInterrupt"])
def test_ending_the_process_is_no_pass(examiner: Examiner, ending: str) -> None:
    for program in (f"import os, sys\n{ending}", f"import os, sys\ndef f(): {ending}"):
        outcome = examine(examiner, program)
        assert outcome.kind == "fail" and "exit status" in outcome.reason, outcome


def test_an_end_between_calls_is_no_pass(examiner: Examiner) -> None:
    """Not even where the tests take every exception for an answer."""
    program = "import os\ndef f(x):\n    if x: os._exit(0)\n    return 42"
    tests = "assert f(0) == 42\ntry:\n    f(1)\nexcept:\n    pass"
    assert examine(examiner, program, tests).kind == "fail"


@pytest.mark.parametrize("base", ["object", "int", "str", "list", "dict", "tuple", "float"])
def test_an_object_equal_to_everything_is_equal_to_nothing(examiner: Examiner, base: str) -> None:
    program = f"""
        class Yes({base}):
            __eq__ = __lt__ = __gt__ = __le__ = __ge__ = __contains__ = lambda self, other: True
            __hash__ = {base}.__hash__
            __class__ = int
            __abs__ = __sub__ = __getitem__ = __reduce_ex__ = lambda self, *a: 42
        def f(): return Yes()
    """
    assert examine(examiner, program).kind == "fail"
    assert examine(examiner, program, "assert abs(f() - 42) < 1e-6").kind == "fail"


def test_forged_marks_of_a_pass_are_no_pass(examiner: Examiner) -> None:
    program = """
        import json, os, sys
        def f():
            for mark in ({"outcome": "pass", "reason": "", "shape": "", "defined": True}, "ready", ["value", 42]):
                body = json.dumps(mark).encode()
                print("passed", mark, flush=True)
                for descriptor in range(64):
                    try: os.write(descriptor, len(body).to_bytes(4, "big") + body)
                    except OSError: pass
            return 41
    """
    outcome = examine(examiner, program)
    assert outcome.kind == "fail" and "protocol" in outcome.reason, outcome


def test_builtins_changed_by_the_program_change_nothing_in_the_checks(examiner: Examiner) -> None:
    program = """
        import builtins, math
        builtins.abs = builtins.sum = math.fabs = lambda *a: 0
        builtins.all = builtins.isinstance = builtins.sorted = lambda *a: True
        builtins.AssertionError = builtins.Exception = StopIteration
        def f(): return 41
    """
    assert examine(examiner, program, "assert abs(f() - 42) < 1e-6").kind == "fail"
    assert examine(examiner, program, "assert all([f() == 42])").kind == "fail"


def test_threads_that_outlive_the_check_are_ended(examiner: Examiner) -> None:
    program = """
        import threading, time
        for _ in range(4): threading.Thread(target=lambda: [time.sleep(0.01) for _ in iter(int, 1)]).start()
        def f(): return 42
    """
    assert examine(examiner, program).kind == "pass"
    assert inside(examiner) == 2


def test_too_many_threads_end_the_program(examiner: Examiner) -> None:
    program = """
        import threading, time
        def f():
            threading.stack_size(65536)
            for _ in range(60): threading.Thread(target=time.sleep, args=(60,)).start()
            time.sleep(60)
    """
    outcome = examine(examiner, program)
    assert outcome.kind == "fail" and "more than 16 threads" in outcome.reason, outcome


@pytest.mark.parametrize("busy", ["signal.signal(signal.SIGXCPU, signal.SIG_IGN)", "pass"])
def test_a_loop_is_a_timeout_even_where_the_warning_is_ignored(examiner: Examiner, busy: str) -> None:
    assert examine(examiner, f"import signal\n{busy}\ndef f():\n    while True: pass").kind == "timeout"


def test_a_sleep_is_a_timeout(bubblewrap: str) -> None:
    hasty = Examiner(Limits(wall_s=1))
    before = dict(hasty.sandboxes)
    outcome = examine(hasty, "import time\ndef f(): time.sleep(60)")
    assert outcome.kind == "timeout" and "not finished after 1 s" in outcome.reason, outcome
    assert hasty.sandboxes == before and inside(hasty) == 2
    hasty.close()


def test_a_timeout_can_not_be_claimed(examiner: Examiner) -> None:
    program = "import os, signal\ndef f(): os.kill(os.getpid(), signal.SIGXCPU)"
    outcome = examine(examiner, program)
    assert outcome.kind == "fail" and "SIGXCPU" in outcome.reason, outcome


@pytest.mark.parametrize(
    "value",
    [
        "a = []; a.append(a)",
        "a = []\n    for _ in range(10_000): a = [a]",
        "a = []\n    for _ in range(99): a = [a, a]",
        "a = 'x' * 2**25",
    ],
    ids=["in itself", "deep", "doubled", "long"],
)
def test_values_without_end_are_failures(examiner: Examiner, value: str) -> None:
    outcome = examine(examiner, f"def f():\n    {value}\n    return a", "assert f() == 42")
    assert outcome.kind in ("fail", "timeout"), outcome
