"""What a program may ask of the kernel: nothing that starts or signals a process, leaves the sandbox or hoards memory.

Limits on processes do not bind root, nor a sandbox that root starts; a seccomp filter binds everyone. It also keeps a
program without a sandbox from killing the run that grades it.
"""

from __future__ import annotations

import os
import struct
import sys

_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""Machine -> the kernel's number for its architecture (AUDIT_ARCH_*)."""

_ALLOWED = {
    "x86_64": """
        read 0, write 1, open 2, close 3, stat 4, fstat 5, lstat 6, poll 7, lseek 8, mmap 9, mprotect 10, munmap 11
        brk 12, rt_sigaction 13, rt_sigprocmask 14, rt_sigreturn 15, ioctl 16, pread64 17, pwrite64 18, readv 19
        writev 20, access 21, pipe 22, select 23, sched_yield 24, mremap 25, msync 26, mincore 27, madvise 28
        dup 32, dup2 33, pause 34, nanosleep 35, getitimer 36, alarm 37, setitimer 38, getpid 39, sendfile 40
        sendto 44, recvfrom 45, shutdown 48, getsockname 51, getpeername 52, socketpair 53
        getsockopt 55, execve 59, exit 60, wait4 61, uname 63, fcntl 72, flock 73, fsync 74, fdatasync 75
        truncate 76, ftruncate 77, getdents 78, getcwd 79, chdir 80, fchdir 81, rename 82, mkdir 83, rmdir 84
        creat 85, link 86, unlink 87, symlink 88, readlink 89, chmod 90, fchmod 91, umask 95, gettimeofday 96
        getrlimit 97, getrusage 98, sysinfo 99, times 100, getuid 102, getgid 104, geteuid 107, getegid 108
        getppid 110, getpgrp 111, getgroups 115, getresuid 118, getresgid 120, getpgid 121, getsid 124, capget 125
        rt_sigpending 127, rt_sigtimedwait 128, rt_sigsuspend 130, sigaltstack 131, utime 132, statfs 137
        fstatfs 138, getpriority 140, sched_getparam 143, sched_getscheduler 145, sched_get_priority_max 146
        sched_get_priority_min 147, prctl 157, arch_prctl 158, setrlimit 160, gettid 186, getxattr 191
        lgetxattr 192, fgetxattr 193, listxattr 194, llistxattr 195, flistxattr 196, time 201, futex 202
        sched_getaffinity 204, epoll_create 213, getdents64 217, set_tid_address 218, restart_syscall 219
        fadvise64 221, clock_gettime 228, clock_getres 229, clock_nanosleep 230, exit_group 231, epoll_wait 232
        epoll_ctl 233, utimes 235, get_mempolicy 239, waitid 247, openat 257, mkdirat 258, futimesat 261
        newfstatat 262, unlinkat 263, renameat 264, linkat 265, symlinkat 266, readlinkat 267, fchmodat 268
        faccessat 269, pselect6 270, ppoll 271, set_robust_list 273, get_robust_list 274, utimensat 280
        epoll_pwait 281, fallocate 285, epoll_create1 291, dup3 292, pipe2 293, preadv 295, pwritev 296
        prlimit64 302, getcpu 309, renameat2 316, getrandom 318, copy_file_range 326, preadv2 327, pwritev2 328
        statx 332, rseq 334, close_range 436, faccessat2 439, epoll_pwait2 441
    """,
    "aarch64": """
        getxattr 8, lgetxattr 9, fgetxattr 10, listxattr 11, llistxattr 12, flistxattr 13, getcwd 17
        epoll_create1 20, epoll_ctl 21, epoll_pwait 22, dup 23, dup3 24, fcntl 25, ioctl 29, flock 32, mkdirat 34
        unlinkat 35, symlinkat 36, linkat 37, renameat 38, statfs 43, fstatfs 44, truncate 45, ftruncate 46
        fallocate 47, faccessat 48, chdir 49, fchdir 50, fchmod 52, fchmodat 53, openat 56, close 57, pipe2 59
        getdents64 61, lseek 62, read 63, write 64, readv 65, writev 66, pread64 67, pwrite64 68, preadv 69
        pwritev 70, sendfile 71, pselect6 72, ppoll 73, readlinkat 78, newfstatat 79, fstat 80, fsync 82
        fdatasync 83, utimensat 88, capget 90, exit 93, exit_group 94, waitid 95, set_tid_address 96, futex 98
        set_robust_list 99, get_robust_list 100, nanosleep 101, getitimer 102, setitimer 103, clock_gettime 113
        clock_getres 114, clock_nanosleep 115, sched_getscheduler 120, sched_getparam 121, sched_getaffinity 123
        sched_yield 124, sched_get_priority_max 125, sched_get_priority_min 126, restart_syscall 128
        sigaltstack 132, rt_sigsuspend 133, rt_sigaction 134, rt_sigprocmask 135, rt_sigpending 136
        rt_sigtimedwait 137, rt_sigreturn 139, getpriority 141, getresuid 148, getresgid 150, times 153, getpgid 155
        getsid 156, getgroups 158, uname 160, getrlimit 163, setrlimit 164, getrusage 165, umask 166, prctl 167
        getcpu 168, gettimeofday 169, getpid 172, getppid 173, getuid 174, geteuid 175, getgid 176, getegid 177
        gettid 178, sysinfo 179, socketpair 199, getsockname 204, getpeername 205, sendto 206, recvfrom 207
        getsockopt 209, shutdown 210, brk 214, munmap 215, mremap 216, execve 221, mmap 222
        fadvise64 223, mprotect 226, msync 227, mincore 232, madvise 233, get_mempolicy 236, wait4 260
        prlimit64 261, renameat2 276, getrandom 278, copy_file_range 285, preadv2 286, pwritev2 287, statx 291
        rseq 293, close_range 436, faccessat2 439, epoll_pwait2 441
    """,
}
"""Machine -> name and number of what a program may ask: what CPython and the libraries of mathematics need in a thread.

Everything else is refused, whatever a later kernel adds. Above all: processes, threads and signals to others (fork,
clone, kill, ptrace); keys of the user's session (keyctl, add_key, request_key); sockets of any family, and io_uring,
which goes round filters; memory that no limit of the process counts (shmget, semget, msgget, mq_open, memfd_create).
What pipes and pairs of sockets may hold is bounded by the number of descriptors, none of which can be sent away, and by
the system's default for each, which cannot be raised (setsockopt).
"""

