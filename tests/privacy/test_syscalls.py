"""The guard can fail: each thing that it forbids is done by a small program, and seen."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.privacy.syscalls import Guard, forbidden

UDP = "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"
BY_LIBC = "ctypes.CDLL(None).mkdir(os.path.expanduser('~/native').encode(), 0o700)"
IN_A_CHILD = "import os; os.chdir(os.path.expanduser('~')); os.mkdir('child')"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("socket.getaddrinfo('example.invalid', 80)", "asks a name server"),
        ("subprocess.run(['getent', 'hosts', 'example.invalid'])", "asks a name server"),
        ("socket.create_connection(('192.0.2.1', 9), 0.1)", "reaches beyond this machine"),
        (f"{UDP}.sendto(b'x', ('192.0.2.1', 9))", "reaches beyond this machine"),
        (f"{UDP}.connect(('8.8.8.8', 80))", "reaches beyond this machine"),
        ("socket.create_connection(('2001:db8::1', 9), 0.1)", "reaches beyond this machine"),
        ("socket.create_connection(('::ffff:192.0.2.1', 9), 0.1)", "reaches beyond this machine"),
        ("socket.create_server(('0.0.0.0', 0)); socket.create_server(('0.0.0.0', 20999))", "listens to other machines"),
        ("open(os.path.expanduser('~/file'), 'w')", "writes outside"),
        ("os.mkdir(os.path.expanduser('~/folder'))", "writes outside"),
        ("open('t', 'w'); os.rename('t', os.path.expanduser('~/renamed'))", "writes outside"),
        ("os.symlink('/etc', 'away'); open('away/passkb', 'r+')", "writes outside"),
        (BY_LIBC, "writes outside"),
        (f"subprocess.run([sys.executable, '-c', {IN_A_CHILD!r}])", "writes outside"),
        ("threading.Thread(target=os.mkdir, args=(os.path.expanduser('~/thread'),)).start()", "writes outside"),
    ],
)
def test_what_is_forbidden_is_seen(guard: Guard, tmp_path: Path, code: str, reason: str) -> None:
    own = Guard(tmp_path / "own")
    own.run([sys.executable, "-c", f"import ctypes, os, socket, subprocess, sys, threading\n{code}"])
    assert any(line.startswith(reason) for line in own.violations()), own.violations()


@pytest.mark.parametrize(
    "code",
    [
        "s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname())",
        "socket.getaddrinfo('localhost', 80)",
        "open('file', 'w').write('x'); os.mkdir('folder'); os.rename('file', 'folder/file')",
        "open(os.path.expanduser('~/file')) if os.path.exists(os.path.expanduser('~/file')) else open('/etc/hosts')",
        "subprocess.run(['true'], stdout=open('/dev/null', 'w'))",
    ],
)
def test_what_is_allowed_passes(guard: Guard, tmp_path: Path, code: str) -> None:
    own = Guard(tmp_path / "own")
    done = own.run([sys.executable, "-c", f"import os, socket, subprocess\n{code}"])
    assert done.returncode == 0, done.stderr
    assert own.violations() == [] and own.logs[0].stat().st_size > 0


def test_calls_that_were_interrupted_are_put_together() -> None:
    log = (
        '10 connect(3</x>, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("192.0.2.1")}, 16 <unfinished ...>\n'
        '11 mkdir("/w/a", 0777) = 0\n'
        "10 <... connect resumed>) = -1 EINPROGRESS (Operation now in progress)\n"
        '12 openat(AT_FDCWD</w>, "b", O_WRONLY|O_CREAT <unfinished ...>\n'
    )
    found = list(forbidden(log, Path("/w"), ["/w/a"]))
    assert [line.partition(":")[0] for line in found] == ["reaches beyond this machine", "writes outside its folders"]
