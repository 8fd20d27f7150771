"""Alerts: the test against scipy, and each kind's null."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from support import alert_simulation as simulated

from divmon.scoring import metrics
from divmon.scoring import scorer as scoring
from divmon.scoring.alerts.hypotheses import DELTA, SHARE, TESTS, Figures, Finding, paired
from divmon.scoring.decomposition import pairs
from divmon.scoring.intervals import FEWEST
from divmon.scoring.metric_inputs import Inputs, Outputs, Resources
from divmon.scoring.within_strata import within
from divmon.types import TRUNCATED_LIMIT, Score, Snapshot, plain

VALUES = st.lists(st.floats(-2, 2).map(lambda x: round(x, 3)), min_size=3, max_size=20)


@settings(max_examples=100, deadline=None)
@given(VALUES, st.integers(0, 3), st.randoms())
def test_the_t_test_is_scipys_whatever_the_order_and_without_what_is_undefined(x: list, gaps: int, random: Any) -> None:
    found = paired(x, [-v for v in x], 1.0)
    assert found is not None
    if len(set(x)) > 1:
        golden = scipy_stats.ttest_1samp(x, 0, alternative="greater")
        assert found.t == pytest.approx(golden.statistic, abs=1e-9) and found.df == golden.df == found.n - 1
        golden_ci = scipy_stats.ttest_1samp([-v for v in x], 0).confidence_interval(0.95)
        wanted = tuple(golden_ci) if len(x) >= FEWEST else (math.nan, math.nan)
        assert (found.change.low, found.change.high) == pytest.approx(wanted, abs=1e-9, nan_ok=True)
    shuffled = [*x, *[math.nan] * gaps]
    random.shuffle(shuffled)
    other = paired(shuffled, [-v for v in shuffled], 1.0)
    assert other is not None and other.n == found.n and other.t == pytest.approx(found.t, abs=1e-9, nan_ok=True)
    assert [shuffled[p] for p in other.worst] == [x[p] for p in found.worst] == sorted([v for v in x if v > 0])[:-4:-1]


def test_fewer_than_three_prompts_are_no_test() -> None:
    assert paired([1.0, 2.0, math.nan], 0.0, 0.0) is None
    assert paired([math.nan], 0.0, 0.0) is None
    assert paired([], 0.0, 0.0) is None


def test_where_nothing_varies_the_sign_speaks() -> None:
    for x, t in ((0.5, math.inf), (0.0, 0.0), (-0.5, -math.inf)):
        found = paired([x] * 3, 0.0, 1.0)
        assert found is not None and found.t == t


def snapshot(step: int = 0, decomposition: dict[str, Any] | None = None, **figures: Any) -> Snapshot:
    """Of one task "task0", by figure its values."""
    scores = [simulated.score("task0", name, np.asarray(values, dtype=float)) for name, values in figures.items()]
    return Snapshot(step, [], scores=scores, decomposition={"task0": {"sbert": decomposition}} if decomposition else {})


def test_of(kind: str, before: Snapshot, now: Snapshot, delta: float = DELTA) -> Finding | None:
    return TESTS[kind][0](Figures(before, "task0"), Figures(now, "task0"), delta)


test_of.__test__ = False  # type: ignore[attr-defined]


def t_of(x: Any) -> float:
    return float(scipy_stats.ttest_1samp(x, 0).statistic)


def test_without_verdicts_the_raw_change_is_tested_and_its_unit_does_not_matter() -> None:
    generator = np.random.default_rng(0)
    then, now = generator.uniform(0.2, 0.6, 20), generator.uniform(0.1, 0.5, 20)
    found = test_of("narrowing", snapshot(sbert=then), snapshot(sbert=now))
    assert found is not None and found.t == pytest.approx(t_of((1 - DELTA) * then - now))
    assert found.change.value == pytest.approx((now - then).mean()) and found.reference == pytest.approx(then.mean())
    scaled = test_of("narrowing", snapshot(sbert=3 * then), snapshot(sbert=3 * now))
    assert scaled is not None and scaled.t == pytest.approx(found.t)


def test_the_first_pairwise_metric_there_is_is_tested() -> None:
    then, now = np.linspace(0.3, 0.6, 8), np.linspace(0.2, 0.4, 8) ** 2
    sides = (snapshot(ead=then, ast_pairwise=then), snapshot(ead=then, ast_pairwise=now))
    found = test_of("narrowing", *sides)
    assert found is not None and found.t == pytest.approx(t_of((1 - DELTA) * then - now))


def judged(seed: int, before: Any, after: Any, correct: float, correct_now: float, prompts: int = 12) -> Any:
    """Distances and verdicts of both sides."""
    generator = np.random.default_rng(seed)

    def side(samples: int, scale: float, rate: float) -> tuple[np.ndarray, list[list[bool | None]]]:
        right_PN = generator.random((prompts, samples)) < rate
        near_PNN = right_PN[:, :, None] & right_PN[:, None, :]
        distance_PNN = scale * np.where(near_PNN, 0.2, 0.6) * generator.uniform(0.8, 1.2, near_PNN.shape)
        return distance_PNN, right_PN.tolist()

    return (*side(16, before, correct), *side(8, after, correct_now))


def both_snapshots(then_PNN: Any, before: Any, now_PNN: Any, after: Any) -> tuple[Snapshot, Snapshot]:
    terms = within(pairs(then_PNN, before), pairs(now_PNN, after))
    sides = []
    for step, distances, verdicts, entry in (
        (0, then_PNN, before, None),
        (1, now_PNN, after, {"per_prompt": plain(terms)}),
    ):
        upper = np.triu_indices(distances.shape[1], 1)
        rates = [np.mean([v for v in row if v is not None] or [math.nan]) for row in verdicts]
        sides.append(snapshot(step, entry, sbert=distances[:, upper[0], upper[1]].mean(1), accuracy=rates))
    return sides[0], sides[1]


def plain_x(then_PNN: Any, before: Any, now_PNN: Any, after: Any) -> tuple[list[float], list[float]]:
    """The design's x_p, of all pairs and of correct ones, without an array operation; NaN where undefined."""
    found: tuple[list[float], list[float]] = ([], [])
    for p in range(len(before)):
        sides = []
        for distances, verdicts in ((then_PNN[p], before[p]), (now_PNN[p], after[p])):
            strata: dict[Any, list[float]] = {}
            for i in range(len(verdicts)):
                for j in range(i + 1, len(verdicts)):
                    if verdicts[i] is not None and verdicts[j] is not None:
                        strata.setdefault(verdicts[i] + verdicts[j], []).append(distances[i, j])
            sides.append(strata)
        then, now = sides
        if not then or not now:
            for x in found:
                x.append(math.nan)
            continue
        shares = [{s: len(v) / sum(map(len, side.values())) for s, v in side.items()} for side in sides]
        seen = {
            s: (np.mean(now[s]) - np.mean(then[s])) * (shares[0][s] + shares[1][s]) / 2
            for s in then.keys() & now.keys()
        }
        level = np.mean([d for v in then.values() for d in v])
        found[0].append(-sum(seen.values()) - DELTA * level)
        correct = -seen[2] - DELTA * np.mean(then[2]) * (shares[0][2] + shares[1][2]) / 2 if 2 in seen else math.nan
        found[1].append(correct)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_with_verdicts_what_is_seen_inside_the_strata_is_tested(seed: int) -> None:
    sides = judged(seed, 1.0, 0.8, 0.3, 0.5)
    sides[1][0] = [None] * 16  # judged now and not then: left out
    sides[3][1] = [True] + [None] * 7  # no pair now: left out
    before, now = both_snapshots(*sides)
    for kind, x in zip(("narrowing", "narrowing_correct"), plain_x(*sides), strict=True):
        found, kept = test_of(kind, before, now), [v for v in x if not math.isnan(v)]
        assert found is not None and found.n == len(kept) <= 10
        assert found.t == pytest.approx(t_of(kept))


