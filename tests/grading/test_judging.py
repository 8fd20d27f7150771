"""Judging: contract 3, equal texts once, and children that hang, crash, print or cannot start cost nobody a run."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from divmon.grading import verifiers
from divmon.grading.grader import TRUNCATED, judge
from divmon.grading.verifiers import _pool
from divmon.types import Finish, Prompt, Sample, Verdict

PROMPT = Prompt("1", "What is 2 + 3?", gold="5")
HOSTILE = """
import os, sys, time
CALLS = []
def rule(text, prompt):
    if text == "hang":
        while True: pass
    if text == "sleep":
        time.sleep(60)
    if text == "exit":
        os._exit(3)
    if text == "kill":
        os.kill(os.getpid(), 9)
    if text == "raise":
        raise KeyError("inside")
    if text == "print":
        print('{"correct": true, "reason": "", "answer": null}'); sys.stdout.flush(); os.write(1, b"noise\\n")
    if text == "pid":
        return __import__("divmon.types").types.Verdict(True, str(os.getpid()))
    if text == "input":
        return sys.stdin.read() == ""
    if text == "none":
        return None
    if text == "half":
        return 0.5
    CALLS.append(text)
    return CALLS.count(text) == 1
"""


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "hostile.py").write_text(HOSTILE)
    yield f"{tmp_path / 'hostile.py'}:rule"
    _pool.pool(f"{tmp_path / 'hostile.py'}:rule").close()


def sample(text: str, finish: Finish = "eos", answered: bool = True) -> Sample:
    return Sample("gsm8k", "1", 0, text, finish, 9, answered=answered)


def each(rule: str, texts: Sequence[str], **options: float) -> list[Verdict]:
    return judge(rule, texts, [PROMPT] * len(texts), **options)  # type: ignore[arg-type]


def test_contract_3_what_could_not_be_judged_is_not_wrong() -> None:
    samples = [
        sample("#### 5"),
        sample("#### 6"),
        sample("no idea"),
        sample("", "length", answered=False),
        sample("so 2 + 3", "length"),
        sample("#### 5\nAnd now", "length"),
        sample("#### 6\nAnd now", "length"),
        None,
    ]

    verdicts = judge("math_answer", samples, [PROMPT] * len(samples))
    ungiven = judge("math_answer", samples[:1], [Prompt("1", "?")])

    assert [verdict.correct for verdict in verdicts] == [True, False, False, None, None, True, False, None]
    assert [verdict.reason for verdict in verdicts if verdict.correct is None] == [TRUNCATED] * 2 + ["null: no answer"]
    assert [verdict.answer for verdict in verdicts[:3]] == ["5", "6", None]
    assert ungiven == [Verdict(None, "no gold answer")]


def test_a_rule_that_knows_nothing_of_cut_texts_does_not_call_them_wrong() -> None:
    cut = [sample("a", "length")]

    assert judge(lambda text, prompt: False, cut, [PROMPT]) == [Verdict(None, TRUNCATED)]
    assert judge(lambda text, prompt: True, cut, [PROMPT]) == [Verdict(True)]
    assert judge(lambda text, prompt: Verdict(False, "", "7"), cut, [PROMPT]) == [Verdict(False, "", "7")]


def test_equal_texts_of_equal_prompts_are_judged_once(hostile: str) -> None:
    other = Prompt("2", "What is 2 + 3?", gold="5")
    texts = ["a", "a", "b", "a"]

    verdicts = judge(hostile, texts, [PROMPT, Prompt("1", "What is 2 + 3?", gold="5"), PROMPT, other], workers=1)

    # The rule is true of a text on the first call only; of another prompt it is called again.
    assert [verdict.correct for verdict in verdicts] == [True, True, True, False]


def test_a_child_that_hangs_crashes_or_raises_costs_its_own_text_only(hostile: str) -> None:
    began = time.monotonic()

    verdicts = each(
        hostile, ["ok", "hang", "sleep", "exit", "kill", "raise", "half", "print", "input", "fine"], seconds=1
    )

    assert [verdict.correct for verdict in verdicts] == [True, *[None] * 6, True, True, True]
    reasons = [verdict.reason for verdict in verdicts[1:7]]
    assert reasons[:2] == ["timed out after 1 s"] * 2
    assert reasons[2:4] == ["its process ended (exit status 3)", "its process ended (signal SIGKILL)"]
    assert reasons[4:] == ["KeyError: 'inside'", "TypeError: " + reasons[5].partition(": ")[2]]
    assert "expected a Verdict" in reasons[5]
    assert time.monotonic() - began < 30


def test_a_text_longer_than_a_pipe_holds_is_judged_and_a_long_reason_is_cut() -> None:
    text = f"{'word ' * 200_000}\n#### {'9' * 400}\n\\boxed{{5}}"

    (right,), (wrong,) = each("math_answer", [text]), each("math_answer", ["#### " + "no " * 2_000])

    assert right.correct is True
    assert wrong.correct is False and len(wrong.reason) + len(wrong.answer or "") < 2_000


def test_children_stay_for_the_next_call_and_end_when_closed(hostile: str) -> None:
    (first,), (second,) = each(hostile, ["pid"]), each(hostile, ["pid"])

    assert first.reason == second.reason, "the same process"
    (third,) = judge(verifiers.load(hostile), ["pid"], [PROMPT])
    pid = int(first.reason)
    assert third.reason == first.reason != str(os.getpid()), "a rule that was loaded is judged there too"
    _pool.pool(hostile).close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert each(hostile, ["pid"])[0].correct is True, "and another is started when it is needed again"


def test_a_child_that_was_killed_between_two_calls_is_replaced(hostile: str) -> None:
    (found,) = each(hostile, ["pid"])
    os.kill(int(found.reason), 9)
    time.sleep(0.2)

    assert each(hostile, ["a"])[0].correct is True


def test_many_that_time_out_do_not_hold_training_up(hostile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pool, "PATIENCE", 2)
    (Path(hostile.partition(":")[0])).write_text("import time\ndef rule(text, prompt):\n    time.sleep(60)\n")

    verdicts = each(hostile, [str(i) for i in range(5)], seconds=1, workers=1)

    assert [verdict.reason for verdict in verdicts] == ["timed out after 1 s"] * 2 + ["timed out after 0.1 s"] * 3


def test_a_rule_that_does_not_load_in_the_child_is_a_reason_and_no_error(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "import sys\nassert not sys.flags.isolated, 'not in a child'\ndef rule(text, prompt): return True\n"
    )

    verdicts = each(f"{path}:rule", ["a", "b"])

    assert [verdict.correct for verdict in verdicts] == [None, None]
    assert "could not start" in verdicts[0].reason and "not in a child" in verdicts[0].reason


def test_hostile_mathematics_ends_within_its_limit() -> None:
    prompt = Prompt("1", "?", gold="\\frac{\\pi}{2}")
    texts = ["\\boxed{9^{9^{9^{9^9}}}}", "\\boxed{\\pi / 2}"]

    verdicts = judge("math_answer", texts, [prompt] * 2, seconds=3)

    assert [verdict.correct for verdict in verdicts] == [None, True]


def test_a_callable_runs_here_and_what_it_raises_is_a_reason() -> None:
    def rule(text: str, prompt: Prompt) -> bool:
        return {"5": True, "6": False}[text]

    verdicts = judge(rule, ["5", "6", "7"], [PROMPT] * 3)

    assert verdicts == [Verdict(True), Verdict(False), Verdict(None, "KeyError: '7'")]


def test_what_is_wrong_with_the_call_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no verifier named 'nonsense'"):
        judge("nonsense", ["5"], [PROMPT])
    with pytest.raises(ValueError, match=r"came 1 items and 2 prompts"):
        judge("math_answer", ["5"], [PROMPT, PROMPT])
    assert judge("math_answer", [], []) == []


@pytest.mark.parametrize(
    ("returned", "reason"),
    [("verdicts", ""), ("verdicts[:-1]", "returned 1 verdicts on 2 texts"), ("1 / 0", "ZeroDiv")],
)
def test_a_rule_of_batches_is_called_once_and_its_failure_is_a_reason(
    tmp_path: Path, returned: str, reason: str
) -> None:
    path = tmp_path / "batch.py"
    path.write_text(
        "from divmon.types import Verdict\nBATCH = True\n"
        "def rule(texts, prompts, complete=None, *, allow_unsandboxed_code=False):\n"
        "    verdicts = [Verdict(allow_unsandboxed_code, f'{complete} {texts}', 'x') for _ in texts]\n"
        f"    return {returned}\n"
    )
    samples = [sample("a"), sample("a"), sample("b", "length"), sample("c", "length", answered=False)]

    verdicts = judge(f"{path}:rule", samples, [PROMPT] * 4, allow_unsandboxed_code=True)

    if reason:
        assert [verdict.correct for verdict in verdicts] == [None] * 4
        assert reason in verdicts[0].reason
    else:
        assert [verdict.reason for verdict in verdicts[:3]] == ["[True, False] ['a', 'b']"] * 3
        assert [verdict.correct for verdict in verdicts] == [True, True, True, None]


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
