"""Judging from threads, scripts and parents that die; verifiers that crash or hang."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.judged import PROMPT, each
from support.judged import hostile as hostile

from divmon.grading import verifiers
from divmon.grading.grader import judge
from divmon.grading.verifiers import _pool
from divmon.types import Prompt, Verdict


def test_from_a_daemon_thread_and_from_several_at_once() -> None:
    found: dict[int, list[Verdict]] = {}

    def run(i: int) -> None:
        found[i] = each("math_answer", ["#### 5", f"#### {i}"])

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(6, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert [[verdict.correct for verdict in found[i]] for i in range(6, 10)] == [[True, False]] * 4


SCRIPT = """
# A training script without a __main__ guard: it must not run again in a child.
with open("started", "a") as file:
    file.write("x")
import sys
from divmon.grading.grader import judge
from divmon.types import Prompt
import os
from divmon.grading.verifiers._pool import _pools
print([v.correct for v in judge("math_answer", ["#### 5", "\\\\boxed{4}"], [Prompt("1", "?", "5")] * 2)])
if "fork" in sys.argv:
    child = os.fork()
    if not child:
        print([v.correct for v in judge("math_answer", ["#### 5"], [Prompt("1", "?", "5")])], flush=True)
        sys.exit(0)  # runs the exit handlers of the fork
    os.waitpid(child, 0)
    print([v.correct for v in judge("math_answer", ["#### 6"], [Prompt("1", "?", "5")])])
for pool in _pools.values():
    print(*(worker.process.pid for worker in pool.workers))
"""


@pytest.mark.parametrize("argument", ["", "fork"])
def test_an_unguarded_script_elsewhere_runs_once_and_leaves_no_process(tmp_path: Path, argument: str) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    env = os.environ | {"PYTHONPATH": str(Path(verifiers.__file__).parents[3])}

    done = subprocess.run(
        [sys.executable, "train.py", argument], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
    )

    lines = done.stdout.splitlines()
    assert lines[:1] == ["[True, False]"], done.stderr
    assert (tmp_path / "started").read_text() == "x"
    if argument:
        assert lines[1:3] == ["[True]", "[False]"], "the fork's end leaves the parent's children alone"
    for pid in map(int, lines[-1].split()):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_the_children_of_a_killed_parent_end_too(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT + "\nimport time; sys.stdout.flush(); time.sleep(60)\n")
    env = os.environ | {"PYTHONPATH": str(Path(verifiers.__file__).parents[3])}
    parent = subprocess.Popen([sys.executable, "train.py"], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    parent.stdout.readline()
    pids = list(map(int, parent.stdout.readline().split()))

    parent.kill()
    parent.wait()

    assert pids
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in pids):
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() and not zombie(pid) for pid in pids)


def zombie(pid: int) -> bool:
    """Ended, and not yet collected by whoever adopted it."""
    return ") Z " in Path(f"/proc/{pid}/stat").read_text()


def test_one_malformed_row_costs_a_batch_rule_only_its_own_verdict(tmp_path: Path) -> None:
    rule = tmp_path / "strict.py"
    rule.write_text(
        "from divmon.types import Verdict\nBATCH = True\n"
        "def strict(texts, prompts):\n    return [Verdict(t == p.gold.strip()) for t, p in zip(texts, prompts)]\n"
    )
    prompts = [Prompt(str(i), "?", gold=None if i == 3 else "a") for i in range(8)]
    found = judge(f"{rule}:strict", ["a"] * 8, prompts)
    assert [v.correct for v in found] == [True] * 3 + [None] + [True] * 4
    assert "AttributeError" in found[3].reason


def test_a_verifier_that_crashes_on_every_text_is_not_started_for_each(tmp_path: Path) -> None:
    started = tmp_path / "started"
    (tmp_path / "mine.py").write_text(
        f"import os\nopen({str(started)!r}, 'a').write('x')\ndef rule(text, prompt):\n    os._exit(7)\n"
    )
    rule = f"{tmp_path / 'mine.py'}:rule"

    verdicts = each(rule, [str(i) for i in range(40)], workers=1)
    again = each(rule, ["a", "b", "c"], workers=1)

    assert [verdict.correct for verdict in verdicts + again] == [None] * 43
    assert verdicts[0].reason == "its process ended (exit status 7)"
    assert verdicts[-1].reason.startswith(f"not tried: the verifier crashed on {_pool.CRASHES} texts in a row")
    assert len(started.read_text()) == _pool.CRASHES + 1 + 1, "once here, for its name; once a crash; once for a try"


def test_texts_that_crash_now_and_then_stop_nothing(hostile: str) -> None:
    texts = [f"{kind} {i}" if kind == "ok" else kind for i in range(7) for kind in ("exit", "ok")]
    prompts = [Prompt(str(i), "?", gold="5") for i in range(len(texts))]

    verdicts = judge(hostile, texts, prompts, workers=1)

    assert [verdict.correct for verdict in verdicts] == [None, True] * 7


def test_a_verifier_file_that_exits_costs_its_text_and_no_start(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import sys\ndef rule(text, prompt):\n    sys.exit('enough')\n")

    verdicts = each(f"{tmp_path / 'mine.py'}:rule", ["a", "b"], workers=1)

    assert {verdict.reason for verdict in verdicts} == {"SystemExit: enough"}


@pytest.mark.parametrize("kind", ["rule", "reward"])
def test_a_callable_that_hangs_is_given_up_and_left_out_from_then_on(kind: str) -> None:
    def rule(text: str, prompt: Prompt) -> bool:
        while text == "hang":
            time.sleep(0.01)
        return True

    def as_reward(completions: list[str], **_: object) -> list[float]:
        return [float(rule(text, PROMPT)) for text in completions]

    function = rule if kind == "rule" else as_reward
    began = time.monotonic()

    verdicts = judge(function, ["fine", "hang", "late"], [PROMPT] * 3, seconds=0.5)
    later = judge(function, ["fine"], [PROMPT], seconds=0.5)

    assert [verdict.correct for verdict in verdicts + later] == [True, None, None, None]
    assert verdicts[1].reason.endswith("did not return in 0.5 s and is left out from now on")
    assert later[0].reason.endswith("is left out: it did not return in time before")
    assert time.monotonic() - began < 5


def test_a_callable_that_exits_ends_no_training() -> None:
    def rule(text: str, prompt: Prompt) -> bool:
        raise SystemExit("enough")

    assert judge(rule, ["a"], [PROMPT]) == [Verdict(None, "SystemExit: enough")]


def test_a_batch_rule_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("divmon.grading.grader.SECONDS", 0.1)
    (tmp_path / "slow.py").write_text("import time\nBATCH = True\ndef slow(texts, prompts):\n    time.sleep(60)\n")

    began = time.monotonic()
    verdicts = each(f"{tmp_path / 'slow.py'}:slow", ["a", "b"], seconds=0.3)

    assert [verdict.correct for verdict in verdicts] == [None, None] and "left out" in verdicts[0].reason
    assert time.monotonic() - began < 5
