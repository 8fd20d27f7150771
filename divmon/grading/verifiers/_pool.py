"""The child processes of a rule: started when they are first needed, replaced when they fail, ended with the parent."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from divmon.types import Verdict

START_SECONDS = 120.0
"""What a child may take to start and to load its libraries; a busy machine takes long."""
PATIENCE = 10
"""Texts of one call that may time out; from then on each gets a tenth of the time, so that training waits minutes at
most where a model has learnt to write what no parser ends on."""
CRASHES = 5
"""Texts in a row on which a child ends, without one graded between them: the verifier is at fault and not the texts.
No further child is started for the call; the next call tries one text."""
JOBS_A_WORKER = 64
"""A further child is started for as many texts: loading its libraries takes as long as grading them."""
_CANNOT_START = "the verifier's process could not start: "
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Worker:
    """One child process. It is at `job`, an index, or at none; before it is `ready` it loads its rule."""

    def __init__(self, verifier: str) -> None:
        here = Path(__file__)
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(here.with_name("_worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | ONE_THREAD,
            start_new_session=True,  # Ctrl-C is the training script's to handle, and its children end with it
        )
        self.ready = False
        self.job: int | None = None
        self._received = b""
        self.send({"verifier": verifier, "path": [*sys.path, str(here.parents[2])]}, START_SECONDS)

    def send(self, message: dict[str, Any], seconds: float) -> None:
        """Sends a line; what is to come of it is due in `seconds`."""
        assert self.process.stdin is not None
        self.seconds = seconds
        self.due = time.monotonic() + seconds
        with contextlib.suppress(OSError):  # it has ended, which its output will say
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def receive(self) -> dict[str, Any] | None:
        """The reply; None where a part of it is still to come. Raises EOFError: the child has ended."""
        assert self.process.stdout is not None
        part = os.read(self.process.stdout.fileno(), 1 << 16)
        if not part:
            raise EOFError
        self._received += part
        if not self._received.endswith(b"\n"):
            return None
        reply, self._received = json.loads(self._received), b""
        return reply

    def end(self) -> int:
        """Kills it with all it started; returns its exit status."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError, AttributeError):
                pipe.close()  # type: ignore[union-attr]
        return self.process.wait()


class Pool:
    """The children of one rule. They stay for the next call."""

    def __init__(self, verifier: str) -> None:
        self.verifier = verifier
        self.workers: list[Worker] = []
        self.crashes = 0
        """In a row, over all calls."""
        self._one_call = threading.Lock()

    def run(self, jobs: Sequence[dict[str, Any]], seconds: float, size: int) -> list[Verdict]:
        """The verdict on each job, which goes to whichever of at most `size` children is free."""
        with self._one_call:
            call = _Call(self, jobs, seconds, min(size, 1 + len(jobs) // JOBS_A_WORKER))
            try:
                return call.verdicts()
            finally:
                if any(worker.job is not None or not worker.ready for worker in self.workers):
                    self.close()  # a call that was broken off leaves children that are at its jobs

    def close(self) -> None:
        """Ends the children."""
        while self.workers:
            self.workers.pop().end()


class _Call:
    def __init__(self, pool: Pool, jobs: Sequence[dict[str, Any]], seconds: float, size: int) -> None:
        self.pool = pool
        self.jobs = jobs
        self.seconds = seconds
        self.size = size
        self.waiting = deque(range(len(jobs)))
        self.done: dict[int, Verdict] = {}
        self.timed_out = 0
        self.failure: str | None = None
        """Why no further child is started; the reason of every text that is left."""

    def verdicts(self) -> list[Verdict]:
        for worker in [worker for worker in self.pool.workers if worker.process.poll() is not None]:
            self._end(worker)  # killed since the last call, for memory perhaps
        while len(self.done) < len(self.jobs) and self.failure is None:
            self._hand_out()
            self._collect()
        missing = Verdict(None, self.failure or "")
        return [self.done.get(index, missing) for index in range(len(self.jobs))]

    def _hand_out(self) -> None:
        workers = self.pool.workers
        try:
            while len(workers) < min(self.size, len(self.waiting) + sum(w.job is not None for w in workers)):
                workers.append(Worker(self.pool.verifier))
        except OSError as error:
            self.failure = _CANNOT_START + str(error)
        for worker in workers:
            if worker.ready and worker.job is None and self.waiting:
                worker.job = self.waiting.popleft()
                limit = self.seconds if self.timed_out < PATIENCE else self.seconds / 10
                worker.send(self.jobs[worker.job] | {"seconds": limit}, limit)

    def _collect(self) -> None:
        """Takes what has come, until the next time limit is due."""
        expected = [worker for worker in self.pool.workers if worker.job is not None or not worker.ready]
        if not expected:
            return
        with selectors.DefaultSelector() as selector:
            for worker in expected:
                assert worker.process.stdout is not None
                selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
            due = min(worker.due for worker in expected)
            ready = [key.data for key, _ in selector.select(max(0.0, due - time.monotonic()))]
        for worker in ready:
            try:
                reply = worker.receive()
            except EOFError:
                self._crashed(worker, f"its process ended ({_status(self._end(worker))})")
                continue
            if reply is not None:
                self._take(worker, reply)
        for worker in expected:
            if worker not in ready and worker.due <= time.monotonic():
                self.timed_out += worker.ready
                self._end(worker)
                self._lost(worker, f"timed out after {worker.seconds:g} s")

    def _take(self, worker: Worker, reply: dict[str, Any]) -> None:
        if worker.job is not None:
            self.done[worker.job] = Verdict(reply["correct"], reply["reason"], reply["answer"])
            self.pool.crashes = 0
            worker.job = None
        elif reply["ready"]:
            worker.ready = True
        else:
            self.failure = _CANNOT_START + reply["reason"]

    def _crashed(self, worker: Worker, reason: str) -> None:
        self._lost(worker, reason)
        if worker.job is not None:
            self.pool.crashes += 1
            # A verifier of ours is not at fault itself, so that it takes more for one policy's texts to stop it.
            if self.pool.crashes >= (CRASHES if ":" in self.pool.verifier else 10 * CRASHES):
                self.failure = f"not tried: the verifier crashed on {self.pool.crashes} texts in a row ({reason})"

    def _lost(self, worker: Worker, reason: str) -> None:
        if worker.job is None:
            self.failure = _CANNOT_START + reason
        else:
            self.done[worker.job] = Verdict(None, reason)

    def _end(self, worker: Worker) -> int:
        self.pool.workers.remove(worker)
        return worker.end()


def _status(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


_pools: dict[tuple[int, str], Pool] = {}


def pool(verifier: str) -> Pool:
    """The children of that rule; a forked process, such as a data loader's, has its own."""
    return _pools.setdefault((os.getpid(), verifier), Pool(verifier))


@atexit.register
def _close() -> None:
    for (owner, _), one in list(_pools.items()):
        if owner == os.getpid():
            one.close()
