"""The two processes that grade a program: started, spoken to, and killed with all that they started."""

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

from divmon.grading.sandbox import bubblewrap
from divmon.grading.sandbox.inside import channel, program_side, tests_side  # noqa: F401  so that their bytecode is cached
from divmon.grading.sandbox.jobs import Job, Limits, Literal
from divmon.types import Verdict

BUSY = "busy"
_GRACE_S = 5
"""For the tests to end after their program."""


@dataclass
class SuiteProcess:
    """The process of the tests, which gives the verdicts. It serves one job after the other."""

    control: socket.socket
    limits: Limits
    sandboxed: bool

    @classmethod
    @contextlib.contextmanager
    def started(cls, limits: Limits, sandboxed: bool) -> Iterator[SuiteProcess]:
        """Started, and killed in the end.

        Raises:
            OSError: no process can be started.
        """
        ours, theirs = socket.socketpair()
        arguments = (limits.cpu_s + 2, limits.memory_bytes, limits.answer_bytes)
        with ours, _process("tests_side", theirs, arguments, sandboxed):
            yield cls(ours, limits, sandboxed)

    def run(self, job: Job) -> Verdict:
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
                starved = _wants_to_run(program.pid)
                program.kill()
                late = self._receive(limits.cpu_s + _GRACE_S)  # the tests see their program gone, and end
                if late.correct is not False:
                    return late
                if starved:
                    return Verdict(
                        None, f"the machine was too {BUSY} to give it {limits.cpu_s} s in {limits.wall_s:g} s"
                    )
                return Verdict(False, f"the program took over {limits.wall_s:g} s")
            with contextlib.suppress(subprocess.TimeoutExpired):  # it may have closed its channel and gone on
                if verdict.reason.startswith(tests_side.ENDED) and program.wait(1) in (
                    -signal.SIGKILL,
                    128 + signal.SIGKILL,
                ):
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


def _wants_to_run(pid: int) -> bool:
    """Whether a process or one below it runs or waits for a core, and so was cut short, unlike one that sleeps."""
    waiting = [str(pid)]
    while waiting:
        folder = Path("/proc", waiting.pop())
        with contextlib.suppress(OSError):
            waiting += (folder / "task" / folder.name / "children").read_text().split()
            if (folder / "stat").read_text().rpartition(")")[2].split()[0] == "R":
                return True
    return False


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
        words += ["0" if sandboxed else str(os.getpid()), *bubblewrap.packages()]
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
