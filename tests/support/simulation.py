"""A world whose truth is known: prompts with accuracies and answer modes, and what every term is in the population.

A prompt has RIGHT right modes and WRONG wrong ones, unit vectors around two centres of its own. A sample is correct
with the prompt's accuracy, then picks a mode of its kind; two samples are as far apart as their modes, two of one mode
WITHIN. So the population's mean distance in each stratum is a bilinear form, exact, and so is every term. Hard prompts
have more spread among their right answers, as real ones do: that is what survivor bias feeds on.

Trials draw prompts anew, with replacement from a population of POPULATION; the truth is the population's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from divmon.scoring.decomposition import decompose
from divmon.scoring.paper_view import paper_view

POPULATION, RIGHT, WRONG, DIMENSIONS, WITHIN = 4096, 5, 8, 24, 0.03
SCENARIOS = ("accuracy rises", "correct answers narrow", "both")
PAPER_TRIALS = 100
ACCURACIES = {"0.1 to 0.9": (0.1, 0.9), "0.1 to 0.4": (0.1, 0.4), "0.02 to 0.1": (0.02, 0.1)}
"""The last is beyond what the decomposition promises: hardly a prompt has two correct answers twice."""


@dataclass(frozen=True)
class Policy:
    """What a model does on each prompt of the population."""

    accuracy_P: np.ndarray
    right_PR: np.ndarray
    """Chance of each right mode, given a correct answer."""
    wrong_PW: np.ndarray

    def weight_PS(self) -> np.ndarray:
        a_P = self.accuracy_P
        return np.stack([a_P**2, (1 - a_P) ** 2, 2 * a_P * (1 - a_P)], 1)

    def distance_PS(self, between_PMM: np.ndarray) -> np.ndarray:
        """Population mean distance of pairs in each stratum: correct, wrong, cross."""
        right_PM = np.pad(self.right_PR, ((0, 0), (0, WRONG)))
        wrong_PM = np.pad(self.wrong_PW, ((0, 0), (RIGHT, 0)))
        kinds = ((right_PM, right_PM), (wrong_PM, wrong_PM), (right_PM, wrong_PM))
        return np.stack([np.einsum("pi,pij,pj->p", a, between_PMM, b) for a, b in kinds], 1)


@dataclass(frozen=True)
class World:
    between_PMM: np.ndarray
    """Distance of two samples of these modes; WITHIN on the diagonal."""
    before: Policy
    after: Policy

    def truth(self) -> dict[str, float]:
        """The population value of every term, at infinitely many samples."""
        (w_r, d_r), (w_t, d_t) = (
            (policy.weight_PS(), policy.distance_PS(self.between_PMM)) for policy in (self.before, self.after)
        )
        change = (w_t * d_t - w_r * d_r).sum(1).mean()
        weight = (w_r + w_t) / 2
        correct, wrong, cross = ((d_t - d_r) * weight).mean(0)
        return {
            "change": change,
            "quality_control": change - correct - wrong - cross,
            "narrowing_correct": correct,
            "narrowing_wrong": wrong,
            "narrowing_cross": cross,
            "correct_pair_change": correct / weight[:, 0].mean(),
        }


def world(scenario: str, accuracies: tuple[float, float], seed: int = 0) -> World:
    generator = np.random.default_rng(seed)
    accuracy_P = generator.uniform(*accuracies, POPULATION)
    hardness_P = (1 - accuracy_P) * generator.uniform(0.6, 1.4, POPULATION)
    spread_PM = np.repeat(np.stack([0.4 + 0.6 * hardness_P, 0.8 + 0.2 * hardness_P], 1), (RIGHT, WRONG), axis=1)
    topic_P1D = generator.normal(size=(POPULATION, 1, DIMENSIONS))
    kind_PMD = np.repeat(generator.normal(size=(POPULATION, 2, DIMENSIONS)), (RIGHT, WRONG), axis=1) / 3
    own_PMD = generator.normal(size=(POPULATION, RIGHT + WRONG, DIMENSIONS)) * spread_PM[..., None]
    mode_PMD = topic_P1D + kind_PMD + own_PMD
    mode_PMD /= np.linalg.norm(mode_PMD, axis=-1, keepdims=True)
    between_PMM = 1 - mode_PMD @ mode_PMD.transpose(0, 2, 1)
    between_PMM[:, range(RIGHT + WRONG), range(RIGHT + WRONG)] = WITHIN
    before = Policy(
        accuracy_P,
        generator.dirichlet(np.full(RIGHT, 1.5), POPULATION),
        generator.dirichlet(np.full(WRONG, 1.5), POPULATION),
    )
    after = before
    if scenario in ("accuracy rises", "both"):
        after = replace(after, accuracy_P=accuracy_P + (0.95 - accuracy_P) * generator.uniform(0.2, 0.8, POPULATION))
    if scenario in ("correct answers narrow", "both"):
        sharp_PR = after.right_PR ** generator.uniform(1.5, 5, (POPULATION, 1))
        after = replace(after, right_PR=sharp_PR / sharp_PR.sum(1, keepdims=True))
    return World(between_PMM, before, after)


Drawn = tuple[np.ndarray, np.ndarray]
"""Distances [P, N, N] and verdicts [P, N] of one side of a trial."""


def draw(world: World, policy: Policy, prompts_T: np.ndarray, samples: int, generator: np.random.Generator) -> Drawn:
    shape = (len(prompts_T), samples)
    correct_PN = generator.random(shape) < policy.accuracy_P[prompts_T, None]
    right_PN, wrong_PN = (
        (generator.random((*shape, 1)) > chance_PM[prompts_T].cumsum(1)[:, None, :-1]).sum(-1)
        for chance_PM in (policy.right_PR, policy.wrong_PW)
    )
    mode_PN = np.where(correct_PN, right_PN, RIGHT + wrong_PN)
    rows = np.arange(len(prompts_T))[:, None, None]
    return world.between_PMM[prompts_T][rows, mode_PN[:, :, None], mode_PN[:, None, :]], correct_PN


def trials(
    world: World, count: int, *, samples: int, reference_samples: int, prompts: int = 64, seed: int = 1
) -> Iterator[tuple[Drawn, Drawn]]:
    """Reference and now of `count` trials, each with prompts of its own."""
    for generator in np.random.default_rng(seed).spawn(count):
        prompts_T = generator.integers(len(world.between_PMM), size=prompts)
        yield (
            draw(world, world.before, prompts_T, reference_samples, generator),
            draw(world, world.after, prompts_T, samples, generator),
        )


@dataclass(frozen=True)
class Setting:
    """One cell of the suite: reference_samples is `reference_ratio` times samples."""

    scenario: str
    accuracies: str
    samples: int
    reference_ratio: int = 4

    def __str__(self) -> str:
        return (
            f"{self.scenario}, accuracy {self.accuracies}, K {self.samples},"
            f" reference {self.reference_ratio * self.samples}"
        )


@dataclass(frozen=True)
class Measured:
    """One term over all trials."""

    truth: float
    bias: float
    bias_error: float
    """Standard error of the bias, from the number of trials."""
    spread: float
    """Standard deviation over trials."""
    covered_percent: float
    """Of the intervals there are."""


@dataclass(frozen=True)
class Result:
    setting: Setting
    trials: int
    terms: dict[str, Measured]
    support: dict[str, float]
    d_correct: tuple[float, float]
    """D_c of the paper's view before and after, over PAPER_TRIALS trials."""
    residual_share: float
    """Median over those trials."""

    def __str__(self) -> str:
        support = ", ".join(f"{name} {value:.2f}" for name, value in self.support.items())
        lines = [f"{self.setting} ({self.trials} trials; support: {support})"]
        lines.append(f"  {'term':20}{'truth':>9}{'bias':>10}{'+-':>8}{'spread':>9}{'covered':>9}")
        for name, m in self.terms.items():
            numbers = f"{m.truth:9.4f}{m.bias:10.5f}{1.96 * m.bias_error:8.5f}{m.spread:9.4f}{m.covered_percent:8.1f}%"
            lines.append(f"  {name:20}{numbers}")
        before, after = self.d_correct
        lines.append(
            f"  the paper's view: D_c {before:.3f} to {after:.3f}, its residual share {100 * self.residual_share:.0f}%"
        )
        return "\n".join(lines)


