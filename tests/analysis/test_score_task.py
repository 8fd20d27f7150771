"""`divmon score --task`: outputs graded by the rules of their tasks, and what is ungradable said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import ROOT

from divmon.analysis.score_files.correctness import reasons
from divmon.cli import main
from divmon.prompts import tasks
from divmon.scoring.quality import quality
from divmon.types import Verdict

MBPP = {
    "task_id": 1,
    "text": "Add one.",
    "code": "def inc(x):\n    return x + 1",
    "test_list": ["assert inc(1) == 2", "assert inc(-1) == 0"],
}
SUMS = [  # as grade-school answers end: right, right in other words, wrong
    {"prompt": f"{a} + {b}?", "gold": str(a + b), "outputs": [f"#### {a + b}", f"It is {a + b}.", f"#### {a - b}"]}
    for a, b in ((2, 2), (10, 5), (1200, 34))
]


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return str(path)


def run(
    tmp_path: Path, rows: list[Any], *options: str, before: list[Any] | None = None, metrics: str = "ead"
) -> tuple[int, dict[str, Any]]:
    """The exit code and the JSON, read back strictly."""
    out = tmp_path / "out.json"
    out.unlink(missing_ok=True)
    given = [write(tmp_path / "now.jsonl", rows), "--metrics", metrics, "--device", "cpu", "--embedder", "minilm"]
    if before is not None:
        given += ["--reference", write(tmp_path / "before.jsonl", before)]
    code = main(["score", *given, *options, "--out", str(out)])

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return code, json.loads(out.read_text(), parse_constant=refuse) if out.exists() else {}


def test_verdicts_agree_with_the_publishers_flags_on_real_answers(tmp_path: Path, shared: Path | None) -> None:
    if shared is None:
        rows = [{**row, "correct": [True, True, False]} for row in SUMS]
    else:
        lines = (shared / "data" / "outputs" / "gsm8k_model_solutions.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
    flags = [row.pop("correct") for row in rows]
    code, report = run(tmp_path, rows, "--task", "gsm8k", metrics="length")
    assert code == 0 and [prompt["correct"] for prompt in report["per_prompt"]] == flags
    assert [prompt["k_correct"] for prompt in report["per_prompt"]] == [sum(row) for row in flags]
    total = sum(map(len, flags))
    expected = {"graded": total, "correct": sum(map(sum, flags)), "ungraded": 0, "reasons": {}}
    assert report["correctness"] == expected and report["metrics"]["accuracy"]["n"] == len(rows)


def test_quality_is_among_the_metrics_with_votes_of_what_was_judged_here(tmp_path: Path) -> None:
    outputs = ["#### 4", "#### 4", "#### 5", None]
    judged = {"prompt": "2 + 2?", "gold": "4", "outputs": outputs}
    given = {"prompt": "3 + 3?", "gold": "7", "outputs": ["#### 6", "#### 6"], "correct": [True, True]}
    code, report = run(tmp_path, [judged, given], "--task", "gsm8k")
    assert code == 0 and [p["correct"] for p in report["per_prompt"]] == [[True, True, False, None], [True, True]]
    metrics = report["metrics"]
    verdicts = [[True, True, False, None], [True, True]]
    no_answer = [[False, False, False, True], [False, False]]
    for name, value_P in quality(verdicts, 4, no_answer=no_answer).items():
        assert metrics[name]["n"] == (~np.isnan(value_P)).sum()
        if metrics[name]["n"]:
            assert metrics[name]["mean"] == pytest.approx(np.nanmean(value_P))
    assert metrics["majority_at3"] == {"mean": 1.0, "ci95": [None, None], "n": 1}
    assert metrics["distinct_answers_at2"]["mean"] == pytest.approx(5 / 3)
    assert metrics["accuracy_no_answer_wrong"]["mean"] == pytest.approx((2 / 4 + 1) / 2)


def test_a_rows_own_task_is_enough_and_wins_over_the_option_but_not_over_correct(tmp_path: Path) -> None:
    rows = [
        {**SUMS[0], "task": "gsm8k"},
        {"prompt": "p", "gold": "[1, 2]", "outputs": ["[1, 2]", "[2, 1]"], "task": "cruxeval"},
        {**SUMS[0], "task": "gsm8k", "correct": [False, None, True]},
        {"prompt": "unjudged", "outputs": ["x", None], "task": "gsm8k"},
        {**SUMS[1], "task": "sums of my own"},
    ]
    code, report = run(tmp_path, rows)
    verdicts = [prompt["correct"] for prompt in report["per_prompt"]]
    given = [[True, True, False], [True, False], [False, None, True]]
    assert code == 0 and verdicts == [*given, [None, None], [None] * 3]
    assert [prompt["k_correct"] for prompt in report["per_prompt"]] == [2, 1, 1, None, None]
    assert [prompt["k_graded"] for prompt in report["per_prompt"]] == [3, 2, 2, 0, 0]
    assert report["metrics"]["accuracy_no_answer_wrong"]["n"] == 3  # a prompt that nobody judges has no accuracy
    code, report = run(tmp_path, rows, "--task", "gsm8k")
    verdicts = [prompt["correct"] for prompt in report["per_prompt"]]
    assert code == 0 and verdicts == [*given, [None, None], [True, True, False]]
    assert report["per_prompt"][3]["ungraded"] == {"no gold answer": 1, "null: no answer": 1}


def test_without_a_task_gold_is_ignored_as_before(tmp_path: Path) -> None:
    code, report = run(tmp_path, SUMS)
    assert code == 0 and report["correctness"] is None and "accuracy" not in report["metrics"]
    assert all("k_correct" not in prompt for prompt in report["per_prompt"])


def test_upstream_rows_judge_what_a_gold_text_cannot(tmp_path: Path, shared: Path | None) -> None:
    own = {
        "ifeval": {"key": 1, "prompt": "p", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
        "truthfulqa": {
            "question": "?",
            "best_answer": "Nothing",
            "correct_answers": ["Nothing happens"],
            "incorrect_answers": ["You get ill"],
        },
    }
    rows = [
        {"prompt": "p", "outputs": ["No commas here", "One, two"], "task": "ifeval", "row": own["ifeval"]},
        {
            "prompt": "p",
            "outputs": ["Nothing happens.", "You get ill."],
            "task": "truthfulqa",
            "row": own["truthfulqa"],
        },
        {"prompt": "p", "outputs": ["#### 7", ""], "task": "gsm8k", "row": {"question": "?", "answer": "#### 7"}},
    ]
    names = ["mbpp", "humaneval", "math_algebra", "math_geometry", "cruxeval"] if shared else ["mbpp"]
    for name in names:
        row = json.loads((shared / "data" / "probes" / f"{name}.jsonl").open().readline()) if shared else MBPP
        solution = tasks.load(name).solution
        assert solution is not None
        rows.append({"prompt": "p", "outputs": [solution(row), "nonsense"], "task": name, "row": row})
    code, report = run(tmp_path, rows, "--allow-unsandboxed-code")
    assert code == 0 and [p["correct"] for p in report["per_prompt"]] == [[True, False]] * len(rows)


def test_code_is_not_run_without_a_sandbox_unless_it_is_allowed(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "outputs": [MBPP["code"], MBPP["code"].replace("+", "-")], "row": MBPP}]
    file = write(tmp_path / "rows.jsonl", rows)
    command = [sys.executable, "-m", "divmon", "score", file, "--task", "mbpp", "--metrics", "ast_subtree"]
    environment = {"PATH": str(tmp_path), "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    for options, code in (([], 3), (["--allow-unsandboxed-code"], 0)):
        command_here = [*command, "--out", str(tmp_path / "o.json"), *options]
        done = subprocess.run(command_here, capture_output=True, text=True, timeout=120, env=environment)
        assert done.returncode == code, done.stderr
        report = json.loads((tmp_path / "o.json").read_text())
        if code:
            assert report["correctness"]["ungraded"] == 2 and "without a sandbox" in next(
                iter(report["correctness"]["reasons"])
            )
            assert "task mbpp could grade nothing: generated code is not run" in done.stderr
        else:
            assert report["per_prompt"][0]["correct"] == [True, False] and "2 of 2 outputs graded" in done.stdout


def test_what_cannot_be_judged_is_counted_by_kind_and_still_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [
        {"gold": ["4"], "task": "gsm8k"},
        {"row": [1], "task": "gsm8k"},
        {"row": {"a": 1}, "task": "gsm8k"},
        {"row": {"problem": "p", "solution": 7}, "task": "math_algebra"},
        {"gold": "x", "task": "prism"},
    ]
    rows = [{"prompt": "p", "outputs": ["#### 4", "four"], **fields} for fields in bad]
    code, report = run(tmp_path, [*rows, {**SUMS[0], "task": "gsm8k"}, {**SUMS[1], "gold": 15, "task": "gsm8k"}])
    assert code == 0 and report["metrics"]["ead"]["n"] == 7
    assert report["correctness"]["graded"] == 6 and report["correctness"]["ungraded"] == 10
    given = list(report["correctness"]["reasons"])
    expected = ["'gold' is neither", "'row' is no object", "needs the field 'answer'", "TypeError", "nothing grades"]
    assert all(any(words in reason for reason in given) for words in expected) and len(given) == 5
    assert "6 of 16 outputs graded, 4 correct; ungraded: 'gold' is neither text nor a number (2)" in (
        capsys.readouterr().out
    )


def test_reasons_of_one_kind_are_counted_together() -> None:
    verdicts = [Verdict(None, f"no {text!r} within {n} s") for n, text in enumerate(["a", "it's", 'say "so"'])]
    assert reasons([Verdict(None, "late"), *verdicts, Verdict(True, "right"), Verdict(False)]) == {
        "no 'a' within 0 s": 3,
        "late": 1,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task", "gsm9k"], "task gsm9k: no such task; there are cruxeval, gsm8k, "),
        (["--task", "prism"], "task prism: nothing grades the task 'prism'; there are "),
        (["--reference", "none.jsonl"], "none.jsonl"),
    ],
)
def test_wrong_names_are_said_before_anything_is_scored(
    tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = run(tmp_path, SUMS, *options)
    assert code == 2 and not report and message in capsys.readouterr().err
