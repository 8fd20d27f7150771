"""The likelihood of stored completions: both directions, which model is the reference, and what a failure does."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import pytest
from support import runs, tiny

from divmon import DiversityMonitor, read_run
from divmon.prompts.rendering import Renderer
from divmon.sampling import Drawing, Request
from divmon.sampling.likelihood import rows_of, text_nll
from divmon.training import stored_texts
from divmon.training.budget import Budget
from divmon.training.distributed import Processes
from divmon.training.stored_texts import StoredTexts
from divmon.types import Decoding, Prompt, Sample, Score, Snapshot

RENDERER = Renderer(tiny.tokenizer(), chat=False)
REQUESTS = [Request(RENDERER.render("t", Prompt(str(p), text)), Decoding(8), 2) for p, text in enumerate(("a", "b c"))]
THEN, NOW = tiny.model("llama", seed=0, vocab_size=400), tiny.model("llama", seed=1, vocab_size=400)


def drawing(text: str) -> Drawing:
    return Drawing([Sample("t", r.prompt.id, k, f"{text} {k}", "eos", 3) for r in REQUESTS for k in range(2)])


def texts(candidate: Any = None) -> StoredTexts:
    at_hand = None if candidate is None else lambda model: contextlib.nullcontext(candidate)
    return StoredTexts(
        lambda request, samples: rows_of(RENDERER, request.prompt, samples),
        Processes(alone=True),
        lambda model: contextlib.nullcontext(),
        candidate=at_hand,
    )


def nll(model: Any, text: str, p: int) -> float:
    """Of a prompt's two completions, nats per token."""
    rows = rows_of(RENDERER, REQUESTS[p].prompt, [s for s in drawing(text).samples if s.prompt_id == str(p)])
    return sum(text_nll(model, rows)) / sum(len(answer) for _, answer in rows)


@pytest.mark.parametrize(("candidate", "known"), [(THEN, True), (NOW, False), (None, False)])
def test_both_directions_where_the_reference_model_is_at_hand(candidate: Any, known: bool) -> None:
    stored, first, later = texts(candidate), drawing("one plus"), drawing("it is")
    stored.of_look(THEN, REQUESTS, first, is_reference=True)
    assert first.stored_nll["t", "0"] == pytest.approx([nll(THEN, "one plus", 0)] * 4)
    stored.of_look(NOW, REQUESTS, later, is_reference=False)
    for p in range(2):
        lost, before, own, own_before = later.stored_nll["t", str(p)]
        assert lost == pytest.approx(nll(NOW, "one plus", p), rel=1e-4)
        assert before == pytest.approx(nll(THEN, "one plus", p), rel=1e-4)
        assert own == pytest.approx(nll(NOW, "it is", p) if known else math.nan, rel=1e-4, nan_ok=True)
        assert own_before == pytest.approx(nll(THEN, "it is", p) if known else math.nan, rel=1e-4, nan_ok=True)
    assert stored.of_reference(NOW) == pytest.approx({k: v[0] for k, v in later.stored_nll.items()}, rel=1e-4)


def test_a_stored_reference_is_gone_on_with() -> None:
    first, later = drawing("one plus"), drawing("it is")
    values = (1.5, math.nan)
    resumed = texts()
    resumed.remember(REQUESTS, Snapshot(0, first.samples, [Score("t", "reference_nll", 1.5, values=values)]))
    resumed.of_look(NOW, REQUESTS, later, is_reference=False)
    assert later.stored_nll["t", "0"][:2] == pytest.approx((nll(NOW, "one plus", 0), 1.5), rel=1e-4)
    assert math.isnan(later.stored_nll["t", "1"][1])


def test_a_forward_that_fails_leaves_the_figures_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(stored_texts, "text_nll", fail)
    stored, first, later = texts(THEN), drawing("one"), drawing("two")
    stored.of_look(THEN, REQUESTS, first, is_reference=True)
    stored.of_look(NOW, REQUESTS, later, is_reference=False)
    assert first.stored_nll == {} and all(math.isnan(x) for x in later.stored_nll["t", "0"])
    assert stored.of_reference(NOW) == {}


def test_a_failed_likelihood_is_among_the_failures_of_the_run_and_costs_no_other_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("the device is gone")

    monitor = DiversityMonitor(["one", "a b"], output_dir=tmp_path, **runs.CHEAP | {"metrics": "ead,cross_entropy"})
    monitor.measure(THEN, tiny.tokenizer(), step=0)
    with monkeypatch.context() as broken:
        broken.setattr(stored_texts, "text_nll", fail)
        monitor.measure(NOW, tiny.tokenizer(), step=1)
        assert monitor.texts is not None and monitor.texts.failing
    monitor.measure(NOW, tiny.tokenizer(), step=2)
    assert not monitor.texts.failing
    monitor.close()
    run = read_run(tmp_path)
    assert set(run.scores[run.scores["metric"] == "ead"]["step"]) == {0, 1, 2}
    nll = run.scores[run.scores["metric"] == "reference_nll"].dropna(subset="mean")
    assert set(nll["step"]) == {0, 2}
    assert run.problems.lines() == [
        "the likelihood of stored completions failed",
        "the likelihood of stored completions failed at step 1: RuntimeError: the device is gone",
    ]


def test_between_measurements_it_keeps_to_one_percent() -> None:
    """Steps of 0.1 s, a forward of 0.05 s: at every 10 steps it would take 5 percent."""
    budget, measuring, taken = Budget(0.01, 10), 0.0, []
    for step in range(10, 4001, 10):
        if budget.allows(step, elapsed=0.1 * step + measuring, measuring=measuring, cost=0.05):
            measuring += 0.05
            taken.append(step)
    assert 0.004 < measuring / (400 + measuring) <= 0.01 and taken[1] - taken[0] == 80
