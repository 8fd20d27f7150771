"""math_answer: every gold passes; wrong, empty, truncated and adversarial answers do not."""

from __future__ import annotations

import itertools
import json
import signal
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from divmon.grading.verifiers._final_answer import find_answer
from divmon.grading.verifiers._numbers import readings
from divmon.grading.verifiers.math_answer import math_answer
from divmon.prompts import tasks
from divmon.types import Prompt, Verdict

GSM8K = {"question": "2 pens and 3?", "answer": "2 + 3 = 5\n#### 5"}
MATH = {"problem": "Half of 1?", "solution": "It is $\\boxed{\\frac{1}{2}}$.", "level": "Level 1", "type": "Algebra"}
OWN_ROWS = {"gsm8k": [GSM8K], "math_algebra": [MATH], "math_geometry": [MATH]}


def verdict(text: str, gold: str | None, complete: bool = True) -> Verdict:
    return math_answer(text, Prompt("1", "?", gold), complete)


def correct(text: str, gold: str) -> bool | None:
    return verdict(text, gold).correct


def prompts(name: str, shared: Path | None, tmp_path: Path) -> tuple[tasks.Task, tuple[Prompt, ...]]:
    folder = shared / "data" / "probes" if shared else tmp_path
    if not shared:
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in OWN_ROWS[name]))
    task = tasks.load(name)
    return task, task.probe(10_000, source=folder).prompts


@pytest.mark.parametrize("name", OWN_ROWS)
def test_every_gold_passes_as_its_solution_and_as_itself(name: str, shared: Path | None, tmp_path: Path) -> None:
    task, asked = prompts(name, shared, tmp_path)
    assert task.solution

    for prompt in asked:
        assert prompt.row and prompt.gold
        for text in (task.solution(prompt.row), f"So \\boxed{{{prompt.gold}}}.", f"#### {prompt.gold}"):
            assert math_answer(text, prompt).correct is True, (text, prompt.gold)


@pytest.mark.parametrize("name", OWN_ROWS)
def test_another_row_s_answer_an_empty_and_a_cut_one_do_not(name: str, shared: Path | None, tmp_path: Path) -> None:
    task, asked = prompts(name, shared, tmp_path)
    assert task.solution

    for prompt, other in itertools.pairwise(asked):
        assert prompt.row and other.row
        if prompt.gold != other.gold:
            assert math_answer(task.solution(other.row), prompt).correct is False, (other.gold, prompt.gold)
        assert math_answer("", prompt).correct is False
        text = task.solution(prompt.row)
        marker = max(text.find("####"), text.find("\\boxed"))
        for end in (marker, marker + 4, marker + 7 if "\\boxed" in text else len(text)):
            cut = math_answer(text[:end], prompt, complete=False)
            assert cut.correct is not True and cut.answer is None, (text[:end], cut)


