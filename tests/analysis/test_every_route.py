"""The same completions give the same figures by every route: live, from files, replayed, and from TRL's own log."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import tiny

import divmon
from divmon import DiversityMonitor, cli
from divmon.prompts.rendering import Think, split_reasoning
from divmon.sampling import Drawing, Request
from divmon.sampling.engines.replay import Replay
from divmon.types import Sample

PROMPTS = {f"p{n}": (f"How many are {n} + {n}?", str(2 * n)) for n in range(6)}
RIGHT, WRONG = "We add them and get {n}.\n#### {n}", "It may be {n} or so. #### 99"
WAYS = ["<think>two of {n}</think>" + RIGHT, "{n} and {n}</think>\n" + WRONG, "<think>never closed {n}", RIGHT, WRONG]
RAW = {id: [way.format(n=gold) for way in WAYS] for id, (_, gold) in PROMPTS.items()}
FIGURES = ("ead", "distinct_1", "distinct_2", "length_words", "accuracy")
METRICS = "ead,distinct_n,length"


class Says:
    """An engine that gives these completions, their reasoning split as engines do."""

    name, reason = "says", "a test"

    def draw(
        self, requests: Sequence[Request], *, seed: int, step: int, progress: Callable[[int], None] = lambda n: None
    ) -> Drawing:
        drawing = Drawing()
        for request in requests:
            for k, raw in enumerate(RAW[request.prompt.id][: request.num_samples]):
                text, reasoning, answered = split_reasoning(raw, Think(), request.prompt.in_reasoning)
                key = (request.prompt.task, request.prompt.id)
                drawing.samples.append(Sample(*key, k, text, "eos", len(raw), reasoning, answered))
        return drawing


def probes(folder: Path) -> str:
    rows = [{"id": id, "prompt": text, "gold": gold, "task": "gsm8k"} for id, (text, gold) in PROMPTS.items()]
    (folder / "probes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(folder / "probes.jsonl")


def rows() -> list[dict[str, Any]]:
    asked = [{"id": id, "prompt": text, "gold": gold, "task": "gsm8k"} for id, (text, gold) in PROMPTS.items()]
    return [{**row, "outputs": RAW[row["id"]]} for row in asked]


def measured(folder: Path, engine: Any, name: str = "live") -> dict[str, float]:
    monitor = DiversityMonitor(
        probes(folder), num_samples=5, reference_samples=5, metrics=METRICS, output_dir=str(folder / name),
        engine=engine, loggers=[], progress=False,
    )  # fmt: skip
    monitor.measure(None, tiny.tokenizer(["a"]), 0)
    monitor.close()
    scores = divmon.read_run(folder / name).scores
    return dict(zip(scores.metric, scores["mean"], strict=True))


def scored(source: Any) -> dict[str, float]:
    size = len(tiny.tokenizer(["a"]))
    return divmon.score(source, metrics=METRICS, ead_vocab_size=size, device="cpu").metrics["mean"].to_dict()


def of_file(folder: Path) -> dict[str, float]:
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows())))
    return scored(folder / "a.jsonl")


def of_long_csv(folder: Path) -> dict[str, float]:
    long = [{**row, "outputs": text} for row in rows() for text in row["outputs"]]
    pd.DataFrame(long).rename(columns={"outputs": "response"}).to_csv(folder / "a.csv", index=False)
    return scored(folder / "a.csv")


def replayed_file(folder: Path) -> dict[str, float]:
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows())))
    return measured(folder, Replay(folder / "a.jsonl"))


def replayed_run(folder: Path) -> dict[str, float]:
    measured(folder, Says(), "first")
    return measured(folder, Replay(folder / "first"), "again")


def of_trl_log(folder: Path) -> dict[str, float]:
    """As TRL writes it with log_completions=True; by the verifier, with the reference answer as a column."""
    (folder / "completions").mkdir()
    asked = [(row["prompt"], row["gold"], text) for row in rows() for text in row["outputs"]]
    long = pd.DataFrame(asked, columns=["prompt", "gold", "completion"])
    table = long.assign(step=1, reward=0.5, advantage=0.0)
    table.to_parquet(folder / "completions" / "completions_00001.parquet")
    size = str(len(tiny.tokenizer(["a"])))
    line = ["rollouts", str(folder), "--verifier", "math_answer", "--metrics", METRICS, "--ead-vocab-size", size]
    assert cli.main([*line, "--out", str(folder / "run"), "--device", "cpu"]) == 0
    scores = divmon.read_run(folder / "run").scores
    return dict(zip(scores.metric, scores["mean"], strict=True))


ROUTES = {f.__name__: f for f in (of_file, of_long_csv, replayed_file, replayed_run, of_trl_log)}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    return measured(tmp_path_factory.mktemp("live"), Says())


@pytest.mark.parametrize("route", ROUTES)
def test_the_figures_are_those_of_the_live_run(route: str, live: dict[str, float], tmp_path: Path) -> None:
    found = ROUTES[route](tmp_path)
    assert {name: found[name] for name in FIGURES} == pytest.approx({name: live[name] for name in FIGURES})
    assert live["accuracy"] == 0.5, "of four answers two are right, and one completion has none"


def test_rows_in_memory_and_the_result_as_frames() -> None:
    result = divmon.score(rows(), reference=rows(), metrics=METRICS, device="cpu")
    assert list(result.metrics.columns) == ["mean", "low", "high", "n"] and not result.partial
    assert result.changes.loc["ead", "change"] == 0 and result.per_prompt.index.tolist() == list(PROMPTS)
    assert "ead" in str(result) and result.report["settings"]["words"].startswith("white space")
    unknown = [{key: value for key, value in row.items() if key != "task"} for row in rows()]
    note = "6 of 6 rows have a reference answer, and nothing grades by it: name the task, with --task NAME"
    report = divmon.score(unknown, metrics="ead", device="cpu").report
    assert report["notes"][0].startswith(note)
    with pytest.warns(DeprecationWarning, match="'verdicts' of the report is 'correctness' since 0.2"):
        assert report["verdicts"] is report["correctness"]
    with pytest.raises(ValueError, match="task gsm9k: no such task"):
        divmon.score(rows(), task="gsm9k")
    with pytest.raises(ValueError, match="think: expected two tags"):
        divmon.score(rows(), think="<think>")
    with pytest.raises(TypeError, match="metric"):
        divmon.score(rows(), metric="ead")  # type: ignore[call-arg]