def run(setting: Setting, count: int, seed: int = 1) -> Result:
    """Decomposes `count` trials and holds every term against the truth."""
    here = world(setting.scenario, ACCURACIES[setting.accuracies])
    found, views = [], []
    sizes = {"samples": setting.samples, "reference_samples": setting.reference_ratio * setting.samples}
    for (d_r, c_r), (d_t, c_t) in trials(here, count, **sizes, seed=seed):
        sides = d_r, d_t, c_r.tolist(), c_t.tolist()
        found.append(decompose(*sides))
        if len(views) < PAPER_TRIALS:
            views.append(paper_view(*sides, num_samples=setting.samples))
    terms = {}
    for name, truth in here.truth().items():
        values = np.array([getattr(one, name) for one in found])
        low, high = np.array([one.ci95[name] for one in found]).T
        spread = np.nanstd(values, ddof=1)
        covered = 100 * ((low <= truth) & (truth <= high)).sum() / (~np.isnan(low)).sum()
        terms[name] = Measured(truth, np.nanmean(values) - truth, spread / np.sqrt(count), spread, covered)
    return Result(
        setting,
        count,
        terms,
        {name: float(np.mean([one.support[name] for one in found])) for name in found[0].support},
        tuple(float(np.nanmean([view.d_correct[side] for view in views])) for side in ("reference", "now")),
        float(np.nanmedian([view.residual_share for view in views])),
    )
