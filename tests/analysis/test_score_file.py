"""`divmon score`: golden values end to end, bad rows named, strict JSON, and exit codes that say what happened."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from divmon.cli import main

GOOD = [
    {"id": "a", "prompt": "2 + 2?", "outputs": ["It is 4.", "Four", "Maybe 5?"], "correct": [True, True, False]},
    {"id": 7, "prompt": [{"role": "user", "content": "Hi"}], "outputs": ["Hello", "Hi there", None, "Hello"]},
    {"prompt": "no id", "outputs": ["one alone"], "correct": [None], "gold": "x"},
]
BAD = {
    "{not json": "not JSON: ",
    "[1, 2]": "expected an object with 'prompt' and 'outputs', got a list",
    '{"outputs": ["x", "y"]}': "no 'prompt'; the row has 'outputs'",
    '{"prompt": 3, "outputs": ["x"]}': "'prompt' is a number, expected text or a list of messages",
    '{"prompt": "p"}': "no 'outputs'; the row has 'prompt'",
    '{"prompt": "p", "outputs": 5}': "'outputs' is a number, expected a list of texts or null",
    '{"prompt": "p", "outputs": []}': "'outputs' is empty",
    '{"prompt": "p", "outputs": ["x", 3]}': "'outputs' holds a number at position 1, expected texts or null",
    '{"prompt": "p", "outputs": ["x"], "correct": [2]}': "'correct' holds a number at position 0, expected true, false",
    '{"prompt": "p", "outputs": ["x"], "correct": [true, false]}': "'correct' has 2 entries for 1 outputs",
    '{"prompt": "p", "outputs": ["x"], "id": 1.5}': "'id' is a number, expected text or a whole number",
    '{"prompt": "p", "outputs": ["x"], "task": 5}': "'task' is a number, expected text",
    '{"prompt": "p", "outputs": ["x", "y"], "id": "a"}': "its id 'a' was used on line 1 already",
    "[" * 100_000: "nested too deep",
}


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return str(path)


def score(tmp_path: Path, rows: list[Any], *options: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the JSON, read back strictly."""
    out = tmp_path / "out.json"
    options = options if "--embedder" in options else ("--embedder", "minilm", *options)
    code = main(["score", write(tmp_path / "rows.jsonl", rows), "--device", "cpu", *options, "--out", str(out)])

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return code, json.loads(out.read_text(encoding="utf-8"), parse_constant=refuse) if out.exists() else {}


