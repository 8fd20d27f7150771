"""Saturation: it fires where accuracy is flat and narrowing goes on, and in at most one percent of other runs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.special import stdtrit
from support import RESULTS
from support import alert_simulation as simulated

from divmon.scoring.alerts import ALPHA, Alert, Alerts, act
from divmon.scoring.alerts.hypotheses import DELTA, Figures, saturation
from divmon.types import Snapshot

TABLE = RESULTS / "saturation.txt"
PROMPTS, K, LOOKS = 64, 16, 20


def looks(generator: np.random.Generator, accuracy_L: np.ndarray, distance_L: np.ndarray) -> list[Snapshot]:
    """A run of one task, the first of its looks being the reference: prompts differ, K samples each.

    Args:
        accuracy_L, distance_L: means over prompts by look.
    """
    hard_P, far_P = generator.normal(0, 0.15, PROMPTS), generator.uniform(0.5, 1.5, PROMPTS)
    # What training does differs by prompt, on average as given.
    own_P = generator.normal(1, 0.3, PROMPTS)
    snapshots = []
    for look, (accuracy, distance) in enumerate(zip(accuracy_L, distance_L, strict=True)):
        right_P = accuracy_L[0] + hard_P + (accuracy - accuracy_L[0]) * own_P
        correct_P = generator.binomial(K, np.clip(right_P, 0.01, 0.99))
        noise_P = generator.normal(1, 0.8 / np.sqrt(np.maximum(correct_P, 2)))
        distance_P = (distance_L[0] + (distance - distance_L[0]) * own_P) * far_P * noise_P
        distance_P = np.where(correct_P < 2, math.nan, distance_P)
        figures = {"accuracy": correct_P / K, "sbert": distance_P, "sbert_correct": distance_P}
        scores = [simulated.score("task0", name, values) for name, values in figures.items()]
        snapshots.append(Snapshot(look, [], scores=scores))
    return snapshots


def run(generator: np.random.Generator, accuracy_L: np.ndarray, distance_L: np.ndarray) -> list[Alert]:
    """The alerts of such a run."""
    first, *rest = looks(generator, accuracy_L, distance_L)
    alerts = Alerts(simulated.probes(1, PROMPTS), first, planned_looks=LOOKS, tests=[("task0", "saturation")])
    return [alert for snapshot in rest for alert in alerts.look(snapshot)]


def last_t(generator: np.random.Generator, accuracy_L: np.ndarray, distance_L: np.ndarray) -> float:
    """Of the last look alone."""
    first, *rest = (Figures(snapshot, "task0") for snapshot in looks(generator, accuracy_L, distance_L))
    rest[-1].earlier = [figures.course for figures in rest[:-1]]
    found = saturation(first, rest[-1], DELTA)
    assert found is not None
    return found.t


def share(count: int, accuracy_L: np.ndarray, distance_L: np.ndarray, seed: int = 0) -> float:
    """Of runs with an alert."""
    generators = np.random.default_rng(seed).spawn(count)
    return sum(bool(run(generator, accuracy_L, distance_L)) for generator in generators) / count


def at_the_limit(at: float = 0.0) -> np.ndarray:
    """By look, a course that moves by exactly DELTA between the windows that the last look compares."""
    size = LOOKS // 4
    return at + DELTA * (np.arange(LOOKS + 1) > LOOKS - size)


FLAT, FALLING = np.full(LOOKS + 1, 0.7), np.linspace(0.3, 0.1, LOOKS + 1)
NULLS = {
    "accuracy is flat and delta of the diversity goes": (FLAT, 0.2 * (1 - at_the_limit())),
    "accuracy rises all the time while diversity falls": (np.linspace(0.2, 0.8, LOOKS + 1), FALLING),
    "nothing changes": (FLAT, np.full(LOOKS + 1, 0.2)),
}


@pytest.mark.parametrize("null", list(NULLS)[:2])
def test_healthy_runs_hardly_ever_alarm(null: str) -> None:
    count = 20
    allowed = ALPHA * count + 3 * math.sqrt(ALPHA * count)
    assert share(count, *NULLS[null]) * count <= allowed


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_of_2000_healthy_runs_at_most_one_percent_alarm() -> None:
    """Writes results/saturation.txt."""
    count = 2000
    found = {name: share(count, *courses, seed=1) for name, courses in NULLS.items()}
    head = f"{PROMPTS} prompts x {K}, {LOOKS} looks, the saturation test alone, {count} runs of each course"
    caught = share(count, FLAT, FALLING, seed=1)
    lines = [*(f"{name}: {100 * alarmed:.2f} % alarm" for name, alarmed in found.items())]
    lines.append(f"accuracy is flat, diversity falls from 0.3 to 0.1: {100 * caught:.1f} % caught")
    TABLE.write_text("\n".join([head, "", *lines]) + "\n")
    assert max(found.values()) <= ALPHA and caught >= 0.95


LIMITS = {
    "accuracy rises by delta while much is lost": (at_the_limit(0.6), FALLING),
    "accuracy is flat and delta is lost": (FLAT, 0.2 * (1 - at_the_limit())),
    "both at their limits": (at_the_limit(0.6), 0.2 * (1 - at_the_limit())),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_at_each_limit_of_the_null_a_look_has_its_level(limit: str) -> None:
    """One look of many runs: more findings than the level would break the promise of all looks together."""
    count = 60
    t = np.array([last_t(generator, *LIMITS[limit]) for generator in np.random.default_rng(2).spawn(count)])
    for level in (0.2, 0.05, 0.01):
        found = (t > -stdtrit(PROMPTS - 1, level)).mean()
        assert found < level + 3.5 * math.sqrt(level * (1 - level) / count), (level, found)


def test_narrowing_at_a_flat_accuracy_is_caught() -> None:
    assert share(20, FLAT, FALLING) >= 0.95


def test_one_half_of_the_null_is_enough_to_say_nothing() -> None:
    generator = np.random.default_rng(3)
    assert run(generator, FLAT, FALLING)
    assert not run(generator, np.linspace(0.3, 0.9, LOOKS + 1), FALLING)
    assert not run(generator, FLAT, np.full(LOOKS + 1, 0.3))


def test_its_line_says_what_moved_and_what_to_do_and_it_stops_a_training() -> None:
    from transformers import TrainerControl

    (first, *_) = run(np.random.default_rng(0), FLAT, FALLING)
    assert first.text.startswith(f"SATURATION of task0 at step {first.step}: sbert of pairs of correct answers fell by")
    assert "over the last " in first.text and "accuracy moved by " in first.text and "divmon select" in first.text
    control = TrainerControl()
    act([first], ("log", "stop"), control, lambda line: None)
    assert control.should_training_stop and first.new


def test_it_is_the_smaller_t_of_the_two_by_hand() -> None:
    def figures(**values: Any) -> Figures:
        scores = [simulated.score("task0", name, np.array(v)) for name, v in values.items()]
        return Figures(Snapshot(0, [], scores=scores), "task0")

    before = figures(accuracy=[0.5] * 3, sbert=[1.0] * 3, sbert_correct=[1.0, 1.0, 1.0])
    now = figures(accuracy=[0.5, 0.52, 0.51], sbert=[1.0] * 3, sbert_correct=[0.5, 0.6, 0.7])
    assert saturation(before, now, 0.05) is None, "from four looks on"
    now.earlier = [(np.array([0.0] * 3), np.array([9.0] * 3))] * 2 + [(np.array([0.5] * 3), np.array([0.9] * 3))]
    found = saturation(before, now, 0.05)
    assert found is not None and found.gain is not None
    flat, lost = 0.05 - np.array([0.0, 0.02, 0.01]), np.array([0.4, 0.3, 0.2]) - 0.05
    by_hand = [x.mean() / (x.std(ddof=1) / math.sqrt(3)) for x in (flat, lost)]
    assert found.t == pytest.approx(min(by_hand)) and found.looks == 2 and found.gain.value == pytest.approx(0.01)
    now.earlier = [(np.array([0.5] * 3), np.array([0.9] * 3)), (np.array([math.nan]), np.array([math.nan]))] * 2
    assert saturation(before, now, 0.05) is None, "looks at which the figures are missing"
    now.earlier = [(np.array([math.nan] * 3), np.array([0.9] * 3))] * 3
    assert saturation(before, now, 0.05) is None, "on the prompts that have both"
