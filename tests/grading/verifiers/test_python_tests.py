"""HumanEval and MBPP: every gold solution passes in every form, wrong, empty, truncated and adversarial ones fail."""

from __future__ import annotations

import io
import json
import re
import time
import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from divmon.grading.sandbox import bubblewrap
from divmon.grading.verifiers.python_tests import python_tests
from divmon.types import Prompt, Verdict

Row = dict[str, Any]
HUMANEVAL: list[Row] = [
    {
        "task_id": "own/0",
        "prompt": 'import math\n\n\ndef area(r: float) -> float:\n    """Area of a circle."""\n',
        "entry_point": "area",
        "canonical_solution": "    return math.pi * r ** 2\n",
        "test": "def check(candidate):\n    assert abs(candidate(1) - 3.14159) < 1e-4\n    assert candidate(0) == 0\n",
    },
    {
        "task_id": "own/1",
        "prompt": "def encode(s):\n    return s[::-1]\n\n\ndef decode(s):\n    '''Undoes encode.'''\n",
        "entry_point": "decode",
        "canonical_solution": "    return s[::-1]\n",
        "test": "def check(candidate):\n    for s in ('ab', 'xyz'):\n        assert candidate(encode(s)) == s\n",
    },
]
MBPP: list[Row] = [
    {
        "task_id": 0,
        "text": "Write a function to add the numbers between two.",
        "code": "def sum(a, b):\r\n    n = 0\r\n    for i in range(a, b + 1):\r\n        n += i\r\n    return n",
        "test_setup_code": "",
        "test_list": ["assert sum(1, 3) == 6", "assert sum(2, 2)==2"],
        "challenge_test_list": [],
    },
    {
        "task_id": 1,
        "text": "Write a function to find the depth of a tree.",
        "code": (
            "class Node:\n    def __init__(self, v):\n        self.v = v\n        self.left = None\n"
            "def depth(n):\n    return 0 if n is None else 1 + depth(n.left)"
        ),
        "test_setup_code": "root = Node(1)\nroot.left = Node(2)",
        "test_list": ["assert (depth(root)) == 2", "assert set([depth(Node(3)), 1]) == {1}"],
        "challenge_test_list": [],
    },
]


@pytest.fixture(scope="module")
def humaneval(shared: Path | None) -> list[Row]:
    return HUMANEVAL + ([] if shared is None else read(shared / "data/probes/humaneval.jsonl"))


@pytest.fixture(scope="module")
def mbpp(shared: Path | None) -> list[Row]:
    return MBPP + ([] if shared is None else read(shared / "data/probes/mbpp.jsonl"))


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.open()]


def judged(rows: list[Row], text: Callable[[Row], str], **options: Any) -> list[Verdict]:
    prompts = [Prompt(str(row["task_id"]), "q", row=row) for row in rows]
    return python_tests([text(row) for row in rows], prompts, **options)


def failures(rows: list[Row], text: Callable[[Row], str], expected: bool) -> list[tuple[object, str]]:
    found = zip(rows, judged(rows, text), strict=True)
    return [(row["task_id"], verdict.reason) for row, verdict in found if verdict.correct is not expected]


def continuation(row: Row) -> str:
    return row["canonical_solution"]


def chat(row: Row) -> str:
    """The whole program in a fence, without the prompt's imports and helpers, among prose."""
    whole = row["prompt"] + row["canonical_solution"]
    start = re.search(rf"^def {row['entry_point']}\b", whole, re.MULTILINE)
    assert start is not None
    return f"Here is my solution:\n\n```python\n{whole[start.start() :]}```\n\nIt `works` in O(n)."


def fenced(row: Row) -> str:
    return f"```python\n{row['code']}\n```"


def bare(row: Row) -> str:
    return f"{row['code']}\n\nThis function does what was asked."


