"""Which of several points is kept: the rule, in closed cases and for any points."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from divmon.scoring.best_point import NoChoice, Point, Rule, choose, figure_of, point_of, unsound
from divmon.types import Change, Score, Snapshot

NOISE = np.linspace(-0.02, 0.02, 12)


def point(step: int, accuracy: float, diversity: float, kept: float = 1.0) -> Point:
    """Twelve prompts, whose accuracies scatter by 0.02."""
    own = NOISE * (-1) ** step
    return Point(step, "sbert_correct", accuracy + own, np.full(12, diversity), kept)


def test_the_most_diverse_of_those_as_accurate_as_the_best() -> None:
    points = [point(0, 0.5, 0.2), point(1, 0.79, 0.15), point(2, 0.8, 0.1), point(3, 0.7, 0.05)]
    chosen = choose(points)
    assert chosen.point.step == 1 and "as accurate as step 2, the best at 0.80" in chosen.why
    assert choose(points[:1] + points[3:]).point.step == 3, "an accuracy 0.2 lower is no match, however diverse"
    assert "no other is as accurate" in choose(points[:1] + points[3:]).why


def test_the_numbers_of_a_user_come_first() -> None:
    points = [point(0, 0.5, 0.2, 1.0), point(1, 0.7, 0.15, 0.75), point(2, 0.9, 0.02, 0.1)]
    assert choose(points, Rule(min_accuracy=0.6)).point.step == 1
    assert choose(points, Rule(keep=0.7)).point.step == 1
    assert choose(points, Rule(keep=0.05)).point.step == 2
    with pytest.raises(NoChoice, match=r"none reaches 0\.95; the most accurate is step 2: accuracy 0\.90"):
        choose(points, Rule(min_accuracy=0.95))
    with pytest.raises(NoChoice, match=r"none keeps 80 % of the reference's diversity.*step 1"):
        choose(points[1:], Rule(keep=0.8))
    with pytest.raises(ValueError, match="expected one of them"):
        Rule(0.5, 0.5)
    with pytest.raises(ValueError, match="keep: expected a share from 0 to 1, got 80"):
        Rule(keep=80)
    with pytest.raises(NoChoice, match="nothing to choose from"):
        choose([])


def test_where_nothing_is_graded_the_last_that_lost_nothing() -> None:
    nan = np.full(12, np.nan)
    points = [Point(s, "sbert", nan, np.full(12, d), d / 0.2) for s, d in ((1, 0.2), (2, 0.195), (3, 0.1))]
    assert choose(points).point.step == 2 and "nothing is graded" in choose(points).why
    with pytest.raises(NoChoice, match="nothing is graded, so there is no accuracy"):
        choose(points, Rule(min_accuracy=0.5))


def test_prompts_that_only_one_point_has_do_not_decide() -> None:
    """Of an early step only easy prompts have two correct answers, and theirs may be the more diverse ones."""
    first, last = np.full(12, 0.1), np.full(12, 0.12)
    last[6:] = 0.01
    first[6:] = np.nan
    points = [Point(1, "sbert_correct", 0.8 + NOISE, first, 1.0), Point(2, "sbert_correct", 0.8 - NOISE, last, 1.0)]
    assert np.nanmean(first) > last.mean() and choose(points).point.step == 1, "2 is beaten by the estimates"
    closer = [points[0], Point(2, "sbert_correct", 0.81 - NOISE, last, 1.0)]
    assert choose(closer).point.step == 2, "on the six prompts that both have it is the more diverse"


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8))
def test_nothing_beats_what_is_chosen(places: list[tuple[float, float]]) -> None:
    points = [point(step, *place) for step, place in enumerate(places)]
    chosen = choose(points).point
    means = np.array([(p.accuracy_P.mean(), p.diversity_P.mean()) for p in points])
    own = means[chosen.step]
    assert not ((means >= own).all(1) & (means > own).any(1)).any()


def snapshot(**facts: object) -> Snapshot:
    scores = [
        Score("sums", "accuracy", 0.5, n=2, values=(0.5, 0.5)),
        Score("sums", "sbert", 0.3, n=2, values=(0.2, 0.4)),
        Score("sums", "sbert_correct", 0.2, n=1, values=(0.2, math.nan)),
        Score("chat", "sbert", 0.9, n=1, values=(0.9,)),
        Score("sums-full", "sbert_correct", 0.9, n=1, values=(0.9, math.nan)),
    ]
    changes = [Change("sums", "sbert_correct", 0.4, 0.2, -0.2, -0.3, -0.1, 1)]
    return Snapshot(10, [], scores=scores, changes=changes, **facts)  # type: ignore[arg-type]


def test_a_snapshot_is_judged_by_its_correct_answers_where_it_has_some() -> None:
    found = point_of(snapshot())
    assert figure_of(snapshot()) == found.figure == "sbert_correct"
    assert found.kept == 0.5 and found.accuracy_P.tolist() == [0.5, 0.5], "of graded tasks, reasoning left aside"
    both = point_of(snapshot(), "sbert")
    assert both.diversity_P.tolist() == [0.2, 0.4, 0.9] and np.isnan(both.accuracy_P[2])
    with pytest.raises(NoChoice, match="vendi was not measured at step 10; there are accuracy, sbert"):
        point_of(snapshot(), "vendi")
    with pytest.raises(NoChoice, match="no mean over pairs was measured"):
        point_of(Snapshot(1, [], scores=[Score("a", "ead", 0.1, n=1, values=(0.1,))]))


def test_what_must_not_be_compared_is_no_candidate() -> None:
    assert unsound(snapshot()) == ""
    assert "sampler" in unsound(snapshot(provenance={"suspicion": "all the same"}))
    cut = snapshot()
    cut.scores.append(Score("sums", "no_answer", 0.2, n=2, values=(0.2, 0.2)))
    assert unsound(cut) == "20 % of the completions of sums have no answer"
