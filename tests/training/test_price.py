"""What is said of the price: timed on the batches to come, and what to change where it is more than allowed."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from support import classifiers, runs, tiny

from divmon.options import Options
from divmon.training.cost import Plan, Price
from divmon.training.live_run import LiveRun
from divmon.training.scoring_times import ScoringTimes
from divmon.training.timing import Meter

ORDINARY = Price(completions=1024, tokens=32_768, seconds=30.0, likely=10.0)
REFERENCE = Price(completions=4096, tokens=131_072, seconds=120.0, likely=40.0)
PLAN = Plan(ORDINARY, REFERENCE, looks=10, kept=2, training=1000.0, max_overhead=0.05)


def test_the_price_is_that_of_a_measurement_at_the_token_limit(tmp_path: Path) -> None:
    """By the clock of this process, as the machine has other things to do; the better of two tries each."""
    nli = classifiers.nli_folder(tmp_path / "nli", ["contradiction", "neutral", "entailment"])
    graded = {"verifier": "value_match", "metrics": "sbert,nli", "nli_model": str(nli)}
    options = Options(runs.PROBES, num_samples=8, max_new_tokens=24, embedder="minilm", progress=False, **graded)
    live = LiveRun(options, loggers=[])
    model = runs.model()
    live.prepare(model, tiny.tokenizer(runs.TEXTS), output_dir=tmp_path)
    assert live._sampler is not None and live.asking is not None and live.scorer is not None
    live._sampler.eos_token_ids = []  # type: ignore[attr-defined]
    requests = live.asking.requests(8)
    engine, clock = live._engine(model, False), time.process_time
    said, took, parts = [], [], []
    for step in range(2):
        scoring = ScoringTimes(live.scorer, live.asking, requests, clock)
        price = Meter(live._spread(model), requests, scoring, clock).price(requests, at_ends=True)
        began = clock()
        measured = live._pipeline().measure(live.probes, requests, engine, step, at_ends=True)
        said.append(price.seconds)
        took.append(clock() - began)
        parts.append([scoring.of(requests, at_ends=True), scoring._text, scoring._pair, *scoring._grade.values()])
    live.close()
    assert measured.snapshot.provenance["tokens_drawn"] == price.tokens == 4 * 8 * 24 and price.likely is None
    assert 1 / 1.5 < min(said) / min(took) < 1.5, (said, took, parts)
    assert all(part > 0 for part in parts[0])


def test_the_sentence_holds_the_reference_the_likely_figure_and_the_budget() -> None:
    assert PLAN.sentence() == (
        "divmon: one measurement = 1,024 completions, up to 32,768 tokens: at most 30 s, likely 10 s; of the reference,"
        " 4,096: at most 2 min, likely 40 s; about 12 % of training at this schedule; thinned to keep to 5 %"
    )
    kept = replace(PLAN, max_overhead=None, reference=None).sentence()
    assert kept.endswith("about 9.1 % of training at this schedule")
    assert replace(PLAN, max_overhead=None).sentence().endswith("max_overhead=0.05 would thin it to keep to 5 %")
    assert "of training" not in replace(PLAN, training=None).sentence()


def test_more_than_the_budget_allows_says_what_to_change_and_what_that_gives() -> None:
    said = PLAN.advice(num_prompts=64, num_samples=16)
    assert said == (
        "divmon: the reference and 2 of the measurements are always taken, about 5.7 % of training, more than"
        " max_overhead=0.05 allows: num_prompts=56 would take 5 %, max_new_tokens at half would take 2.9 %,"
        " reference_samples=16 2.9 %"
    )
    assert not replace(PLAN, training=10_000.0).advice(64, 16)
    assert not replace(PLAN, max_overhead=None).advice(64, 16) and not replace(PLAN, training=None).advice(64, 16)


@pytest.mark.parametrize("likely", [None, 10.0])
def test_the_budget_reckons_with_what_is_likely(likely: float | None) -> None:
    assert replace(ORDINARY, likely=likely).expected == (likely or 30.0)
