"""The fault matrix: what goes wrong in a training of four steps, measured at 0, 2 and 4, and what comes of it."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from divmon.training.training_run import TrainingRun

ALL = (0, 2, 4)
At = Callable[[int, TrainingRun, Path], None]


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong."""

    name: str
    said: str
    """In the problems of the run as it is read back; "" where nothing is wrong with it."""
    steps: tuple[int, ...] = ALL
    """Snapshots that there are in the end."""
    options: dict[str, Any] = field(default_factory=dict)
    loggers: tuple[Any, ...] = ()
    at: At = lambda step, run, folder: None
    """Called before each step."""


def metric(result: Callable[[Any], Any]) -> dict[str, Any]:
    def own(lengths_PK: torch.Tensor) -> Any:
        return result(lengths_PK)

    return {"metrics": ["ead", own]}


def raises(error: BaseException) -> Callable[..., Any]:
    def raising(*_: Any, **__: Any) -> Any:
        raise error

    return raising


def rule(result: Callable[..., Any]) -> dict[str, Any]:
    def grades(text: str, prompt: Any) -> Any:
        return result()

    return {"verifier": grades}


class Panic(BaseException):
    """As the tokenizers library raises where its Rust code panics."""


class Unreadable(Exception):
    """Its text is code, which does not come to its end."""

    def __str__(self) -> str:
        raise SystemExit(1)


class Endless(Unreadable):
    def __str__(self) -> str:
        time.sleep(600)
        return ""


class Trap:
    """A result that ends the process when it is looked at."""

    @property
    def shape(self) -> Any:
        raise SystemExit(1)

    __len__ = __float__ = __bool__ = __iter__ = raises(SystemExit(1))


class TrapTensor(torch.Tensor):
    @classmethod
    def __torch_function__(cls, *_: Any, **__: Any) -> Any:
        raise SystemExit(1)


class Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("no log server")


HANDLER = Handler()


class Logger:
    def __init__(self, error: BaseException, closing: bool = False) -> None:
        self.error, self.closing = error, closing

    def log(self, snapshot: Any, probes: Any) -> None:
        if not self.closing:
            raise self.error

    def close(self) -> None:
        if self.closing:
            raise self.error


def at(step: int, act: Callable[[TrainingRun, Path], Any]) -> At:
    return lambda now, run, folder: act(run, folder) if now == step else None


def once(run: TrainingRun, error: BaseException) -> None:
    """The next measurement meets this error in the middle."""
    engine = run.live._sampler
    draw = engine.draw  # type: ignore[union-attr]

    def failing(*given: Any, **named: Any) -> Any:
        engine.draw = draw  # type: ignore[union-attr]
        raise error

    engine.draw = failing  # type: ignore[union-attr]


def in_the_way(run: TrainingRun, folder: Path) -> None:
    (folder / "snapshots").rename(folder / "kept")
    (folder / "snapshots").write_text("in the way")


def out_of_the_way(run: TrainingRun, folder: Path) -> None:
    (folder / "snapshots").unlink()
    (folder / "kept").rename(folder / "snapshots")


def diverges(run: TrainingRun, folder: Path) -> None:
    for parameter in run.live._sampler.model.parameters():  # type: ignore[union-attr]
        parameter.data.fill_(float("nan"))


def no_directory(run: TrainingRun, folder: Path) -> None:
    gone = folder.parent / "gone"
    gone.mkdir()
    os.chdir(gone)
    shutil.rmtree(gone)


def overwritten(run: TrainingRun, folder: Path) -> None:
    file = folder / "snapshots" / "00000002.json"
    data = bytearray(file.read_bytes())
    data[40] ^= 1
    file.write_bytes(data)


def no_log(run: TrainingRun, folder: Path) -> None:
    logging.getLogger().addHandler(HANDLER)
    once(run, MemoryError("out of memory"))


