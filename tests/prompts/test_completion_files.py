"""Files of completions that people have: every format, the usual columns, long rows, chats, other tools' outputs."""

from __future__ import annotations

import gzip
import json
import shlex
import zipfile
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest

from divmon.prompts.rendering import Think
from divmon.prompts.rows.completions import Columns, Row, read_completions
from divmon.prompts.rows.files import read_records

WIDE = [{"prompt": f"{n} + {n}?", "outputs": [f"{2 * n}", f"It is {2 * n}."], "gold": str(2 * n)} for n in range(3)]
LONG = [{"prompt": row["prompt"], "completion": text, "gold": row["gold"]} for row in WIDE for text in row["outputs"]]
READ = [(row["prompt"], row["outputs"], row["gold"]) for row in WIDE]


def seen(rows: list[Row]) -> list[Any]:
    return [(row.prompt, row.outputs, row.gold) for row in rows]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """In the format of the name."""
    kind, frame = path.name.partition(".")[2], pd.DataFrame(rows)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    if kind in ("jsonl", "ndjson", "txt"):
        path.write_text(lines)
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress(lines.encode()))
    elif kind == "json":
        path.write_text(json.dumps(rows, indent=1))
    elif kind in ("csv", "csv.gz", "tsv"):
        cells = frame.map(lambda cell: json.dumps(cell) if isinstance(cell, list) else cell)
        cells.to_csv(path, index=False, sep="\t" if kind == "tsv" else ",")
    elif kind == "parquet":
        frame.to_parquet(path)
    elif kind == "saved":
        datasets.Dataset.from_list(rows).save_to_disk(str(path))
    return path


KINDS = ("jsonl", "ndjson", "jsonl.gz", "json", "csv", "csv.gz", "tsv", "parquet", "saved", "txt")


