"""GSM8K against the paper's table, on real rows where they are at hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from divmon.prompts import tasks

ROWS = [
    {"question": "Ann has 2 pens and buys 3. How many has she?", "answer": "She has 2 + 3 = <<2+3=5>>5.\n#### 5"},
    {"question": "A town of 9 saves 500 coins each. What is saved?", "answer": "9 * 500 = 4500\n#### 4,500"},
]


@pytest.fixture
def source(shared: Path | None, tmp_path: Path) -> Path:
    """200 real rows, or two of our own in the same schema."""
    if shared:
        return shared / "data" / "probes" / "gsm8k.jsonl"
    path = tmp_path / "gsm8k.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    return path


def test_the_paper_s_template_limit_stop_and_gold(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))

    probe = tasks.load("gsm8k").probe(source=path)

    assert probe.name == "gsm8k"
    assert probe.prompts[0].content == "Question: Ann has 2 pens and buys 3. How many has she?\n\nAnswer:"
    assert [prompt.gold for prompt in probe.prompts] == ["5", "4500"]
    assert [prompt.id for prompt in probe.prompts] == ["0", "1"]
    assert probe.prompts[1].row == ROWS[1]
    assert (probe.max_new_tokens, probe.stop, probe.verifier) == (512, ("\nQuestion:",), "math_answer")
    assert probe.source == str(path)


def test_every_row_has_a_number_as_gold(source: Path) -> None:
    probe = tasks.load("gsm8k").probe(num_prompts=10_000, source=source)

    assert len(probe.prompts) == len(source.read_text(encoding="utf-8").strip().split("\n"))
    for prompt in probe.prompts:
        assert prompt.gold is not None
        float(prompt.gold)
        assert prompt.category == "reasoning"


def test_a_subset_keeps_the_ids_of_the_rows(source: Path) -> None:
    task = tasks.load("gsm8k")
    everything = {prompt.id: prompt for prompt in task.probe(10_000, source=source).prompts}

    for prompt in task.probe(num_prompts=1, seed=7, source=source).prompts:
        assert everything[prompt.id] == prompt


def test_a_file_that_lacks_a_field_names_file_line_and_fields(tmp_path: Path) -> None:
    path = tmp_path / "wrong.jsonl"
    path.write_text(json.dumps(ROWS[0]) + '\n{"problem": "1 + 1", "solution": "2"}\n')

    with pytest.raises(ValueError, match=r"wrong.jsonl, line 2: .*'gsm8k' needs the field 'answer'") as error:
        tasks.load("gsm8k").probe(num_prompts=1, source=path)

    assert "the fields there are problem, solution" in str(error.value)


@pytest.mark.parametrize("answer", ["just 5", None, "####"])
def test_an_answer_without_a_final_number_is_named(tmp_path: Path, answer: str | None) -> None:
    path = tmp_path / "wrong.jsonl"
    path.write_text(json.dumps({"question": "1 + 4?", "answer": answer}))

    with pytest.raises(ValueError, match=r"wrong.jsonl, line 1: .*#### <number>"):
        tasks.load("gsm8k").probe(source=path)
