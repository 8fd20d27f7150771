"""The attack corpus, run as this user, as another one, and without a sandbox. None passes, none does harm."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support import attacks

import divmon
from divmon.grading.sandbox import bubblewrap
from divmon.grading.sandbox.processes import BUSY
from divmon.types import Verdict

NOBODY = 65534


def left_behind() -> list[str]:
    """Command lines of programs under attack that still run, after a moment to go."""
    found: list[str] = []
    for _ in range(50):
        found.clear()
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                line = path.read_bytes()
                if b"inside.program_side" in line and b"\0%d\0" % attacks.LIMITS.memory_bytes in line:
                    found.append(line.decode(errors="replace"))
        if not found:
            break
        time.sleep(0.1)
    return found


def assert_withstood(verdicts: Mapping[str, Verdict]) -> None:
    wrong = [n for n, verdict in verdicts.items() if verdict.correct is False or BUSY in verdict.reason]
    others = {name: verdict for name, verdict in verdicts.items() if name not in wrong}
    assert others == {"honest": Verdict(True)}
    assert not left_behind()


def test_the_corpus_is_large_enough() -> None:
    assert len(attacks.ATTACKS) >= 30


def test_attacks_fail() -> None:
    assert_withstood(attacks.judged(attacks.ATTACKS))


def test_attacks_fail_where_the_function_may_have_any_name() -> None:
    found = attacks.judged(attacks.VERDICTS | attacks.NAMES, any_name=True)
    assert found["honest"] == Verdict(True, "(own called as f)")
    assert_withstood(found | {"honest": Verdict(True)})
    assert not any("[true]" in verdict.reason for verdict in found.values())


@pytest.mark.slow
def test_attacks_fail_without_a_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap, "fault", lambda: "hidden by the test")
    programs = {**attacks.VERDICTS, **attacks.RESOURCES, **attacks.ENDLESS}
    assert_withstood(attacks.judged(programs, allow_unsandboxed_code=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_attack_fails_within_its_time(name: str) -> None:
    start = time.monotonic()
    assert_withstood(attacks.judged({name: attacks.ATTACKS[name]}))
    assert time.monotonic() - start < attacks.LIMITS.wall_s + 2


@pytest.fixture(scope="module")
def readable() -> Iterator[tuple[str, Path]]:
    """An interpreter that any user can run, and a folder from which any user can import divmon and the attacks."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        skip = shutil.ignore_patterns("__pycache__", "site-packages", "test", "config-*", "idlelib", "ensurepip")
        shutil.copytree(Path(divmon.__file__).parent, folder / "divmon", ignore=skip)
        shutil.copytree(Path(attacks.__file__).parent, folder / "attacks", ignore=skip)
        interpreter = bubblewrap.interpreter()
        with contextlib.suppress(PermissionError):
            subprocess.run([interpreter, "-c", ""], check=True, **as_another_user())
            yield interpreter, folder
            return
        prefix = Path(sys.base_prefix)
        library = Path("lib", f"python{sys.version_info.major}.{sys.version_info.minor}")
        shutil.copytree(prefix / library, folder / "prefix" / library, ignore=skip)
        for path in (prefix / "lib").glob("libpython*.so*"):
            shutil.copy2(path, folder / "prefix" / "lib")
        (folder / "prefix" / "bin").mkdir()
        yield shutil.copy2(interpreter, folder / "prefix" / "bin"), folder


def as_another_user() -> dict[str, object]:
    """For subprocess: nobody where this is root, else this user, who is not root either."""
    who = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    return {"cwd": "/", **who}


@pytest.mark.parametrize("length", ["short", pytest.param("endless", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["sandboxed", "unsandboxed"])
def test_attacks_fail_as_another_user(readable: tuple[str, Path], kind: str, length: str) -> None:
    interpreter, folder = readable
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import attacks; attacks.main()"
    done = subprocess.run(
        [interpreter, "-c", code, kind, length],
        env={"PATH": os.defpath if kind == "sandboxed" else "/nowhere"},
        capture_output=True,
        text=True,
        timeout=200,
        **as_another_user(),
    )
    assert done.returncode == 0, done.stderr
    assert_withstood({name: Verdict(*verdict) for name, verdict in json.loads(done.stdout).items()})