@pytest.mark.parametrize("rows", [WIDE, LONG], ids=["wide", "long"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_format_is_read_alike(kind: str, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    found = read_completions(write(tmp_path / f"rows.{kind}", rows))
    assert seen(found.rows) == READ and not found.problems


@pytest.mark.parametrize("make", [list, pd.DataFrame, datasets.Dataset.from_list], ids=["list", "pandas", "datasets"])
def test_rows_in_memory_are_read_alike(make: Any) -> None:
    assert seen(read_completions(make(WIDE)).rows) == READ
    assert seen(read_completions(make(LONG)).rows) == READ


def test_json_of_columns_and_json_lines_under_another_name(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(pd.DataFrame(LONG).to_json())
    (tmp_path / "b.json").write_text(json.dumps(pd.DataFrame(LONG).to_dict("list")))
    (tmp_path / "c.json").write_text("\n".join(map(json.dumps, WIDE)))
    (tmp_path / "d.jsonl").write_text(json.dumps({"data": WIDE}, indent=2))
    for name in ("a.json", "b.json", "c.json", "d.jsonl"):
        assert seen(read_completions(tmp_path / name).rows) == READ, name


@pytest.mark.parametrize("asks", ["prompt", "question", "problem", "instruction", "query", "input"])
@pytest.mark.parametrize("gave", ["outputs", "completions", "responses", "generations", "predictions", "choices"])
def test_usual_names(asks: str, gave: str) -> None:
    rows = read_completions([{asks: "2 + 2?", gave: ["4", None], "answer": 4, "is_correct": [1, 0]}]).rows
    assert rows == [Row("row-0", "2 + 2?", ["4", None], [True, False], None, 4)]


def test_named_columns_and_groups() -> None:
    rows = [{"q": "a?", "text 1": f"t{i}", "who": i // 2, "output": "no"} for i in range(4)]
    found = read_completions(rows, Columns("q", "text 1", "who")).rows
    assert [row.outputs for row in found] == [["t0", "t1"], ["t2", "t3"]]
    assert [row.outputs for row in read_completions(rows, Columns("q", "text 1")).rows] == [["t0", "t1", "t2", "t3"]]


def test_long_rows_are_grouped_by_the_id_that_comes_again_else_by_the_prompt() -> None:
    same = [{"id": i, "prompt": "p", "response": str(i), "correct": i > 0} for i in range(3)]
    assert [(row.outputs, row.correct) for row in read_completions(same).rows] == [
        (["0", "1", "2"], [False, True, True])
    ]
    other = [{"id": i % 2, "prompt": "p", "response": str(i)} for i in range(4)]
    assert [row.outputs for row in read_completions(other).rows] == [["0", "2"], ["1", "3"]]
    sample_of_each = [{"id": i % 2, "prompt": f"p{i // 2}", "response": str(i)} for i in range(4)]
    rows = read_completions(sample_of_each).rows
    assert [row.outputs for row in rows] == [["0", "1"], ["2", "3"]] and len({row.id for row in rows}) == 2


def test_a_list_that_a_model_wrote_is_one_completion(tmp_path: Path) -> None:
    rows = [{"prompt": '["a", "b"] reversed?', "response": said} for said in ('["b", "a"]', '["a"]')]
    for kind in ("jsonl", "csv"):
        (row,) = read_completions(write(tmp_path / f"rows.{kind}", rows)).rows
        assert row.outputs == ['["b", "a"]', '["a"]'] and row.prompt == '["a", "b"] reversed?', kind


def test_a_frame_whose_cells_are_arrays(tmp_path: Path) -> None:
    frame = pd.read_parquet(write(tmp_path / "rows.parquet", WIDE))
    assert seen(read_completions(frame).rows) == READ


USER, SAID = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [USER, SAID]},
        {"prompt": [USER], "completion": [SAID]},
        {"prompt": [USER], "completions": [[SAID]]},
        {"messages": [USER], "outputs": [SAID]},
        {"messages": [USER, SAID], "outputs": ["Hello"]},
        {"prompt": [USER], "outputs": [{"text": "Hello", "finish_reason": "stop"}]},  # vLLM's RequestOutput
        {"prompt": [USER], "choices": [{"message": {**SAID, "reasoning_content": "hm"}}]},
        {"prompt": [USER], "response": {**SAID, "content": [{"type": "text", "text": "Hello"}]}},
    ],
)
def test_chats(row: dict[str, Any]) -> None:
    (read,) = read_completions([row]).rows
    assert (read.prompt, read.outputs) == ([USER], ["Hello"])


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>2 + 2</think> 4", "4"),
        ("so 4</think>4", "4"),
        ("<think>2 + 2 is", None),
        ("no tags", "no tags"),
        (None, None),
    ],
)
def test_reasoning_is_split_off(text: str | None, answer: str | None) -> None:
    assert read_completions([{"prompt": "p", "outputs": [text]}]).rows[0].outputs == [answer]
    assert read_completions([{"prompt": "p", "outputs": [text]}], tags=None).rows[0].outputs == [text]
    other = [{"prompt": "p", "outputs": [text and text.replace("think>", "r>")]}]
    assert read_completions(other, tags=Think("<r>", "</r>")).rows[0].outputs == [answer]


def test_a_prompt_that_opens_the_reasoning() -> None:
    rows = [{"prompt": "p<think>\n", "outputs": ["never closed", "closed</think> 4"]}]
    assert read_completions(rows).rows[0].outputs == [None, "4"]


# Outputs of other tools, in the schema that each writes (prompts/rows/formats.py names the source)

LM_EVAL = [
    {
        "doc_id": doc,
        "doc": {"question": f"{doc} + 2?", "answer": f"so #### {doc + 2}"},
        "target": f"so #### {doc + 2}",
        "arguments": {"gen_args_0": {"arg_0": f"Q: {doc} + 2?\nA:", "arg_1": {"until": ["\n"], "do_sample": True}}},
        "resps": [[f"#### {doc + 2}", "#### 9"]],
        "filtered_resps": [str(doc + 2)],
        "filter": name,
        "metrics": ["exact_match"],
        "doc_hash": "a",
        "prompt_hash": "b",
        "target_hash": "c",
        "exact_match": 1.0,
    }
    for name in ("strict-match", "flexible-extract")
    for doc in (0, 1)
]


def test_lm_evaluation_harness(tmp_path: Path) -> None:
    path = tmp_path / "samples_gsm8k_2026-01-01T00-00-00.000000.jsonl"
    path.write_text("\n".join(map(json.dumps, LM_EVAL)))
    found = read_completions(path)
    assert not found.problems, "each filter repeats the documents"
    assert found.format == "lm-evaluation-harness samples"
    first = found.rows[0]
    assert (first.id, first.prompt, first.outputs, first.task) == (0, "Q: 0 + 2?\nA:", ["#### 2", "#### 9"], "gsm8k")
    assert first.row == LM_EVAL[0]["doc"] and first.correct is None, "graded by the task's verifier"
    chat = {**LM_EVAL[0], "arguments": {"gen_args_0": {"arg_0": json.dumps([USER]), "arg_1": {}}}, "resps": [["a"]]}
    (row,) = read_completions([chat]).rows
    assert row.prompt == [USER] and row.correct == [True], "of no task of ours: as the harness found"
    choice = {**LM_EVAL[0], "arguments": {f"gen_args_{i}": {"arg_0": "Q", "arg_1": " a"} for i in range(2)}}
    assert "log-likelihood, no completions" in read_completions([choice]).problems[0][1]


def test_lighteval(tmp_path: Path) -> None:
    doc = {"id": "7", "query": "2 + 2?", "choices": ["4"], "gold_index": 0, "task_name": "lighteval|gsm8k|0"}
    row = {
        "doc": doc,
        "model_response": {"input": "2 + 2?", "text": ["<think>hm</think>4", "5"], "text_post_processed": ["4", "5"]},
        "metric": {"extractive_match": 0.5},
    }
    wanted = [Row("7", "2 + 2?", ["4", "5"], None, "gsm8k", "4")]
    assert read_completions(write(tmp_path / "details.parquet", [row])).rows == wanted
    assert read_completions([{f"__{name}__": value for name, value in row.items()}]).rows == wanted
    assert read_completions([{name: json.dumps(value) for name, value in row.items()}]).rows == wanted
    old = {"full_prompt": "2 + 2?", "predictions": ["4"], "gold": ["4"], "metrics": {"acc": 1}, "example": "2 + 2?"}
    assert read_completions([old]).rows == [Row("row-0", "2 + 2?", ["4"], [True], None, "4")]


def test_batches(tmp_path: Path) -> None:
    def answer(name: str, *texts: str) -> dict[str, Any]:
        choices = [{"index": i, "message": {"role": "assistant", "content": text}} for i, text in enumerate(texts)]
        body = {"id": "x", "object": "chat.completion", "choices": choices}
        return {"id": "b", "custom_id": name, "response": {"status_code": 200, "request_id": "r", "body": body}}

    failed = {"id": "b", "custom_id": "c", "response": {"status_code": 400, "body": {"error": "no"}}, "error": None}
    rows = [answer("a-1", "4", "four"), answer("a-2", "4!"), failed]
    found = read_completions(write(tmp_path / "out.jsonl", rows))
    assert [(row.id, row.outputs) for row in found.rows] == [("a-1", ["4", "four"]), ("a-2", ["4!"])]
    assert "the request failed" in found.problems[0][1] and found.format == "batch output"
    said = [{"type": "reasoning", "summary": []}, {"type": "message", "role": "assistant", "content": [
        {"type": "output_text", "text": "4"}]}]  # fmt: skip
    of_responses = {"custom_id": "r", "response": {"status_code": 200, "body": {"object": "response", "output": said}}}
    assert [row.outputs for row in read_completions([of_responses]).rows] == [["4"]]
    asked = [
        {"custom_id": name, "method": "POST", "url": "/v1/x", "body": {"messages": [USER]}} for name in ("a-1", "a-2")
    ]
    (row,) = read_completions(rows, requests=write(tmp_path / "in.jsonl", asked)).rows
    assert row.prompt == [USER] and row.outputs == ["4", "four", "4!"], "requests of one prompt are put together"


def test_novelty_bench_and_evalplus() -> None:
    novelty = {"id": "curated-0", "prompt": "A story.", "model": "m", "generations": ["a", "b"]}
    assert read_completions([novelty]).rows == [Row("curated-0", "A story.", ["a", "b"])]
    samples = [{"task_id": f"HumanEval/{i // 2}", "solution": f"def f(): return {i}"} for i in range(4)]
    found = read_completions(samples).rows
    assert [(row.id, row.task, len(row.outputs)) for row in found] == [
        (f"HumanEval/{i}", "humaneval", 2) for i in (0, 1)
    ]
    assert read_completions([{"task_id": "Mbpp/2", "completion": "x"}]).rows[0].task == "mbpp"
    (own,) = read_completions([{"task_id": 3, "prompt": "why?", "completion": "so"}]).rows
    assert (own.prompt, own.task) == ("why?", None), "a file of one's own, of the same columns"


@pytest.mark.parametrize("kind", ["json", "eval"])
def test_inspect_ai(kind: str, tmp_path: Path) -> None:
    def sample(id: int, epoch: int, text: str, value: str) -> dict[str, Any]:
        content = [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": text}]
        output = {
            "model": "m",
            "choices": [{"message": {"role": "assistant", "content": content}, "stop_reason": "stop"}],
        }
        scores = {"match": {"value": value, "answer": text}}
        return {"id": id, "epoch": epoch, "input": [USER], "target": "4", "output": output, "scores": scores}

    samples = [sample(id, epoch, str(epoch + 3), "C" if epoch == 1 else "I") for epoch in (1, 2) for id in (1, 2)]
    about = {"version": 2, "status": "success", "eval": {"task": "inspect_evals/gsm8k", "model": "m"}}
    path = tmp_path / f"log.{kind}"
    if kind == "json":
        path.write_text(json.dumps({**about, "samples": samples}))
    else:
        with zipfile.ZipFile(path, "w") as log:
            log.writestr("header.json", json.dumps(about))
            for one in samples:
                log.writestr(f"samples/{one['id']}_epoch_{one['epoch']}.json", json.dumps(one))
    found = read_completions(path)
    assert found.rows == [Row(id, [USER], ["4", "5"], [True, False], "gsm8k", "4") for id in (1, 2)]


# What cannot be read


def test_one_message_with_what_was_found_and_the_command_that_would_read_it(tmp_path: Path) -> None:
    path = write(tmp_path / "own.csv", [{"n": 1, "ask": f"{i}?", "gen": "four"} for i in range(2000)])
    with pytest.raises(ValueError) as caught:
        read_completions(path)
    assert str(caught.value) == (
        f"{path}: no column of prompts and completions is known; its columns are n, ask, gen; if these are they, this"
        f" would read it: divmon score {path} --prompt-column ask --output-column gen"
    )
    assert len(read_completions(path, Columns("ask", "gen")).rows) == 2000


@pytest.mark.parametrize("name", ["rows.parquet", "rows.json.gz", "rows.jsonl.gz", "rows.eval", "rows.csv"])
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x1f\x8b" if name.endswith("gz") else b"" if name.endswith("csv") else b"PAR1\xff")
    with pytest.raises(ValueError, match=rf"{name}: cannot be read"):
        read_records(tmp_path / name)


def test_a_folder_says_what_is_in_it(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", WIDE)
    with pytest.raises(ValueError, match=r"without a saved data set; its files are a.jsonl: name one of them"):
        read_records(tmp_path)
    two = datasets.DatasetDict({name: datasets.Dataset.from_list(WIDE) for name in ("train", "test")})
    two.save_to_disk(str(tmp_path / "two"))
    with pytest.raises(ValueError, match=r"several splits; name one of them: .*two/train, .*two/test"):
        read_records(tmp_path / "two")
    assert seen(read_completions(tmp_path / "two" / "test").rows) == READ


def test_tables_as_spreadsheets_write_them(tmp_path: Path) -> None:
    """Headers with capitals and spaces, semicolons, and Excel's UTF-16."""
    texts = {
        "a.csv": b"Prompt ,RESPONSE\nq,one\nq,two\n",
        "b.csv": b"prompt;response\nq;one\nq;two\n",
        "c.csv": "prompt\tresponse\nq\tone\nq\ttwo\n".encode("utf-16"),
        "d.json": b'{"what is q?": ["one", "two"]}',
    }
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
        (row,) = read_completions(tmp_path / name).rows
        assert row.outputs == ["one", "two"], name


def test_the_command_that_would_read_it_can_be_pasted(tmp_path: Path) -> None:
    path = tmp_path / "a b.csv"
    path.write_text("The question,Model Answer,Temperature setting\nwhat?,yes it is,0.6\n")
    with pytest.raises(ValueError, match="would read it: ") as error:
        read_completions(path)
    command = shlex.split(str(error.value).partition("would read it: ")[2])
    assert command[3:] == ["--prompt-column", "The question", "--output-column", "Model Answer"]
