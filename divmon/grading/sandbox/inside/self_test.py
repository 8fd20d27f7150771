"""Tries from inside the sandbox what must not work there, and prints what worked, as a JSON list."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import struct
import sys
from collections.abc import Callable

_CAPABILITY_VERSION_3 = 0x20080522
_MS_REMOUNT, _MS_BIND, _CLONE_NEWUSER = 32, 4096, 0x10000000


def main() -> None:
    """Arguments: a secret file's path, the name of a secret environment variable, a port that listens on the host."""
    secret, variable, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    holes = {
        "it has capabilities": _has_capabilities,
        "it can remount /usr for writing": lambda: not _libc().mount(None, b"/usr", None, _MS_REMOUNT | _MS_BIND, None),
        "it can open another user namespace": lambda: not _libc().unshare(_CLONE_NEWUSER),
        "it can read a file of the host": lambda: os.access(secret, os.R_OK),
        "it can write outside its own folder": _can_write,
        "it can see the environment": lambda: variable in os.environ,
        "it can reach the network": lambda: bool(socket.create_connection(("127.0.0.1", port), timeout=2)),
        "it can start processes": _can_fork,
    }
    print(json.dumps([hole for hole, try_it in holes.items() if _works(try_it)]))


def _works(try_it: Callable[[], bool]) -> bool:
    try:
        return try_it()
    except OSError:
        return False


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _has_capabilities() -> bool:
    head, sets = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), ctypes.create_string_buffer(24)
    return bool(_libc().capget(head, sets)) or any(sets.raw)


def _can_write() -> bool:
    written = False
    for folder in ("/", "/usr", "/usr/lib", os.path.dirname(__file__), os.path.dirname(sys.executable)):
        path = os.path.join(folder, "written")
        written |= _works(lambda path=path: os.open(path, os.O_WRONLY | os.O_CREAT) > 0)  # type: ignore[misc]
    return written


def _can_fork() -> bool:
    child = os.fork()
    if not child:
        os._exit(0)
    return True
