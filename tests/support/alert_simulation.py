"""Training runs whose truth is known, taken through the alerts as a real run is: reference first, look by look.

The prompts and their answer modes are those of `simulation`, with modes so unequal that diversity spreads by 0.35 over
prompts and by 0.18 from 16 samples (both relative). A uniform loss shrinks all distances; accuracy rises in logits
while the answers of each kind stay as they are. Each run draws prompts of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from divmon.scoring.alerts import Alert, Alerts
from divmon.scoring.alerts.hypotheses import SHARE
from divmon.scoring.decomposition import Pairs
from divmon.scoring.within_strata import within
from divmon.types import Probe, Prompt, Score, Snapshot, plain
from support import simulation
from support.simulation import POPULATION, RIGHT, WRONG, Policy

PROMPTS, SAMPLES, REFERENCE_SAMPLES, LOOKS = 64, 16, 64, 50
ACCURACIES = (0.1, 0.9)
UNEQUAL = 0.09
"""Concentration of the modes' chances."""


@dataclass(frozen=True)
class Truth:
    """What happened between the reference and every later look."""

    name: str
    judged: bool = True
    loss: float = 0.0
    """Share of every distance."""
    logits: float = 0.0
    """Rise of accuracy."""
    lossy_tasks: int | None = None
    """All where None; the others stay as they were."""

    @property
    def tasks(self) -> int:
        """So many that there are 8 tests: a judged task has two."""
        return 4 if self.judged else 8


@dataclass(frozen=True)
class World:
    between_PMM: np.ndarray
    before: Policy

    def after(self, truth: Truth) -> Policy:
        accuracy_P = self.before.accuracy_P
        return replace(self.before, accuracy_P=1 / (1 + (1 / accuracy_P - 1) * math.exp(-truth.logits)))

    def spread(self, generator: np.random.Generator, prompts: int = 1000, draws: int = 50) -> tuple[float, float]:
        """Relative standard deviations of diversity: over prompts, and of 16 samples within a prompt."""
        exact_P = (self.before.weight_PS() * self.before.distance_PS(self.between_PMM)).sum(1)
        prompts_T = np.arange(prompts)
        drawn_LT = draw(self, self.before, prompts_T, SAMPLES, draws, generator).distance_P
        within = math.sqrt(drawn_LT.var(0, ddof=1).mean())
        return exact_P.std() / exact_P.mean(), within / exact_P[:prompts].mean()


def world(seed: int = 0, unequal: float = UNEQUAL, accuracies: tuple[float, float] = ACCURACIES) -> World:
    generator = np.random.default_rng(seed)
    here = simulation.world("accuracy rises", accuracies, seed)
    chances = (generator.dirichlet(np.full(modes, unequal), POPULATION) for modes in (RIGHT, WRONG))
    return World(here.between_PMM, Policy(here.before.accuracy_P, *chances))


def draw(
    world: World, policy: Policy, prompts_T: np.ndarray, samples: int, looks: int, generator: np.random.Generator
) -> Pairs:
    """The pairs of `looks` draws of every prompt [L, T], from how often each mode came: exact, without the matrices."""
    shape = (looks, len(prompts_T))
    correct_LT = generator.binomial(samples, policy.accuracy_P[prompts_T], shape)
    right_LTM = generator.multinomial(correct_LT, policy.right_PR[prompts_T])
    wrong_LTM = generator.multinomial(samples - correct_LT, policy.wrong_PW[prompts_T])
    between_TMM = world.between_PMM[prompts_T]
    own_TM = np.diagonal(between_TMM, axis1=1, axis2=2)

    def sums(a_LTM: np.ndarray, b_LTM: np.ndarray, a: slice, b: slice) -> np.ndarray:
        return ((between_TMM[:, a, b] @ b_LTM[..., None])[..., 0] * a_LTM).sum(-1)

    first, last = slice(None, RIGHT), slice(RIGHT, None)
    correct = (sums(right_LTM, right_LTM, first, first) - (own_TM[:, first] * right_LTM).sum(-1)) / 2
    wrong = (sums(wrong_LTM, wrong_LTM, last, last) - (own_TM[:, last] * wrong_LTM).sum(-1)) / 2
    sum_LTS = np.stack([correct, wrong, sums(right_LTM, wrong_LTM, first, last)], -1)
    rest_LT = samples - correct_LT
    count_LTS = np.stack(
        [correct_LT * (correct_LT - 1) / 2, rest_LT * (rest_LT - 1) / 2, correct_LT * rest_LT], -1
    ).astype(np.float64)
    count_LT = count_LTS.sum(-1)
    with np.errstate(invalid="ignore"):
        return Pairs(count_LT, sum_LTS.sum(-1) / count_LT, count_LTS / count_LT[..., None], sum_LTS / count_LTS)


def take(pairs: Pairs, look: int, scale: float = 1.0) -> Pairs:
    return Pairs(
        pairs.count_P[look],
        scale * pairs.distance_P[look],
        pairs.weight_PS[look],
        scale * pairs.distance_PS[look],
    )