def test_prompts_that_nothing_judges_are_tested_by_their_diversity() -> None:
    sides = judged(0, 1.0, 0.8, 0.3, 0.5)
    for p in range(5):
        sides[1][p], sides[3][p] = [None] * 16, [None] * 8
    before, now = both_snapshots(*sides)
    then_P, now_P = (np.array(s.score("task0", "sbert").values) for s in (before, now))
    x = [*((1 - DELTA) * then_P - now_P)[:5], *[v for v in plain_x(*sides)[0] if not math.isnan(v)]]
    found = test_of("narrowing", before, now)
    assert found is not None and found.n == 12 and found.t == pytest.approx(t_of(x))


def test_more_right_answers_are_no_narrowing_though_diversity_halves() -> None:
    before, now = both_snapshots(*judged(1, 1.0, 1.0, 0.2, 0.9, prompts=40))
    raw = 1 - now.score("task0", "sbert").mean / before.score("task0", "sbert").mean
    assert raw > 0.4
    for kind in ("narrowing", "narrowing_correct"):
        found = test_of(kind, before, now)
        assert found is not None and found.t < 1


def test_where_verdicts_failed_at_a_look_nothing_is_tested_rather_than_the_raw_change() -> None:
    before, now = both_snapshots(*judged(1, 1.0, 0.1, 0.5, 0.5))
    assert test_of("narrowing", before, now) is not None
    unjudged = snapshot(1, sbert=now.score("task0", "sbert").values)
    assert test_of("narrowing", before, unjudged) is None
    assert test_of("narrowing_correct", before, unjudged) is None


