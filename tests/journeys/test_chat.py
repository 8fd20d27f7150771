"""What is asked and how: stop strings in chat and in plain text, and which of the two is chosen."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support import tiny

from divmon import DiversityMonitor
from divmon.prompts import tasks
from divmon.storage.manifest import read_probes
from divmon.storage.reader import read_run
from divmon.types import Probe, Prompt

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SAID = "Sure:\n\n```python\n# one\ndef one():\n    return 1\n\nclass A: pass\n```\nDone."
"""An answer of two paragraphs with a program in a fence: it holds a stop string of each task below."""
ROWS: dict[str, dict[str, Any]] = {
    "tldr": {"subreddit": "r/tea", "title": "Hot", "post": "I burnt it.", "summary": "Wait."},
    "xsum": {"document": "A bridge opened.", "summary": "It is open.", "id": "338"},
    "humaneval": {
        "task_id": "HumanEval/900",
        "prompt": 'def one():\n    """1."""\n',
        "entry_point": "one",
        "canonical_solution": "    return 1\n",
        "test": "def check(candidate):\n    assert candidate() == 1\n",
    },
}
CHEAP = {"metrics": "length", "num_samples": 2, "max_new_tokens": 60, "progress": False, "loggers": []}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    made = tiny.tokenizer([SAID] * 4, chat_template=CHATML)
    made.eos_token = "<|im_end|>"
    return made


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    """Taught in a few steps to give the answer above and to end its turn, whatever it is asked."""
    made = tiny.model("llama", vocab_size=400, initializer_range=0.05, eos_token_id=tokenizer.eos_token_id)
    answer = tokenizer(SAID, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    asked = [
        tokenizer(text, add_special_tokens=False)["input_ids"]
        for name, row in ROWS.items()
        for text in (
            tasks.load(name).prompt(row),
            tokenizer.apply_chat_template(
                [{"role": "user", "content": tasks.load(name).prompt(row)}], tokenize=False, add_generation_prompt=True
            ),
        )
    ]
    optimizer = torch.optim.Adam(made.parameters(), lr=3e-3)
    for _ in range(100):
        for ids in asked:
            labels = torch.tensor([[-100] * len(ids) + answer])
            made(input_ids=torch.tensor([ids + answer]), labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return made.eval()


def folder_of(tmp_path: Path) -> Path:
    for name, row in ROWS.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path


def measured(spec: Any, model: Any, tokenizer: Any, folder: Path, **options: Any) -> Any:
    monitor = DiversityMonitor(spec, output_dir=str(folder), **{**CHEAP, **options})
    snapshot = monitor.measure(model, tokenizer)
    monitor.close()
    return snapshot


def named(folder: Path) -> str:
    return ",".join(f"{name}@{folder}/{name}.jsonl" for name in ROWS)


def test_no_answer_in_chat_is_cut_by_a_task_s_stop_strings(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    """The paper's harness stops chat answers at the end of the turn alone."""
    spec = named(folder_of(tmp_path))
    chat = measured(spec, model, tokenizer, tmp_path / "chat", chat=True)
    assert {sample.finish for sample in chat.samples} == {"eos"}
    assert {sample.text for sample in chat.samples} == {SAID}
    assert {name: d["stop"] for name, d in chat.provenance["decoding"].items()} == dict.fromkeys(ROWS, ())
    plain = measured(spec, model, tokenizer, tmp_path / "plain", chat=False)
    assert {sample.finish for sample in plain.samples} == {"stop"}
    said = {name: SAID[: min(SAID.find(s) for s in tasks.load(name).stop if s in SAID)] for name in ROWS}
    assert {sample.task: sample.text for sample in plain.samples} == said
    stops = {name: d["stop"] for name, d in read_run(tmp_path / "plain").provenance[0]["decoding"].items()}
    assert stops == {name: list(tasks.load(name).stop) for name in ROWS}


