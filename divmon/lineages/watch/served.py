"""Runs a user's command that serves a checkpoint: on a free port, stopped with its child processes."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from divmon.sampling import Drawing, Engine, Request

HOLDERS = ("{checkpoint}", "{port}")
GRACE = 30.0
"""Seconds to end after SIGTERM, before SIGKILL."""
PAUSE = 0.5
"""Seconds between two questions whether a server has loaded its model."""


@dataclass(frozen=True)
class ServerCommand:
    """How a checkpoint is served.

    Raises:
        ValueError: the command lacks {checkpoint} or {port}, or there is no such program.
    """

    command: str
    """A shell command with {checkpoint} and {port}."""
    model: str | None = None
    """Name of the model on a server that serves several; {checkpoint} stands for the path."""
    timeout: float = 900.0
    """Seconds to wait for the server to answer."""
    answer_timeout: float = 600.0
    """Seconds to wait for one completion."""

    def __post_init__(self) -> None:
        absent = [holder for holder in HOLDERS if holder not in self.command]
        if absent:
            raise ValueError(
                f"--serve: {self.command!r} lacks {' and '.join(absent)}; expected for example"
                " 'vllm serve {checkpoint} --port {port}'"
            )
        if shutil.which(shlex.split(self.command)[0]) is None:
            raise ValueError(f"--serve: there is no program {shlex.split(self.command)[0]!r}")

    @contextlib.contextmanager
    def serving(self, name: str | Path, renderer: Any) -> Iterator[Engine]:
        """An engine that samples from the model of that name, while it is served. Raises RuntimeError: the command
        ended, or did not answer in time."""
        from divmon.sampling.engines.server import Server
        from divmon.sampling.serving.client import Client

        port = _free_port()
        words = [w.replace("{checkpoint}", str(name)).replace("{port}", str(port)) for w in shlex.split(self.command)]
        with tempfile.TemporaryFile("w+") as out, _started(words, out) as process:
            url = f"http://127.0.0.1:{port}"
            self._wait(url, process, out)
            model = self.model and self.model.replace("{checkpoint}", str(name))
            ends = _end_tokens(Path(name))
            server = Server(Client(url, timeout=self.answer_timeout), renderer, model=model, eos_token_ids=ends)
            yield _Alive(server, lambda: _ended(process, out))

    def _wait(self, url: str, process: subprocess.Popen[str], out: IO[str]) -> None:
        from divmon.sampling.serving.client import httpx

        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline:
            if _ended(process, out):
                raise RuntimeError(_ended(process, out))
            with contextlib.suppress(httpx.TransportError):
                code = httpx.get(f"{url}/health", timeout=10.0).status_code
                if code == 404:
                    code = httpx.get(f"{url}/v1/models", timeout=10.0).status_code
                if code < 500:
                    return
            time.sleep(PAUSE)
        raise RuntimeError(f"the server did not answer within {self.timeout:g} s; its last words: {_last(out)}")


@contextlib.contextmanager
def drawing(
    monitor: Any, name: str | Path, loader: Any, server: ServerCommand | None, renderer: Callable[[], Any]
) -> Iterator[Any]:
    """The model of that name, in this process; None where it is served, and the monitor's engine draws from it."""
    if server is None:
        yield loader.model(name)
        return
    with server.serving(name, renderer()) as monitor.engine:
        yield None


class _Alive:
    """Samples from a server that may die; then the measurement fails as a whole, instead of missing some prompts."""

    def __init__(self, server: Any, ended: Callable[[], str]) -> None:
        self._server, self._ended = server, ended
        self.name = server.name

    @property
    def reason(self) -> str:
        return self._server.reason

    def draw(self, requests: Sequence[Request], **asked: Any) -> Drawing:
        try:
            return self._server.draw(requests, **asked)
        finally:
            if self._ended():
                raise RuntimeError(self._ended())


@contextlib.contextmanager
def _started(words: Sequence[str], out: IO[str]) -> Iterator[subprocess.Popen[str]]:
    """The process in a process group of its own, which is stopped as a whole: servers start workers."""
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        with contextlib.suppress(ProcessLookupError):  # also workers that outlived it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _ended(process: subprocess.Popen[str], out: IO[str]) -> str:
    """Why the server has ended; empty while it runs."""
    code = process.poll()
    return "" if code is None else f"the server ended with exit code {code}; its last words: {_last(out)}"


def _last(out: IO[str], size: int = 2000) -> str:
    out.seek(max(os.fstat(out.fileno()).st_size - size, 0))
    return out.read().strip() or "none"


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _end_tokens(path: Path) -> list[int]:
    try:
        ids = json.loads((path / "generation_config.json").read_bytes()).get("eos_token_id")
    except (OSError, ValueError):
        return []
    return ids if isinstance(ids, list) else [] if ids is None else [ids]
