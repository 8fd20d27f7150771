"""A measured run of published checkpoints over the paper's numbers: measured, published, difference, task by task.

A published value is laid beside the same figure of the same model. Only where both are the same thing is there a
difference: the same decoding, encoder and kind of verdict, and the same K where the figure depends on K. What is not is
named with its reason.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from divmon.analysis.comparability import Settings, settings
from divmon.analysis.curves import Curves
from divmon.lineages.published import paper
from divmon.lineages.published.catalog import MOST, PAPER, PROMPTS
from divmon.loggers.console import number
from divmon.loggers.terminal import Table
from divmon.scoring.intervals import mean_interval
from divmon.scoring.metrics.ead import ead
from divmon.storage.reader import Run, read_samples
from divmon.types import TRUNCATED_LIMIT

if TYPE_CHECKING:
    import pandas as pd

FIGURES = {
    (3, "sbert"): ("sbert", 1),
    (4, "ead"): ("ead", 1),
    (5, "nli"): ("nli", 1),
    (6, "vendi"): ("vendi", 1),
    (14, "accuracy_percent"): ("accuracy", 100),
    (14, "sbert_all"): ("sbert", 1),
    (14, "sbert_correct"): ("sbert_correct", 1),
    (14, "vendi_correct"): ("vendi_correct", 1),
}
"""(table, metric) of the paper -> the figure that is the same here, and what it is multiplied by."""

ASKED = {checkpoint.name: checkpoint.asked for checkpoint in PAPER}
NUM_SAMPLES, LIMIT, DECODING = 16, 32768, {"temperature": 0.6, "top_p": 0.95}
ENCODER, NLI = "all-mpnet-base-v2", "roberta-large-mnli"
OF_K = ("ead", "vendi", "sbert_correct", "vendi_correct")
"""Figures whose expectation depends on the number of samples; sbert and nli are means over pairs."""

WIDTH = 118
COLUMNS = ["model", "step", "task", "metric", "paper_table", "measured", "low", "high", "n", "published", "published_n"]
COLUMNS += ["difference", "comparable", "why"]


def overlay(run: Run) -> pd.DataFrame:
    """Every published value of the models that were measured.

    Returns:
        One row a model, task and published metric: `measured` with its 95 percent interval [low, high] over `n`
        prompts, `published` over `published_n` of the task, and `difference`, measured less published, NaN where the
        two are not comparable or one is missing; `why` says so. Accuracy is in percent, as published.
    """
    import pandas as pd

    scores = {(int(r.step), r.task, r.metric): r for r in run.scores.itertuples()}
    published = {model: rows for model, rows in paper.tables().groupby("model", sort=False)}
    found = []
    for step, facts in sorted(run.provenance.items()):
        if facts.get("paper_model") not in published:
            continue
        asked = {probe.name: list(_troubles(run, step, probe.name, scores)) for probe in run.probes}
        for row in published[facts["paper_model"]].itertuples():
            if row.task not in asked:
                continue
            figure, scale = FIGURES[row.paper_table, row.metric]
            took = settings(run, step, row.task)
            *values, n = _measured(run, step, row.task, figure, took, scores.get((step, row.task, figure)))
            other = _other(run, took, figure, values) if n else [_missing(facts, row.task, figure)]
            why = "; ".join([*asked[row.task], *other] if n else [*other, *asked[row.task]])
            difference = float("nan") if why else values[0] * scale - row.value
            found.append((row.model, step, row.task, row.metric, row.paper_table, *(v * scale for v in values), n))
            found[-1] += (row.value, PROMPTS.get(row.task, MOST), difference, not why, why)
    return pd.DataFrame(found, columns=COLUMNS)


def _measured(
    run: Run, step: int, task: str, figure: str, took: Settings, score: Any
) -> tuple[float, float, float, int]:
    """Mean, interval and prompts behind them; of EAD with the paper's V, NaN where its texts are not stored whole."""
    nan = float("nan")
    if score is None or not score.n:
        return nan, nan, nan, 0
    if figure != "ead" or took.vocab_size == paper.VOCABULARY:
        return score.mean, score.low, score.high, int(score.n)
    try:
        rows = [r for r in read_samples(run.folder, step) if r["task"] == task and r["index"] < took.num_samples]
    except ValueError:  # damaged, which the run's reader names
        rows = []
    texts: dict[str, list[str | None]] = {}
    for row in rows:
        texts.setdefault(row["prompt_id"], []).append(row["text"] if row["answered"] else None)
    if not texts or any(row["cut"] for row in rows):
        return nan, nan, nan, int(score.n)
    found = mean_interval(ead(list(texts.values()), paper.VOCABULARY).numpy())
    return found.value, found.low, found.high, found.n or int(score.n)


def text(frame: pd.DataFrame, metric: str = "sbert") -> str:
    """For a terminal: one metric task by task, all metrics model by model, and what is not comparable."""
    if frame.empty:
        return "Nothing here is in the paper's tables: they have the finished models, each asked as there."
    blocks = [_by_task(frame[frame["metric"] == metric], metric), _by_model(frame), "\n".join(_reasons(frame))]
    return "\n\n".join(block for block in blocks if block)


