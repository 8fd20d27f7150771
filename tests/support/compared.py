"""Run directories of two runs, and what is read off their comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats as scipy_stats

import divmon
from support import run_dirs

STEPS = [0, 10, 20]


def figures(seed: int, steps: int = 3, prompts: int = 12, **more: Any) -> dict[tuple[str, str], Any]:
    """Values of one task, of prompts that differ more from one another than steps do."""
    generator = np.random.default_rng(seed)
    own_P = np.random.default_rng(99).uniform(0.2, 0.5, prompts)
    found = {name: own_P + generator.normal(0, 0.05, (steps, prompts)) for name in ("sbert", "ead", "vendi2_at8")}
    return {("sums", name): value for name, value in {**found, **more}.items()}


def two(folder: Path, a: Any, b: Any, steps: Any = STEPS, **of_b: Any) -> Any:
    """A comparison of runs a and b with these figures."""
    one = run_dirs.write(folder / "a", steps, a)
    other = run_dirs.write(folder / "b", of_b.pop("other_steps", steps), b, **of_b)
    return divmon.compare([one, other])


def of(frame: Any, **values: Any) -> Any:
    for name, value in values.items():
        frame = frame[frame[name] == value]
    return frame


def asked(generator: np.random.Generator, prompts: int = 64) -> tuple[Any, Any]:
    """Prompts: how easy each is, and how diverse its answers are."""
    return generator.normal(0, 1.2, prompts), generator.uniform(0.6, 1.4, prompts)


def paths(
    generator: np.random.Generator, prompts: tuple[Any, Any], accuracy_S: Any, diversity_S: Any, samples: int = 16
) -> dict[tuple[str, str], Any]:
    """Figures of a run on these prompts, whose accuracy and diversity spread around the means."""
    odds_P, own_P = prompts
    chance_SP = 1 / (1 + np.exp(-(scipy_stats.norm.ppf(np.array(accuracy_S))[:, None] * 2.2 + odds_P)))
    accuracy_SP = generator.binomial(samples, chance_SP) / samples
    diversity_SP = np.array(diversity_S)[:, None] * own_P * generator.uniform(0.85, 1.15, chance_SP.shape)
    return {("sums", "accuracy"): accuracy_SP, ("sums", "sbert"): diversity_SP}
