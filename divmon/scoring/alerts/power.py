"""What the alerts can see on the probes at hand, from the reference alone: the smallest loss that one look would catch.

Some of the reference's samples stand in for a look at which nothing has changed. What the test then sees of each prompt
is the noise of its samples; the spread of the reference over prompts adds what a loss makes of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import nctdtrinc, stdtrit

from divmon.scoring.decomposition import Verdicts, as_distances, pairs
from divmon.scoring.within_strata import within

POWER = 0.95
"""The chance with which a loss that "would be caught" is."""

COARSE = 0.2
"""Where only a larger loss would be caught, more prompts are advised."""

MORE_PROMPTS = 128


@dataclass(frozen=True)
class Sight:
    """What a task's prompts show at one look, in units of the metric."""

    level: float
    """Mean diversity of the reference."""
    spread: float
    """Its standard deviation over prompts."""
    noise: float
    """Standard deviation, within a prompt, of the change that a look sees where there is none."""
    of_look: float
    """The look's own share of the variance; the rest is the reference's."""
    n: int

    def smallest_loss(self, level: float, delta: float, n: int | None = None) -> float:
        """The smallest loss, as a share of the reference and equal on all prompts, that one look catches.

        At a loss L, x_p has the mean (L - delta) D and the variance (L - delta)^2 spread^2 + noise^2, where the look's
        share of the noise shrinks by 1 - L and the reference's by 1 - delta; the noncentral t says how large the ratio
        must be.

        Args:
            level: of the test at a look, a_t.
            n: prompts, where another number than there is.

        Returns:
            NaN where no loss would be caught, not even of all.
        """
        n = self.n if n is None else n
        if n < 3:
            return math.nan
        needed = float(nctdtrinc(n - 1, 1 - POWER, -stdtrit(n - 1, level)))

        def beyond(loss: float) -> float:
            noise = self.noise**2 * (self.of_look * (1 - loss) ** 2 + (1 - self.of_look) * (1 - delta) ** 2)
            error = math.sqrt((((loss - delta) * self.spread) ** 2 + noise) / n)
            return (loss - delta) * self.level - needed * error

        return float(brentq(beyond, delta, 1.0)) if beyond(delta) < 0 < beyond(1.0) else math.nan

    def sentence(self, metric: str, level: float, delta: float) -> str:
        """What one look sees, for a person, and what 128 prompts would see where it is too coarse."""
        loss, at_128 = (self.smallest_loss(level, delta, n) for n in (self.n, MORE_PROMPTS))
        if loss <= COARSE:
            whole = f"a loss of {100 * loss:.0f} % of {metric} on all its {self.n} prompts"
            return f"{whole} would be caught at one evaluation"
        smallest = "no loss" if math.isnan(loss) else f"only a loss of {100 * loss:.0f} % or more"
        line = f"with {self.n} prompts {smallest} of {metric} on all of them would be caught at one evaluation"
        better = self.n < MORE_PROMPTS and not math.isnan(at_128)
        return f"{line}; with num_prompts={MORE_PROMPTS} one of {100 * at_128:.0f} %" if better else line


def sight(distance_PNN: Any, verdicts: Verdicts | None, num_samples: int) -> Sight | None:
    """What a look of `num_samples` will see, from the reference's distances [P, N, N].

    Args:
        verdicts: of the reference; prompts without any, or all where None, are seen by their diversity alone.

    Returns:
        None where a prompt's samples are too few to be parted.
    """
    distances = as_distances(distance_PNN)
    # A metric that takes the first K has no pair beyond them.
    measured_N = np.asarray(np.isfinite(distances).any((0, 1)))
    distances = distances[:, measured_N][:, :, measured_N]
    verdicts = verdicts and [[v for v, there in zip(row, measured_N, strict=False) if there] for row in verdicts]
    prompts, samples = distances.shape[:2]
    size = min(num_samples, samples // 2)
    if size < 2 or not prompts:
        return None
    rows = [[*row, *[None] * (samples - len(row))] for row in verdicts or [[]] * prompts]
    rows = [row if any(v is not None for v in row) else [True] * samples for row in rows]
    changes_GP = []
    for start in range(0, samples - size + 1, size):
        look = np.arange(start, start + size)
        rest = np.setdiff1d(np.arange(samples), look)
        then, now = (
            pairs(distances[:, kept][:, :, kept], [[row[k] for k in kept] for row in rows]) for kept in (rest, look)
        )
        changes_GP.append(within(then, now)["seen"])
    level_P = pairs(distances, rows).distance_P
    there_P = ~np.isnan(level_P) & ~np.isnan(changes_GP).all(0)
    if there_P.sum() < 3:
        return None
    # The rest is smaller than the whole reference, and a look may have been cut short: variances go with 1 / samples.
    scale = (1 / num_samples + 1 / samples) / (1 / size + 1 / (samples - size))
    return Sight(
        level=float(level_P[there_P].mean()),
        spread=float(level_P[there_P].std(ddof=1)),
        noise=math.sqrt(scale * float(np.nanmean(np.square(changes_GP)))),
        of_look=samples / (samples + num_samples),
        n=int(there_P.sum()),
    )
