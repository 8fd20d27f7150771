"""Local rows in every format, errors that name the line, and the draw of a fixed subset."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from divmon.grading.verifiers._final_answer import boxes
from divmon.prompts.tasks._rows import draw, last_box, read_rows

ROWS = [{"question": "What is 1 + 1?", "answer": "#### 2"}, {"question": "Ünï\u2028code?", "answer": "#### 3"}]


def write(folder: Path, suffix: str) -> Path:
    path = folder / f"rows{suffix}"
    if suffix == ".parquet":
        datasets.Dataset.from_list(ROWS).to_parquet(path)
    elif suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["question", "answer"])
            writer.writeheader()
            writer.writerows(ROWS)
    elif suffix == ".json":
        path.write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8")
    else:
        path.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet", ".csv"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    assert [row for _, row in read_rows(write(tmp_path, suffix))] == ROWS


def test_where_counts_the_lines_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, ".jsonl")

    assert [where for where, _ in read_rows(path)] == [f"{path}, line 1", f"{path}, line 3"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"prompt": "hi"}\n{"prompt": \n', "a.jsonl, line 2: not JSON"),
        ("a.jsonl", '{"prompt": "hi"}\n["hi"]\n', r"a.jsonl, line 2: expected a JSON object, came \['hi'\]"),
        ("a.jsonl", "\n", "a.jsonl has no rows"),
        ("a.json", '{"prompt": "hi"}', "expected a JSON list of objects, came one dict"),
        ("a.json", "[1", "a.json: expected a JSON list of objects"),
        ("a.json", '["hi"]', r"a.json, row 0 \(counted from 0\): expected a JSON object, came 'hi'"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)

    with pytest.raises(ValueError, match=message):
        read_rows(tmp_path / name)


def test_a_missing_file_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file '.*none.jsonl' \(looked in "):
        read_rows(tmp_path / "none.jsonl")


@given(n=st.integers(1, 200), small=st.integers(1, 200), more=st.integers(0, 100), seed=st.integers(0, 5))
def test_a_draw_is_ascending_distinct_and_grows_by_adding(n: int, small: int, more: int, seed: int) -> None:
    drawn = draw(n, small, seed)

    assert drawn == sorted(set(drawn))
    assert len(drawn) == min(n, small)
    assert set(drawn) <= set(draw(n, small + more, seed)) <= set(range(n))


@pytest.mark.parametrize(
    ("solution", "box"),
    [
        (r"So $x = \boxed{\frac{1}{9}}$.", r"\frac{1}{9}"),
        (r"\boxed{1}, no: \boxed{ 2 }.", "2"),
        (r"\boxed{\text{a } \{b\} {c}}", r"\text{a } \{b\} {c}"),
    ],
)
def test_the_last_box_is_what_a_verifier_reads_there(solution: str, box: str) -> None:
    assert last_box(solution) == box == [inside.strip() for _, _, inside in boxes(solution)][-1]


@pytest.mark.parametrize("task", ["math_algebra", "math_geometry"])
def test_real_solutions_give_the_box_that_a_verifier_reads(task: str, shared: Path | None) -> None:
    if shared is None:
        return
    rows = (shared / "data" / "probes" / f"{task}.jsonl").read_text(encoding="utf-8").splitlines()
    solutions = [json.loads(row)["solution"] for row in rows]
    assert solutions
    for solution in solutions:
        assert last_box(solution) == [inside.strip() for _, _, inside in boxes(solution) if inside.strip()][-1]


@pytest.mark.parametrize("solution", ["no box", r"\boxed{never closed", r"\boxed{}", ""])
def test_a_solution_without_an_answer_is_an_error(solution: str) -> None:
    with pytest.raises(ValueError, match="expected a solution with its answer"):
        last_box(solution)