LOST_2 = (0, 4)
MATRIX = (
    Fault("nothing", ""),
    Fault("a metric raises", "own", options=metric(raises(RuntimeError("no")))),
    Fault("a metric exits", "SystemExit", options=metric(raises(SystemExit(1)))),
    Fault("a metric interrupts", "KeyboardInterrupt", options=metric(raises(KeyboardInterrupt()))),
    Fault("a metric hangs", "did not return in", options=metric(lambda _: time.sleep(600)) | {"user_timeout": 0.2}),
    Fault("a metric gives another shape", "has the shape", options=metric(lambda lengths_PK: lengths_PK)),
    Fault("a metric's error ends the process as it is read", "in its own text", options=metric(raises(Unreadable()))),
    Fault(
        "a metric's error hangs as it is read",
        "did not return in",
        options=metric(raises(Endless())) | {"user_timeout": 0.2},
    ),
    Fault("a metric gives a trap", "own", options=metric(lambda _: Trap())),
    Fault("a metric gives a trapped tensor", "", options=metric(lambda t: t.nanmean(-1).as_subclass(TrapTensor))),
    Fault("a verifier gives a trap", "", options=rule(Trap)),
    Fault("a verifier's error ends the process as it is read", "", options=rule(raises(Unreadable()))),
    Fault("a logger's error ends the process as it is read", "logging to Logger", loggers=(Logger(Unreadable()),)),
    Fault(
        "the log takes nothing",
        "out of memory",
        LOST_2,
        at=lambda step, run, folder: {2: no_log, 3: lambda *_: logging.getLogger().removeHandler(HANDLER)}.get(
            step, lambda *_: None
        )(run, folder),
    ),
    Fault("a metric gives text", "own", options=metric(lambda _: "many")),
    Fault(
        "a metric runs out of memory", "out of memory", options=metric(raises(torch.OutOfMemoryError("out of memory")))
    ),
    Fault("a metric changes the directory", "", options=metric(lambda t: (os.chdir("/"), t.nanmean(-1))[1])),
    Fault("a verifier raises", "", options=rule(raises(RuntimeError("no")))),
    Fault("a verifier exits", "", options=rule(raises(SystemExit(1)))),
    Fault("a verifier hangs", "", options=rule(lambda: time.sleep(600)) | {"user_timeout": 0.2}),
    Fault("a verifier gives a number", "", options=rule(lambda: 3)),
    Fault("a logger raises", "logging to Logger failed", loggers=(Logger(OSError("gone")),)),
    Fault("a logger exits", "logging to Logger failed", loggers=(Logger(SystemExit(1)),)),
    Fault("a logger cannot be closed", "", loggers=(Logger(OSError("gone"), closing=True),)),
    Fault(
        "memory runs out while sampling",
        "out of memory",
        LOST_2,
        at=at(2, lambda run, _: once(run, MemoryError("out of memory"))),
    ),
    Fault("a tokenizer panics", "Panic", LOST_2, at=at(2, lambda run, _: once(run, Panic("at lib.rs:3")))),
    Fault("the model diverges", "NaN", at=at(2, diverges)),
    Fault(
        "the disk fails for a while",
        "NotADirectoryError",
        LOST_2,
        at=lambda step, run, folder: {2: in_the_way, 3: out_of_the_way}.get(step, lambda *_: None)(run, folder),
    ),
    Fault("a snapshot is overwritten", "00000002.json", at=at(4, overwritten)),
    Fault(
        "the samples are deleted",
        "00000002.samples",
        at=at(4, lambda _, folder: (folder / "snapshots/00000002.samples.jsonl.gz").unlink()),
    ),
    Fault("the working directory is deleted", "", at=at(2, no_directory)),
    Fault("there is no standard output", "", at=at(1, lambda *_: setattr(sys, "stdout", None))),
    Fault(
        "there is no standard error, and progress is shown",
        "",
        options={"progress": True},
        at=at(1, lambda *_: setattr(sys, "stderr", None)),
    ),
    Fault("the standard output is something else", "", at=at(1, lambda *_: setattr(sys, "stdout", object()))),
    Fault("the clock stands", "", at=at(1, lambda *_: setattr(time, "perf_counter", lambda: 5.0))),
    Fault(
        "the clock goes back",
        "",
        at=at(1, lambda *_: setattr(time, "perf_counter", iter(range(10**6, 0, -1)).__next__)),
    ),
    Fault("prompts do not fit", "", options={"probes": ["x" * 9000, "what is one plus two?"]}),
)
"""Each is run by `tests/training/test_faults.py`. What kills the process is in `tests/training/test_kills.py`, damaged
files in `tests/storage/test_damage.py`, hostile servers in `tests/sampling/test_server_hostile.py`, hostile programs in
`tests/grading/test_attacks.py`."""
