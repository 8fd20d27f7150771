"""`divmon score --reference`: two files matched by id, their paired changes and the decomposition, on real runs."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_score_task import SUMS, run, write

from divmon.cli import main
from divmon.scoring.decomposition import decompose


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
    accuracy = changes["accuracy"]
    assert [accuracy[name] for name in ("reference", "now", "change", "n")] == pytest.approx(
        [11 / 18, 3 / 4, 5 / 36, 3]
    )
    assert accuracy["ci95"] == [None, None], "three prompts tell little of the spread"
    assert set(changes) == {*report["metrics"], *report["reference"]["metrics"]}
    table = capsys.readouterr().out
    assert "ast_subtree: from " in table and f"{found['narrowing_correct']:+.4f}" in table
    assert "narrowing among correct answers" in table and f"{accuracy['change']:+.4f}" in table and "{" not in table


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
    assert code == 0 and report["reference"]["correctness"]["correct"] == 4 and report["correctness"]["correct"] == 6
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
    assert "before.jsonl: nothing to score, 1 bad row and no good one" in capsys.readouterr().err


def test_a_metric_that_fails_on_one_side_is_named_there(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "import torch\n"
        "from divmon.scoring.metrics import metric\n"
        "def pairwise(texts_PK):\n"
        "    return torch.ones(len(texts_PK), len(texts_PK[0]), len(texts_PK[0]))\n"
        "@metric(pairwise=pairwise)\n"
        "def picky(texts_PK):\n"
        '    if "boom" in texts_PK[0]:\n'
        '        raise RuntimeError("boom")\n'
        "    return torch.ones(len(texts_PK), dtype=torch.float64)\n"
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
    assert "change since" in captured.err and "9 of 9 outputs graded, 6 correct" in captured.err
