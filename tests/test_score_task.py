"""`divmon score` with verdicts and with a reference: judged by the tasks' rules, compared prompt by prompt."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from divmon import tasks
from divmon.cli import main
from divmon.decomposition import decompose
from divmon.quality import quality
from divmon.row_verdicts import reasons
from divmon.stats import paired_change
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


# Judging


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
    expected = {"judged": total, "correct": sum(map(sum, flags)), "not_judged": 0, "reasons": {}}
    assert report["verdicts"] == expected and report["metrics"]["accuracy"]["n"] == len(rows)


def test_quality_is_among_the_metrics_with_votes_of_what_was_judged_here(tmp_path: Path) -> None:
    outputs = ["#### 4", "#### 4", "#### 5", None]
    judged = {"prompt": "2 + 2?", "gold": "4", "outputs": outputs}
    given = {"prompt": "3 + 3?", "gold": "7", "outputs": ["#### 6", "#### 6"], "correct": [True, True]}
    code, report = run(tmp_path, [judged, given], "--task", "gsm8k")
    assert code == 0 and [p["correct"] for p in report["per_prompt"]] == [[True, True, False, None], [True, True]]
    metrics = report["metrics"]
    verdicts = [[True, True, False, None], [True, True]]
    cut_off = [[False, False, False, True], [False, False]]
    for name, value_P in quality(verdicts, 4, cut_off=cut_off).items():
        assert metrics[name]["n"] == (~np.isnan(value_P)).sum()
        if metrics[name]["n"]:
            assert metrics[name]["mean"] == pytest.approx(np.nanmean(value_P))
    assert metrics["majority_at3"] == {"mean": 1.0, "ci95": [None, None], "n": 1}
    assert metrics["distinct_answers_at2"]["mean"] == pytest.approx(5 / 3)
    assert metrics["accuracy_cut_off_wrong"]["mean"] == pytest.approx((2 / 4 + 1) / 2)


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
    assert [prompt["k_judged"] for prompt in report["per_prompt"]] == [3, 2, 2, 0, 0]
    assert report["metrics"]["accuracy_cut_off_wrong"]["n"] == 3  # a prompt that nobody judges has no accuracy
    code, report = run(tmp_path, rows, "--task", "gsm8k")
    verdicts = [prompt["correct"] for prompt in report["per_prompt"]]
    assert code == 0 and verdicts == [*given, [None, None], [True, True, False]]
    assert report["per_prompt"][3]["not_judged"] == {"no gold answer": 1, "cut off before its answer": 1}


def test_without_a_task_gold_is_ignored_as_before(tmp_path: Path) -> None:
    code, report = run(tmp_path, SUMS)
    assert code == 0 and report["verdicts"] is None and "accuracy" not in report["metrics"]
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
    environment = {"PATH": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[1]), "HOME": str(tmp_path)}
    for options, code in (([], 3), (["--allow-unsandboxed-code"], 0)):
        command_here = [*command, "--out", str(tmp_path / "o.json"), *options]
        done = subprocess.run(command_here, capture_output=True, text=True, timeout=120, env=environment)
        assert done.returncode == code, done.stderr
        report = json.loads((tmp_path / "o.json").read_text())
        if code:
            assert report["verdicts"]["not_judged"] == 2 and "without a sandbox" in next(
                iter(report["verdicts"]["reasons"])
            )
            assert "--task mbpp could judge nothing: generated code is not run" in done.stderr
        else:
            assert report["per_prompt"][0]["correct"] == [True, False] and "2 of 2 outputs judged" in done.stdout


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
    assert report["verdicts"]["judged"] == 6 and report["verdicts"]["not_judged"] == 10
    given = list(report["verdicts"]["reasons"])
    expected = ["'gold' is neither", "'row' is no object", "needs the field 'answer'", "TypeError", "nothing judges"]
    assert all(any(words in reason for reason in given) for words in expected) and len(given) == 5
    assert "6 of 16 outputs judged, 4 correct; not judged: 'gold' is neither text nor a number (2)" in (
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
        (["--task", "gsm9k"], "--task gsm9k: no such task; there are cruxeval, gsm8k, "),
        (["--task", "prism"], "--task prism: nothing judges the task 'prism'; there are "),
        (["--reference", "none.jsonl"], "none.jsonl"),
    ],
)
def test_wrong_names_are_said_before_anything_is_scored(
    tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = run(tmp_path, SUMS, *options)
    assert code == 2 and not report and message in capsys.readouterr().err


# A reference


def code_row(id: str, programs: str, correct: list[bool | None] | None = None) -> dict[str, Any]:
    """Outputs of which equal letters are equal programs and different ones share no subtree."""
    outputs = [f"{letter} = f(g({letter}, {ord(letter)}))" for letter in programs]
    return {"id": id, "prompt": f"prompt {id}", "outputs": outputs} | ({} if correct is None else {"correct": correct})


def apart(*rows: str) -> np.ndarray:
    """Distances of such outputs [P, N, N], NaN where there is none."""
    width = max(map(len, rows))
    distance = np.full((len(rows), width, width), np.nan)
    for p, letters in enumerate(rows):
        for i, a in enumerate(letters):
            for j, b in enumerate(letters):
                distance[p, i, j] = float(a != b)
    return distance


def rounded(value: Any) -> Any:
    """Without the last digits, which the order of a sum moves."""
    return json.loads(json.dumps(value), parse_float=lambda text: round(float(text), 9) + 0.0)


BEFORE = {
    "a": ("abcd", [True, True, False, False]),
    "b": ("aacb", [True, False, False, None]),
    "c": ("abc", [True] * 3),
}
NOW = {"a": ("aabc", [True, True, True, False]), "b": ("ddab", [True, True, False, False]), "c": ("aab", [True] * 3)}


def code_rows(rows: dict[str, Any]) -> list[dict[str, Any]]:
    return [code_row(id, *fields) for id, fields in rows.items()]


def test_the_decomposition_of_two_files_is_that_of_their_distances(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = run(tmp_path, code_rows(NOW), before=code_rows(BEFORE), metrics="ast_subtree,ead")
    assert code == 0 and report["reference"]["n_matched"] == 3 and report["paper"] is None
    before, now = ([list(column) for column in zip(*rows.values(), strict=True)] for rows in (BEFORE, NOW))
    expected = decompose(apart(*before[0]), apart(*now[0]), before[1], now[1]).as_dict()
    found = report["decomposition"]["ast_subtree"]
    assert found == json.loads(json.dumps(expected)) and found["narrowing_correct"] < 0
    terms = ("quality_control", "narrowing_correct", "narrowing_wrong", "narrowing_cross")
    assert sum(found[term] for term in terms) == pytest.approx(found["change"], abs=1e-9)
    assert {"reference", "now", "seen", "support", "correct_pair_change", "bracket", "ci95"} <= set(found)
    changes = report["changes"]
    wanted = paired_change([3 / 4, 2 / 4, 1], [2 / 4, 1 / 3, 1])
    accuracy = changes["accuracy"]
    assert [accuracy[name] for name in ("reference", "now", "change", "n")] == pytest.approx(
        [11 / 18, 3 / 4, 5 / 36, 3]
    )
    assert accuracy["ci95"] == pytest.approx([wanted.low, wanted.high])
    assert set(changes) == {*report["metrics"], *report["reference"]["metrics"]}
    table = capsys.readouterr().out
    assert "ast_subtree: from " in table and f"{found['narrowing_correct']:+.4f}" in table
    assert "real narrowing" in table and f"{accuracy['change']:+.4f}" in table and "{" not in table


def test_the_order_of_rows_and_prompts_of_one_file_alone_change_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now, before = code_rows(NOW), code_rows(BEFORE)
    _, expected = run(tmp_path, now, before=before, metrics="ast_subtree")
    more = [code_row("x", "abcabcab", [True] * 8), *now], [*before, code_row("y", "ab", [True, False])]
    for seed in range(3):
        random.Random(seed).shuffle(more[0])
        random.Random(seed + 9).shuffle(more[1])
        code, report = run(tmp_path, *more[:1], before=more[1], metrics="ast_subtree")
        assert code == 3 and report["n_prompts"] == 4
        reference = report["reference"]
        assert (reference["only_now"], reference["only_reference"]) == (["x"], ["y"])
        assert (reference["n_prompts"], reference["n_matched"]) == (4, 3)
        assert rounded(report["decomposition"]) == rounded(expected["decomposition"])
        assert rounded(report["changes"]) == rounded(expected["changes"])
    said = capsys.readouterr().err
    assert "now.jsonl: 1 prompts are in this file only and left out of the comparison: x" in said
    assert "before.jsonl: 1 prompts are in this file only" in said


def test_sbert_brings_the_papers_view_and_both_sides_are_judged(tmp_path: Path) -> None:
    before = [
        {"id": 1, "prompt": "2 + 2?", "gold": "4", "outputs": ["Four. #### 4", "Two and two: #### 4", "#### 5", "cat"]},
        {"id": 2, "prompt": "1 + 1?", "gold": "2", "outputs": ["One more: #### 2", "#### 2", "#### 3", "a dog ran"]},
    ]
    now = [{**row, "outputs": ["#### " + row["gold"]] * 3 + ["#### 9"]} for row in before]
    code, report = run(tmp_path, now, "--task", "gsm8k", before=before, metrics="sbert,vendi")
    assert code == 0 and report["reference"]["verdicts"]["correct"] == 4 and report["verdicts"]["correct"] == 6
    parts, change = report["decomposition"]["sbert"], report["changes"]["sbert"]
    for name in ("reference", "now", "change"):  # all outputs were judged, so it is the metric's own change
        assert parts[name] == pytest.approx(change[name], abs=1e-6)
    assert parts["ci95"]["change"] == pytest.approx(change["ci95"], abs=1e-6)
    assert parts["narrowing_correct"] < 0 and parts["correct_pair_change"] < 0
    paper = report["paper"]
    assert set(paper) == {"d_all", "d_correct", "v_all", "v_correct", "residual_share"}
    for figure, metric in {"d_all": "sbert", "d_correct": "sbert_correct", "v_all": "vendi"}.items():
        for side in ("reference", "now"):
            assert paper[figure][side] == pytest.approx(report["changes"][metric][side], abs=1e-6)
    assert paper["v_correct"]["now"] == pytest.approx(1)
    loss = {name: paper[name]["reference"] - paper[name]["now"] for name in ("d_all", "d_correct")}
    assert paper["residual_share"] == pytest.approx(loss["d_correct"] / loss["d_all"])


@pytest.mark.parametrize("judged", ["neither", "now"])
def test_without_verdicts_on_a_side_the_changes_are_given_and_the_rest_is_said_to_need_them(
    tmp_path: Path, judged: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def bare(rows: dict[str, Any]) -> list[dict[str, Any]]:
        return [code_row(id, programs) for id, (programs, _) in rows.items()]

    now = bare(NOW) if judged == "neither" else code_rows(NOW)
    code, report = run(tmp_path, now, before=bare(BEFORE), metrics="ast_subtree,ead")
    assert code == 0 and report["decomposition"] == {} and report["paper"] is None
    # Alike on both sides: of all programs, not of the correct ones of one side.
    assert report["changes"]["ast_pairwise"]["reference"] == pytest.approx((1 + 5 / 6 + 1) / 3)
    assert report["changes"]["ast_pairwise"]["now"] == pytest.approx((5 / 6 + 5 / 6 + 2 / 3) / 3)
    assert ("accuracy" in report["metrics"]) == (judged == "now") and "accuracy" not in report["changes"]
    (note,) = report["notes"]
    without = "now.jsonl and " if judged == "neither" else "none in "
    assert "the decomposition needs verdicts on both sides" in note and without in note and "before.jsonl" in note
    assert note in capsys.readouterr().out


def test_metrics_without_pairs_have_changes_and_no_decomposition(tmp_path: Path) -> None:
    code, report = run(tmp_path, code_rows(NOW), before=code_rows(BEFORE))
    assert code == 0 and report["decomposition"] == {} and "ead" in report["changes"]
    assert "none was chosen" in report["notes"][0]


def test_files_of_other_sizes_compare_on_the_first_k(tmp_path: Path) -> None:
    now = {id: (programs * 3, correct * 3) for id, (programs, correct) in NOW.items()}
    code, report = run(tmp_path, code_rows(now), before=code_rows(BEFORE), metrics="ead,length,ast_subtree")
    _, same = run(tmp_path, code_rows(NOW), before=code_rows(BEFORE), metrics="ead,length,ast_subtree")
    assert code == 0
    first, second = report["notes"]
    assert "up to 12 outputs a prompt now and up to 4 in the reference" in first and "the first 4" in first
    assert "(of ead, ast_subtree)" in first and "1 prompts with fewer outputs: c" in second
    for name in ("a", "b"):  # with fewer outputs before, c takes its first four
        by_id = [{p["id"]: p["ead"] for p in r["per_prompt"]}[name] for r in (report, same)]
        assert by_id[0] == by_id[1]
    assert max(int(name[7:]) for name in report["changes"] if name.startswith("pass_at")) == 4
    assert report["decomposition"]["ast_subtree"]["n"] == 3 and not same["notes"]


def test_prompts_that_differ_are_named_and_nothing_is_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [*SUMS, {"id": 7, "prompt": [{"role": "user", "content": "Hi"}], "outputs": ["a", "b"]}]
    before = [{**SUMS[0], "prompt": "2 + 3?"}, *SUMS[1:], {**now[3], "prompt": "Hi"}]
    code, report = run(tmp_path, now, before=before)
    said = capsys.readouterr().err
    assert code == 2 and not report
    assert "2 of 4 ids stand for another prompt in the reference: line-1, 7." in said and "by their line" in said
    code, report = run(tmp_path, now[3:], before=SUMS)
    assert code == 2 and "share no id; one has 7, and the reference line-1, line-2, line-3" in capsys.readouterr().err
    code, report = run(tmp_path, now[3:], before=[{**now[3], "id": "7"}])
    assert code == 0 and report["reference"]["n_matched"] == 1


def test_bad_rows_of_the_reference_are_named_with_their_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = run(tmp_path, code_rows(NOW), before=[*code_rows(BEFORE), "{"])
    assert code == 3 and report["bad_rows"] == [] and report["reference"]["bad_rows"][0]["line"] == 4
    assert "before.jsonl:4: not JSON" in capsys.readouterr().err
    assert run(tmp_path, code_rows(NOW), before=["{"])[0] == 2
    assert "before.jsonl: nothing to score, 1 bad rows and no good one" in capsys.readouterr().err


def test_a_metric_that_fails_on_one_side_is_named_there(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "import torch\n"
        "def picky(texts_PK):\n"
        '    """x | y | z"""\n'
        '    if "boom" in texts_PK[0]:\n'
        '        raise RuntimeError("boom")\n'
        "    return torch.ones(len(texts_PK), dtype=torch.float64)\n"
        "def pairwise(texts_PK):\n"
        "    return torch.ones(len(texts_PK), len(texts_PK[0]), len(texts_PK[0]))\n"
    )
    rows = [{"id": 1, "prompt": "p", "outputs": ["x", "y"], "correct": [True, False]}]
    before = [{**rows[0], "outputs": ["boom", "y"]}]
    code, report = run(tmp_path, rows, before=before, metrics=f"ead,{own}:picky")
    assert code == 3 and report["left_out"] == {} and set(report["changes"]) >= {"ead"}
    assert report["reference"]["left_out"] == {"picky": "RuntimeError: boom"}
    assert report["decomposition"] == {} and "picky" not in report["changes"]


def test_what_took_effect_is_recorded_and_out_to_stdout_is_json_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "rows.jsonl", [{**row, "id": n} for n, row in enumerate(SUMS)])
    options = ["--task", "gsm8k", "--reference", file, "--metrics", "length", "--out", "-"]
    assert main(["score", file, *options]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report["settings"]["task"] == "gsm8k" and report["settings"]["reference"] == file
    assert report["settings"]["allow_unsandboxed_code"] is False
    assert all(change["change"] in (0, None) for change in report["changes"].values())
    assert "change since" in captured.err and "9 of 9 outputs judged, 6 correct" in captured.err
