"""A metric of a user's own in a real training, from a file and from an installed package: what it declares reaches the
console, TensorBoard, alerts, frontier, stages and report, and whoever reads the run needs no more than the run."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from support import runs
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

import divmon
from divmon import DiversityCallback
from divmon.analysis.report.headline import headline
from divmon.scoring.alerts.hypotheses import Figures
from divmon.scoring.figure_registry import Registry
from divmon.types import Prompt, Verdict

OWN = '''
import torch
from divmon.scoring.metrics import Figure, metric

def unlike(texts_PK):
    """Share of words that only one of two answers has [P, K, K]."""
    width = max(map(len, texts_PK))
    distance_PKK = torch.full((len(texts_PK), width, width), torch.nan, dtype=torch.float64)
    for p, texts in enumerate(texts_PK):
        words = [None if text is None else set(text.split()) | {""} for text in texts]
        for i, a in enumerate(words):
            for j, b in enumerate(words):
                if i != j and a is not None and b is not None:
                    distance_PKK[p, i, j] = len(a ^ b) / len(a | b)
    return distance_PKK

@metric(
    "Mean share of words that only one of two answers has",
    figures={"words_apart": Figure(range=(0, 1), headline=1, pairwise=True)},
    source="ours",
    all_samples=True,
    pairwise=unlike,
)
def words_apart(texts_PK):
    return unlike(texts_PK).nanmean((1, 2))

@metric("Words of all answers, plus 1", figures={"few_words": Figure(diverse="", aggregate="harmonic_mean")})
def few_words(texts_PK):
    return torch.tensor([1.0 + sum(len((t or "").split()) for t in texts) for texts in texts_PK], dtype=torch.float64)

def undecorated(texts_PK):
    return torch.tensor([float(len(set(texts))) for texts in texts_PK], dtype=torch.float64)
'''
PROMPTS = [{"id": f"p{i}", "prompt": row["prompt"], "gold": "0"} for i, row in enumerate(runs.ROWS[::8])]


def sometimes(text: str, prompt: Prompt) -> Verdict:
    """About half are correct, whatever the texts; with an answer, so that short ones do not count as truncated."""
    return Verdict(zlib.crc32(text.encode()) % 2 == 0, answer=text)


def train(out: Path, metrics: str) -> None:
    callback = DiversityCallback(
        PROMPTS,
        metrics=metrics,
        embedder="minilm",
        verifier=sometimes,
        num_samples=4,
        max_new_tokens=8,
        every=10,
        stage="sft",
        alerts="log",
        temperature=1.0,
    )
    runs.sft(out, [callback], report_to="tensorboard").train()


def installed(folder: Path) -> None:
    """A package with an entry point, as pip leaves it."""
    (folder / "words_package.py").write_text(OWN)
    info = folder / "words_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: words-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[divmon.metrics]\nwords_apart = words_package:words_apart\n")


@pytest.fixture(scope="module", params=["file", "entry point"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run beside the built-in metrics, and what it said; the files of the metrics are gone afterwards."""
    folder = tmp_path_factory.mktemp("own")
    if request.param == "file":
        (folder / "own.py").write_text(OWN)
        own = f"{folder}/own.py:words_apart,{folder}/own.py:few_words,{folder}/own.py:undecorated"
    else:
        installed(folder)
        sys.path.insert(0, str(folder))
        own = "words_apart"
    with contextlib.redirect_stdout(io.StringIO()) as said:
        train(folder / "run", f"ead,sbert,{own}")
    if request.param == "entry point":
        sys.path.remove(str(folder))
    for file in folder.glob("*.py"):
        file.unlink()
    return folder / "run", said.getvalue()


def test_it_leads_the_console_and_is_what_alerts_test(trained: tuple[Path, str]) -> None:
    out, said = trained
    assert "step 0: prompts words_apart 0." in said and ", sbert 0." in said
    table = said.partition("paired change since the reference")[2].splitlines()
    assert table[2].split()[:2] == ["prompts", "words_apart"], "the closing table"
    assert "% of words_apart on all" in said, "what alerts can see, of the metric that they test"
    run = divmon.read_run(out)
    for step in run.steps:
        assert Figures(run.read(step), "prompts").tested_figure == "words_apart"


def test_it_leads_tensorboard(trained: tuple[Path, str]) -> None:
    (events,) = trained[0].rglob("events.out.tfevents*")
    log = EventAccumulator(str(events.parent), size_guidance={"tensors": 0}).Reload()
    written = log.Tensors("custom_scalars__config__")[-1]
    layout = layout_pb2.Layout.FromString(written.tensor_proto.string_val[0])
    (category,) = layout.category
    titles = [chart.title for chart in category.chart]
    assert titles[:2] == ["loss", "prompts: diversity (words_apart)"] and len(titles) == 6
    assert titles[-2:] == ["prompts: accuracy", "prompts: change of words_apart"]


def test_it_leads_comparisons_and_the_report(trained: tuple[Path, str]) -> None:
    comparison = divmon.compare([trained[0]])
    assert {"words_apart", "sbert", "ead"} == set(comparison.frontier["metric"])
    assert {"words_apart", "sbert", "ead"} == set(comparison.stages["metric"])
    assert comparison.stages["metric"].iloc[0] == "words_apart"
    assert "words_apart" in str(comparison).partition("\n\n")[0] + str(comparison).partition("\n\n")[2][:200]
    head = headline(comparison, {})
    assert head.metric == "words_apart"
    said = " ".join(text for answer in head.answers for text in answer)
    assert "mean share of words that only one of two answers has" in said
    parts = comparison.decomposition
    assert "words_apart" in set(parts["metric"]), "its change is split by correctness"


def test_its_record_says_all_about_it(trained: tuple[Path, str]) -> None:
    figures = Registry(divmon.read_run(trained[0]).figures)
    own = figures["words_apart"]
    assert (own.range, own.headline, own.pairwise, own.needs) == ((0, 1), 1, True, ())
    assert (own.metric, own.source) == ("words_apart", "ours")
    assert figures.pairwise()[0] == "words_apart"
    if "few_words" in figures.own:
        assert figures["few_words"].aggregate == "harmonic_mean" and figures["few_words"].diverse == ""
        undecorated = figures["undecorated"]
        assert (undecorated.diverse, undecorated.headline, undecorated.aggregate) == ("higher", None, "mean")


def test_a_run_with_its_record_is_compared_and_reported_without_loading_torch(
    trained: tuple[Path, str], tmp_path: Path
) -> None:
    """Which takes three seconds."""
    run, page = str(trained[0]), str(tmp_path / "page.html")
    code = f"import sys, divmon; print(divmon.compare([{run!r}])); divmon.report([{run!r}], {page!r})"
    code += "; assert 'torch' not in sys.modules"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert said.returncode == 0, said.stderr
    assert "words_apart" in said.stdout


def test_a_run_of_an_older_divmon_reads_as_before(tmp_path: Path, trained: tuple[Path, str]) -> None:
    """It recorded no figures: this package's own are known, a user's is one of no rank."""
    manifest = next(trained[0].rglob("manifest.json"))
    kept = manifest.read_text()
    old: dict[str, Any] = {name: value for name, value in json.loads(kept).items() if name != "figures"}
    manifest.write_text(json.dumps(old))
    try:
        comparison = divmon.compare([trained[0]])
        assert set(comparison.frontier["metric"]) == {"sbert", "ead"}
        assert headline(comparison, {}).metric == "sbert"
        run = divmon.read_run(trained[0])
        assert Figures(run.read(run.steps[0]), "prompts").tested == "sbert"
    finally:
        manifest.write_text(kept)