def test_the_publisher_s_flags_on_2000_real_answers(shared: Path | None) -> None:
    rows = [
        {"gold": "2 + 3 = 5\nA: 5", "outputs": ["A: 5", "A: 6", "so 2 + 3"], "correct": [True, False, False]},
        {"gold": "A: 5,600", "outputs": ["= $5600\nA: 5600"], "correct": [True]},
    ]
    if shared:
        lines = (shared / "data" / "outputs" / "gsm8k_model_solutions.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]

    found = [[math_answer(text, Prompt("1", "?", row["gold"])).correct for text in row["outputs"]] for row in rows]

    assert found == [row["correct"] for row in rows]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("She has 7.\n#### 7", "7"),
        ("#### $1,234.50 ", "$1,234.50"),
        ("Answer: 7", "7"),
        ("**Answer:** 7 eggs.", "7 eggs"),
        ("**Final Answer**: 7", "7"),
        ("Final answer:\n\n7", "7"),
        ("work\nA: 7", "7"),
        ("The answer is 3.5. I am sure.", "3.5"),
        ("So the final answer to the question is: $\\frac{1}{2}$.", "\\frac{1}{2}"),
        ("\\boxed{\\frac{1}{9}}", "\\frac{1}{9}"),
        ("\\boxed{\\text{a \\} b}}", "\\text{a \\} b}"),
        ("\\fbox{3} and \\boxed 7", "7"),
        ("\\boxed{\\boxed{7}}", "7"),
        ("\\boxed{1} no, \\boxed{2}", "2"),
        ("\\boxed{1} #### 2", "2"),
        ("#### 2\nor rather, the answer is \\boxed{1}.", "1"),
        ("\\boxed{7} \\boxed{}", "7"),
        ("####7####8", "8"),
        ("#### Step 1: add\n3 + 4 = 7\n#### Conclusion\nShe has 7.", "7"),
        ("Answer: She has 3 + 4 = 7 eggs each day.\nShe sells 2 * 7 = 14.", "14"),
        ("Answer: She has 3 + 4 = 7 eggs each day. So she sells 14.", "So she sells 14"),
        ("Final Answer: The final answer is 7. I hope it is correct.", "7"),
        ("Answer: 7. I hope this was a help to you and yours.\nBye", "7"),
        ("#### 7\n####", "7"),
        ("She makes 9 * 2 = $18 a day.", "$18"),
        ("The value is $x = \\frac{3}{4}$.", "x = \\frac{3}{4}"),
        ("Hence\n\\[\nx = 5\n\\]", "5"),
    ],
)
def test_the_last_answer_given_is_found(text: str, answer: str) -> None:
    found = find_answer(text)

    assert found is not None and found.text == answer


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "I cannot say.",
        "\\boxed{7",
        "\\boxed{}",
        "####",
        "It is not 7.",
        "There isn't 7 of it.",
        "Answer:",
        "so 2 + 7 =",
        "$<<2*7",
    ],
)
def test_a_text_without_an_answer_has_none(text: str) -> None:
    assert find_answer(text) is None
    assert verdict(text, "7") == Verdict(False, "no answer found")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("so #### 7", False),  # 70 may have been coming
        ("so #### 7\n", True),
        ("The answer is 7.", False),  # or 7.5
        ("The answer is 7. It", True),
        ("so \\boxed{7}", True),
        ("so \\boxed{7", False),
        ("she makes 9 * 2 = 18 a", False),
        ("#### 7\nLet me check with 8", True),
    ],
)
def test_of_a_cut_text_only_a_finished_answer_counts(text: str, found: bool) -> None:
    assert (find_answer(text, complete=False) is not None) is found
    assert verdict(text, "7", complete=False).correct is found


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        ("18", "18.0"), ("18", "$18"), ("18", "\\$18"), ("18", "18 dollars a day"), ("18", "x = 18"),
        ("18", "9 * 2 = 18"), ("18", "Janet makes $18 every day"), ("18", "**18**"), ("18", "$18$"), ("18", "18 m"),
        ("18", "\\text{18 cm}^2"), ("18", "18^\\circ"), ("18", "eighteen (18)"), ("-5", "−5"), ("-5", "-$5"),
        ("1000", "1,000"), ("1000", "1{,}000"), ("1000", "1\\,000"), ("1000", "1\u202f000"), ("1000", "$1,000.00"),
        ("10,000", "10000"), ("1500000", "1.5 million"), ("80000", "$80k"), ("5", "5 dozen"), ("60", "5 dozen"),
        ("50%", "50"), ("50", "50%"), ("50\\%", "0.5"), ("0.5", "50 percent"), ("75 \\%", "75"),
        ("\\frac{1}{2}", "0.5"), ("0.5", "1/2"), ("\\frac12", "\\dfrac{1}{2}"), ("1.5", "1 1/2"), (".5", "0.50"),
        ("\\frac{3}{2}", "1\\frac{1}{2}"), ("\\frac34", "\\tfrac{3}{4}"), ("6", "\\frac{12}{2}"),
        ("4", "\\sqrt{16}"), ("10\\sqrt{6}", "10 \\sqrt{6} \\text{ inches}"), ("2\\pi", "\\pi \\cdot 2"),
        ("\\frac{\\sqrt{2}}{2}", "\\frac{1}{\\sqrt{2}}"), ("6+9i", "9i + 6"), ("7(x+3)(x-3)", "7x^2 - 63"),
        ("x \\in [-2,7]", "[-2, 7]"), ("(-\\sqrt{3}, \\sqrt{3})", "\\left(-\\sqrt3,\\sqrt3\\right)"),
        ("(-\\infty,-8)\\cup (8,\\infty)", "(8,\\infty) \\cup (-\\infty,-8)"), ("(1,\\frac92)", "(1, 4.5)"),
        ("4,6,14,15", "15, 14, 6, 4"), ("(2,4)", "(2, 4)"), ("3s^2", "3 s^{2}"), ("y=2x+3", "2x + 3"),
        ("\\text{Evelyn}", "Evelyn"), ("\\text{Evelyn}", "evelyn."), ("C", "\\text{(C)}"), ("10:30", "10:30"),
        ("\\frac{1}{3}", "0.333333"), ("0.333333", "\\frac{1}{3}"),
    ],
)  # fmt: skip
def test_the_same_answer_in_another_form_is_correct(gold: str, text: str) -> None:
    assert correct(f"\\boxed{{{text}}}", gold) is True
    assert correct(f"Answer: {text}", gold) is True


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        ("18", "180"), ("18", "-18"), ("18", "1.8"), ("18", "17 or 18"), ("18", "17, 18"), ("18", "not 18"),
        ("18", "between 17 and 18"), ("18", "less than 18"), ("18", "18 to 20"), ("18", "18 squared"), ("18", "18^2"),
        ("18", "18x"), ("18", "18 plus tax"), ("18", "1e18"), ("18", "18/0"), ("18", "18 thousand"),
        ("18", "\\text{eighteen or so}"), ("18", "x"), ("18", "correct"), ("18", "True"), ("18", "gold"),
        ("18", "18 and a half"), ("18", "minus 18"), ("18", "{18, 19}"), ("\\frac{1}{2}", "\\frac{1}{9}"),
        ("\\frac{1}{9}", "\\frac{1}{2}"), ("\\frac{1}{3}", "0.33"), ("3s^2", "3"), ("2\\pi", "2"), ("2\\pi", "6.28"),
        ("10\\sqrt{6}", "10"), ("x \\in [-2,7]", "(-2,7)"), ("[0,\\infty)", "(0,\\infty)"), ("(2,4)", "(4,2)"),
        ("4,6,14,15", "4,6,14"), ("\\text{Evelyn}", "nyleve"), ("\\text{Evelyn}", "Evelyn or Bob"), ("C", "B"),
        ("6+9i", "6-9i"), ("10:30", "10"), ("7(x+3)(x-3)", "7x^2 + 63"), ("2xy", "2"), ("1000", "1.000"),
        ("1000000", "1000001"), ("0.0001", "0.0002"),
        ("5", "__import__('os').getpid()"), ("5", "(" * 12), ("5", "\\frac{" * 12), ("\\pi", "\\frac{1}{0}"),
    ],
)  # fmt: skip
def test_another_answer_is_wrong(gold: str, text: str) -> None:
    assert correct(f"#### {text}", gold) is False
    if text.count("{") == text.count("}"):
        assert correct(f"\\boxed{{{text}}}", gold) is False


