"""What alerts promise, on runs whose truth is known: the share of healthy runs that alarm, and what is caught."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from support import RESULTS, simulation
from support import alert_simulation as simulated
from support.alert_simulation import Truth
from test_alerts import test_of, traced

from divmon.scoring.alerts import ALPHA
from divmon.scoring.alerts.hypotheses import DELTA, TESTS, Figures
from divmon.scoring.alerts.power import sight
from divmon.scoring.decomposition import pairs
from divmon.types import Snapshot

TABLE = RESULTS / "alerts.txt"

UNCHANGED, AT_DELTA = Truth("unchanged policy"), Truth("a true loss of exactly delta", loss=DELTA)
BETTER = Truth("accuracy up by three logits, no narrowing", logits=3.0)
LOST = Truth("a uniform loss of 20 percent in one task", loss=0.2, lossy_tasks=1)


@pytest.fixture(scope="module")
def world() -> simulated.World:
    return simulated.world()


def unjudged(truth: Truth) -> Truth:
    return dataclasses.replace(truth, judged=False)


def test_the_probes_are_what_they_are_said_to_be(world: simulated.World) -> None:
    assert world.spread(np.random.default_rng(0)) == pytest.approx((0.35, 0.18), abs=0.015)


def test_counted_modes_are_the_matrices(world: simulated.World) -> None:
    """The simulation's pairs against those of `decomposition.pairs`, in expectation, on both sides."""
    prompts_T = np.arange(40)
    drawn = simulated.draw(world, world.before, prompts_T, 6, 4000, np.random.default_rng(0))
    inner = simulation.World(world.between_PMM, world.before, world.before)
    plainly = [
        pairs(*simulation.draw(inner, world.before, prompts_T, 6, generator))
        for generator in np.random.default_rng(1).spawn(4000)
    ]
    for name in ("distance_P", "weight_PS", "distance_PS"):
        mine, theirs = getattr(drawn, name), np.array([getattr(one, name) for one in plainly])
        enough = (~np.isnan(mine)).sum(0) > 1000
        assert enough.mean() > 0.9
        assert np.nanmean(mine, 0)[enough] == pytest.approx(np.nanmean(theirs, 0)[enough], abs=0.02), name
        assert np.nanstd(mine, 0)[enough] == pytest.approx(np.nanstd(theirs, 0)[enough], abs=0.02), name


@pytest.mark.parametrize("truth", [AT_DELTA, unjudged(AT_DELTA)], ids=["judged", "unjudged"])
def test_at_the_limit_of_the_null_t_is_t(world: simulated.World, truth: Truth) -> None:
    """One look of many runs, at every level: more alarms than the level would break the promise of all looks."""
    values: list[float] = []
    for generator in np.random.default_rng(2).spawn(150):
        sides = []
        for _ in range(8):
            prompts_T = generator.integers(4096, size=64)
            then = simulated.take(simulated.draw(world, world.before, prompts_T, 64, 1, generator), 0)
            now = simulated.draw(world, world.before, prompts_T, 16, 1, generator)
            sides.append((simulated.take(now, 0, 1 - DELTA), then))
        before = simulated.snapshot(0, [(then, None) for _, then in sides], truth.judged)
        after = simulated.snapshot(1, sides, truth.judged)
        tested = [
            TESTS["narrowing"][0](Figures(before, f"task{i}"), Figures(after, f"task{i}"), DELTA) for i in range(8)
        ]
        values += [one.t for one in tested if one is not None]
    t = np.array(values)
    assert len(t) == 1200 and t.std() == pytest.approx(1, abs=0.1) and abs(t.mean()) < 0.15
    for level in (0.2, 0.05, 0.01):
        error = math.sqrt(level * (1 - level) / len(t))
        assert (t > scipy_stats.t.isf(level, 63)).mean() < level + 4 * error


@pytest.mark.parametrize(("truth", "count"), [(AT_DELTA, 20), (unjudged(AT_DELTA), 10), (UNCHANGED, 10)])
def test_healthy_runs_of_fifty_looks_hardly_ever_alarm(world: simulated.World, truth: Truth, count: int) -> None:
    assert simulated.alarmed(world, truth, count) <= 2


def test_shares_at_their_limit_hardly_ever_alarm() -> None:
    assert simulated.alarmed_by_shares(10) == 0


@pytest.mark.parametrize("truth", [LOST, unjudged(LOST)], ids=["judged", "unjudged"])
def test_a_fifth_lost_is_caught_within_two_looks(world: simulated.World, truth: Truth) -> None:
    assert caught(world, truth, 100) >= 0.95


def caught(world: simulated.World, truth: Truth, count: int, looks: int = 2, **sizes: int) -> float:
    """Share of runs with an alert on the task that lost."""
    found = [
        any(alert.task == "task0" for _, alert in stood)
        for stood in simulated.runs(world, truth, count, looks=looks, **sizes)
    ]
    return sum(found) / count


def smallest_loss(world: simulated.World, judged: bool, seed: int = 0) -> float:
    """What the reference says that a look of eight tests will see."""
    generator = np.random.default_rng(seed)
    inner = simulation.World(world.between_PMM, world.before, world.before)
    distances, verdicts = simulation.draw(inner, world.before, generator.integers(4096, size=64), 64, generator)
    found = sight(distances, verdicts.tolist() if judged else None, 16)
    assert found is not None and found.n == 64
    return found.smallest_loss(ALPHA / (8 * 51), DELTA)


