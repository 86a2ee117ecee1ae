"""Connections are lent for the length of a block: few of them, in turn, and none stays with a thread that has ended."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import pytest

from kb.notes import Note, PasskbError
from kb.store.connections import DEFAULT_SIZE, ConnectionPool, PoolExhausted
from kb.store.queries import Store
from tests.processes import handles, run_python


@pytest.fixture
def store(home: Path) -> Store:
    opened = Store(home / "kb.sqlite")
    with opened.writing() as change:
        change.put_note(Note("v/one", "One", text="Otters."))
    return opened


def test_threads_that_ended_hold_nothing(store: Store) -> None:
    """A connection a thread would be 1,200 handles."""
    before = handles()
    for _ in range(20):
        threads = [threading.Thread(target=store.titles) for _ in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert handles() - before <= 2 * DEFAULT_SIZE


def test_no_more_connections_are_open_than_the_pool_is_large(tmp_path: Path) -> None:
    opened, out, most = list[sqlite3.Connection](), 0, 0
    lock, meet = threading.Lock(), threading.Barrier(3)

    def connect() -> sqlite3.Connection:
        opened.append(sqlite3.connect(tmp_path / "db", check_same_thread=False))
        return opened[-1]

    def use() -> None:
        nonlocal out, most
        for _ in range(20):
            with pool.connection():
                with lock:
                    out += 1
                    most = max(most, out)
                with lock:
                    out -= 1

    def meeting() -> None:
        with pool.connection():
            meet.wait(60)

    pool = ConnectionPool(connect, lambda: 0, size=3)
    for work, count in ((meeting, 3), (use, 30)):
        threads = [threading.Thread(target=work) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(opened) == 3 and 1 <= most <= 3


def test_blocks_of_one_thread_share_a_connection(store: Store) -> None:
    with store.database.connection() as outer, store.reading(), store.database.connection() as inner:
        assert inner is outer and inner.in_transaction
        store.titles()
    assert not store.database.is_nested
    with store.database.connection() as later:
        assert later is outer and not later.in_transaction


def test_whoever_waits_in_vain_is_told(tmp_path: Path) -> None:
    pool = ConnectionPool(lambda: sqlite3.connect(tmp_path / "db", check_same_thread=False), lambda: 0, size=1)
    failures: list[BaseException] = []

    def wait() -> None:
        try:
            with pool.connection(timeout=0.01):
                pass
        except PoolExhausted as error:
            failures.append(error)

    with pool.connection():
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join()
    assert "all 1 connections have been in use for 0.01 s" in str(failures[0])
    with pool.connection(timeout=0.01):
        pass


def test_what_fails_gives_its_connection_back(store: Store) -> None:
    for _ in range(DEFAULT_SIZE + 1):
        with pytest.raises(RuntimeError), store.reading():
            raise RuntimeError("a fault")
        with pytest.raises(PasskbError), store.database.connection() as connection:
            connection.execute("SELECT nothing FROM nowhere")
    assert store.titles()


def test_another_file_in_the_place_of_the_first_is_read(store: Store, tmp_path: Path) -> None:
    """As a rebuild does with a damaged file; idle connections to the old one are closed."""
    other = Store(tmp_path / "other" / "kb.sqlite")
    with other.writing() as change:
        change.put_note(Note("v/two", "Two"))
    other.close()
    meet = threading.Barrier(3)

    def meeting() -> None:
        with store.reading():
            meet.wait(60)

    threads = [threading.Thread(target=meeting) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for end in ("-wal", "-shm"):
        Path(f"{store.database.path}{end}").unlink(missing_ok=True)
    os.replace(other.database.path, store.database.path)
    assert [row[0] for row in store.titles()] == ["v/two"]
    assert not [name for name in map(os.readlink, _links()) if "(deleted)" in name and "kb.sqlite" in name]


def test_a_closed_store_opens_again(store: Store) -> None:
    with store.reading():
        store.close()
        assert store.titles()
    assert store.titles()
    store.close()
    assert not [name for name in map(os.readlink, _links()) if name.startswith(str(store.database.path))]


def test_a_forked_child_opens_connections_of_its_own(home: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from kb.store.queries import Store
store = Store(Path(sys.argv[1]) / "kb.sqlite")
store.titles()
with store.database.connection() as parents:
    pass
child = os.fork()
if not child:
    with store.database.connection() as connection:
        os._exit(3 if connection is parents else len(store.titles()))
assert os.waitpid(child, 0)[1] == 0
store.titles()
print("fine")
"""
    assert run_python(script, home).stdout.strip() == "fine"


def test_a_home_that_can_not_be_opened_for_want_of_handles_says_so(home: Path, store: Store) -> None:
    """Not that its folder were somebody else's."""
    script = """
import os, resource, sys
from pathlib import Path
from kb.notes import PasskbError
from kb.store.queries import Store
path = Path(sys.argv[1]) / "kb.sqlite"
Store(path).close()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
try:
    Store(path)
except PasskbError as error:
    print(error)
"""
    message = run_python(script, home).stdout
    assert "too many open files: raise the limit with `ulimit -n`, or restart passkb" in message
    assert "yours to write" not in message


def _links() -> list[str]:
    return [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{name}")]
