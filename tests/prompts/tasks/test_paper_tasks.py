"""The paper's fifteen tasks against its table: data set, template, stop strings, limits, verifier; and the groups."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.task_rows import ROWS

from divmon.prompts import tasks
from divmon.prompts.probes import resolve
from divmon.prompts.tasks.prism import is_used

# task: (category, data set, subset, split, new tokens, stop strings, verifier)
TABLE: dict[str, tuple[Any, ...]] = {
    "tldr": ("summarization", "UCL-DARK/openai-tldr-filtered", "default", "test", 128, ["\n\n"], None),
    "cnn_dailymail": ("summarization", "abisee/cnn_dailymail", "3.0.0", "test", 256, ["\n\n"], None),
    "xsum": ("summarization", "EdinburghNLP/xsum", "default", "test", 128, ["\n"], None),
    "humaneval": (
        "code", "openai/openai_humaneval", "openai_humaneval", "test", 512,
        ["\nclass ", "\ndef ", "\n#", "\nif __name__"], "python_tests",
    ),
    "mbpp": (
        "code", "google-research-datasets/mbpp", "full", "test", 512, ["\nclass ", "\n#", "\nif __name__"],
        "python_tests",
    ),
    "cruxeval": ("code", "cruxeval-org/cruxeval", None, "test", 512, ["\nGiven"], "value_match"),
    "gsm8k": ("reasoning", "openai/gsm8k", "main", "test", 512, ["\nQuestion:"], "math_answer"),
    "math_algebra": (
        "reasoning", "EleutherAI/hendrycks_math", "algebra", "test", 512, ["\nProblem:"], "math_answer",
    ),
    "math_geometry": (
        "reasoning", "EleutherAI/hendrycks_math", "geometry", "test", 512, ["\nProblem:"], "math_answer",
    ),
    "truthfulqa": (
        "reasoning", "truthfulqa/truthful_qa", "generation", "validation", 128, ["\nQ:", "\n\n"], "truthfulqa",
    ),
    "alpaca": ("instruction", "tatsu-lab/alpaca", "default", "train", 512, ["\n\n###", "\n\n##"], None),
    "ifeval": ("instruction", "google/IFEval", "default", "train", 1024, [], "ifeval"),
    "writingprompts": ("creative", "euclaise/writingprompts", "default", "test", 1024, [], None),
    "prism": ("values", "HannahRoseKirk/prism-alignment", "conversations", "train", 512, [], None),
    "wildbench": ("values", "allenai/WildBench", "v2", "test", 1024, [], None),
}  # fmt: skip

REAL = ("gsm8k", "math_algebra", "math_geometry", "humaneval", "mbpp", "cruxeval", "ifeval", "truthfulqa")


def source(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / f"{name}.jsonl").write_text(json.dumps(ROWS[name][0]) + "\n")
    return folder


@pytest.mark.parametrize("name", TABLE)
def test_a_task_is_as_the_paper_s_table_has_it(name: str) -> None:
    task = tasks.load(name)

    found = (task.category, task.dataset, task.subset, task.split, task.max_new_tokens, list(task.stop), task.verifier)

    assert found == TABLE[name]


@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_the_data_set_becomes_the_paper_s_prompt(name: str, tmp_path: Path) -> None:
    row, text, prompt_id, gold = ROWS[name]

    (prompt,) = tasks.load(name).probe(source=source(tmp_path, name)).prompts

    assert prompt.content == text
    assert (prompt.id, prompt.gold, prompt.category) == (prompt_id, gold, TABLE[name][0])
    assert prompt.row == row


def test_alpaca_without_an_input_has_no_heading_for_one() -> None:
    prompt = tasks.load("alpaca").prompt({"instruction": "Greet.", "input": ""})

    assert prompt == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nGreet.\n\n### Response:\n"
    )


@pytest.mark.parametrize("name", REAL)
def test_real_rows_load_whole_and_a_subset_keeps_their_ids(name: str, shared: Path | None, tmp_path: Path) -> None:
    folder = shared / "data" / "probes" if shared else source(tmp_path, name)
    lines = (folder / f"{name}.jsonl").read_text(encoding="utf-8").strip().split("\n")
    task = tasks.load(name)

    everything = {prompt.id: prompt for prompt in task.probe(10_000, source=folder).prompts}

    assert len(everything) == len(lines)
    for prompt in task.probe(8, seed=3, source=folder).prompts:
        assert everything[prompt.id] == prompt
    if task.gold:
        assert all(prompt.gold for prompt in everything.values())


@pytest.mark.parametrize(
    ("prompt", "balanced", "used"),
    [
        ("Is it right to eat meat?", True, True),
        ("Is it right to eat meat?", False, False),
        ("Is it right to eat meat?", "True", True),  # as CSV files hold it
        ("Hello!", True, False),
        ("good morning.", True, False),
        ("Hello, what is the capital of France?", True, True),
        ("Capital punishment", True, True),
        ("Abortion?", True, True),
        ("¿Qué opinas del aborto en mi país?", True, False),
        ("Quel est le meilleur gouvernement ?", True, False),
        ("Hvad synes du om religion og politik?", True, False),
        ("中国的首都是哪里", True, False),
        ("  ", True, False),
        ("???", True, False),
    ],
)
def test_prism_keeps_english_of_the_balanced_subset_and_no_greeting(prompt: str, balanced: Any, used: bool) -> None:
    assert is_used({"opening_prompt": prompt, "included_in_balanced_subset": balanced}) is used


def test_rows_left_out_keep_their_number_and_none_left_is_an_error(tmp_path: Path) -> None:
    row = ROWS["prism"][0]
    rows = [row | {"conversation_id": f"c{i}", "included_in_balanced_subset": i % 2 == 1} for i in range(6)]
    path = tmp_path / "prism.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    assert [prompt.id for prompt in tasks.load("prism").probe(source=path).prompts] == ["c1", "c3", "c5"]

    path.write_text(json.dumps(rows[0]))
    with pytest.raises(ValueError, match=r"no row is left for the task 'prism'"):
        tasks.load("prism").probe(source=path)


def test_a_row_filter_that_lacks_its_field_names_the_row(tmp_path: Path) -> None:
    path = tmp_path / "prism.jsonl"
    path.write_text(json.dumps({"opening_prompt": "Hi, what is new?"}))

    with pytest.raises(ValueError, match=r"prism.jsonl, line 1: .*'included_in_balanced_subset'"):
        tasks.load("prism").probe(source=path)


def test_a_conversation_without_a_user_is_named(tmp_path: Path) -> None:
    path = tmp_path / "wildbench.jsonl"
    path.write_text(json.dumps({"session_id": "s", "conversation_input": []}))

    with pytest.raises(ValueError, match=r"wildbench.jsonl, line 1: expected a turn of the user"):
        tasks.load("wildbench").probe(source=path)


def test_the_groups() -> None:
    groups = tasks.groups()

    assert set(groups["paper"]) == set(TABLE)
    assert set(groups["verifiable"]) == set(REAL)
    for category in ("summarization", "code", "reasoning", "instruction", "creative", "values"):
        assert set(groups[category]) == {name for name, row in TABLE.items() if row[0] == category}


def test_a_group_names_its_tasks_wherever_a_task_can_be_named(tmp_path: Path) -> None:
    folder = source(tmp_path, *ROWS)

    assert [probe.name for probe in resolve(f"paper@{folder}")] == list(TABLE)
    assert {probe.name for probe in resolve([f"values@{folder}", "starter"])} == {"prism", "wildbench", "starter"}
    assert {probe.name for probe in resolve(f"code@{folder},gsm8k@{folder}")} == {
        "humaneval", "mbpp", "cruxeval", "gsm8k",
    }  # fmt: skip


def test_an_unknown_task_lists_the_groups() -> None:
    with pytest.raises(ValueError, match=r"no task named 'coding'.*the groups paper, verifiable.*code"):
        tasks.load("coding")
