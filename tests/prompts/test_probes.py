"""Every form a probe can take, and the errors that come before training."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
from support.probe_rows import contents, only

from divmon.prompts import tasks
from divmon.prompts.probes import resolve, ungraded
from divmon.types import Probe, Prompt

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Name a bird."},
    {"role": "assistant", "content": "A wren."},
    {"role": "user", "content": "Another one."},
]


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_name_is_a_task() -> None:
    assert [probe.name for probe in resolve("starter")] == ["starter"]
    assert len(only("starter", num_prompts=1_000).prompts) == 64


def test_a_task_on_a_local_file(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a, b@c.jsonl", {"question": "1 + 1?", "answer": "#### 2"})

    probe = only(f"gsm8k@{path}")

    assert (probe.name, probe.prompts[0].gold, probe.source) == ("gsm8k", "2", str(path))


@pytest.mark.parametrize("as_list", [True, False])
def test_several_names(tmp_path: Path, as_list: bool) -> None:
    path = jsonl(tmp_path / "gsm8k.jsonl", {"question": "1 + 1?", "answer": "#### 2"})
    names = [f"gsm8k@{path}", "starter"]

    assert [probe.name for probe in resolve(names if as_list else ", ".join(names))] == ["gsm8k", "starter"]


def test_a_probe_is_taken_as_it_is() -> None:
    mine = Probe("mine", (Prompt("a", "hi"), Prompt("b", "ho")))

    assert resolve(mine, num_prompts=1) == [mine]
    assert [probe.name for probe in resolve([mine, "starter"])] == ["mine", "starter"]


@pytest.mark.parametrize("name", ["gsmk8", "gsmk8@some.jsonl", "starter,gsmk8", "Name a bird."])
def test_an_unknown_name_lists_what_there_is(name: str) -> None:
    with pytest.raises(ValueError, match=r"no task named .* there are .*gsm8k, .*starter.*list of strings"):
        resolve(name)


def test_a_missing_file_is_named() -> None:
    for spec in ("none.jsonl", "gsm8k@none.jsonl", Path("none.jsonl"), ["starter", "none.jsonl"]):
        with pytest.raises(FileNotFoundError, match=r"no file 'none.jsonl'"):
            resolve(spec)


def test_two_probes_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two probes are named 'starter'"):
        resolve("starter,starter")


@pytest.mark.parametrize("spec", [None, 3, {"prompt": "hi"}])
def test_what_is_no_form_is_told_the_forms(spec: Any) -> None:
    with pytest.raises(ValueError, match=r"cannot make a probe of (NoneType|int|dict); give the name of a task"):
        resolve(spec)


def test_a_file_of_prompts(tmp_path: Path) -> None:
    rows = [
        {"id": "x", "prompt": "Say hi.", "gold": 18, "category": "creative", "note": "kept"},
        {"prompt": MESSAGES},
        {"prompt": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]},
        {"prompt": "Say hi.", "category": "of my own"},
    ]

    probe = only(str(jsonl(tmp_path / "mine.jsonl", *rows)))

    assert probe.name == "mine"
    assert [prompt.id for prompt in probe.prompts] == ["x", "1", "2", "3"]
    assert contents(probe) == ["Say hi.", tuple(MESSAGES), ({"role": "user", "content": "ab"},), "Say hi."]
    assert [prompt.category for prompt in probe.prompts] == ["creative", "other", "other", "other"]
    assert probe.prompts[0].gold == "18"
    assert probe.prompts[0].row == rows[0]


def test_rows_are_grouped_by_task(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n}?", "task": ("sums", "names")[n % 2], "id": n // 2} for n in range(8)]

    sums, names = resolve(jsonl(tmp_path / "mine.jsonl", *rows), num_prompts=3)

    assert (sums.name, names.name) == ("sums", "names")
    assert {str(content) for content in contents(sums)} < {"0?", "2?", "4?", "6?"}
    assert len(sums.prompts) == len(names.prompts) == 3


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "hi"}, "expected a `prompt` or `messages`; the columns there are text"),
        ({"prompt": " "}, "the prompt is empty"),
        ({"prompt": 3}, "expected text or a list of messages, came int: 3"),
        ({"prompt": []}, "expected text or a list of messages, came list"),
        ({"prompt": ["hi"]}, "message 1: expected {'role': ..., 'content': ...}, came 'hi'"),
        ({"prompt": [{"role": "human", "content": "hi"}]}, "message 1: no role 'human'; there are system, developer"),
        ({"prompt": [{"role": "user", "content": None}]}, "message 1: expected `content` to be text, came None"),
        ({"prompt": [{"role": "user", "content": [{"type": "image"}]}]}, "came one of type 'image'"),
        ({"prompt": MESSAGES[:3]}, "ends with an assistant turn"),
        ({"messages": MESSAGES[2:3]}, "the messages hold answers only"),
        ({"prompt": "hi", "gold": ["a"]}, r"expected `gold` to be text or a number, came \['a'\]"),
        ({"prompt": "hi", "id": 0}, "the id '0' is that of .*line 1 too"),
    ],
)
def test_a_bad_row_is_named_whatever_is_drawn(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    path = jsonl(tmp_path / "mine.jsonl", {"prompt": "fine"}, row)

    with pytest.raises(ValueError, match=f"mine.jsonl, line 2: .*{reason}"):
        resolve(str(path), num_prompts=1)


def test_lists_of_prompts() -> None:
    assert contents(only(["Name a bird.", "Name a bird."])) == ["Name a bird."] * 2
    assert contents(only([MESSAGES, MESSAGES[1:2]])) == [tuple(MESSAGES), tuple(MESSAGES[1:2])]
    assert contents(only(MESSAGES)) == [tuple(MESSAGES)], "one conversation is one prompt"
    assert contents(only([{"prompt": "a"}, {"messages": MESSAGES[:3]}])) == ["a", tuple(MESSAGES[:2])]
    assert contents(only([[5, 6, 7]])) == [(5, 6, 7)]
    assert [probe.name for probe in resolve([{"prompt": "a", "task": "x"}, {"prompt": "b"}])] == ["x", "prompts"]
    with pytest.raises(ValueError, match="prompt 1 of the list: the prompt is empty"):
        resolve(["fine", ""])


def test_a_long_prompt_is_not_taken_for_a_path() -> None:
    assert len(only(["Tell me about birds. " * 500]).prompts) == 1


def test_the_subset_is_seeded_recorded_by_id_and_leaves_the_global_generator_alone() -> None:
    prompts = [f"{n}?" for n in range(100)]
    random.seed(1)
    before = random.getstate()

    few, same, other = (only(prompts, num_prompts=10, seed=seed) for seed in (0, 0, 1))

    assert random.getstate() == before
    assert few == same != other
    assert [prompts[int(prompt.id)] for prompt in few.prompts] == contents(few)


def test_a_number_of_prompts_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="expected num_prompts of at least 1, came 0"):
        resolve("starter", num_prompts=0)


def test_a_data_set() -> None:
    rows = [{"prompt": f"{n}?", "id": f"row-{n}", "gold": n} for n in range(9)]

    probe = only(datasets.Dataset.from_list(rows), num_prompts=4)

    assert probe.name == "dataset"
    assert [(prompt.id, prompt.content, prompt.gold) for prompt in probe.prompts] == [
        (f"row-{prompt.gold}", f"{prompt.gold}?", prompt.gold) for prompt in probe.prompts
    ]
    assert len(probe.prompts) == 4


def test_messages_are_cut_before_the_last_answer() -> None:
    answered = [*MESSAGES, {"role": "assistant", "content": "A tern."}]
    dataset = datasets.Dataset.from_list([{"messages": answered}, {"messages": MESSAGES}])

    assert contents(only(dataset)) == [tuple(MESSAGES), tuple(MESSAGES)]


def test_a_data_set_without_prompts_lists_its_columns() -> None:
    with pytest.raises(ValueError, match=r"row 0 of the data set: .*the columns there are asks, answer"):
        resolve(datasets.Dataset.from_list([{"asks": "1 + 1?", "answer": "2"}]))


@pytest.mark.parametrize("asks", ["question", "problem", "instruction", "query", "input"])
@pytest.mark.parametrize("answers", ["gold", "answer", "target", "ground_truth"])
def test_usual_columns_of_a_file(asks: str, answers: str, tmp_path: Path) -> None:
    (prompt,) = only(str(jsonl(tmp_path / "mine.jsonl", {asks: "1 + 1?", answers: 2}))).prompts
    assert (prompt.content, prompt.gold) == ("1 + 1?", "2")
    assert only([{"prompt": "p", "answer": ["a list", "of them"]}]).prompts[0].gold is None


@pytest.mark.parametrize("name", ["mine.csv", "mine.parquet", "mine.jsonl.gz", "mine.tsv"])
def test_a_probe_file_of_any_format(name: str, tmp_path: Path) -> None:
    path, rows = tmp_path / name, pd.DataFrame({"question": ["1 + 1?", "2 + 2?"], "gold": ["2", "4"]})
    if name.endswith("parquet"):
        rows.to_parquet(path)
    elif name.endswith("gz"):
        rows.to_json(path, orient="records", lines=True)
    else:
        rows.to_csv(path, index=False, sep="\t" if name.endswith("tsv") else ",")
    assert [(prompt.content, prompt.gold) for prompt in only(str(path)).prompts] == [("1 + 1?", "2"), ("2 + 2?", "4")]


def test_rows_of_a_known_task_are_graded_by_its_verifier_and_other_reference_answers_are_said(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i} + 1?", "gold": i + 1, "task": "gsm8k" if i % 2 else "sums"} for i in range(4)]
    probes = {probe.name: probe for probe in resolve(str(jsonl(tmp_path / "mine.jsonl", *rows)))}
    assert probes["gsm8k"].verifier == tasks.load("gsm8k").verifier and probes["sums"].verifier is None
    assert ungraded(probes.values()).startswith("reference answers that nothing grades by: 2 of sums. Name the task")
    assert ungraded([probes["gsm8k"]]) == ""
    bare = [{"prompt": "p", "task": "gsm8k"}]
    assert only(bare).verifier is None, "without a reference answer there is nothing to grade by"


def test_a_transform_of_the_user_is_not_run() -> None:
    def explode(batch: dict[str, Any]) -> dict[str, Any]:
        raise AssertionError("a random transform would move the run's generator")

    dataset = datasets.Dataset.from_list([{"prompt": "hi"}]).with_transform(explode)

    assert contents(only(dataset)) == contents(only("eval", eval_dataset=dataset)) == ["hi"]


@pytest.mark.parametrize("where", ["id", "category"])
def test_half_a_character_in_a_name_is_an_error_in_words(where: str) -> None:
    prompt = Prompt(**{"id": "p", "content": "what?", "category": "c", where: "half \ud83d of it"})
    with pytest.raises(ValueError, match="holds half a character; read its file as UTF-8"):
        Probe("own", (prompt,), 8)
