"""A measurement's cost against the run's time: thins `every` to every x 2^k, so that runs keep steps in common."""

from __future__ import annotations

import math

from divmon.training.cost import duration


class Budget:
    """Decides at each step that is due by `every` whether it is measured.

    It looks at two things: what measuring will cost from here on at this cadence, against the time that steps now take,
    and what it has cost so far against the run so far. Grids of every x 2^k are nested, so two runs that were thinned
    differently still share every step of the coarser one.

    Args:
        max_overhead: share of the run's time that measuring may take; None for no limit.
        every: steps between measurements, as asked for.
        start: the step that the run begins or goes on at.
    """

    def __init__(self, max_overhead: float | None, every: int | None, start: int = 0) -> None:
        self.max_overhead, self.every = max_overhead, every
        self.thinned = 1
        """2^k that now holds."""
        self._last = start, 0.0

    def allows(self, step: int, *, elapsed: float, measuring: float, cost: float) -> bool:
        """Whether to measure at this step, a multiple of `every`.

        Args:
            elapsed: seconds since the run began, measuring included.
            measuring: seconds of them that went into measuring.
            cost: seconds that this measurement is expected to take.
        """
        if self.max_overhead is None or self.every is None:
            return True
        training = elapsed - measuring
        before, training_before = self._last
        seconds_per_step = (training - training_before) / max(step - before, 1)
        self._last = step, training
        # cost / (cost + steps * seconds) <= share, for the steps between two measurements
        steps = cost * (1 / self.max_overhead - 1) / max(seconds_per_step, 1e-9)
        self.thinned = 2 ** max(0, math.ceil(math.log2(max(steps / self.every, 1.0))))
        affordable = measuring + cost <= self.max_overhead * (elapsed + cost)
        return affordable and step % (self.every * self.thinned) == 0

    def sentence(self, step: int, cost: float) -> str:
        """What was thinned from this step on, for a person."""
        assert self.every is not None and self.max_overhead is not None
        return (
            f"divmon: from step {step} on measuring every {self.every * self.thinned} steps (asked for: {self.every}),"
            f" so that it takes at most {100 * self.max_overhead:g} % of the run; one measurement takes"
            f" {duration(cost)}"
        )
