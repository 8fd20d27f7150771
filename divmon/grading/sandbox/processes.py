"""The two processes that grade a program: started, spoken to, and killed with all that they started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from divmon.grading.sandbox import bubblewrap, cgroups, usage
from divmon.grading.sandbox.inside import channel, program_side, tests_side  # noqa: F401  so that their bytecode is cached
from divmon.grading.sandbox.jobs import Job, Limits, Literal
from divmon.types import Verdict

BUSY = "busy"
_GRACE_S = 5
"""For the tests to end after their program."""
_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""Exit codes of a program that the kernel killed, itself and as bubblewrap passes it on."""
_LOOK_S = 0.1
"""From one look at a program's memory to the next."""


@dataclass
class SuiteProcess:
    """The process of the tests, which gives the verdicts. It serves one job after the other."""

    control: socket.socket
    limits: Limits
    sandboxed: bool

    @classmethod
    @contextlib.contextmanager
    def started(cls, limits: Limits, sandboxed: bool) -> Iterator[SuiteProcess]:
        """Started, and killed in the end. Raises OSError: no process can be started."""
        ours, theirs = socket.socketpair()
        arguments = (limits.cpu_s + 2, limits.memory_bytes, limits.answer_bytes)
        with ours, _process("tests_side", theirs, arguments, limits, sandboxed):
            yield cls(ours, limits, sandboxed)

    def run(self, job: Job) -> Verdict:
        """The verdict of one job, whose program gets a process of its own. Raises OSError, channel.Closed, ValueError:
        this process is dead or stuck; start another."""
        if isinstance(job, Literal):
            self._send(job, ())
            return self._receive(self.limits.wall_s)
        ours, theirs = socket.socketpair()
        limits = self.limits
        # Without a sandbox there is no folder in memory to write to, so it may write nothing.
        arguments = (limits.cpu_s, limits.memory_bytes, limits.file_bytes if self.sandboxed else 0)
        with ours, _process("program_side", theirs, arguments, limits, self.sandboxed) as program:
            self._send(job, (ours.fileno(),))
            ours.close()
            try:
                self._await_program(program.pid)
                verdict = self._receive(None)
            except TimeoutError:
                return self._late(program)
            except MemoryError:
                program.kill()
                self._receive(limits.cpu_s + _GRACE_S)
                return Verdict(False, f"the program took over {limits.all_bytes >> 20} MB, its files included")
            return self._explained(verdict, program)

    def _late(self, program: subprocess.Popen[bytes]) -> Verdict:
        limits, starved = self.limits, usage.wants_to_run(program.pid)
        program.kill()
        late = self._receive(limits.cpu_s + _GRACE_S)  # the tests see their program gone, and end
        if late.correct is not False:
            return late
        if starved:
            return Verdict(None, f"the machine was too {BUSY} to give it {limits.cpu_s} s in {limits.wall_s:g} s")
        return Verdict(False, f"the program took over {limits.wall_s:g} s")

    def _explained(self, verdict: Verdict, program: subprocess.Popen[bytes]) -> Verdict:
        """With what ended the program, where the kernel did."""
        with contextlib.suppress(subprocess.TimeoutExpired):  # it may have closed its channel and gone on
            if verdict.reason.startswith(tests_side.ENDED) and program.wait(1) in _KILLED:
                limits = self.limits
                most = f"{limits.cpu_s} s of CPU time and {limits.all_bytes >> 20} MB of memory"
                return Verdict(False, f"the program was killed; it may take {most}")
        return verdict

    def _send(self, job: Job, descriptors: tuple[int, ...]) -> None:
        self.control.settimeout(None)
        socket.send_fds(self.control, [b"j"], descriptors)
        channel.send(self.control.fileno(), json.dumps(asdict(job)).encode())

    def _await_program(self, pid: int) -> None:
        """Until there is a verdict. Raises TimeoutError: there is none in time; MemoryError: the program took more than
        its limit on a process shows."""
        until = time.monotonic() + self.limits.wall_s
        while not self._answered():
            if time.monotonic() > until:
                raise TimeoutError
            if usage.memory_bytes(pid) > self.limits.all_bytes:
                raise MemoryError

    def _answered(self) -> bool:
        """Whether there is something to receive, after a moment."""
        self.control.settimeout(_LOOK_S)
        try:
            self.control.recv(1, socket.MSG_PEEK)
            return True
        except TimeoutError:
            return False

    def _receive(self, timeout_s: float | None) -> Verdict:
        self.control.settimeout(timeout_s)
        self.control.recv(1, socket.MSG_PEEK)
        self.control.settimeout(None)
        return Verdict(*json.loads(channel.receive(self.control.fileno())))


@contextlib.contextmanager
def _process(
    role: str, theirs: socket.socket, arguments: tuple[int, ...], limits: Limits, sandboxed: bool
) -> Iterator[subprocess.Popen[bytes]]:
    """`inside.<role>` in a process of its own, which alone keeps `theirs`; killed in the end.

    The program's is under the seccomp filter, given by bubblewrap or, without it, taken by itself, and in a cgroup
    where there is one. That of the tests is not, for it forks.
    """
    is_program = role == "program_side"
    words = [str(theirs.fileno()), *map(str, arguments)]
    if is_program:
        words += ["0" if sandboxed else str(os.getpid()), *bubblewrap.packages()]
    line = bubblewrap.script(role, bubblewrap.HARNESS if sandboxed else str(Path(__file__).parent), words)
    with contextlib.ExitStack() as until_it_ended:
        with contextlib.ExitStack() as until_it_started:
            inherited = [until_it_started.enter_context(theirs).fileno()]
            if sandboxed:
                filter_fd = until_it_started.enter_context(bubblewrap.filter_descriptor()) if is_program else None
                line = bubblewrap.command(line, limits.file_bytes if is_program else 1 << 20, filter_fd)
                inherited += [] if filter_fd is None else [filter_fd]
            if is_program:
                line = until_it_ended.enter_context(cgroups.placed(line, limits))
            process = _started(line, inherited)
        until_it_ended.callback(_kill, process)
        yield process


def _started(line: list[str], inherited: list[int]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        line,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=inherited,
        env={"PATH": os.defpath, **bubblewrap.VARIABLES},
        cwd="/",
        start_new_session=True,
    )


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
