"""What a program may not ask of the kernel: to start a process or a thread, to signal one, or to hoard memory unseen.

Limits on processes do not bind root, nor a sandbox that root starts; a seccomp filter binds everyone. It also keeps a
program without a sandbox from killing the run that grades it.
"""

from __future__ import annotations

import os
import struct
import sys

_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""Machine -> the kernel's number for its architecture (AUDIT_ARCH_*)."""

_DENIED = {
    # fork, vfork, clone, clone3: a thread is refused too, or threads without end take every process id there is.
    # shmget, memfd_create: memory that no limit of the process counts.
    # kill, tkill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo, pidfd_send_signal, ptrace, process_vm_writev.
    "x86_64": (57, 58, 56, 435, 29, 319, 62, 200, 234, 129, 297, 424, 101, 311),
    "aarch64": (220, 435, 194, 279, 129, 130, 131, 138, 240, 424, 117, 271),
}

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # classic BPF
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000 | 1, 0x80000000  # refuse: EPERM


def seccomp_filter() -> bytes | None:
    """The filter as the kernel takes it (struct sock_filter[]); None on a machine whose numbers are not listed."""
    machine = os.uname().machine
    if sys.platform != "linux" or machine not in _MACHINES or sys.maxsize < 2**32:
        return None
    denied = _DENIED[machine]
    steps = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _MACHINES[machine]), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    # Above 2**30 are the calls of x32, the same ones under other numbers.
    steps += [(_AT_LEAST, len(denied) + 1, 0, 0x40000000)]
    steps += [(_EQUAL, len(denied) - i, 0, number) for i, number in enumerate(denied)]
    steps += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def confine(parent: int) -> None:
    """What bubblewrap would do, without it: this process dies with its parent and is under the filter, for good.

    Does nothing where there is no filter.

    Args:
        parent: process id of the parent, which may be dead already.

    Raises:
        OSError: the kernel would not.
    """
    code = seccomp_filter()
    if code is None:
        return
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    set_death_signal, kill = 1, 9
    libc.prctl(set_death_signal, kill, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    no_new_privileges, set_seccomp, filter_mode = 38, 22, 2
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) or libc.prctl(set_seccomp, filter_mode, program, 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel refused the seccomp filter")
