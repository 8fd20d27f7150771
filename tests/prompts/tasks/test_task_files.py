"""The folder of tasks is the registry, and every task in it keeps the contract of a task file."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from divmon.prompts import tasks
from divmon.prompts.tasks import Task


def test_the_folder_is_the_registry() -> None:
    assert {"gsm8k", "starter"} <= set(tasks.available())
    assert not any(name.startswith("_") for name in tasks.available())


@pytest.mark.parametrize("name", tasks.available())
def test_every_task_file_keeps_the_contract(name: str) -> None:
    task = tasks.load(name)

    assert task.name == name
    assert (task.dataset == "") == (task.file is not None), "rows come from the hub or from the package"
    assert task.max_new_tokens > 0
    assert all(task.stop), "an empty stop string would end every completion at once"


def test_an_unknown_name_lists_the_tasks_and_the_other_forms() -> None:
    with pytest.raises(ValueError, match=r"no task named 'gsmk8'; there are .*gsm8k.*starter.*JSONL.*'eval'"):
        tasks.load("gsmk8")


def test_rows_that_cannot_be_had_say_what_was_tried_and_what_to_do() -> None:
    task = Task(name="nowhere", dataset="no-such-owner/no-such-set", subset="main", prompt=lambda row: row["q"])

    with pytest.raises(ValueError, match=r"load_dataset\('no-such-owner/no-such-set', 'main', split='test'\)") as error:
        task.probe()

    assert "nowhere@path/to/file.jsonl" in str(error.value)
    assert "starter" in str(error.value)


def test_rows_come_through_the_data_set_library(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: main\n  data_files:\n  - split: test\n    path: test.jsonl\n---\n"
    )
    (tmp_path / "test.jsonl").write_text("".join(json.dumps({"q": f"{n}?", "a": n}) + "\n" for n in range(9)))
    task = Task(name="mine", dataset=str(tmp_path), subset="main", prompt=lambda row: row["q"], id_field="a")

    probe = task.probe(num_prompts=3, seed=1)

    assert [prompt.content for prompt in probe.prompts] == [f"{prompt.id}?" for prompt in probe.prompts]
    assert len(probe.prompts) == 3
    assert probe.source == f"{tmp_path} (main, test)"


def test_drawing_leaves_the_global_generator_alone() -> None:
    random.seed(0)
    before = random.getstate()

    tasks.load("starter").probe(5, seed=3)

    assert random.getstate() == before


def test_another_seed_draws_another_subset_and_the_same_seed_the_same() -> None:
    starter = tasks.load("starter")
    ids = [tuple(prompt.id for prompt in starter.probe(8, seed=seed).prompts) for seed in (0, 0, 1)]

    assert ids[0] == ids[1] != ids[2]


def test_tasks_import_neither_torch_nor_transformers_nor_pandas() -> None:
    heavy = "{'torch', 'transformers', 'pandas', 'datasets'} & set(sys.modules)"
    code = f"import sys; from divmon.prompts import tasks; tasks.load('starter').probe(); print(sorted({heavy}))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