@pytest.mark.parametrize("judged", [True, False])
def test_it_says_what_it_can_see(world: simulated.World, judged: bool) -> None:
    """The loss that one look is said to catch with a chance of 95 percent, on probes not seen before."""
    loss = float(np.mean([smallest_loss(world, judged, seed) for seed in range(3)]))
    assert DELTA + 0.03 < loss < 0.21
    truth = Truth("", judged, loss=loss, lossy_tasks=1)
    assert 0.9 <= caught(world, truth, 200, looks=1) <= 1
    less = Truth("", judged, loss=DELTA + 0.6 * (loss - DELTA), lossy_tasks=1)
    assert caught(world, less, 100, looks=1) < 0.75, "and it is not far from the smallest"


def test_a_small_reference_tells_the_noise_of_a_look_too(world: simulated.World) -> None:
    """Of a reference no larger than a look only halves can be compared; variances go with 1 / samples."""
    inner = simulation.World(world.between_PMM, world.before, world.before)
    for reference, size in ((64, 16), (16, 16), (40, 16)):
        found = []
        for generator in np.random.default_rng(4).spawn(4):
            distances, _ = simulation.draw(inner, world.before, np.arange(300), reference, generator)
            found.append(sight(distances, None, size))
        noise = np.mean([one.noise for one in found if one is not None])
        sampling = world.spread(np.random.default_rng(0))[1] * 0.25  # of 16 samples; the mean diversity is about 0.25
        assert noise == pytest.approx(sampling * math.sqrt(1 + size / reference), rel=0.1), (reference, size)


def test_what_is_too_coarse_is_told_to_take_128_prompts() -> None:
    generator = np.random.default_rng(0)
    noisy = np.abs(generator.normal(0.3, 0.25, (24, 1, 1)) + generator.normal(0, 0.3, (24, 64, 64)))
    found = sight(noisy, None, 4)
    assert found is not None
    line = found.sentence("sbert", 1e-4, DELTA)
    assert "with 24 prompts only a loss of" in line and "with num_prompts=128 one of" in line
    losses = [found.smallest_loss(1e-4, DELTA, n) for n in (24, 64, 128, 512)]
    assert losses == sorted(losses, reverse=True) and losses[-1] > DELTA
    assert math.isnan(found.smallest_loss(1e-4, DELTA, 3))
    assert sight(noisy[:, :3, :3], None, 4) is None and sight(noisy[:2], None, 4) is None


def templating_t(count: int, own: float, seed: int = 3) -> np.ndarray:
    """t of runs of one policy against itself, at delta 0: the null at its limit."""
    generator, found = np.random.default_rng(seed), []
    for _ in range(count):
        before, now = (Snapshot(0, [], scores=[traced(generator, own)]) for _ in range(2))
        found.append(test_of("templating", before, now, delta=0.0))
    return np.array([one.t for one in found if one is not None])


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_the_whole_suite_of_2000_runs(world: simulated.World) -> None:
    """Writes results/alerts.txt."""
    count, lines, broken = 2000, [], []
    spread, sampling = world.spread(np.random.default_rng(0))
    lines.append(
        f"64 prompts x 16, reference 64, 50 looks, 8 tests, {count} runs; diversity spreads by {spread:.2f} over"
        f" prompts and by {sampling:.2f} from sampling\n"
    )
    for truth in (UNCHANGED, AT_DELTA, BETTER, unjudged(UNCHANGED), unjudged(AT_DELTA)):
        alarms = simulated.alarmed(world, truth, count)
        lines.append(f"{truth.name}, {'judged' if truth.judged else 'not judged'}: {100 * alarms / count:.2f} % alarm")
        broken += [lines[-1]] if alarms > ALPHA * count else []
    alarms = simulated.alarmed_by_shares(count)
    lines.append(f"truncation, length and repetition all at their limits (6 tests): {100 * alarms / count:.2f} % alarm")
    broken += [lines[-1]] if alarms > ALPHA * count else []
    for truth in (LOST, unjudged(LOST)):
        share = caught(world, truth, count)
        lines.append(
            f"{truth.name}, {'judged' if truth.judged else 'not judged'}: {100 * share:.1f} % caught within two looks"
        )
        broken += [lines[-1]] if share < 0.95 else []
    for judged in (True, False):
        loss = float(np.mean([smallest_loss(world, judged, seed) for seed in range(20)]))
        share = caught(world, Truth("", judged, loss=loss, lossy_tasks=1), count, looks=1)
        name = "judged" if judged else "not judged"
        lines.append(f"said to be caught at one look, {name}: a loss of {100 * loss:.0f} %; {100 * share:.1f} % were")
    t = templating_t(1000, 1.0)
    lines.append(
        f"templating, the same policy at delta 0 (24 prompts x 8): t has standard deviation {t.std():.2f},"
        f" {100 * (t > scipy_stats.t.isf(0.05, 23)).mean():.1f} % above the 5 % point"
    )
    broken += [lines[-1]] if (t > scipy_stats.t.isf(0.05, 23)).mean() > 0.07 else []
    lines.append("\nBeyond what is promised: nearly all answers of a prompt the same, so that t is skewed")
    for accuracies, unequal in (((0.93, 0.97), 0.05), ((0.9, 0.99), 0.02)):
        odd = simulated.world(unequal=unequal, accuracies=accuracies)
        _, sampling = odd.spread(np.random.default_rng(0))
        for truth in (AT_DELTA, unjudged(AT_DELTA), unjudged(UNCHANGED)):
            alarms = simulated.alarmed(odd, truth, 1000)
            name = f"{truth.name}, {'judged' if truth.judged else 'not judged'}"
            lines.append(f"{name}, {sampling:.2f} from sampling: {alarms / 10:.1f} % of 1000 runs alarm")
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert not broken, "\n".join(broken)
