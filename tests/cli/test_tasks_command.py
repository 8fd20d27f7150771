"""`divmon tasks`: the listing, what can be had here and now, and gold answers against their verifiers."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest
from huggingface_hub import constants

from divmon import cli
from divmon.prompts import tasks
from divmon.prompts.tasks._reach import reach

ROWS = {
    "gsm8k": {"question": "2 pens and 3?", "answer": "2 + 3 = 5\n#### 5"},
    "math_algebra": {"problem": "Half of 1?", "solution": "It is $\\boxed{\\frac{1}{2}}$."},
    "truthfulqa": {
        "question": "Do seeds grow in you?", "best_answer": "No",
        "correct_answers": ["No"], "incorrect_answers": ["Yes"],
    },
    "ifeval": {"key": 9, "prompt": "No commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
    "alpaca": {"instruction": "Greet.", "input": "", "output": "Hello"},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, row in ROWS.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row))
    return tmp_path


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A hub of our own that has gsm8k, has lost xsum, and never answers for alpaca."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "alpaca" in self.path:
                time.sleep(3)
            known = "openai/gsm8k" in self.path
            body = json.dumps({"id": "openai/gsm8k"} if known else {"error": "Repository not found"}).encode()
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "empty"))
    yield
    server.shutdown()


def lines_of(output: str) -> dict[str, str]:
    return {line.split()[0]: line for line in output.splitlines() if line and not line.startswith(" ")}


def test_the_listing_names_size_category_verifier_data_set_and_where(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["tasks", "--data", str(folder)]) == 0

    output = capsys.readouterr().out
    lines = lines_of(output)
    assert set(tasks.available()) <= set(lines)
    assert lines["gsm8k"].split()[1:6] == ["1,319", "reasoning", "math_answer", "openai/gsm8k", "main"]
    assert lines["gsm8k"].endswith(f"yes, {folder / 'gsm8k.jsonl'}")
    assert lines["starter"].endswith("yes, in the package")
    assert lines["alpaca"].split()[3] == "-"
    assert "  code            cruxeval, humaneval, mbpp" in output


def test_tasks_and_groups_may_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tasks", "values", "starter"]) == 0

    assert set(lines_of(capsys.readouterr().out)) == {"task", "prism", "wildbench", "starter", "groups,"}


def test_the_hub_is_asked_and_waited_for_no_longer_than_told(hub: None) -> None:
    began = time.monotonic()

    found = reach([tasks.load(name) for name in ("gsm8k", "xsum", "alpaca", "starter")], seconds=1)

    assert time.monotonic() - began < 2.5
    assert found["gsm8k"] == (True, "on the hub")
    assert found["starter"] == (True, "in the package")
    assert found["xsum"][0] is False and "404" in found["xsum"][1]
    assert found["alpaca"][0] is False


def test_offline_nothing_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))

    assert reach([tasks.load("gsm8k")]) == {"gsm8k": (False, "not cached, and HF_HUB_OFFLINE is set")}


@pytest.mark.parametrize(("name", "folder_name"), [("gsm8k", "openai___gsm8k"), ("ifeval", "google___if_eval")])
def test_what_the_datasets_library_has_prepared_is_found_as_it_finds_it_itself(
    name: str, folder_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = tasks.load(name)
    prepared = tmp_path / folder_name / str(task.subset) / "0.0.0" / "abc"
    prepared.mkdir(parents=True)
    stem = folder_name.partition("___")[2]
    rows = datasets.Dataset.from_list([ROWS[name]])
    rows.save_to_disk(tmp_path / "rows")
    (tmp_path / "rows" / "data-00000-of-00001.arrow").rename(prepared / f"{stem}-{task.split}.arrow")
    split = {"name": task.split, "num_examples": 1, "num_bytes": 1}
    info = {"config_name": task.subset, "dataset_name": stem, "splits": {task.split: split}}
    (prepared / "dataset_info.json").write_text(json.dumps(info))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    code = f"from divmon.prompts import tasks; print(tasks.load({name!r}).probe().prompts[0].content)"
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(tmp_path)}

    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)

    assert done.stdout.strip() == task.prompt(ROWS[name]), done.stderr
    assert reach([task])[name] == (True, "in the cache")


def test_gold_answers_are_tried_on_their_verifiers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tasks", *ROWS, "starter", "--check", "--data", str(folder)]) == 0

    lines = lines_of(capsys.readouterr().out)
    for name, verifier in (("gsm8k", "math_answer"), ("math_algebra", "math_answer"), ("truthfulqa", "truthfulqa")):
        assert f"1 of 1 gold answers pass {verifier}" in lines[name]
    assert "20 of 20 gold answers pass math_answer" in lines["starter"]
    assert "no gold answers to try on ifeval" in lines["ifeval"]
    assert "nothing grades it" in lines["alpaca"]


def test_a_gold_answer_that_does_not_pass_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = ROWS["truthfulqa"] | {"correct_answers": ["Yes and no"], "best_answer": "Yes"}
    (folder / "truthfulqa.jsonl").write_text(json.dumps(row))

    assert cli.main(["tasks", "truthfulqa", "--check", "--data", str(folder)]) == 1

    assert "  0: wrong: closest to the false 'Yes'" in capsys.readouterr().out


def test_rows_that_cannot_be_had_or_read_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (folder / "gsm8k.jsonl").write_text('{"problem": "1 + 1?"}')

    assert cli.main(["tasks", "gsm8k", "prism", "--check", "--data", str(folder)]) == 3

    lines = lines_of(capsys.readouterr().out)
    assert "gsm8k.jsonl, line 1: task 'gsm8k' needs the field" in lines["gsm8k"]
    assert "not cached" in lines["prism"]


def test_wrong_usage_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tasks", "gsm9k"]) == 2
    assert "there are alpaca" in capsys.readouterr().err
    assert cli.main(["tasks", "--data", "nowhere"]) == 2
    assert "no folder 'nowhere'" in capsys.readouterr().err


def test_real_gold_answers_of_the_text_verifiers_pass(shared: Path | None, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["gsm8k", "truthfulqa"] if shared else ["starter"]
    data = ["--data", str(shared / "data" / "probes")] if shared else []

    assert cli.main(["tasks", *names, "--check", *data]) == 0

    assert "wrong" not in capsys.readouterr().out