@pytest.mark.parametrize(
    ("kind", "then", "now", "x"),
    [
        (
            "repetition",
            {"repetition": [0.0, 0.1, 0.2, 0.1]},
            {"repetition": [0.3, 0.6, 0.4, 0.2]},
            [0.3, 0.5, 0.2, 0.1],
        ),
        (
            "length",
            {"empty": [0, 0, 0.1, 0], "clipped_ratio": [0, 0.1, 0, 0], "truncated": [0, 0, 0, 0]},
            {"empty": [0.2, 0, 0.1, 0], "clipped_ratio": [0.1, 0.8, 0.5, 0], "truncated": [0, 0.2, 0, 0]},
            [0.3, 0.5, 0.5, 0],
        ),
    ],
)
def test_a_share_may_rise_by_ten_points(kind: str, then: dict, now: dict, x: list[float]) -> None:
    found = test_of(kind, snapshot(**then), snapshot(1, **now))
    assert found is not None and found.t == pytest.approx(t_of(np.array(x) - SHARE))
    assert found.change.value == pytest.approx(np.mean(x))


def test_truncation_must_be_above_the_limit_and_risen() -> None:
    low, high = [0.0, 0.1, 0.0, 0.05, 0.0], [0.4, 0.6, 0.3, 0.5, 0.55]
    found = test_of("truncation", snapshot(no_answer=low), snapshot(1, no_answer=high))
    above, risen = t_of(np.array(high) - TRUNCATED_LIMIT), t_of(np.array(high) - low)
    assert found is not None and found.t == pytest.approx(min(above, risen)) and found.t > 5
    stayed = test_of("truncation", snapshot(no_answer=high), snapshot(1, no_answer=high[::-1]))
    assert stayed is not None and stayed.t < 1, "high from the start is no change"
    little = test_of("truncation", snapshot(no_answer=[0.0] * 5), snapshot(1, no_answer=[0.05, 0.06, 0.05, 0.04, 0.05]))
    assert little is not None and little.t < 0, "risen, and far below the limit"


def traced(generator: np.random.Generator, own: float, prompts: int = 24, samples: int = 8) -> Score:
    """The real metric with its jackknife, on answers that hold so much of their prompt."""
    noise_PKD = generator.normal(size=(prompts, samples, 16))
    answers_PKD = own * generator.normal(size=(prompts, 1, 16)) + noise_PKD
    outputs = Outputs("task0", [str(p) for p in range(prompts)], ["other"] * prompts, [["text"] * samples] * prompts)
    inputs = Inputs(outputs, Resources(device="cpu"), None)
    inputs.__dict__["embeddings_PKD"] = torch.nn.functional.normalize(torch.tensor(answers_PKD), dim=-1).float()
    return next(s for s in scoring._across(metrics.load("across"), inputs) if s.metric == "traced")


def test_templating_is_that_answers_no_longer_tell_their_prompt() -> None:
    generator = np.random.default_rng(0)
    then, same, lost = (traced(generator, own) for own in (1.0, 1.0, 0.4))
    before = Snapshot(0, [], scores=[then])
    found = {s: test_of("templating", before, Snapshot(1, [], scores=[s])) for s in (same, lost)}
    assert found[same].t < 2 and found[lost].t > 6
    reach = scipy_stats.t.ppf(0.975, 23)
    error = math.hypot(0.95 * (then.high - then.low), lost.high - lost.low) / 2 / reach
    assert found[lost].t == pytest.approx((0.95 * then.mean - lost.mean) / error)
    assert found[lost].df == 23 and found[lost].n == 24
    assert found[lost].change.value == pytest.approx(lost.mean - then.mean)
    few = dataclasses.replace(then, n=2)
    assert test_of("templating", before, Snapshot(1, [], scores=[few])) is None
