"""What a program uses of the machine, as the host sees it: also what no limit of a process counts."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

_INODE_BYTES = 1024
"""At most, of the kernel's memory, for a file of any size in a folder in memory."""


def memory_bytes(pid: int) -> int:
    """Of a process and those below it: their pages and page tables, and the files of a sandbox; 0 where nobody says."""
    kilobytes, files = 0, 0
    for folder in _processes(pid):
        with contextlib.suppress(OSError):
            status = (folder / "status").read_text(encoding="utf-8", errors="replace")
            kilobytes += sum(map(int, re.findall(r"^Vm(?:RSS|PTE):\s*(\d+) kB", status, re.MULTILINE)))
            files = max(files, _files_bytes(folder / "root"))
    return (kilobytes << 10) + files


def _files_bytes(root: Path) -> int:
    """Of the one writable folder of a sandbox; 0 where this root is the host's own."""
    if os.path.samefile(root, "/"):
        return 0
    disk = os.statvfs(root / "tmp")
    return (disk.f_blocks - disk.f_bfree) * disk.f_bsize + (disk.f_files - disk.f_ffree) * _INODE_BYTES


def wants_to_run(pid: int) -> bool:
    """Whether a process or one below it runs or waits for a core, and so was cut short, unlike one that sleeps."""
    for folder in _processes(pid):
        with contextlib.suppress(OSError):
            if (folder / "stat").read_text().rpartition(")")[2].split()[0] == "R":
                return True
    return False


def _processes(pid: int) -> Iterator[Path]:
    """Folders in /proc of a process and of those below it that are still there."""
    waiting = [str(pid)]
    while waiting:
        folder = Path("/proc", waiting.pop())
        with contextlib.suppress(OSError):
            waiting += (folder / "task" / folder.name / "children").read_text().split()
            yield folder