def test_a_gold_may_be_a_whole_solution_and_none_is_not_wrong() -> None:
    assert correct("#### 5", "2 + 3 = <<2+3=5>>5\n#### 5") is True
    assert correct("A: 5", "It is 2 + 3.\nA: 5") is True
    assert correct("\\boxed{5}", "so $\\boxed{5}$ of 7 pens") is True
    assert verdict("#### 5", None) == verdict("#### 5", " ") == Verdict(None, "no gold answer")


def test_equal_answers_share_a_form_for_the_vote() -> None:
    assert {verdict(f"#### {text}", "7").answer for text in ("18", "$18.00", "18 eggs", "x = 18")} == {"18"}
    assert {verdict(f"\\boxed{{{text}}}", "7").answer for text in ("\\frac12", "0.5", "1/2")} == {"1/2"}
    assert verdict("\\boxed{\\frac{1}{\\sqrt{2}}}", "\\frac{\\sqrt2}{2}").answer == "sqrt(2)/2"
    assert verdict("\\boxed{2x - 3}", "1").answer == verdict("\\boxed{-3 + 2x}", "1").answer
    assert verdict("\\boxed{\\text{Bob}}", "Al").answer == verdict("Answer: Bob.", "Al").answer == "bob"


def test_without_math_verify_numbers_are_judged_and_formulas_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "math_verify", None)  # as where it is not installed

    assert correct("#### 1,000", "1000") is True
    assert correct("#### 999", "1000") is False
    assert correct("\\boxed{2 \\sqrt{3}}", "2\\sqrt{3}") is True
    unsure = verdict("\\boxed{\\sqrt{12}}", "2\\sqrt{3}")
    assert unsure.correct is None and "pip install 'divmon[verify]'" in unsure.reason


def test_the_host_s_alarm_is_left_alone() -> None:
    signal.setitimer(signal.ITIMER_REAL, 60)
    try:
        assert correct("\\boxed{\\sqrt{12}}", "2\\sqrt{3}") is True
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 50
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    number=st.fractions(max_denominator=500),
    wrong=st.fractions(max_denominator=500),
    unit=st.sampled_from(["", " dollars", " cm", " per day"]),
)
def test_any_fraction_is_told_from_any_other(number: Fraction, wrong: Fraction, unit: str) -> None:
    spelt = str(number)

    assert readings(f"{spelt}{unit}") == (number,)
    assert correct(f"so\n#### {wrong}{unit}", spelt) is (number == wrong)


@settings(deadline=None)
@given(number=st.integers(-(10**12), 10**12))
def test_thousands_separators_change_nothing(number: int) -> None:
    assert readings(f"${number:,}") == readings(f"{number:,}.00") == readings(str(number)) == (number,)


@settings(deadline=None)
@given(text=st.text(max_size=200), complete=st.booleans())
def test_no_text_breaks_the_search_for_an_answer(text: str, complete: bool) -> None:
    for form in (text, f"#### {text}", f"\\boxed{{{text}"):
        find_answer(form, complete)
        readings(form)
