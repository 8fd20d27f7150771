"""A cgroup for each program, where this user may make one: the kernel then bounds memory of every kind, and processes.

That takes cgroup v2 with the controllers "memory" and "pids" handed on to the folder that holds this process's own, as
in a systemd session. `unavailable` says why it is not so here; memory is then bounded by limits of the process, by the
filter of system calls, and by looking at it (`usage`).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from divmon.grading.sandbox.jobs import Limits

ROOT, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_PROCESSES = 16
"""In a group: the program and those of bubblewrap."""
_ENTER = 'echo 0 > "$0/cgroup.procs" && exec "$@"'
_numbers = itertools.count()


def unavailable() -> str | None:
    """Why programs get no cgroup here, found by trying it once; None where they do."""
    parent, reason = _found()
    return None if parent is not None else reason


@contextlib.contextmanager
def placed(line: Sequence[str], limits: Limits) -> Iterator[list[str]]:
    """The command line that runs another one in a group of its own; the same one where there is no cgroup.

    What still runs in the group in the end is killed.
    """
    parent, _ = _found()
    if parent is None:
        yield list(line)
        return
    with group(parent, limits.all_bytes) as folder:
        yield _entering(folder, line)


@contextlib.contextmanager
def group(parent: Path, memory_bytes: int) -> Iterator[Path]:
    """The folder of a new group that is limited so. Raises OSError: the kernel would not."""
    folder = parent / f"divmon-{os.getpid()}-{next(_numbers)}"
    folder.mkdir()
    try:
        (folder / "memory.max").write_text(str(memory_bytes))
        (folder / "pids.max").write_text(str(_PROCESSES))
        for name, value in {"memory.swap.max": "0", "memory.oom.group": "1"}.items():
            with contextlib.suppress(OSError):  # not in every kernel
                (folder / name).write_text(value)
        yield folder
    finally:
        _remove(folder)


def _entering(folder: Path, line: Sequence[str]) -> list[str]:
    """A shell enters the group first, so that no process of the program is ever outside of it."""
    return ["/bin/sh", "-c", _ENTER, str(folder), *line]


def _remove(folder: Path) -> None:
    with contextlib.suppress(OSError):
        (folder / "cgroup.kill").write_text("1")
    for _ in range(100):
        try:
            return folder.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY:  # its processes are not gone yet
                return
            time.sleep(0.01)


@functools.cache
def _found() -> tuple[Path | None, str]:
    """The folder to make groups in; or None and why."""
    try:
        parent = _parent()
        for left in parent.glob("divmon-*"):  # of a run that was killed
            if not Path("/proc", left.name.split("-")[1]).exists():
                _remove(left)
        _try(parent)
    except (OSError, subprocess.SubprocessError) as error:
        return None, str(error)
    return parent, ""


def _parent() -> Path:
    """Raises OSError where no folder has the controllers and takes groups of this user."""
    if not (ROOT / "cgroup.controllers").is_file():
        raise OSError(f"there is no cgroup v2 at {ROOT}")
    own = next((line[3:] for line in OWN.read_text().splitlines() if line.startswith("0::")), "/")
    folder = ROOT / own.strip("/")
    for parent in (folder,) if folder == ROOT else (folder.parent, folder):
        handed_on = (parent / "cgroup.subtree_control").read_text().split()
        writable = all(os.access(path, os.W_OK) for path in (parent, parent / "cgroup.procs"))
        if writable and {"memory", "pids"} <= set(handed_on):
            return parent
    raise OSError(f"no cgroup at or above {folder} hands memory and pids on to this user")


def _try(parent: Path) -> None:
    """Raises OSError or SubprocessError where a process does not get into a group, or the group has no limit."""
    memory_bytes = 64 << 20
    with group(parent, memory_bytes) as folder:
        line = _entering(folder, ["cat", "/proc/self/cgroup"])
        said = subprocess.run(line, capture_output=True, text=True, timeout=20, check=True).stdout
        if folder.name not in said or (folder / "memory.max").read_text().strip() != str(memory_bytes):
            raise OSError(f"a process does not get into a group of {parent}")
