"""The rights of the process that runs the tests: fewer than root's for a while, or mounts of its own."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

# Options of unshare(1) for a program that may mount what only it sees; an ordinary user needs a user namespace for that.
OWN_MOUNTS = ("--mount",) if os.geteuid() == 0 else ("--map-root-user", "--mount")
_VERSION_3 = 0x20080522
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Set(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


@contextmanager
def permissions_enforced() -> Iterator[None]:
    """Within it, this thread and those that it starts are refused what a file's mode refuses its owner, also where they are
    root's (capabilities(7)). Linux only."""
    if os.geteuid() != 0:
        yield
        return
    header, before = _Header(_VERSION_3, 0), (_Set * 2)()
    _call("capget", header, before)
    without = (_Set * 2)(*(_Set(each.effective, each.permitted, each.inheritable) for each in before))
    without[0].effective &= ~(1 << _DAC_OVERRIDE | 1 << _DAC_READ_SEARCH)
    _call("capset", header, without)
    try:
        yield
    finally:
        _call("capset", header, before)


def _call(name: str, header: _Header, sets: ctypes.Array[_Set]) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(ctypes.byref(header), sets) != 0:
        raise OSError(ctypes.get_errno(), f"{name} failed")
