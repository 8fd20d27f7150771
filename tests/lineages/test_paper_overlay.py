"""Measured runs over the paper's numbers: what is laid beside what, what is comparable, and why not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import run_dirs

from divmon.analysis.comparability import settings
from divmon.analysis.comparison.compare import compare
from divmon.lineages.published import overlay as paper_overlay
from divmon.lineages.published import paper
from divmon.prompts import tasks
from divmon.scoring.metrics.ead import ead
from divmon.scoring.scorer import Scorer
from divmon.storage.reader import read_run

MPNET = "sentence-transformers/all-mpnet-base-v2"
FACTS = {0: {"paper_model": "base", "stage": "base"}, 1: {"paper_model": "think-sft", "stage": "think-sft"}}
DECODING = {"max_new_tokens": 32768, "temperature": 0.6, "top_p": 0.95, "stop": ["\nQuestion:"]}
"""Of a plain prompt; where there is a chat template, the paper stops nothing."""
OPTIONS = {"num_samples": 16, "max_new_tokens": 32768, "max_reasoning_tokens": 0, "nli_model": "roberta-large-mnli"}
FIGURES = ("sbert", "ead", "nli", "vendi", "accuracy", "sbert_correct", "vendi_correct")


def published(model: str, task: str, metric: str) -> float:
    return float(paper.tables().set_index(["model", "task", "metric"]).loc[(model, task, metric), "value"])


def overlaid(folder: Path, decoding: Any = None, limit: float = 0.0, **of_manifest: Any) -> Any:
    """Of a run in which each figure is 0.1 above what is published of the base, on 4 prompts."""
    spread = np.array([-0.02, -0.01, 0.01, 0.02])
    values = {}
    for figure in FIGURES:
        scale = 100 if figure == "accuracy" else 1
        value = published("base", "gsm8k", "accuracy_percent" if figure == "accuracy" else figure) / scale
        values["gsm8k", figure] = np.stack([value + 0.1 + spread] * 2)
    values["gsm8k", "clipped_ratio"] = np.full((2, 4), limit)
    drawn = {"gsm8k": decoding or DECODING}
    chats = {"gsm8k": {**drawn["gsm8k"], "stop": []}}
    more = of_manifest.pop("facts", {})
    facts = {step: {**f, "decoding": chats if step else drawn, **more} for step, f in FACTS.items()}
    manifest = {"options": OPTIONS, "encoders": {"encoder": MPNET}, "decoding": drawn, "vocab_size": 50257}
    manifest |= of_manifest
    return paper_overlay.overlay(read_run(run_dirs.write(folder, [0, 1], values, facts=facts, **manifest)))


def of(frame: Any, metric: str, model: str = "base") -> Any:
    (row,) = frame[(frame["metric"] == metric) & (frame["model"] == model)].itertuples()
    return row


def test_measured_published_and_difference(tmp_path: Path) -> None:
    frame = overlaid(tmp_path)
    assert len(frame) == 16, "eight published figures of each of two models"
    for metric in ("sbert", "ead", "nli", "vendi"):
        row = of(frame, metric)
        assert row.comparable and row.why == ""
        assert row.difference == pytest.approx(0.1) and row.published == published("base", "gsm8k", metric)
        assert math.isnan(row.low) and (row.n, row.published_n) == (4, 500)
    other = of(frame, "sbert", "think-sft")
    assert other.difference == pytest.approx(of(frame, "sbert").measured - published("think-sft", "gsm8k", "sbert"))
    right = of(frame, "accuracy_percent")
    assert right.measured == pytest.approx(right.published + 10) and math.isnan(right.difference)
    for metric in ("accuracy_percent", "sbert_correct", "vendi_correct"):
        assert of(frame, metric).why == "verdicts by divmon's own rules, which do not repeat the paper's errors"
    shown = paper_overlay.text(frame)
    assert "+0.100" in shown and "note: 10 figures are over fewer prompts" in shown
    assert "not comparable: accuracy_percent, sbert_correct, vendi_correct of all tasks (all models)" in shown


@pytest.mark.parametrize(
    ("given", "apart", "why"),
    [
        ({"encoders": {"encoder": "minilm"}}, {"sbert", "vendi", "sbert_all"}, "embedded by minilm"),
        ({"options": {**OPTIONS, "num_samples": 8}}, {"ead", "vendi"}, "8 samples a prompt, the paper's K is 16"),
        ({"options": {**OPTIONS, "nli_model": "mine"}}, {"nli"}, "classified by mine"),
        (
            {"decoding": {**DECODING, "temperature": 1.0}},
            {"sbert", "ead", "nli", "vendi", "sbert_all"},
            "temperature 1",
        ),
        ({"decoding": {**DECODING, "stop": ()}}, {"sbert", "ead", "nli", "vendi", "sbert_all"}, "other stop strings"),
        ({"chat": True}, {"sbert", "ead", "nli", "vendi", "sbert_all"}, "not prompted as plain text, as the paper"),
        (
            {"vocab_size": 400},
            {"ead"},
            "counted with V = 400 where the paper's is 50,257",
        ),
        ({"facts": {"suspicion": "all empty"}}, {"sbert", "ead", "nli", "vendi", "sbert_all"}, "all empty"),
    ],
)
def test_what_is_not_the_same_is_named(tmp_path: Path, given: dict, apart: set[str], why: str) -> None:
    frame = overlaid(tmp_path, **given)
    base = frame[(frame["model"] == "base") & ~frame["why"].str.startswith("verdicts")]
    named = base[base["why"].str.contains(why, regex=False)]
    assert set(named["metric"]) - {"accuracy_percent", "sbert_correct", "vendi_correct"} == apart
    assert named["difference"].isna().all() and not named["comparable"].any()


def test_a_shorter_limit_bars_only_where_it_is_felt(tmp_path: Path) -> None:
    short = {"decoding": {**DECODING, "max_new_tokens": 512}, "options": {**OPTIONS, "max_new_tokens": 512}}
    felt = overlaid(tmp_path / "felt", limit=0.2, **short)
    assert "more than 10 % of the completions ended at 512 tokens" in of(felt, "sbert").why
    assert of(overlaid(tmp_path / "not", limit=0.05, **short), "sbert").comparable
    assert of(overlaid(tmp_path / "paper", limit=0.2), "sbert").comparable, "the paper's own limit"


def test_what_was_not_measured_is_named(tmp_path: Path) -> None:
    values = {("gsm8k", "sbert"): np.array([[0.2, math.nan, 0.3]]), ("gsm8k", "nli"): np.full((1, 3), math.nan)}
    facts = {0: {**FACTS[0], "left_out": {"gsm8k/vendi": "OSError: no encoder"}}}
    frame = paper_overlay.overlay(read_run(run_dirs.write(tmp_path, [0], values, facts=facts)))
    assert (
        of(frame, "ead").why
        == of(frame, "nli").why
        == ("not measured; other stop strings than the paper's, which has its own as plain text")
    )
    assert of(frame, "vendi").why.startswith("not measured: OSError: no encoder; ")
    assert (of(frame, "sbert").n, of(frame, "ead").n) == (2, 0)


def test_a_chat_model_is_not_compared_where_stop_strings_cut_its_answers(tmp_path: Path) -> None:
    """Run directories of before, whose chat answers were cut by the strings of plain prompts, too."""
    cut = overlaid(tmp_path, facts={"decoding": {"gsm8k": DECODING}})
    assert of(cut, "sbert").comparable
    assert of(cut, "sbert", "think-sft").why == (
        "other stop strings than the paper's, which has none through the chat template"
    )


def test_the_paper_s_protocol_is_not_ours_to_change() -> None:
    """What the overlay holds against stands in its own table; the tasks follow it."""
    assert set(paper.STOPS) == set(tasks.PAPER)
    assert {name: set(tasks.load(name).stop) for name in tasks.PAPER} == {n: set(s) for n, s in paper.STOPS.items()}


def test_ead_is_compared_with_the_paper_s_vocabulary(tmp_path: Path) -> None:
    """Of a tokenizer of 400, over the first K = 16 of 32 stored samples, the prompts with two answers."""
    words = ["one two three four", "five six seven eight nine ten", "one two ten eleven twelve"]

    def said(step: int, prompt: Any, number: int) -> tuple[str, bool]:
        return " ".join(words[: 1 + number % 3]) * (1 + number % 2), True

    scorer = Scorer("ead", embedder="none", vocab_size=400)
    run_dirs.draw(tmp_path / "run", [0], said, scorer, prompts=3, num_samples=16)
    texts = [[said(0, None, k)[0] for k in range(16)]] * 3
    run = read_run(tmp_path / "run")
    (score,) = run.scores.query("metric == 'ead'").itertuples()
    own, wanted = float(ead(texts, 400).mean()), float(ead(texts, 50257).mean())
    assert score.mean == pytest.approx(own) and own > wanted + 0.01, "its own V corrects more"
    found = paper_overlay._measured(run, 0, "sums", "ead", settings(run, 0, "sums"), score)
    assert found[0] == pytest.approx(wanted) and found[3] == 3
    assert run.provenance[0]["vocab_size"] == 400


def test_models_and_tasks_that_the_paper_has_not_are_left_out(tmp_path: Path) -> None:
    values = {("gsm8k", "sbert"): np.full((2, 3), 0.2), ("mine", "sbert"): np.full((2, 3), 0.2)}
    facts = {0: {"paper_model": None}, 1: FACTS[1]}
    frame = paper_overlay.overlay(read_run(run_dirs.write(tmp_path / "a", [0, 1], values, facts=facts)))
    assert set(frame["model"]) == {"think-sft"} and set(frame["task"]) == {"gsm8k"}
    nothing = paper_overlay.overlay(read_run(run_dirs.write(tmp_path / "b", [0, 1], values)))
    assert nothing.empty and "Nothing here is in the paper's tables" in paper_overlay.text(nothing)


# -- stage attribution: several lineages in one run


def test_each_lineage_is_attributed_from_the_base_they_share(tmp_path: Path) -> None:
    """Percent of base 100, 40, 30 in one line and 60 in another, whatever stands between them in the run."""
    level = {0: 1.0, 1: 0.4, 2: 0.3, 4: 0.6, 7: 0.9}
    names = {0: ("base", None), 1: ("sft", "Think"), 2: ("dpo", "Think"), 4: ("isft", "Instruct"), 7: ("rl", "Zero")}
    facts = {step: {"stage": stage, "lineage": lineage} for step, (stage, lineage) in names.items()}
    values = {("gsm8k", "sbert"): [[value * (1 + p / 10) for p in range(5)] for value in level.values()]}
    run_dirs.write(tmp_path / "paper", list(level), values, facts=facts)
    found = compare([str(tmp_path / "paper")]).stages.query("task == 'mean'").set_index("stage")
    kept = {stage: (row.lineage, round(row.change_percent), round(row.kept_percent)) for stage, row in found.iterrows()}
    assert kept == {
        "base": ("paper Zero", 0, 100),
        "sft": ("paper Think", -60, 40),
        "dpo": ("paper Think", -10, 30),
        "isft": ("paper Instruct", -40, 60),
        "rl": ("paper Zero", -10, 90),
    }


def test_without_the_base_nothing_is_attributed(tmp_path: Path) -> None:
    facts = {1: {"stage": "sft", "lineage": "Think"}, 2: {"stage": "dpo", "lineage": "Think"}}
    values = {("gsm8k", "sbert"): [[0.4, 0.5, 0.6], [0.3, 0.4, 0.5]]}
    run_dirs.write(tmp_path / "paper", [1, 2], values, facts=facts)
    assert compare([str(tmp_path / "paper")]).stages.empty
