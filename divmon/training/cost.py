"""What measurements cost, in the words of a person: of one, of the reference, and as a share of the training."""

from __future__ import annotations

from dataclasses import dataclass, replace

MUCH = 0.1
"""Share of training above which the budget is mentioned."""


def duration(seconds: float) -> str:
    """For a person.

    >>> [duration(s) for s in (0.034, 95.2, 1440, 9000)]
    ['0.034 s', '95 s', '24 min', '2.5 h']
    """
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 99.5 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class Price:
    """What a measurement takes: sampling, grading and what models say of the texts, the bulk of it."""

    completions: int
    tokens: int
    """New tokens, where all completions reach their limit."""
    seconds: float
    """At most: where they do."""
    likely: float | None = None
    """Where they end as those that were tried; None where none of these ended."""

    @property
    def expected(self) -> float:
        return self.seconds if self.likely is None else self.likely

    def __str__(self) -> str:
        at_most = f"at most {duration(self.seconds)}"
        return at_most if self.likely is None else f"{at_most}, likely {duration(self.likely)}"


@dataclass(frozen=True)
class Plan:
    """What the measurements of a training take of its time."""

    price: Price
    reference: Price | None
    """None where the run has one already."""
    looks: int
    """Measurements after the reference."""
    kept: int
    """Those of them that no budget thins: the middle, the end, listed steps."""
    training: float | None
    """Seconds that the steps to come take; None where that is not known."""
    max_overhead: float | None

    def share(self, looks: int) -> float | None:
        """Of the training's time, with so many measurements after the reference; None where that is not known."""
        measuring = looks * self.price.expected + (self.reference.expected if self.reference else 0.0)
        return measuring / (measuring + self.training) if self.training else None

    def sentence(self) -> str:
        of_reference = f"; of the reference, {self.reference.completions:,}: {self.reference}" if self.reference else ""
        return (
            f"divmon: one measurement = {self.price.completions:,} completions, up to {self.price.tokens:,} tokens:"
            f" {self.price}{of_reference}{self._of_training()}"
        )

    def _of_training(self) -> str:
        share = self.share(self.looks)
        of_training = "" if share is None else f"; about {100 * share:.2g} % of training at this schedule"
        if self.max_overhead is not None:
            return of_training + f"; thinned to keep to {100 * self.max_overhead:g} %"
        if share is not None and share > MUCH:
            of_training += "; max_overhead=0.05 would thin it to keep to 5 %"
        return of_training

    def advice(self, num_prompts: int, num_samples: int) -> str:
        """What to change where the measurements that are never thinned exceed the budget; "" where they keep to it.

        Args:
            num_prompts: of each task; num_samples: K.
        """
        share, budget = self.share(self.kept), self.max_overhead
        if share is None or budget is None or share <= budget:
            return ""
        assert self.training is not None
        allowed = budget / (1 - budget) * self.training
        fits = int(num_prompts * allowed / (self.training * share / (1 - share)))
        ways = {f"num_prompts={fewer}": fewer / num_prompts for fewer in (max(fits, 8),) if fewer < num_prompts}
        ways["max_new_tokens at half"] = 0.5
        said = [f"{way} would take {self._in_percent(times)}" for way, times in ways.items()]
        if self.reference is not None and self.reference.completions > self.price.completions:
            smaller = replace(self, reference=self.price).share(self.kept)
            said.append(f"reference_samples={num_samples} {100 * (smaller or 0):.2g} %")
        what = "the reference" * (self.reference is not None) + " and " * bool(self.reference and self.kept)
        what += f"{self.kept} of the measurements" if self.kept else ""
        return (
            f"divmon: {what} are always taken, about {100 * share:.2g} % of training, more than max_overhead={budget:g}"
            f" allows: {', '.join(said)}"
        )

    def _in_percent(self, times: float) -> str:
        """The share where every measurement takes so many times what it does."""
        assert self.training is not None
        measuring = times * (self.kept * self.price.expected + (self.reference.expected if self.reference else 0.0))
        return f"{100 * measuring / (measuring + self.training):.2g} %"
