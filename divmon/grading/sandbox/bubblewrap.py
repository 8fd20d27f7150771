"""The sandbox: a process that sees /usr, the interpreter and an empty folder; no network, no process, no file of yours.

Self-tested before it is believed, because bubblewrap may be there and yet be refused by the kernel or the container.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from divmon.grading.sandbox.inside.syscalls import seccomp_filter

HARNESS = "/harness"
"""Where the sandbox has the folder `inside`."""

_ALWAYS = (
    *("--unshare-user", "--unshare-all", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL", "--disable-userns"),
    *("--new-session", "--die-with-parent", "--clearenv"),
)
VARIABLES = {"LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""The environment of what runs inside. The hash seed is fixed, so that a verdict repeats."""


def script(role: str, root: str, arguments: Sequence[str]) -> list[str]:
    """The command line that runs `inside.<role>`, without a sandbox as yet; `root` holds the folder `inside`.

    Not -I, which would leave the hash seed to chance: the environment is ours anyway. No site module, which takes
    longer than a program does.
    """
    code = f"import sys; sys.path.insert(0, {root!r}); from inside.{role} import main; main()"
    return [interpreter(), "-s", "-P", "-S", "-c", code, *arguments]


def command(line: Sequence[str], writable_bytes: int, filter_fd: int | None = None) -> list[str]:
    """The command line that runs another one in a sandbox of its own.

    Args:
        line: what to run; it finds the folder `inside` under HARNESS.
        writable_bytes: size of /tmp, the one place that can be written.
        filter_fd: descriptor to read a seccomp filter from; it must be inherited.
    """
    arguments = ["bwrap", *_ALWAYS]
    for name, value in VARIABLES.items():
        arguments += ["--setenv", name, value]
    if filter_fd is not None:
        arguments += ["--seccomp", str(filter_fd)]
    arguments += ["--size", str(writable_bytes), "--tmpfs", "/tmp"]  # first: an interpreter may lie under /tmp
    return [*arguments, *_binds(), "--remount-ro", "/", "--chdir", "/tmp", *line]


@functools.cache
def _binds() -> tuple[str, ...]:
    """/usr, and of the interpreter its program and libraries: never a home, nor the folder that a venv lies in."""
    binds = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        path = Path("/", name)
        if path.is_symlink():
            binds += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            binds += ["--ro-bind", str(path), str(path)]
    for folder in interpreter_folders():
        binds += ["--ro-bind", folder, folder]
    return (*binds, "--ro-bind", str(Path(__file__).parent / "inside"), f"{HARNESS}/inside")


def interpreter() -> str:
    """The interpreter itself: in a venv the one it was made from, so that the venv's own folder need not be shown."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def packages() -> list[str]:
    """Folders of installed packages that a program may import from, inside the interpreter's prefixes alone."""
    prefixes = tuple(os.path.join(prefix, "") for prefix in (sys.prefix, sys.base_prefix))
    found = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *sys.path}
    return sorted(
        path
        for path in found
        if path.startswith(prefixes) and Path(path).name in ("site-packages", "dist-packages") and os.path.isdir(path)
    )


def interpreter_folders() -> list[str]:
    """Folders outside /usr that the interpreter needs, none inside another."""
    found = {os.path.dirname(interpreter()), sysconfig.get_path("stdlib"), *packages()}
    found |= {os.path.join(sys.base_prefix, name) for name in ("lib", "lib64")}
    folders = sorted({path for path in found if os.path.isdir(path)})
    return [
        path
        for path in folders
        if not any(Path(path).is_relative_to(other) for other in ["/usr", *folders] if other != path)
    ]


@contextlib.contextmanager
def filter_descriptor() -> Iterator[int | None]:
    """A descriptor to read the seccomp filter from, for one process; None on a machine that has no filter."""
    code = seccomp_filter()
    if code is None:
        yield None
        return
    read, write = os.pipe()
    os.write(write, code)
    os.close(write)
    try:
        yield read
    finally:
        os.close(read)


@functools.cache
def fault() -> str | None:
    """Why bubblewrap cannot be used here, found by trying it once; None where it holds."""
    if shutil.which("bwrap") is None:
        return "bubblewrap (the program bwrap) is not installed"
    planted = "DIVMON_SELF_TEST_SECRET"
    with (
        tempfile.NamedTemporaryFile("w") as secret,
        socket.create_server(("127.0.0.1", 0)) as server,
        filter_descriptor() as filter_fd,
    ):
        secret.write("secret")
        secret.flush()
        test = script("self_test", HARNESS, [secret.name, planted, str(server.getsockname()[1])])
        try:
            done = subprocess.run(
                command(test, 1 << 20, filter_fd),
                env={**os.environ, planted: "1"},
                pass_fds=() if filter_fd is None else (filter_fd,),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                cwd="/",
            )
            holes = json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            return "bubblewrap's self-test took over a minute"
        except json.JSONDecodeError:
            return f"bubblewrap does not run here: {done.stderr.strip()[-300:] or f'exit code {done.returncode}'}"
    return f"bubblewrap does not hold here: {'; '.join(holes)}" if holes else None
