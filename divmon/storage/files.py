"""Files written whole or not at all, and names that nothing has yet."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from pathlib import Path

ROLLOUTS = "rollouts"
"""Kind of a run whose prompts are those that a training happens to take: it has no probes."""


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that after a crash it is there whole, or as it was before."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # the rename is on disk once the directory is; not every file system can say so
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def unused(path: Path) -> Path:
    """`path`, or with -2, -3, ... where that exists."""
    candidates = (path.with_name(f"{path.name}-{i}") if i > 1 else path for i in itertools.count(1))
    return next(candidate for candidate in candidates if not candidate.exists())


def now(seconds: float | None = None) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