def _troubles(run: Run, step: int, task: str, scores: dict[Any, Any]) -> Iterator[str]:
    """What sets all figures of a task apart from the paper's."""
    facts, took = run.provenance[step], settings(run, step, task)
    if facts.get("suspicion"):
        yield f"the sampler may be at fault: {facts['suspicion']}"
    for name, value in DECODING.items():
        if took.decoding.get(name) != value:
            yield f"{name} {took.decoding.get(name)}, the paper's is {value}"
    yield from _other_form(facts["paper_model"], task, took)
    limit = int(took.decoding.get("max_new_tokens", 0)) + took.reasoning_tokens
    ended = scores.get((step, task, "clipped_ratio"))
    if limit < LIMIT and ended is not None and ended.mean > TRUNCATED_LIMIT:
        yield f"more than 10 % of the completions ended at {limit:,} tokens, where the paper's limit is {LIMIT:,}"


def _other_form(model: str, task: str, took: Settings) -> Iterator[str]:
    """Whether the model was prompted in another form than the paper's, or its answers cut by other strings."""
    in_chat = ASKED[model] != "plain"
    form = "through the chat template" if in_chat else "as plain text"
    if took.chat is not None and took.chat != in_chat:
        yield f"not prompted {form}, as the paper does"
    elif set(took.decoding.get("stop") or ()) != set(() if in_chat else paper.STOPS[task]):
        yield f"other stop strings than the paper's, which has {'none ' if in_chat else 'its own '}{form}"


def _other(run: Run, took: Settings, figure: str, values: Sequence[float]) -> Iterator[str]:
    if figure == "ead" and values[0] != values[0]:
        yield (
            f"counted with V = {took.vocab_size} where the paper's is {paper.VOCABULARY:,}, and the texts are not"
            " stored whole to count again"
        )
    if figure in OF_K and took.num_samples != NUM_SAMPLES:
        yield f"{took.num_samples} samples a prompt, the paper's K is {NUM_SAMPLES}, on which {figure} depends"
    if figure.startswith(("sbert", "vendi")) and ENCODER not in took.models.get("encoder", ""):
        yield f"embedded by {took.models.get('encoder', 'an unknown encoder')}, the paper's is {ENCODER}"
    if figure == "nli" and NLI not in str(run.manifest.get("options", {}).get("nli_model")):
        yield f"classified by {run.manifest.get('options', {}).get('nli_model')}, the paper's is {NLI}"
    if Curves(run).figures[figure].graded:
        yield "verdicts by divmon's own rules, which do not repeat the paper's errors"


def _missing(facts: dict[str, Any], task: str, figure: str) -> str:
    reason = facts.get("left_out", {}).get(f"{task}/{figure}")
    return f"not measured: {reason}" if reason else "not measured"


def _by_task(frame: pd.DataFrame, metric: str) -> str:
    head, rows = ["model", "task", "measured", "95 % interval", "n", "published", "n", "difference"], []
    for row in frame.itertuples():
        measured = [number(row.measured), f"[{number(row.low)}, {number(row.high)}]", str(row.n)]
        difference = f"{row.difference:+.3f}" if row.comparable else "not comparable"
        rows.append([row.model, row.task, *measured, number(row.published), str(row.published_n), difference])
    return str(Table(head, rows, (0, 1), f"{metric}, measured and published (arXiv 2604.16027)")) if rows else ""


def _by_model(frame: pd.DataFrame) -> str:
    head, rows = ["model", "metric", "table", "tasks", "mean difference", "largest", "where"], []
    for (model, table, metric), part in frame.groupby(["model", "paper_table", "metric"], sort=False):
        part = part[part["comparable"]]
        if len(part):
            worst = part.loc[part["difference"].abs().idxmax()]
            ends = [f"{part['difference'].mean():+.3f}", f"{worst['difference']:+.3f}", worst["task"]]
            rows.append([model, metric, str(table), str(len(part)), *ends])
    return str(Table(head, rows, (0, 1, 6), "measured less published, over tasks")) if rows else ""


def _reasons(frame: pd.DataFrame) -> Iterator[str]:
    """What is not comparable and why, each reason once."""
    apart = frame[~frame["comparable"]].assign(why=lambda f: f["why"].str.split("; ")).explode("why")
    for why, part in apart.groupby("why", sort=False):
        metrics, models = (", ".join(map(str, part[name].unique())) for name in ("metric", "model"))
        some = part["task"].unique()
        of = "all tasks" if len(some) == frame["task"].nunique() else ", ".join(some)
        whose = "all models" if part["model"].nunique() == frame["model"].nunique() else models
        yield textwrap.fill(f"not comparable: {metrics} of {of} ({whose}): {why}", WIDTH, subsequent_indent="  ")
    fewer = frame[(frame["n"] > 0) & (frame["n"] < frame["published_n"]) & frame["comparable"]]
    if len(fewer):
        yield f"note: {len(fewer)} figures are over fewer prompts than the paper's, which has others by its own draw"
