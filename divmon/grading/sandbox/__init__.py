"""Runs generated programs against tests, each in a process that it cannot leave, and believes nothing that it says.

    run (here)    ->  the tests' sandbox   <-- plain values -->  the program's sandbox
        verdict   <-

An exit code proves nothing, and neither does a secret in the same process, so the tests and the grading live in one
sandbox and the program in another: all that a program can do is to answer calls, and to pass it must answer rightly.
What is ungradable it says: tests that hand the program a function or an object of their own. A program may start
neither processes nor threads. Comparison is by value of builtin types: an object of a program's own class equals
nothing but itself.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Sequence

from divmon.grading.sandbox import bubblewrap, cgroups
from divmon.grading.sandbox.inside import channel
from divmon.grading.sandbox.jobs import Job, Limits, Literal, Submission
from divmon.grading.sandbox.processes import SuiteProcess
from divmon.types import Verdict

__all__ = ["OPT_IN", "Job", "Limits", "Literal", "Submission", "record", "refusal", "run"]

OPT_IN = "DIVMON_ALLOW_UNSANDBOXED_CODE"


def refusal(allow_unsandboxed_code: bool = False) -> str | None:
    """Why generated programs are not run here; None where they are.

    Without bubblewrap it takes a word of consent: `allow_unsandboxed_code` or DIVMON_ALLOW_UNSANDBOXED_CODE=1.
    """
    if os.name != "posix":
        return "generated code runs on Linux and macOS only"
    fault = bubblewrap.fault()
    if fault is None or allow_unsandboxed_code or os.environ.get(OPT_IN) == "1":
        return None
    return (
        f"generated code is not run without a sandbox: {fault}. Install bubblewrap 0.8 or later, or allow it to run"
        f" as you, with your files and network: allow_unsandboxed_code=True or {OPT_IN}=1"
    )


def record() -> dict[str, str]:
    """How programs are held here, for the record of a run."""
    fault, lacking = bubblewrap.fault(), cgroups.unavailable()
    bounds = "limits of the process, its system calls and looking at it"
    return {
        "programs": "in bubblewrap" if fault is None else f"not in bubblewrap: {fault}",
        "memory": "bounded by a cgroup" if lacking is None else f"bounded by {bounds}; no cgroup: {lacking}",
    }


def run(
    jobs: Sequence[Job], limits: Limits | None = None, workers: int | None = None, allow_unsandboxed_code: bool = False
) -> list[Verdict]:
    """Verdicts of the jobs, in their order. Equal jobs run once, distinct ones side by side.

    Args:
        jobs: what to grade.
        limits: of each program.
        workers: how many at a time; one a core unless told, 32 at most.
        allow_unsandboxed_code: run programs without bubblewrap where it cannot be had.

    Returns:
        None as the verdict, with the reason, where it is ungradable.
    """
    reason = refusal(allow_unsandboxed_code) if any(isinstance(job, Submission) for job in jobs) else None
    found: dict[Job, Verdict] = {}
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in dict.fromkeys(jobs):
        if reason is not None and isinstance(job, Submission):
            found[job] = Verdict(None, reason)
        else:
            waiting.put(job)
    work = (waiting, found, limits or Limits())
    threads = [
        threading.Thread(target=_work, args=work, daemon=True) for _ in range(min(workers or _cores(), waiting.qsize()))
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.5)  # a join without end may sleep through Ctrl-C, which can reach another thread
    finally:
        with contextlib.suppress(queue.Empty):  # interrupted: what runs comes to its end, and nothing more is begun
            while True:
                waiting.get_nowait()
    return [found.get(job) or Verdict(None, "no process could be started to grade it") for job in jobs]


def _cores() -> int:
    """At most 32: each may take the memory that its program is allowed."""
    return min(32, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _work(waiting: queue.SimpleQueue[Job], found: dict[Job, Verdict], limits: Limits) -> None:
    """One worker: a process of tests of its own, which is begun anew after a failure, and one job after the other."""
    sandboxed = bubblewrap.fault() is None
    while not waiting.empty():
        with SuiteProcess.started(limits, sandboxed) as tests:
            while True:
                try:
                    job = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    found[job] = tests.run(job)
                except (OSError, channel.Closed, ValueError) as error:
                    found[job] = Verdict(None, f"the sandbox failed: {type(error).__name__}: {error}")
                    break
