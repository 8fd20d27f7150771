"""The lock of a run directory, which has one writer."""

from __future__ import annotations

import contextlib
import os
import weakref
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has none; there nothing stops a second writer
    fcntl = None  # type: ignore[assignment]


class Lock:
    """Held from its making until `release`. Raises RuntimeError: another process holds it."""

    def __init__(self, folder: Path) -> None:
        self._pid = os.getpid()
        real = os.path.realpath(folder)
        earlier = _HELD.get(real)
        # Of a training that never reached its end: an error in a step, Ctrl-C, a retry after out of memory. A forked
        # child has a copy of its parent's, which is not its own.
        self.taken_over = earlier is not None and earlier.held and earlier._pid == self._pid
        if earlier is not None and self.taken_over:
            earlier.release()
        self._file = (folder / "lock").open("a+", encoding="utf-8")
        if fcntl is not None:
            with contextlib.suppress(OSError):  # some network file systems have no locks; a run there goes on without
                self._take(folder)
        _HELD[real] = self

    @property
    def held(self) -> bool:
        return not self._file.closed

    def release(self) -> None:
        if fcntl is not None and self.held:
            with contextlib.suppress(OSError):  # unlock by hand: a forked data loader may hold a copy of the file
                fcntl.flock(self._file, fcntl.LOCK_UN)
        self._file.close()

    def _take(self, folder: Path) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            pid = self._file.read().strip() or "unknown"
            self._file.close()
            raise RuntimeError(
                f"process {pid} is writing to {folder}; two runs cannot share it: give this one another output_dir="
            ) from None
        self._file.truncate(0)
        self._file.write(str(self._pid))
        self._file.flush()


_HELD: weakref.WeakValueDictionary[str, Lock] = weakref.WeakValueDictionary()
"""Those of this process, by the real path of their directory."""