def probes(tasks: int, prompts: int = PROMPTS) -> list[Probe]:
    return [Probe(f"task{i}", tuple(Prompt(f"p{j}", f"prompt {j}") for j in range(prompts))) for i in range(tasks)]


def score(task: str, metric: str, values_P: np.ndarray) -> Score:
    defined = values_P[~np.isnan(values_P)]
    return Score(task, metric, float(defined.mean()), n=len(defined), values=tuple(values_P.tolist()))


def snapshot(step: int, by_task: list[tuple[Pairs, Pairs | None]], judged: bool) -> Snapshot:
    """A snapshot of each task's pairs, beside the reference's, as the pipeline would make it."""
    scores, decomposition = [], {}
    for i, (now, reference) in enumerate(by_task):
        task = f"task{i}"
        scores.append(score(task, "sbert", now.distance_P))
        if judged:
            scores.append(
                score(task, "accuracy", now.weight_PS[:, 0])
            )  # its value plays no part, only that it is there
        if judged and reference is not None:
            decomposition[task] = {"sbert": {"per_prompt": plain(within(reference, now))}}
    return Snapshot(step, [], scores=scores, decomposition=decomposition)


def run(
    world: World,
    truth: Truth,
    generator: np.random.Generator,
    looks: int = LOOKS,
    prompts: int = PROMPTS,
    samples: int = SAMPLES,
    reference_samples: int = REFERENCE_SAMPLES,
) -> list[tuple[int, Alert]]:
    """One run of `LOOKS` planned looks, of which `looks` are taken: (look, alert) of every alert that stood."""
    before, after = [], []
    for task in range(truth.tasks):
        prompts_T = generator.integers(POPULATION, size=prompts)
        before.append(take(draw(world, world.before, prompts_T, reference_samples, 1, generator), 0))
        happens = truth.lossy_tasks is None or task < truth.lossy_tasks
        policy = world.after(truth) if happens else world.before
        after.append((draw(world, policy, prompts_T, samples, looks, generator), 1 - truth.loss * happens))
    reference = snapshot(0, [(pairs, None) for pairs in before], truth.judged)
    alerts = Alerts(probes(truth.tasks, prompts), reference, planned_looks=LOOKS)
    assert len(alerts.tests) == 8
    stood = []
    for look in range(looks):
        sides = [(take(pairs, look, scale), then) for (pairs, scale), then in zip(after, before, strict=True)]
        stood += [(look + 1, alert) for alert in alerts.look(snapshot(look + 1, sides, truth.judged))]
    return stood


def runs(world: World, truth: Truth, count: int, seed: int = 1, **sizes: int) -> Iterator[list[tuple[int, Alert]]]:
    for generator in np.random.default_rng(seed).spawn(count):
        yield run(world, truth, generator, **sizes)


def alarmed(world: World, truth: Truth, count: int, seed: int = 1, **sizes: int) -> int:
    """Runs with any alert at all."""
    return sum(bool(stood) for stood in runs(world, truth, count, seed, **sizes))


def shares(step: int, generator: np.random.Generator, at_limit: bool, looping_P: np.ndarray) -> Snapshot:
    """Two tasks whose shares stand, over prompts like these, exactly SHARE above the reference or exactly at it."""
    scores = []
    for task in ("task0", "task1"):
        # Prompts differ: most are never cut off, some nearly always.
        cut_off_P = generator.beta(0.3, 0.3 * (1 / SHARE - 1), PROMPTS) if at_limit else np.zeros(PROMPTS)
        without_end_P = generator.beta(0.5, 9.5 if not at_limit else 0.5 / (0.05 + SHARE) - 0.5, PROMPTS)
        truncated_P, length_limit_P = (
            generator.binomial(SAMPLES, share_P) / SAMPLES for share_P in (cut_off_P, without_end_P)
        )
        loops_P = generator.binomial(SAMPLES, SHARE / (1 - looping_P.mean()), PROMPTS) / SAMPLES if at_limit else 0.0
        scores += [
            score(task, "no_answer", truncated_P),
            score(task, "truncated", truncated_P),
            score(task, "clipped_ratio", truncated_P + length_limit_P),
            score(task, "empty", np.zeros(PROMPTS)),
            score(task, "repetition", looping_P + loops_P * (1 - looping_P)),
        ]
    return Snapshot(step, [], scores=scores)


def alarmed_by_shares(count: int, seed: int = 1) -> int:
    """Runs with any alert, where every share is at the limit of what is healthy."""
    alarms = 0
    for generator in np.random.default_rng(seed).spawn(count):
        looping_P = generator.beta(1, 19, PROMPTS)
        alerts = Alerts(probes(2), shares(0, generator, False, looping_P), planned_looks=LOOKS)
        assert len(alerts.tests) == 6
        alarms += any(alerts.look(shares(look + 1, generator, True, looping_P)) for look in range(LOOKS))
    return alarms