def nothing(body: str) -> Callable[[Row], str]:
    """A program that defines what is asked for, to no avail."""

    def text(row: Row) -> str:
        names = [row["entry_point"]] if "entry_point" in row else re.findall(r"^def (\w+)", row["code"], re.MULTILINE)
        return "\n".join(f"def {name}(*a, **k):\n    {body}" for name in names)

    return text


def test_gold_passes_humaneval(humaneval: list[Row]) -> None:
    """A third of the rows; all of them in the slow test."""
    assert not failures(humaneval[:2] + humaneval[3::3], continuation, True)


def test_gold_passes_mbpp(mbpp: list[Row]) -> None:
    """A sixth of the rows; all of them in the slow test."""
    assert not failures(mbpp[:2] + mbpp[3::6], fenced, True)


def test_gold_passes_in_other_forms(humaneval: list[Row], mbpp: list[Row]) -> None:
    """A sixth of the rows; all of them in the slow test."""
    assert not failures(humaneval[:2] + humaneval[2::6], chat, True)
    assert not failures(mbpp[:2] + mbpp[2::6], bare, True)


@pytest.mark.slow
def test_gold_passes_in_other_forms_all(humaneval: list[Row], mbpp: list[Row]) -> None:
    assert not failures(humaneval, continuation, True)
    assert not failures(humaneval, chat, True)
    assert not failures(humaneval, lambda row: row["canonical_solution"].strip(), True)
    assert not failures(mbpp, bare, True)
    assert not failures(mbpp, fenced, True)


def renamed(source: str, name: str) -> str:
    """A program with its function called otherwise; what strings say stays."""
    tokens = list(tokenize.generate_tokens(io.StringIO(source.replace("\r\n", "\n")).readline))
    return tokenize.untokenize(
        [(token.type, "mine" if token[:2] == (tokenize.NAME, name) else token.string) for token in tokens]
    )


def asked(row: Row) -> str:
    return re.findall(r"\b(\w+)\s*\(", row["test_list"][0].removeprefix("assert"))[0]


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_gold_of_another_name_passes_mbpp_and_a_wrong_one_fails(every: int, shared: Path | None) -> None:
    rows = MBPP[:1] if shared is None else MBPP[:1] + read(shared / "data/probes/mbpp.jsonl")
    rows = [row for row in rows if re.search(rf"^def {asked(row)}\b", row["code"], re.MULTILINE)]
    assert shared is None or len(rows) > 140
    rows = rows[::every]
    programs = {row["task_id"]: renamed(row["code"], asked(row)) for row in rows}
    others = dict(zip(programs, [*list(programs.values())[1:], "def mine(*a): return None"], strict=True))

    found = judged(rows, lambda row: programs[row["task_id"]])
    wrong = judged(rows, lambda row: others[row["task_id"]])

    assert [(row["task_id"], v.reason) for row, v in zip(rows, found, strict=True) if v.correct is not True] == []
    assert all(f"(mine called as {asked(row)})" in v.reason for row, v in zip(rows, found, strict=True))
    assert [row["task_id"] for row, v in zip(rows, wrong, strict=True) if v.correct is not False] == []


EQUAL = "class A:\n        def __eq__(s, o): return True\n        def __bool__(s): return True\n    return A()"
WRONG = ["return None", "raise SystemExit(0)", "import os; os._exit(0)", EQUAL, "return 'never the answer'"]


@pytest.mark.parametrize("body", WRONG)
def test_wrong_programs_fail(humaneval: list[Row], mbpp: list[Row], body: str) -> None:
    rows = humaneval[:2] + mbpp[:2] + (humaneval[2:] + mbpp[2:])[WRONG.index(body) :: 25]
    assert not failures(rows, nothing(body), False)


@pytest.mark.slow
@pytest.mark.parametrize("body", WRONG)
def test_wrong_programs_fail_all(humaneval: list[Row], mbpp: list[Row], body: str) -> None:
    assert not failures(humaneval + mbpp, nothing(body), False)


