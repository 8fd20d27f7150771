"""Judging programs: right and wrong ones, what cannot be judged, limits, and what the host notices of it: nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from divmon.grading import sandbox as isolation
from divmon.grading.sandbox import Limits, Literal, Submission, bubblewrap
from divmon.grading.sandbox import run as grade_jobs
from divmon.grading.sandbox.processes import SuiteProcess
from divmon.types import Verdict

SQUARE = "assert f(7) == 49\nassert f(-3) == 9"
QUICK = Limits(cpu_s=1, wall_s=8.0, memory_bytes=256 << 20)


def one(program: str, tests: str = SQUARE, limits: Limits = QUICK, **more: object) -> Verdict:
    return grade_jobs([Submission(program, tests, **more)], limits)[0]  # type: ignore[arg-type]


def test_right_and_wrong_programs_in_their_order() -> None:
    jobs = [Submission(f"def f(x): return x ** {n}", SQUARE) for n in (2, 3, 2, 1)]
    assert [verdict.correct for verdict in grade_jobs(jobs)] == [True, False, True, False]


def test_nothing_to_judge() -> None:
    assert grade_jobs([]) == []


def test_the_reason_names_the_line_that_failed() -> None:
    assert one("def f(x): return abs(x) * 7").reason == "AssertionError at `assert f(-3) == 9`"
    assert one("def g(x): return x").reason == "NameError: name 'f' is not defined at `assert f(7) == 49`"
    assert "SyntaxError" in one("def f(x) return x").reason


def test_state_is_kept_between_calls() -> None:
    assert one("n = 0\ndef f():\n    global n\n    n += 1\n    return n", "assert f() == 1\nassert f() == 2").correct


def test_a_program_may_import_the_library_and_installed_packages() -> None:
    assert one("import numpy as np, re, collections\ndef f(x): return np.int64(x * x)", limits=Limits()).correct


def test_demonstrations_and_main_blocks_do_not_count() -> None:
    assert one("def f(x): return x * x\nprint(f(3))\nif __name__ == '__main__':\n    raise SystemExit(1)").correct


def test_keyword_arguments_cross() -> None:
    assert one("def f(a, *, b): return [a, b]", "assert f((1, 2), b={3: None}) == [(1, 2), {3: None}]").correct


def test_exceptions_cross_as_the_builtin_ones() -> None:
    tests = "try:\n    f(1)\nexcept ValueError as error:\n    assert str(error) == 'no'\nelse:\n    assert False"
    assert one("def f(x): raise ValueError('no')", tests).correct
    assert not one("def f(x): raise KeyError('no')", tests).correct
    assert not one("import os\ndef f(x): os._exit(0)", "try:\n    f(1)\nexcept BaseException:\n    pass").correct


def test_tests_may_use_the_program_s_classes() -> None:
    program = (
        "class Node:\n    def __init__(self, value):\n        self.value, self.left = value, None\n"
        "def depth(node): return depth(node.left) + 1 if node else 0\n"
        "def total(nodes): return sum(node.value for node in nodes)"
    )
    tests = "root = Node(1)\nroot.left = Node(2)\nassert depth(root) == 2\nassert root.left.value == 2\n"
    assert one(program, tests + "assert total([Node(3), Node(4)]) == 7").correct
    assert not one(program, tests + "assert root == Node(1)").correct


def test_iterators_of_the_program_are_read_one_by_one() -> None:
    program = "def f():\n    n = 0\n    while True:\n        yield n\n        n += 1"
    assert one(program, "g = f()\nassert [next(g), next(g)] == [0, 1]").correct
    assert one("def f(): return map(str, range(3))", "assert list(f()) == ['0', '1', '2']").correct


def test_a_program_cannot_bring_builtins_of_its_own() -> None:
    program = "def f(x): return [1]\ndef set(x): return 0\ndef sorted(x): return 0\nlen = sum = set"
    tests = "assert set(f(1)) == set([2])"
    assert not one(program, tests).correct
    assert not one(program, tests, names=("f",)).correct
    assert one("def sum(a, b): return a - b", "assert sum(3, 2) == 1", names=("sum",)).correct


def test_helpers_of_the_prelude_are_the_tests_own() -> None:
    prelude = "def twice(x):\n    return 2 * x\ndef f(x):\n    '''Left to write.'''\n"
    tests = "assert f(3) == twice(3)"
    assert one("def f(x): return x + x\ndef twice(x): return None", tests, prelude=prelude, names=("f",)).correct
    assert not one("def f(x): return None\ndef twice(x): return None", tests, prelude=prelude, names=("f",)).correct


def test_what_cannot_leave_the_tests_is_not_judged() -> None:
    verdict = one("def f(x): return x(2)", "assert f(lambda n: n) == 2")
    assert verdict.correct is None and "function, which cannot leave" in verdict.reason
    assert one("def f(x): return 1", "assert (").correct is None


def test_tests_that_die_are_not_held_against_the_program() -> None:
    jobs = [
        Submission("def f(x): return x * x", tests)
        for tests in ("import os\nos._exit(0)", "raise SystemExit(0)", SQUARE)
    ]
    assert [verdict.correct for verdict in grade_jobs(jobs, QUICK, workers=1)] == [None, None, True]


def test_tests_that_hang_are_not_held_against_the_program() -> None:
    jobs = [Submission("def f(x): return x * x", "while True: pass"), Submission("def f(x): return x * x", SQUARE)]
    assert [verdict.correct for verdict in grade_jobs(jobs, QUICK, workers=1)] == [None, True]


def test_the_end_of_an_open_program_may_be_cut() -> None:
    program = "def f(x):\n    return x * x\n\nThis squares it.\ndef g(x):\n    return (x"
    assert not one(program).correct
    assert one(program, open_ended=True).correct


def test_limits() -> None:
    programs = {
        "killed": "while True: pass",
        "MemoryError": "x = bytearray(1 << 30)",
        "OSError": "import os\nwith open('big', 'wb', 0) as file:\n    for _ in range(99): file.write(bytes(1 << 20))",
        "answer of": "def f(x): return 'x' * (8 << 20)",
    }
    start = time.monotonic()
    limits = Limits(cpu_s=1, wall_s=6.0, memory_bytes=256 << 20)
    verdicts = grade_jobs([Submission(program, SQUARE) for program in programs.values()], limits, workers=4)
    assert [verdict.correct for verdict in verdicts] == [False] * 4
    assert [word for word, verdict in zip(programs, verdicts, strict=True) if word not in verdict.reason] == []
    assert time.monotonic() - start < 30


def test_a_program_that_sleeps_is_wrong_and_one_that_is_starved_is_not_judged() -> None:
    verdict = one("import time\ntime.sleep(60)", limits=Limits(cpu_s=30, wall_s=1.0))
    assert verdict.correct is False and "over 1 s" in verdict.reason
    verdict = one("while True: pass", limits=Limits(cpu_s=30, wall_s=1.0))
    assert verdict.correct is None and "busy" in verdict.reason


def test_equal_jobs_run_once_and_distinct_ones_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    run: list[object] = []
    original = SuiteProcess.run
    monkeypatch.setattr(SuiteProcess, "run", lambda self, job: run.append(job) or original(self, job))
    sleepers = [Submission(f"import time\ntime.sleep(1)\ndef f(x): return x * x # {i % 4}", SQUARE) for i in range(12)]
    start = time.monotonic()
    assert all(verdict.correct for verdict in grade_jobs(sleepers, Limits(), workers=4))
    assert len(run) == 4
    assert time.monotonic() - start < 3.5


def test_verdicts_repeat() -> None:
    program = "def f(): return list({'a', 'b', 'c', 'd', 'e'})"
    order = one("def f(): return list({'a', 'b', 'c', 'd', 'e'})", "raise ValueError(str(f()))").reason
    listed = order[order.index("[") : order.index("]") + 1]
    assert all(one(program, f"assert f() == {listed}", open_ended=bool(i % 2)).correct for i in range(2))


LITERALS = [
    ("[1, 2]", "[1,2]", True),
    ("{'a': (1,)}", '{"a": (1,)}', True),
    ("1", "True", True),
    ("'x'", "x", False),
    ("6", "2 * 3", False),
    ("2", "__import__('os').getpid()", False),
    ("set()", "set()", True),
    ("1", "-" * 100_000 + "1", False),
    ("[]", "[" * 100_000, False),
    ("f(", "1", None),
]


@pytest.mark.parametrize("hidden", [False, True])
def test_literals_need_no_sandbox(monkeypatch: pytest.MonkeyPatch, hidden: bool) -> None:
    if hidden:
        monkeypatch.setattr(bubblewrap, "fault", lambda: "hidden by the test")
    verdicts = grade_jobs([Literal((answer,), expected) for expected, answer, _ in LITERALS], QUICK)
    assert [verdict.correct for verdict in verdicts] == [correct for *_, correct in LITERALS]
    assert verdicts[0].answer == "[1, 2]"


def test_without_sandbox_or_consent_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bubblewrap, "fault", lambda: "hidden by the test")
    monkeypatch.delenv(isolation.OPT_IN, raising=False)
    job = Submission(f"open({str(tmp_path / 'ran')!r}, 'w')", SQUARE)
    verdict = grade_jobs([job])[0]
    assert verdict.correct is None
    for word in ("hidden by the test", "Install bubblewrap", "allow_unsandboxed_code=True", isolation.OPT_IN):
        assert word in verdict.reason
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("by_variable", [False, True])
def test_with_consent_programs_run_without_a_sandbox(monkeypatch: pytest.MonkeyPatch, by_variable: bool) -> None:
    monkeypatch.setattr(bubblewrap, "fault", lambda: "hidden by the test")
    if by_variable:
        monkeypatch.setenv(isolation.OPT_IN, "1")
    monkeypatch.setenv("SECRET", "1")
    program = "import os\ndef f(x): return x * x if 'SECRET' not in os.environ else None"
    jobs = [
        Submission(program, SQUARE),
        Submission("while True: pass", SQUARE),
        Submission("open('/tmp/x', 'w').write('x')", SQUARE),
    ]
    verdicts = grade_jobs(jobs, QUICK, allow_unsandboxed_code=not by_variable)
    assert [verdict.correct for verdict in verdicts] == [True, False, False], verdicts


def test_the_host_notices_nothing() -> None:
    def state() -> tuple[object, ...]:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
        return sorted(os.listdir("/proc/self/fd")), children, threading.active_count(), random.getstate(), os.getcwd()

    bubblewrap.fault()
    before = state()
    jobs = [
        Submission(program, SQUARE) for program in ("def f(x): return x * x", "raise SystemExit", "while True: pass")
    ]
    grade_jobs([*jobs, Literal(("1",), "1")], QUICK)
    assert state() == before


def test_it_runs_in_a_thread() -> None:
    found: list[Verdict] = []
    thread = threading.Thread(target=lambda: found.append(one("def f(x): return x * x")))
    thread.start()
    thread.join()
    assert found[0].correct


SCRIPT = """
import pathlib, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may have left it ignored
from divmon.grading.sandbox import Limits, Submission
from divmon.grading.sandbox import run as grade_jobs
with open(sys.argv[1], "a") as file: file.write("ran ")
jobs = [Submission(f"while True: pass  # {i}", "f()") for i in range(8)]
quick = [Submission("def f(): return 1", "assert f() == 1")]
grade_jobs(jobs if len(sys.argv) > 2 else quick, Limits(cpu_s=77, wall_s=99), 2)
"""


def start(tmp_path: Path, *more: str, **variables: str) -> subprocess.Popen[bytes]:
    """A script without a `__main__` guard."""
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    root = str(Path(isolation.__file__).parents[3])
    return subprocess.Popen(
        [sys.executable, path, tmp_path / "log", *more], env={**os.environ, "PYTHONPATH": root, **variables}
    )


def running() -> int:
    """Programs with the limit of 77 seconds that still run."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        found += b"inside.program_side" in line and b"\x0077\x00" in line
    return found


def until(count: int) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if bool(running()) == bool(count):
            return True
        time.sleep(0.05)
    return False


def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    assert start(tmp_path).wait(60) == 0
    assert (tmp_path / "log").read_text() == "ran "


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("sandboxed", [True, False])
def test_programs_die_with_the_run_that_judges_them(tmp_path: Path, number: signal.Signals, sandboxed: bool) -> None:
    script = start(tmp_path, "endless", **({} if sandboxed else {"PATH": "/nowhere", isolation.OPT_IN: "1"}))
    assert until(1)
    script.send_signal(number)
    script.wait(60)
    assert until(0)
