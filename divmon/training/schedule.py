"""When to measure: every n steps, listed steps, geometric, at the start, in the middle, at the end, on evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from divmon.options import Options


@dataclass(frozen=True)
class Schedule:
    """Steps are optimizer steps, as `TrainerState.global_step` counts them; the end of step n is due where n is."""

    every: int | None = 100
    at: tuple[int, ...] = ()
    geometric: float | None = None
    at_start: bool = True
    at_end: bool = True
    on_evaluate: bool = False
    middle: int | None = None
    """A step that is measured whatever the budget, so that a run of any length has a curve and not two points."""

    @classmethod
    def of(cls, options: Options, max_steps: int = 0) -> Schedule:
        """The schedule that these options name, for a run of so many steps; 0 where that is not known.

        Where nobody asked for steps, the middle is measured too.
        """
        o = options
        asked = o.every_is_asked_for or o.at or o.geometric
        middle = None if asked else middle_of(max_steps, o.every)
        return cls(o.every, tuple(o.at or ()), o.geometric, o.at_start, o.at_end, o.on_evaluate, middle)

    def due(self, step: int) -> bool:
        """Whether the end of this step is due, leaving the start and the end of training aside."""
        return self.listed(step) or (self.every is not None and step > 0 and step % self.every == 0)

    def listed(self, step: int) -> bool:
        """Whether it is due by `at` or `geometric`, or the middle, which no budget thins."""
        return step in (*self.at, self.middle) or (self.geometric is not None and step in self._geometric(step))

    def planned(self, max_steps: int) -> list[int]:
        """The steps of a run of `max_steps` that are due, in order; those on evaluation are not known before."""
        due = {step for step in (*self.at, self.middle or 0) if 0 < step <= max_steps}
        due |= set(range(self.every, max_steps + 1, self.every)) if self.every else set()
        due |= self._geometric(max_steps) if self.geometric else set()
        return sorted(due | ({0} if self.at_start or 0 in self.at else set()) | ({max_steps} if self.at_end else set()))

    def _geometric(self, up_to: int) -> set[int]:
        assert self.geometric is not None
        steps, value = set(), 1.0
        while round(value) <= up_to:
            steps.add(round(value))
            value *= self.geometric
        return steps


def middle_of(max_steps: int, every: int | None) -> int | None:
    """The step of `every` that is next to half of the run; half of it where there is none; None of a run too short.

    >>> middle_of(60, 100), middle_of(1000, 100), middle_of(270, 100), middle_of(1, 100)
    (30, 500, 100, None)
    """
    half = max_steps // 2
    if every is not None and every < max_steps:
        half = max(every, every * round(half / every))
    return half if 0 < half < max_steps else None
