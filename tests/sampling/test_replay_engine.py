"""Stored samples as an engine: what a real run drew comes back, and what does not fit is named."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import runs, tiny

from divmon import DiversityMonitor, read_run
from divmon.pipeline import Pipeline
from divmon.prompts.rendering import Renderer
from divmon.sampling import Request
from divmon.sampling.engines.replay import Replay
from divmon.scoring.scorer import Scorer
from divmon.types import Decoding, Prompt, RenderedPrompt


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(tiny.tokenizer(runs.TEXTS), chat=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two snapshots of a tiny model: four samples a prompt at step 0, two at step 10."""
    folder, rows = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("rows") / "probes.jsonl"
    rows.write_text("\n".join(json.dumps(row) for row in runs.PROBES))
    monitor = DiversityMonitor(str(rows), output_dir=str(folder / "_divmon"), loggers=[], progress=False, **runs.CHEAP)
    for step in (0, 10):
        monitor.measure(runs.model("llama", seed=step), tiny.tokenizer(runs.TEXTS), step)
    monitor.close()
    return folder


def requests(run: Path, renderer: Renderer, step: int, samples: int) -> list[Request]:
    stored = read_run(run)
    (probe,) = stored.probes
    decoding = stored.read(step).provenance["decoding"][probe.name]
    drawn = Decoding(**{**decoding, "stop": tuple(decoding["stop"])})
    return [Request(renderer.render(probe.name, prompt), drawn, samples) for prompt in probe.prompts]


def test_a_runs_samples_come_back_at_their_step(run: Path, renderer: Renderer) -> None:
    for step, samples in ((0, 4), (10, 2)):
        done: list[int] = []
        asked = requests(run, renderer, step, samples)
        drawing = Replay(run).draw(asked, seed=99, step=step, progress=done.append)
        assert drawing.samples == read_run(run).read(step).samples
        assert not drawing.missing and drawing.tokens == 0 and sum(done) == 4 * samples
    first = Replay(run / "_divmon").draw(requests(run, renderer, 0, 2)[::-1], seed=0, step=0)
    assert [(s.prompt_id, s.index) for s in first.samples] == [(f"p{i}", k) for i in (3, 2, 1, 0) for k in (0, 1)]


def test_other_metrics_score_them(run: Path, renderer: Renderer) -> None:
    stored = read_run(run)
    before = stored.read(10)
    scorer = Scorer("ead,distinct_n", categories={"other"}, vocab_size=len(renderer.tokenizer))
    pipeline = Pipeline(scorer, lambda probe, samples: [], num_samples=2)
    again = pipeline.measure(stored.probes, requests(run, renderer, 10, 2), Replay(run), 10).snapshot
    task = stored.probes[0].name
    assert repr(again.score(task, "ead")) == repr(before.score(task, "ead")), "by repr, in which NaN equals NaN"
    assert len(again.score(task, "distinct_1").values) == 4
    assert again.provenance["sampler"] == "replay"


def test_what_does_not_fit_is_missing_with_its_reason(run: Path, renderer: Renderer) -> None:
    good = requests(run, renderer, 10, 2)
    prompt = good[0].prompt
    asked = [
        replace(good[0], num_samples=3),
        replace(good[1], decoding=replace(good[1].decoding, temperature=1.0, stop=("\n",))),
        replace(good[2], prompt=renderer.render(prompt.task, Prompt("p2", "who was it?"))),
        replace(good[3], prompt=replace(prompt, id="p9")),
        replace(good[3], prompt=replace(prompt, task="other")),
    ]
    drawing = Replay(run).draw(asked, seed=0, step=10)
    assert not drawing.samples
    assert list(drawing.missing.values()) == [
        "2 samples of it are stored, 3 were asked for",
        "its stored samples were drawn with temperature 0.6, not 1.0, stop [], not ('\\n',)",
        "its stored samples answer another prompt of the same id",
        "no samples of it are stored",
        "no samples of it are stored",
    ]
    assert len(Replay(run).draw([*asked, good[3]], seed=0, step=10).samples) == 2
    with pytest.raises(ValueError, match=r"has no samples of step 5; there are those of \[0, 10\]"):
        Replay(run).draw(good, seed=0, step=5)