@pytest.mark.parametrize(
    "text", ["", "  \n", "I am not able to do that.", "```python\n```", "\x00", "raise SystemExit(0)"]
)
def test_answers_without_a_program_fail(text: str) -> None:
    assert not failures(HUMANEVAL + MBPP, lambda row: text, False)


def test_programs_of_other_rows_fail(mbpp: list[Row]) -> None:
    rows = mbpp[:2] + mbpp[2::5]
    shifted = {row["task_id"]: other["code"] for row, other in zip(rows, rows[1:] + rows[:1], strict=True)}
    assert not failures(rows, lambda row: shifted[row["task_id"]], False)


def test_truncated_programs_fail(humaneval: list[Row]) -> None:
    rows = humaneval[:1] + [row for row in humaneval[2::6] if continuation(row).count("\n") > 3]
    assert not failures(rows, lambda row: continuation(row)[: len(continuation(row)) // 3], False)


def test_a_cut_off_program_has_an_answer_only_where_a_fence_closes_it() -> None:
    texts = [
        "```python\ndef sum(a, b):\n    return 6\n```\nNow, this",
        "```python\ndef sum(a, b):\n    ret",
        "def sum(a, b)",
    ]
    prompts = [Prompt("0", "q", row=MBPP[0])] * 3
    cut = python_tests(texts, prompts, complete=[False] * 3)
    assert [(verdict.correct, verdict.answer is None) for verdict in cut] == [
        (False, False),
        (False, True),
        (False, True),
    ]
    assert all(verdict.answer is not None for verdict in python_tests(texts, prompts))


def test_a_base_model_that_rambles_on_is_judged_by_what_was_asked() -> None:
    text = f'{MBPP[0]["code"]}\n\n"""\nWrite a function to do another thing.\n"""\ndef other(x):\n    return (x'
    assert judged(MBPP[:1], lambda row: text)[0].correct is True


def test_answer_is_the_program_as_written() -> None:
    assert judged(HUMANEVAL[:1], continuation)[0].answer == HUMANEVAL[0]["canonical_solution"].rstrip()


def test_rows_without_tests_are_named() -> None:
    found = python_tests(["x", "x"], [Prompt("0", "q"), Prompt("1", "q", row={"question": "?"})])
    assert [verdict.correct for verdict in found] == [None, None]
    assert "no row" in found[0].reason and "question" in found[1].reason


def test_without_sandbox_or_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap, "fault", lambda: "hidden by the test")
    found = judged(MBPP, fenced)
    assert [verdict.correct for verdict in found] == [None, None] and "hidden by the test" in found[0].reason
    assert [v.correct for v in judged(MBPP, fenced, allow_unsandboxed_code=True)] == [True, True]


def test_the_solution_is_not_needed_to_know_what_is_asked() -> None:
    rows = [{**row, "code": ""} for row in MBPP]
    assert [verdict.correct for verdict in python_tests([row["code"] for row in MBPP], prompts_of(rows))] == [
        True,
        True,
    ]


def prompts_of(rows: list[Row]) -> list[Prompt]:
    return [Prompt(str(row["task_id"]), "q", row=row) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("distinct", [16, 3])
def test_speed(mbpp: list[Row], distinct: int) -> None:
    """100 prompts, 16 distinct programs each; five times as many samples where four in five are duplicates."""
    rows = [row for row in (mbpp * 50)[:100]]
    samples = [(row, k % distinct) for row in rows for k in range(16 if distinct == 16 else 80)]
    texts = [f"```python\n# {k}\n{row['code']}\n```" for row, k in samples]
    start = time.perf_counter()
    found = python_tests(texts, prompts_of([row for row, _ in samples]))
    print(f"{len(texts)} samples, {time.perf_counter() - start:.1f} s")
    assert all(verdict.correct for verdict in found)
    assert time.perf_counter() - start < 60