_ONLY = {
    "fcntl": (1, (0, 1, 2, 3, 4, 5, 6, 7, 1030)),  # F_DUPFD to F_SETLKW, F_DUPFD_CLOEXEC
    "ioctl": (1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),  # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIO(N)CLEX
    "prctl": (0, (3, 15, 16, 0x53564D41)),  # PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_SET_VMA
    "prlimit64": (0, (0,)),  # of this process
}
"""Call -> which of its arguments, and the values that it may have.

Refused with it: a file that sends signals to another process as it becomes ready (F_SETOWN, FIOSETOWN), limits of
another process, to outlive the parent (PR_SET_PDEATHSIG), pipes that hold more (F_SETPIPE_SZ).
"""

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # classic BPF
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000 | 1, 0x80000000  # refuse: EPERM
_NUMBER_AT, _MACHINE_AT, _ARGUMENTS_AT = 0, 4, 16  # in struct seccomp_data


def numbers(machine: str) -> dict[str, int]:
    """Name and number of each call that is allowed on a machine."""
    entries = [entry.split() for entry in _ALLOWED[machine].replace("\n", ",").split(",") if entry.strip()]
    return {name: int(number) for name, number in entries}


def seccomp_filter() -> bytes | None:
    """The filter as the kernel takes it (struct sock_filter[]); None on a machine whose numbers are not listed."""
    machine = os.uname().machine
    if sys.platform != "linux" or machine not in _MACHINES or sys.maxsize < 2**32:
        return None
    allowed = numbers(machine)
    steps = [(_LOAD, 0, 0, _MACHINE_AT), (_EQUAL, 1, 0, _MACHINES[machine]), (_RETURN, 0, 0, _KILL)]
    steps += [(_LOAD, 0, 0, _NUMBER_AT)]
    for name, (place, values) in _ONLY.items():
        # The kernel takes the lower half of each of these arguments, which comes first on these machines.
        steps += [(_EQUAL, 0, len(values) + 3, allowed.pop(name)), (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * place)]
        steps += [(_EQUAL, len(values) - i, 0, value) for i, value in enumerate(values)]
        steps += [(_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)]
    # Above 2**30 are the calls of x32, the same ones under other numbers.
    steps += [(_AT_LEAST, len(allowed), 0, 0x40000000)]
    steps += [(_EQUAL, len(allowed) - i, 0, number) for i, number in enumerate(allowed.values())]
    steps += [(_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def confine(parent: int) -> None:
    """What bubblewrap would do, without it: this process dies with its parent and is under the filter, for good.

    Does nothing where there is no filter. Raises OSError: the kernel would not.
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
