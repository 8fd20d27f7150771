"""The sandbox holds, shows nothing of the user, and a hole in it is found by the self-test."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from divmon.grading.sandbox import bubblewrap
from divmon.grading.sandbox.inside import syscalls


def test_it_holds_here() -> None:
    assert bubblewrap.fault() is None


def test_the_flags_that_are_always_there() -> None:
    line = " ".join(bubblewrap.command(["true"], 1 << 20))
    assert (
        "--unshare-user --unshare-all --uid 65534 --gid 65534 --cap-drop ALL --disable-userns --new-session"
        " --die-with-parent --clearenv" in line
    )


def without(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    kept = tuple(flag for flag in bubblewrap._ALWAYS if flag not in flags)
    monkeypatch.setattr(bubblewrap, "_ALWAYS", kept)


@pytest.mark.parametrize(
    ("flags", "hole"),
    [
        (("--clearenv",), "see the environment"),
        (("--disable-userns",), "open another user namespace"),
    ],
)
def test_a_flag_that_is_missing_is_found(monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], hole: str) -> None:
    """Without the filter, which would hold by itself."""
    monkeypatch.setattr(bubblewrap, "seccomp_filter", lambda: None)
    without(monkeypatch, *flags)
    assert hole in (bubblewrap.fault.__wrapped__() or "")


def test_a_network_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap, "seccomp_filter", lambda: None)
    monkeypatch.setattr(bubblewrap, "_ALWAYS", (*bubblewrap._ALWAYS, "--share-net"))
    assert "reach the network" in (bubblewrap.fault.__wrapped__() or "")


def test_the_host_s_files_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    binds = bubblewrap._binds()
    monkeypatch.setattr(bubblewrap, "_binds", lambda: ("--bind", "/tmp", "/tmp", *binds))
    assert "read a file of the host" in (bubblewrap.fault.__wrapped__() or "")


def test_processes_keys_sockets_and_memory_that_is_not_counted_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap, "seccomp_filter", lambda: None)
    found = bubblewrap.fault.__wrapped__() or ""
    for hole in ("start processes", "open a socket", "hold semaphores", "hold a queue of messages", "shared memory"):
        assert hole in found
    for hole in ("file signal processes", "pipes hold more", "set limits of other processes"):
        assert hole in found
    if "keys" not in found:
        pytest.skip("this kernel has no keyrings")
    assert "read the keys of the session" in found and "add a key to the session" in found


def test_a_sandbox_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap, "_ALWAYS", ("--no-such-flag",))
    assert "no-such-flag" in (bubblewrap.fault.__wrapped__() or "")


def test_its_absence_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "not installed" in (bubblewrap.fault.__wrapped__() or "")


def test_no_home_and_no_project_is_shown() -> None:
    folders = [Path(folder) for folder in bubblewrap.interpreter_folders()]
    shown = [Path.home(), Path.cwd(), Path("/"), Path("/etc"), Path(sys.prefix), Path(sys.base_prefix)]
    assert not [(folder, path) for folder in folders for path in shown if path.is_relative_to(folder)]
    assert all(Path(package).name in ("site-packages", "dist-packages") for package in bubblewrap.packages())


FILTERED = """
import sys; sys.path.insert(0, {root!r})
from inside.syscalls import confine
import os, threading
confine(os.getppid())
def refused(call):
    try: call()
    except (OSError, RuntimeError): return True
assert refused(os.fork)
assert refused(threading.Thread(target=print).start)
assert refused(lambda: os.kill(os.getpid(), 0))
assert refused(lambda: os.posix_spawn('/bin/true', ['true'], {{}}))
assert os.listdir('/') and open('/dev/null').read() == ''
print('held')
"""


def test_the_filter_refuses_processes_threads_and_signals() -> None:
    assert syscalls.seccomp_filter() is not None, f"no filter for {os.uname().machine}"
    code = FILTERED.format(root=str(Path(bubblewrap.__file__).parent))
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "held\n", done.stderr


def test_the_numbers_of_system_calls_are_those_that_the_system_s_own_headers_or_library_give() -> None:
    """Of this architecture; where libseccomp is installed, of both."""
    own = os.uname().machine
    library = ctypes.util.find_library("seccomp")
    for machine, name, number in ((m, n, k) for m in syscalls._MACHINES for n, k in syscalls.numbers(m).items()):
        if library:
            resolve = ctypes.CDLL(library).seccomp_syscall_resolve_name_arch
            assert resolve(ctypes.c_uint32(syscalls._MACHINES[machine]), name.encode()) == number, (machine, name)
        if machine == own and HEADERS.get(name) is not None:
            assert HEADERS[name] == number, name
    assert set(syscalls._ONLY) <= set(syscalls.numbers("aarch64")) & set(syscalls.numbers("x86_64"))


HEADERS = {
    name: int(number)
    for file in Path("/usr/include").glob(
        "**/asm/unistd_64.h" if os.uname().machine == "x86_64" else "asm-generic/unistd.h"
    )
    for name, number in re.findall(r"#define __NR_(\w+)\s+(\d+)$", file.read_text(), re.MULTILINE)
}
"""Name and number of each call of this architecture; empty where no headers are installed."""
