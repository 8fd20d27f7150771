"""Memory of a judged program is bounded as a whole: also what no limit of a process counts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path

import pytest
from support import attacks

from divmon.grading import sandbox
from divmon.grading.sandbox import Limits, Submission, cgroups, usage

LIMITS = Limits(cpu_s=20, wall_s=30.0, memory_bytes=64 << 20, file_bytes=1 << 20)


def test_page_tables_and_inodes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_INODE_BYTES", 1 << 20)  # so that hundreds do, not hundreds of thousands
    tables, files = (attacks.ATTACKS[name] for name in ("pages far apart", "files without end"))
    for program in (tables, files):
        began = time.monotonic()
        (verdict,) = sandbox.run([Submission(program, "assert f(7) == 49")], LIMITS)
        assert verdict.correct is False and "took over 129 MB, its files included" in verdict.reason, verdict
        assert time.monotonic() - began < 15


def test_what_pipes_and_sockets_hold_is_bounded_by_their_number() -> None:
    """Each descriptor filled to the brim: together far less than a program's own memory."""
    program = """
import os, socket
held, ends = 0, []
try:
    while True: ends += socket.socketpair()
except OSError: pass
for end in ends:
    end.setblocking(False)
    for size in (1 << 30, 1 << 20):
        try: end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
        except OSError: continue
        held = float('inf')
    try:
        while True: held += end.send(bytes(65536))
    except OSError: pass
def f(x): return held
"""
    (verdict,) = sandbox.run([Submission(program, "raise ValueError(f(0))")], Limits())
    held = float(verdict.reason.split()[1])
    assert 0 < held < 64 << 20, verdict


def test_memory_of_a_process_that_is_gone_is_nothing() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert usage.memory_bytes(process.pid) == 0
    assert usage.memory_bytes(os.getpid()) > 10 << 20, "the folder of files is a sandbox's alone"


# -- cgroups: the kernel that runs the tests may have none, so their files are stood in for by a folder


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A session's folder with controllers handed on, and this process in a folder below it."""
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    monkeypatch.setattr(cgroups, "OWN", tmp_path / "own")
    (tmp_path / "own").write_text("4:memory:/elsewhere\n0::/session/shell\n")
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    for folder in (tmp_path / "session", tmp_path / "session/shell"):
        folder.mkdir()
        (folder / "cgroup.procs").touch()
        (folder / "cgroup.subtree_control").write_text("cpu memory pids\n" if folder.name == "session" else "\n")
    return tmp_path / "session"


def test_a_group_is_made_beside_this_process_limited_and_entered_before_the_program(tree: Path) -> None:
    assert cgroups._parent() == tree
    with cgroups.group(tree, 5 << 20) as folder:
        assert folder.parent == tree and (folder / "memory.max").read_text() == str(5 << 20)
        assert (folder / "pids.max").read_text() == "16" and (folder / "memory.swap.max").read_text() == "0"
        done = subprocess.run(cgroups._entering(folder, ["echo", "a b"]), capture_output=True, text=True, check=True)
        assert done.stdout == "a b\n" and (folder / "cgroup.procs").read_text() == "0\n"
    assert (folder / "cgroup.kill").read_text() == "1"


def test_a_group_that_does_not_hold_is_not_believed(tree: Path) -> None:
    """A folder is not a kernel: nothing gets into it."""
    with contextlib.suppress(AttributeError):
        parent, reason = cgroups._found.__wrapped__()
    assert parent is None and "does not get into a group" in reason


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tree: (tree.parent / "cgroup.controllers").unlink(), "no cgroup v2"),
        (lambda tree: (tree / "cgroup.subtree_control").write_text("cpu\n"), "hands memory and pids on"),
        (lambda tree: (tree / "cgroup.subtree_control").unlink(), "No such file"),
    ],
)
def test_why_there_is_none_is_said(tree: Path, change: object, said: str) -> None:
    change(tree)  # type: ignore[operator]
    parent, reason = cgroups._found.__wrapped__()
    assert parent is None and said in reason


def test_how_programs_are_held_is_recorded() -> None:
    known = sandbox.record()
    assert known["programs"] == "in bubblewrap"
    lacking = cgroups.unavailable()
    assert known["memory"] == "bounded by a cgroup" if lacking is None else lacking in known["memory"]
