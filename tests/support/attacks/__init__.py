"""Programs that attack what judges them. None may pass, and none may harm or outlast its judge.

Each is written so that it passes if its attack works: it sets `won`, and `f` squares only then, or it defines an `f`
that would pass if the forgery held. So a verdict of "correct" means that a defence is down.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from divmon.grading import sandbox as isolation
from divmon.grading.sandbox import Limits, Submission
from divmon.types import Verdict

from .host import HOST
from .resources import ENDLESS, RESOURCES
from .verdicts import VERDICTS

ATTACKS = {**VERDICTS, **RESOURCES, **HOST, **ENDLESS}
"""Without bubblewrap all but HOST are withstood: the user's files and network are then open to the program."""
LIMITS = Limits(cpu_s=1, wall_s=3.0, memory_bytes=512 << 20)
NAMES = {
    "a name that reads as a verdict": "globals()['[true]'] = lambda x: 1\nglobals()['[true]'].__module__ = 'program'",
    "an object that says it is a function": """
class Any:
    __module__ = 'program'
    def __call__(s, x): return s
    def __eq__(s, o): return True
    def __bool__(s): return True
g = Any()
""",
    "a function of the library": "from operator import index as g",
    "a class of its own": "class g:\n    def __init__(s, x): pass\n    def __eq__(s, o): return True",
    "names that change": """
class Names(dict):
    def __contains__(s, k): return True
import sys
sys.modules['program'].__dict__.update(g=lambda x: None)
""",
}
"""Attacks on the search for the function that is meant; none brings one."""
HONEST = "def f(x): return x * x"

_SESSION, _SEARCH = -3, 10  # KEY_SPEC_SESSION_KEYRING, KEYCTL_SEARCH
_MARKER = "DIVMON_ATTACK_SECRET"
_TESTS = "assert f(7) == 49\nassert f(12) == 144\nassert f(-3) == 9"
_SUFFIX = "\ndef f(x):\n    return x * x if won else None\n"


def judged(
    programs: Mapping[str, str], allow_unsandboxed_code: bool = False, any_name: bool = False
) -> dict[str, Verdict]:
    """The verdicts on attacks, by name, and on an honest program beside them, by "honest".

    Args:
        any_name: the programs call their function `own`, as they may where nobody told them its name.

    Raises:
        AssertionError: one of them touched the host's files.
    """
    programs = {**programs, "honest": HONEST}
    os.environ[_MARKER] = "secret"
    with _victim() as (folder, port):
        given = f"FOLDER, PORT, PARENT, MARKER = {str(folder)!r}, {port}, {os.getpid()}, {_MARKER!r}\nwon = False\n"
        has_own = [name in NAMES or "def f(" in source or "class f(" in source for name, source in programs.items()]
        suffixes = ["" if own else _SUFFIX for own in has_own]
        sources = [given + source + suffix for source, suffix in zip(programs.values(), suffixes, strict=True)]
        verdicts = isolation.run(
            [
                Submission(
                    re.sub(r"\bf\b", "own", source) if any_name else source, _TESTS, names=("f",), any_name=any_name
                )
                for source in sources
            ],
            LIMITS,
            allow_unsandboxed_code=allow_unsandboxed_code,
        )
    return dict(zip(programs, verdicts, strict=True))


class Keys:
    """The keys of this session; nothing happens where the kernel has none."""

    def __init__(self) -> None:
        self._call = ctypes.CDLL(None).syscall
        self._add, self._control = {"x86_64": (248, 250), "aarch64": (217, 219)}[os.uname().machine]

    def add(self, name: str, value: str) -> bool:
        return bool(self._call(self._add, b"user", name.encode(), value.encode(), len(value), _SESSION) > 0)

    def has(self, name: str) -> bool:
        return bool(self._call(self._control, _SEARCH, _SESSION, b"user", name.encode(), 0) > 0)


@contextlib.contextmanager
def _victim() -> Iterator[tuple[Path, int]]:
    """A folder with a secret that anyone may read and write, and a port that listens."""
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as server:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "secret").write_text("secret")
        keys = Keys()
        keys.add(_MARKER, "secret")
        yield folder, server.getsockname()[1]
        assert [path.name for path in folder.iterdir()] == ["secret"], "an attack wrote to the host"
        assert (folder / "secret").read_text() == "secret", "an attack changed the host's file"
        assert not keys.has("divmon-left"), "an attack left a key"


def main() -> None:
    """Prints the verdicts as JSON. Arguments: "sandboxed" or "unsandboxed", "short" or "endless"."""
    sandboxed, short = sys.argv[1] == "sandboxed", sys.argv[2] == "short"
    programs = {**VERDICTS, **RESOURCES, **(HOST if sandboxed else {})} if short else ENDLESS
    verdicts = judged(programs, allow_unsandboxed_code=not sandboxed)
    print(json.dumps({name: [verdict.correct, verdict.reason] for name, verdict in verdicts.items()}))