def test_the_papers_values_end_to_end(tmp_path: Path, shared: Path | None) -> None:
    if shared is None:
        rows = [{"id": p, "prompt": "p", "outputs": ["so"] * 4, "correct": [True, True, False, None]} for p in "ab"]
        same = {"ead": 0.05, "sbert": 0.0, "vendi": 1.0, "sbert_correct": 0.0, "vendi_correct": 1.0, "k_correct": 2}
        expected = [{"id": p, **same} for p in "ab"]
    else:
        lines = (shared / "data" / "outputs" / "gsm8k_model_solutions.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines[:12]]
        expected = json.loads((shared / "reference" / "golden_text.json").read_text())["per_prompt"][:12]
    code, report = score(tmp_path, rows, "--metrics", "ead,sbert,vendi")
    assert code == 0 and report["n_prompts"] == len(rows)
    for found, wanted in zip(report["per_prompt"], expected, strict=True):
        assert found["id"] == wanted["id"] and found["k_correct"] == wanted["k_correct"]
        for name in ("sbert", "vendi", "sbert_correct", "vendi_correct"):
            assert found[name] == (None if wanted[name] is None else pytest.approx(wanted[name], abs=1e-4))
        assert found["ead"] == pytest.approx(wanted["ead"], abs=1e-4 if shared is None else 1e-9)
    values = [row["sbert_correct"] for row in report["per_prompt"] if row["sbert_correct"] is not None]
    assert report["metrics"]["sbert_correct"]["mean"] == pytest.approx(sum(values) / len(values))
    assert report["metrics"]["sbert_correct"]["n"] == len(values)


def test_the_json_has_means_intervals_and_null_for_what_is_undefined(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = score(tmp_path, GOOD, "--metrics", "ead,sbert,across")
    assert code == 0 and report["n_prompts"] == 3
    assert [row["id"] for row in report["per_prompt"]] == ["a", 7, "line-3"]
    assert [row["k_correct"] for row in report["per_prompt"]] == [2, None, None]
    assert [row["sbert"] is None for row in report["per_prompt"]] == [False, False, True]
    sbert = report["metrics"]["sbert"]
    assert sbert["n"] == 2 and sbert["ci95"] == [None, None], "two prompts tell little of the spread"
    assert report["metrics"]["sbert_correct"]["ci95"] == [None, None]
    assert report["metrics"]["across_sbert"]["n"] == 3 and "across_sbert" not in report["per_prompt"][0]
    assert report["settings"]["models"] == {"encoder": "minilm"} and report["settings"]["nli_sentences"] == 3
    table = capsys.readouterr().out
    assert "sbert_correct" in table and f"{sbert['mean']:.4f}" in table and "{" not in table


def test_a_bad_row_is_named_by_line_and_reason_and_the_rest_is_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [GOOD[0], "", *BAD, GOOD[1]]
    code, report = score(tmp_path, rows, "--metrics", "ead")
    assert code == 3 and [row["id"] for row in report["per_prompt"]] == ["a", 7]
    lines = capsys.readouterr().err.splitlines()
    for number, line, reason in zip(range(3, 6), lines, BAD.values(), strict=False):
        assert line.startswith(f"{tmp_path / 'rows.jsonl'}:{number}: ") and reason in line
    assert lines[3].endswith(f"and {len(BAD) - 3} more bad rows, 2 good ones"), "three and a count"
    for number, bad, reason in zip(range(3, 3 + len(BAD)), report["bad_rows"], BAD.values(), strict=True):
        assert bad["line"] == number and reason in bad["reason"]


def test_text_that_is_not_utf8_is_a_bad_row_and_lone_surrogates_are_mended(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    good = b'{"id": "\\ud801", "prompt": "p", "outputs": ["\\ud83d\\ude00 \\ud800", "x"]}\r\n'
    file.write_bytes(b"\xef\xbb\xbf" + good + b'{"prompt": "\xff"}\n')
    out = tmp_path / "out.json"
    assert main(["score", str(file), "--embedder", "minilm", "--device", "cpu", "--out", str(out)]) == 3
    report = json.loads(out.read_text())
    assert report["bad_rows"][0]["reason"].startswith("not UTF-8") and report["per_prompt"][0]["sbert"] > 0
    assert not report["left_out"] and report["per_prompt"][0]["id"] == "\ufffd"


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], [], "nothing to score"),
        (list(BAD)[:3], [], "nothing to score, 3 bad rows and no good one"),
        (GOOD, ["--metrics", "vendy"], "no metric named 'vendy' (did you mean 'vendi'?)"),
        (GOOD, ["--embedder", "./nowhere"], "the folder './nowhere' (not there)"),
        (GOOD, ["--metrics", "nli", "--nli-model", "nobody/none"], "metric 'nli' was asked for by name, but no model"),
        (GOOD, ["--device", "warp"], "device warp: "),
        ([{**GOOD[0], "task": "gsm8k"}], ["--metrics", "ast_subtree"], "no row is code"),
    ],
)
def test_what_cannot_be_scored_at_all_is_said_and_exits_2(
    tmp_path: Path, rows: list[Any], options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = score(tmp_path, rows, *options)
    assert code == 2 and not report
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--ead-vocab-size", "0"], ["--nli-sentences", "some"], ["--bogus"]])
def test_wrong_options_exit_2(tmp_path: Path, options: list[str]) -> None:
    assert score(tmp_path, GOOD, *options) == (2, {})


def test_missing_file_and_missing_folder_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(tmp_path / "none.jsonl")]) == 2
    file = write(tmp_path / "rows.jsonl", GOOD)
    assert main(["score", file, "--out", str(tmp_path / "no" / "out.json")]) == 2
    assert main(["score", file, "--out", str(tmp_path)]) == 2
    errors = capsys.readouterr().err
    assert f"{tmp_path} is a folder" in errors
    assert "none.jsonl" in errors and f"there is no folder {tmp_path / 'no'}" in errors


