"""The two processes of a judgement: started, spoken to, and killed with all that they started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from divmon.isolation import bubblewrap
from divmon.isolation.inside import channel, judge_side, program_side  # noqa: F401  so that their bytecode is cached
from divmon.isolation.jobs import Job, Limits, Literal
from divmon.types import Verdict

_GRACE_S = 10


@dataclass
class TestsProcess:
    """The process of the tests, which gives the verdicts. It serves one job after the other."""

    control: socket.socket
    limits: Limits
    sandboxed: bool

    @classmethod
    @contextlib.contextmanager
    def started(cls, limits: Limits, sandboxed: bool) -> Iterator[TestsProcess]:
        """Started, and killed in the end.

        Raises:
            OSError: no process can be started.
        """
        ours, theirs = socket.socketpair()
        arguments = (limits.cpu_s + _GRACE_S // 2, limits.memory_bytes, limits.answer_bytes)
        with ours, _process("judge_side", theirs, arguments, sandboxed):
            yield cls(ours, limits, sandboxed)

    def judge(self, job: Job) -> Verdict:
        """The verdict of one job, whose program gets a process of its own.

        Raises:
            OSError, channel.Closed, ValueError: this process is dead or stuck; start another.
        """
        if isinstance(job, Literal):
            self._send(job, ())
            return self._receive(self.limits.wall_s)
        ours, theirs = socket.socketpair()
        limits = self.limits
        # Without a sandbox there is no folder in memory to write to, so it may write nothing.
        arguments = (limits.cpu_s, limits.memory_bytes, limits.file_bytes if self.sandboxed else 0)
        with ours, _process("program_side", theirs, arguments, self.sandboxed, limits.file_bytes) as program:
            self._send(job, (ours.fileno(),))
            ours.close()
            try:
                verdict = self._receive(limits.wall_s)
            except TimeoutError:
                program.kill()
                late = self._receive(limits.cpu_s + _GRACE_S)  # the tests see their program gone, and end
                return Verdict(False, f"the program took over {limits.wall_s:g} s") if late.correct is False else late
            if verdict.reason == judge_side.ENDED and program.wait(_GRACE_S) in (-signal.SIGKILL, 128 + signal.SIGKILL):
                return Verdict(False, f"the program was killed; it may take {limits.cpu_s} s of CPU time")
            return verdict

    def _send(self, job: Job, descriptors: tuple[int, ...]) -> None:
        self.control.settimeout(None)
        socket.send_fds(self.control, [b"j"], descriptors)
        channel.send(self.control.fileno(), json.dumps(asdict(job)).encode())

    def _receive(self, timeout_s: float) -> Verdict:
        self.control.settimeout(timeout_s)
        self.control.recv(1, socket.MSG_PEEK)
        self.control.settimeout(None)
        return Verdict(*json.loads(channel.receive(self.control.fileno())))


@contextlib.contextmanager
def _process(
    role: str, theirs: socket.socket, arguments: tuple[int, ...], sandboxed: bool, writable_bytes: int = 1 << 20
) -> Iterator[subprocess.Popen[bytes]]:
    """`inside.<role>` in a process of its own, which alone keeps `theirs`; killed in the end.

    The program's is under the seccomp filter, given by bubblewrap or, without it, taken by itself. That of the tests is
    not, for it forks.
    """
    is_program = role == "program_side"
    words = [str(theirs.fileno()), *map(str, arguments)]
    if is_program:
        words += ["" if sandboxed else "filter", *bubblewrap.packages()]
    root = bubblewrap.HARNESS if sandboxed else str(Path(__file__).parent)
    script = bubblewrap.script(role, root, words)
    with contextlib.ExitStack() as stack:
        inherited = [stack.enter_context(theirs).fileno()]
        if sandboxed:
            filter_fd = stack.enter_context(bubblewrap.filter_descriptor()) if is_program else None
            script = bubblewrap.command(script, writable_bytes, filter_fd)
            inherited += [] if filter_fd is None else [filter_fd]
        process = subprocess.Popen(
            script,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=inherited,
            env={"PATH": os.defpath, **bubblewrap.VARIABLES},
            cwd="/",
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
