"""Resumed with other settings, or where what is stored is damaged: training goes on, and unlike is not compared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from support import runs, tiny

import divmon
from divmon.training.config import given_options
from divmon.training.continuation import _differences
from divmon.training.loop_state import Host, Moment
from divmon.training.training_run import TrainingRun

Said = pytest.CaptureFixture[str]


def train(folder: Path, start: int, stop: int, **options: Any) -> TrainingRun:
    """Steps of a small loop with the monitor, from `start` on."""
    model, tokenizer = runs.model("llama", num_hidden_layers=1), tiny.tokenizer(runs.TEXTS)
    given = {"probes": runs.PROBES, **runs.CHEAP, "every": 2, "progress": False, **options}
    host = Host(str(folder / "_divmon"), max_steps=stop, first_step=start, loggers=[])
    run = TrainingRun(given_options(None, given), host, model)
    run.begin(Moment(start, model), tokenizer)
    for step in range(start + 1, stop + 1):
        with torch.no_grad():
            model.get_output_embeddings().weight.mul_(0.9)
        run.step_end(Moment(step, model, last=step == stop))
    run.end(Moment(stop, model))
    return run


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stopped")
    train(folder, 0, 4)
    return folder


@pytest.fixture(autouse=True)
def begun(stopped: Path, tmp_path: Path) -> None:
    """Each test finds a run that was stopped after step 4."""
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)


@pytest.mark.parametrize(
    ("name", "value", "was"),
    [
        ("temperature", 1.0, "0.6"),
        ("num_samples", 3, "2"),
    ],
)
def test_other_settings_begin_a_segment(tmp_path: Path, capsys: Said, name: str, value: Any, was: str) -> None:
    again = train(tmp_path, 4, 8, **{name: value})
    assert again.failures == []
    said = capsys.readouterr().out
    assert f"from step 4 on changes are compared with a new reference: {name} was {was} and is {value}" in said
    run = divmon.read_run(tmp_path)
    assert run.steps == [0, 2, 4, 6, 8] and run.manifest["reference_step"] == 6
    assert f"{name} was {was}" in run.provenance[6]["new_reference"]
    assert set(run.changes.step) == {8}, "what came before has another reference"
    assert int((run.samples.step == 6).sum()) == len(runs.PROBES) * again.options.reference_samples
    assert not run.problems


def test_the_same_settings_go_on(tmp_path: Path, capsys: Said) -> None:
    train(tmp_path, 4, 6)
    run = divmon.read_run(tmp_path)
    assert run.manifest["reference_step"] == 0 and "segments" not in run.manifest
    assert set(run.changes.step) == {2, 4, 6} and "new reference" not in capsys.readouterr().out


def test_a_resume_that_was_killed_before_its_reference_takes_one_when_it_resumes_again(tmp_path: Path) -> None:
    train(tmp_path, 4, 4, temperature=1.0)  # measured nothing: step 4 is there
    train(tmp_path, 4, 8, temperature=1.0)
    run = divmon.read_run(tmp_path)
    assert run.manifest["reference_step"] == 6 and set(run.changes.step) == {8}
    train(tmp_path, 8, 10, temperature=1.0)
    run = divmon.read_run(tmp_path)
    assert run.manifest["reference_step"] == 6 and set(run.changes.step) == {8, 10}, "and goes on with that"


def test_other_metrics_are_said_and_the_rest_goes_on(tmp_path: Path, capsys: Said) -> None:
    train(tmp_path, 4, 6, metrics="ead,duplicates")
    assert "duplicates measured from here on, without a change since the reference; length no longer measured" in (
        capsys.readouterr().out
    )
    changes = divmon.read_run(tmp_path).changes.query("step == 6")
    assert "ead" in set(changes.metric) and (changes.n > 0).all()


def test_what_decides_the_figures_is_told_apart() -> None:
    options = {"temperature": 0.6, "top_p": 0.95, "num_samples": 2, "max_new_tokens": 8, "seed": 0}
    first = {"options": options, "encoders": {"encoder": "minilm"}, "verifiers": {"gsm8k": "number"}}

    def said(now: dict[str, Any], *between: dict[str, Any]) -> list[str]:
        return list(_differences({**first, "resumed": [*between, now]}, now))

    assert said(first) == [] and list(_differences(first, {"options": {}})) == [], "a fresh run differs from nothing"
    for name in options:
        assert said({**first, "options": {**options, name: 9}}) == [f"{name} was {options[name]} and is 9"]
    assert said({**first, "encoders": {"encoder": "mpnet"}}) == ["the encoder of encoder was minilm and is mpnet"]
    assert said({**first, "encoders": {"nli": "x"}}) == [], "one more encoder bars nothing"
    assert said({**first, "verifiers": {"gsm8k": "x"}}) == ["the verifier of gsm8k was number and is x"]
    hot = {**first, "options": {**options, "temperature": 1.0}}
    assert said(hot, hot) == [] and said(first, hot) == ["temperature was 1.0 and is 0.6"], "the last one counts"


DAMAGE = {
    "the reference's scores": ("snapshots/00000000.json", lambda data: data.replace(b"0", b"1", 1)),
    "the reference's samples": ("snapshots/00000000.samples.jsonl.gz", lambda data: data[:-9]),
    "a digit of the manifest": ("manifest.json", lambda data: data.replace(b'"num_samples": 2', b'"num_samples": 3')),
    "half of the manifest": ("manifest.json", lambda data: data[: len(data) // 2]),
    "the manifest's prompts": ("manifest.json", lambda data: data.replace(b"what is", b"what if", 1)),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_damaged_keeps_no_training_from_going_on(tmp_path: Path, capsys: Said, what: str) -> None:
    name, damage = DAMAGE[what]
    file = tmp_path / "_divmon" / name
    file.write_bytes(damage(file.read_bytes()))
    again = train(tmp_path, 4, 8)
    assert again.failures == []
    said, folder, run = capsys.readouterr().out, tmp_path / "_divmon", divmon.read_run(tmp_path)
    kept = [p for p in folder.rglob("*") if "damaged" in p.relative_to(folder).as_posix() and p.is_file()]
    assert kept, "the damaged part is put aside"
    assert run.manifest["reference_step"] == 6 and set(run.changes.step) == {8}
    assert run.provenance[6]["new_reference"]
    assert "compared with a new reference" in said
    assert run.steps == ([0, 2, 4, 6, 8] if "manifest" in what else [2, 4, 6, 8])
    (problem,) = run.problems.found
    assert "damaged" in problem.reason and ("manifest" in what) == ("manifest" in problem.reason)


def test_a_manifest_of_other_prompts_that_is_damaged_begins_anew(tmp_path: Path, capsys: Said) -> None:
    (tmp_path / "_divmon/manifest.json").write_text("{")
    others = [{"id": f"other{i}", "prompt": "who is it?"} for i in range(2)]
    train(tmp_path, 4, 6, probes=others)
    assert divmon.read_run(tmp_path).steps == [4, 6]
    (aside,) = tmp_path.glob("_divmon-*")
    assert len(list((aside / "snapshots").glob("*.json"))) == 3
    assert "so the run begins anew" in capsys.readouterr().out


def test_a_newer_version_s_run_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "_divmon/manifest.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"format": 99}))
    before = file.read_bytes()
    with pytest.raises(ValueError, match="upgrade divmon"):
        train(tmp_path, 4, 6)
    assert file.read_bytes() == before