def test_the_vocabulary_size_reaches_ead(tmp_path: Path) -> None:
    values = [
        score(tmp_path, GOOD, "--metrics", "ead", "--ead-vocab-size", size)[1]["metrics"]["ead"]["mean"]
        for size in ("50257", "20")
    ]
    assert values[0] < values[1]


def test_programs_are_scored_without_a_task_when_asked_for_and_by_task_otherwise(tmp_path: Path) -> None:
    programs = ["```python\nx = [1, 2]\n```", "y = f(3)", "y = f(3)"]
    rows = [{"prompt": "p", "outputs": programs, "correct": [True, True, True]}]
    _, report = score(tmp_path, rows, "--metrics", "ast_subtree")
    assert report["per_prompt"][0]["ast_pairwise"] == pytest.approx(2 / 3)
    mixed = [{**rows[0], "task": "mbpp"}, {"prompt": "p", "outputs": ["prose", "more"], "task": "gsm8k"}]
    _, report = score(tmp_path, mixed, "--metrics", "ead,ast_subtree")
    assert [row["ast_pairwise"] is None for row in report["per_prompt"]] == [False, True]
    assert report["metrics"]["ast_pairwise"]["n"] == 1 and report["metrics"]["ead"]["n"] == 2


def test_nli_runs_on_the_named_classifier_with_the_asked_sentences(tmp_path: Path, shared: Path | None) -> None:
    """Against golden values where they are at hand, else on a classifier of our own."""
    if shared is None:
        from support.classifiers import nli_folder

        model = str(nli_folder(tmp_path / "nli", ["contradiction", "neutral", "entailment"]))
        texts = ["the sun is bright. the moon was dark", "the moon is not bright. the sun was dark"]
        rows = [{"prompt": "p", "outputs": texts}]
    else:
        model = str(shared / "reference" / "tiny-nli")
        lines = (shared / "data" / "outputs" / "gsm8k_model_solutions.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines[:3]]
        golden = json.loads((shared / "reference" / "golden_nli.json").read_text())["per_prompt"][:3]
    options = ("--metrics", "nli", "--nli-model", model, "--nli-sentences")
    everything, one = (score(tmp_path, rows, *options, count)[1]["per_prompt"] for count in ("all", "1"))
    assert everything != one
    if shared is not None:
        assert [row["nli"] for row in everything] == pytest.approx([row["nli"] for row in golden], abs=1e-4)
    _, auto = score(tmp_path, rows, "--nli-model", model)
    assert {"nli", "sbert"} <= set(auto["metrics"])


def test_out_to_stdout_is_json_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "rows.jsonl", GOOD)
    assert main(["score", file, "--metrics", "ead", "--out", "-"]) == 0
    captured = capsys.readouterr()
    assert 0 < json.loads(captured.out)["metrics"]["ead"]["mean"] < 1
    assert "ead" in captured.err


def test_a_metric_that_fails_is_named_and_the_others_are_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    own = tmp_path / "own.py"
    own.write_text('def broken(texts_PK):\n    """x | y | z"""\n    raise RuntimeError("no luck")\n')
    code, report = score(tmp_path, GOOD, "--metrics", f"ead,{own}:broken")
    assert code == 3 and "ead" in report["metrics"] and "broken" not in report["metrics"]
    assert report["left_out"] == {"broken": "RuntimeError: no luck"} and "broken" in caplog.text


def test_python_m_divmon_score_runs(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", [*GOOD, "{"])
    command = [sys.executable, "-m", "divmon", "score", file, "--metrics", "ead", "--out", str(tmp_path / "o.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 3 and "rows.jsonl:4: not JSON" in done.stderr and "ead" in done.stdout
    assert json.loads((tmp_path / "o.json").read_text())["n_prompts"] == 3
