"""Tries from inside the sandbox what must not work there, and prints what worked, as a JSON list."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import socket
import struct
import sys
from collections.abc import Callable

_CAPABILITY_VERSION_3 = 0x20080522
_MACHINES = ("x86_64", "aarch64")
_CALLS: dict[str, tuple[int, int, tuple[object, ...]]] = {
    "read the keys of the session": (250, 219, (0, -3, 0)),  # keyctl, KEYCTL_GET_KEYRING_ID of the session's
    "add a key to the session": (248, 217, (b"user", b"divmon", b"x", 1, -3)),
    "ask for a key": (249, 218, (b"user", b"divmon", None, -3)),  # request_key
    "use io_uring": (425, 425, (1, ctypes.create_string_buffer(120))),
    "hold semaphores": (64, 190, (0, 1, 0o1600)),
    "hold a queue of messages": (68, 186, (0, 0o1600)),
    "hold shared memory": (29, 194, (0, 4096, 0o1600)),
    "hold a queue of messages by name": (240, 180, (b"divmon", os.O_RDWR | os.O_CREAT, 0o600, None)),
    "hold a file in memory": (319, 279, (b"divmon", 0)),
    "set limits of other processes": (302, 261, (1, 7, None, ctypes.create_string_buffer(16))),  # prlimit64
}
"""What no program may do: the number of the call that does it on each of the machines, and its arguments."""
_AF_VSOCK = 40
_F_SETOWN, _F_SETPIPE_SZ, _FIOSETOWN = 8, 1031, 0x8901
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
        "it can open a socket to the host's machine": lambda: bool(socket.socket(_AF_VSOCK, socket.SOCK_STREAM)),
        "it can open a socket": lambda: bool(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)),
        "it can start processes": _can_fork,
        "it can have a file signal processes": _can_have_signals_sent,
        "it can make pipes hold more": lambda: fcntl.fcntl(os.pipe()[0], _F_SETPIPE_SZ, 1 << 20) > 0,
        **{f"it can {what}": lambda what=what: _called(what) for what in _CALLS},  # type: ignore[misc]
    }
    print(json.dumps([hole for hole, try_it in holes.items() if _works(try_it)]))


def _works(try_it: Callable[[], bool]) -> bool:
    try:
        return try_it()
    except OSError:
        return False


def _called(what: str) -> bool:
    *numbers, arguments = _CALLS[what]
    number = dict(zip(_MACHINES, numbers, strict=True)).get(os.uname().machine)
    return number is not None and _libc().syscall(number, *arguments) >= 0


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


def _can_have_signals_sent() -> bool:
    ours, _ = socket.socketpair()
    by_fcntl = _works(lambda: fcntl.fcntl(ours, _F_SETOWN, 1) == 0)
    return by_fcntl or _works(lambda: bool(fcntl.ioctl(ours, _FIOSETOWN, struct.pack("i", 1))))


def _can_fork() -> bool:
    child = os.fork()
    if not child:
        os._exit(0)
    return True