def test_texts_that_the_store_shortened_and_prompts_missing_then(tmp_path: Path, run: Path, renderer: Renderer) -> None:
    from divmon.storage.writer import Store

    snapshot, manifest = read_run(run).read(0), read_run(run).manifest
    last = snapshot.samples[-1]
    kept = [replace(s, text="short") for s in snapshot.samples if s.prompt_id != "p0"]
    kept[1] = replace(kept[1], text="much longer than eight")
    kept[4] = replace(kept[4], reasoning="much longer than eight")
    missing = {(last.task, "p0"): "out of memory"}
    with Store(tmp_path, max_chars=8).open(manifest) as store:
        store.write(replace(snapshot, samples=kept, scores=[], missing=missing))
    drawing = Replay(tmp_path).draw(requests(run, renderer, 0, 4), seed=0, step=0)
    assert {s.prompt_id for s in drawing.samples} == {"p3"}
    assert {key[1]: reason for key, reason in drawing.missing.items()} == {
        "p0": "missing already when it was drawn: out of memory",
        "p1": "1 of its 4 stored texts were shortened or left out to save space",
        "p2": "1 of its 4 stored texts were shortened or left out to save space",
    }
    whole = Replay(tmp_path).draw(requests(run, renderer, 0, 1), seed=0, step=0)
    assert {s.prompt_id for s in whole.samples} == {"p1", "p3"}, "the first sample of p1 is whole"


def rows(path: Path, *given: dict[str, Any]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in given))
    return path


def test_a_file_of_completions(tmp_path: Path, renderer: Renderer) -> None:
    chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": " it is "}]
    file = rows(
        tmp_path / "outputs.jsonl",
        {"id": 7, "prompt": "what is", "outputs": ["one", None, "three"]},
        {"id": "b", "task": "sums", "prompt": chat, "outputs": ["four", "five"]},
    )

    def ask(task: str, prompt_id: str, text: str, samples: int) -> Request:
        return Request(RenderedPrompt(task, prompt_id, text, (1,)), Decoding(5, 0.1), samples)

    asked = [ask("any", "7", "what is", 3), ask("sums", "b", "<s>it is</s>", 2), ask("any", "b", "it is", 2)]
    drawing = Replay(file).draw(asked, seed=0, step=123)
    assert [(s.task, s.prompt_id, s.index, s.text, s.answered) for s in drawing.samples] == [
        ("any", "7", 0, "one", True),
        ("any", "7", 1, "", False),
        ("any", "7", 2, "three", True),
        ("sums", "b", 0, "four", True),
        ("sums", "b", 1, "five", True),
    ]
    assert {(s.finish, s.n_tokens) for s in drawing.samples} == {("unknown", None)}
    assert drawing.missing == {("any", "b"): "no samples of it are stored"}
    other = Replay(file).draw([ask("any", "7", "who is", 1)], seed=0, step=0)
    assert other.missing == {("any", "7"): "its stored samples answer another prompt of the same id"}


def test_sources_that_are_none(tmp_path: Path, run: Path, renderer: Renderer) -> None:
    with pytest.raises(FileNotFoundError, match="no divmon run in"):
        Replay(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"outputs.jsonl: no column of completions is known; its columns are prompt"):
        Replay(rows(tmp_path / "outputs.jsonl", {"prompt": "what is"}))
    damaged = tmp_path / "run"
    (damaged / "snapshots").mkdir(parents=True)
    for name in ("manifest.json", "snapshots/00000000.json"):
        (damaged / name).write_bytes((run / "_divmon" / name).read_bytes())
    (damaged / "snapshots" / "00000000.samples.jsonl.gz").write_bytes(gzip.compress(b"{"))
    with pytest.raises(ValueError, match="the samples of step 0 are damaged"):
        Replay(damaged).draw(requests(run, renderer, 0, 2), seed=0, step=0)
