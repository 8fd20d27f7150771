"""CRUXEval: every gold value passes in the forms models give it, wrong and adversarial ones fail."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from divmon.grading.verifiers.value_match import value_match
from divmon.types import Prompt, Verdict

OWN = [
    {"code": "def f(a): return a", "input": "[1, 2]", "output": "[1, 2]", "id": "own_0"},
    {"code": "def f(s): return s", "input": "'a.b'", "output": "'a.b'", "id": "own_1"},
    {"code": "def f(d): return d", "input": "{}", "output": "{'a': (1, None)}", "id": "own_2"},
    {"code": "def f(x): return x", "input": "2", "output": "-2.5", "id": "own_3"},
    {"code": "def f(x): return not x", "input": "2", "output": "False", "id": "own_4"},
]


@pytest.fixture(scope="module")
def rows(shared: Path | None) -> list[dict[str, str]]:
    if shared is None:
        return OWN
    return OWN + [json.loads(line) for line in (shared / "data/probes/cruxeval.jsonl").open()]


def verdicts(texts: list[str], rows: list[dict[str, str]]) -> list[Verdict]:
    return value_match(texts, [Prompt(row["id"], "q", row=row) for row in rows])


FORMS = [
    "{}",
    " {}\n",
    "{}\n\nGiven the following function, what else?",
    "The function returns its argument.\n\nAnswer: {}",
    "The output is `{}`.",
    "**Answer:** `{}`",
    "We go step by step: x = 1, then x == 2.\n\n```python\n{}\n```",
    "[THOUGHT]Say 3.[/THOUGHT]\n[ANSWER]{}[/ANSWER]",
    "[ANSWER]\nassert f(1) == {}\n[/ANSWER]",
    "First the answer is 99999. No: so the final answer is {}",
    "f(1) == {}",
]


@pytest.mark.parametrize("form", FORMS)
def test_gold_passes_in_every_form(rows: list[dict[str, str]], form: str) -> None:
    rows = [row for row in rows if "`" not in row["output"]]
    found = verdicts([form.format(row["output"]) if "{}" in form else form for row in rows], rows)
    wrong = [(row["output"], verdict) for row, verdict in zip(rows, found, strict=True) if not verdict.correct]
    assert not wrong


@pytest.mark.parametrize(
    "form",
    ["", "   ", "I do not know.", "f(1)", "([{}], 0)", "not {}", "eval('{}')", "{} if True else 0", "[{}][0]", "{}, 1"],
)
def test_wrong_answers_fail(rows: list[dict[str, str]], form: str) -> None:
    found = verdicts([form.replace("{}", row["output"]) for row in rows], rows)
    right = [(row["output"], verdict) for row, verdict in zip(rows, found, strict=True) if verdict.correct is not False]
    assert not right


def test_truncated_values_fail_and_have_no_answer(rows: list[dict[str, str]]) -> None:
    rows = [row for row in rows if row["output"][0] in "[({'"]
    for verdict in verdicts([row["output"][:-1] for row in rows], rows):
        assert verdict.correct is False and verdict.answer is None


def test_values_of_other_rows_fail(rows: list[dict[str, str]]) -> None:
    shifted = rows[1:] + rows[:1]
    for row, other, verdict in zip(rows, shifted, verdicts([other["output"] for other in shifted], rows), strict=True):
        same = ast.literal_eval(row["output"]) == ast.literal_eval(other["output"])
        assert verdict.correct is same, (row, other)


def test_equal_values_share_an_answer() -> None:
    found = verdicts(["[1,2]", "the output is [1, 2]", "[ 1 , 2 ]"], [OWN[0]] * 3)
    assert {verdict.answer for verdict in found} == {"[1, 2]"}


def test_gold_of_the_prompt_is_taken_and_its_absence_named() -> None:
    found = value_match(["3", "3"], [Prompt("0", "q", gold="3"), Prompt("1", "q")])
    assert found[0].correct is True
    assert found[1].correct is None and "no expected value" in found[1].reason


def test_a_value_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "ran"
    texts = [f"open({str(path)!r}, 'w')", f"[open({str(path)!r}, 'w')]", "9" * 5000, "(" * 5000, "-" * 100_000 + "1"]
    assert [verdict.correct for verdict in verdicts(texts, [OWN[0]] * 5)] == [False] * 5
    assert not path.exists()