def test_a_chat_run_is_compared_with_its_base_model_s_plain_one_where_answers_end_alike(
    model: Any, tokenizer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cut.jsonl").write_text(json.dumps({"prompt": "one?", "stop": "\n\n", "chat_stop": "```"}))
    spec = f"{named(folder_of(tmp_path))},{tmp_path}/cut.jsonl"
    base = measured(spec, model, tokenizer, tmp_path / "base", chat=False, reference_samples=2)
    capsys.readouterr()
    tuned = measured(spec, model, tokenizer, tmp_path / "tuned", chat=True, reference=str(tmp_path / "base"))
    assert {change.task for change in tuned.changes} == set(ROWS)
    (words,) = [c for c in tuned.changes if c.task == "tldr" and c.metric == "length_words"]
    assert words.reference == base.score("tldr", "length_words").mean
    assert words.now == tuned.score("tldr", "length_words").mean
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "reference:" in line]
    assert "cut was sampled with stop ['\\n\\n'] in plain text there, with stop ['```'] in chat here" in line
    hot = {"chat": True, "temperature": 1.0, "reference": str(tmp_path / "tuned")}
    with pytest.raises(ValueError, match=r"temperature 0.6 there, with temperature 1.0 here.*only the same decoding"):
        measured(spec, model, tokenizer, tmp_path / "hot", **hot)


@pytest.mark.parametrize(
    ("row", "in_chat", "in_plain"),
    [
        ({"stop": "\n\n"}, ("\n\n",), ("\n\n",)),
        ({"stop": ["\n\n"], "chat_stop": []}, (), ("\n\n",)),
        ({"chat_stop": ["```", "\n#"]}, ("```", "\n#"), ()),
        ({}, (), ()),
    ],
)
def test_a_probe_file_may_set_stop_strings_for_either(
    row: dict[str, Any], in_chat: tuple, in_plain: tuple, model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"prompt": "one?", **row}) + "\n" + json.dumps({"prompt": "two?"}) + "\n")
    for chat, stops in ((True, in_chat), (False, in_plain)):
        folder = tmp_path / str(chat)
        snapshot = measured(str(path), model, tokenizer, folder, chat=chat)
        assert snapshot.provenance["decoding"]["mine"]["stop"] == stops
        (probe,) = read_probes(read_run(folder).manifest)
        assert probe.stops(chat) == stops


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"stop": "\n\n"}, r"line 2: its `stop` is not that of .*line 1"),
        ({"stop": True}, r"line 2: expected `stop` to be a text or a list of texts, came True"),
        ({"chat_stop": [""]}, r"line 2: expected `chat_stop` to be a text or a list of texts"),
    ],
)
def test_wrong_stop_strings_in_a_file_are_named(second: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"prompt": "a", "stop": "\n"}) + "\n" + json.dumps({"prompt": "b", **second}) + "\n")
    with pytest.raises(ValueError, match=said):
        DiversityMonitor(str(path), output_dir=str(tmp_path / "run"), **CHEAP).measure(None, tiny.tokenizer())


def test_a_probe_s_stop_strings() -> None:
    prompts = (Prompt("0", "a"),)
    assert Probe("p", prompts, stop="\n").stops(chat=True) == ("\n",)  # type: ignore[arg-type]
    assert Probe("p", prompts, stop=("\n",), chat_stop=()).stops(chat=True) == ()
    assert Probe("p", prompts, stop=("\n",), chat_stop=()).stops(chat=False) == ("\n",)
    with pytest.raises(ValueError, match="at least one character"):
        Probe("p", prompts, stop=("",))


# Chat or plain text, where there are no training rows


def said(model: Any, tokenizer: Any, folder: Path, capsys: pytest.CaptureFixture[str], **options: Any) -> Any:
    snapshot = measured(["one?"], model, tokenizer, folder, **options)
    lines = [line for line in capsys.readouterr().out.splitlines() if "are rendered" in line]
    return snapshot, lines


def test_what_was_chosen_without_training_rows_is_said(
    model: Any, tokenizer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A chat model and a base model that ships with a template; the end-of-turn token tells them apart."""
    _, (line,) = said(model, tokenizer, tmp_path / "chat", capsys)
    assert "prompts are rendered through the chat template: there is a chat template, and no" in line
    assert "The first reads '<|im_start|>user\\none?<|im_end|>\\n<|im_start|>assistant\\n'" in line
    assert "set chat=False" in line and read_run(tmp_path / "chat").manifest["chat"] is True
    base, base_tokenizer = copy.deepcopy(model), copy.deepcopy(tokenizer)
    base_tokenizer.eos_token = "<eos>"
    base.generation_config.eos_token_id = base_tokenizer.eos_token_id
    _, (line,) = said(base, base_tokenizer, tmp_path / "base", capsys)
    assert "prompts are rendered as plain text: there is a chat template, but neither its tokenizer nor" in line
    assert "The first reads 'one?'" in line and "set chat=True" in line
    assert read_run(tmp_path / "base").manifest["chat"] is False
    assert said(base, base_tokenizer, tmp_path / "told", capsys, chat=True)[1] == [], "who says it need not be told"
    assert said(base, tiny.tokenizer([SAID]), tmp_path / "none", capsys)[1] == [], "without a template none is chosen"


def test_what_of_the_model_s_own_settings_is_put_aside_is_said_once(
    model: Any, tokenizer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = copy.deepcopy(model)
    own.generation_config.top_k, own.generation_config.min_new_tokens = 20, 3
    monitor = DiversityMonitor(["one?"], output_dir=str(tmp_path), chat=True, **CHEAP)
    for step in (0, 1):
        monitor.measure(own, tokenizer, step)
    printed = capsys.readouterr().out
    assert printed.count("of the model's own generation_config, min_new_tokens=3, top_k=20 is put aside") == 1
    assert "min_new_tokens=3" in read_run(tmp_path).provenance[1]["sampler_reason"]
