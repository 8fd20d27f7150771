"""Judging: contract 3, equal texts once, and children that hang, crash, print or cannot start cost nobody a run."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from support.judged import PROMPT, each
from support.judged import hostile as hostile

from divmon.grading import verifiers
from divmon.grading.grader import TRUNCATED, judge
from divmon.grading.verifiers import _pool
from divmon.types import Finish, Prompt, Sample, Verdict


def sample(text: str, finish: Finish = "eos", answered: bool = True) -> Sample:
    return Sample("gsm8k", "1", 0, text, finish, 9, answered=answered)


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
