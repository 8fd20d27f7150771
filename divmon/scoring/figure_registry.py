"""The registry of figures: what each number is, which way is diverse or better, and in which order they are shown.

    figures = Registry(run.figures)          what a run recorded, over what this package knows
    figures["vendi2_at8"].aggregate          "harmonic_mean"
    figures.diversity(["ead", "sbert"])      ["sbert", "ead"]: in the order of comparisons

Metrics declare their figures with `divmon.scoring.metrics.metric`; those that no metric gives are declared here.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from divmon.scoring import metrics
from divmon.scoring.intervals import within_bounds
from divmon.types import Change, Figure, Score, plain

EVERYTHING = ("verifier", "vocab_size", "encoder", "code_encoder", "nli", "judge")
"""Settings that a figure may depend on."""

UNKNOWN = Figure(needs=EVERYTHING)
"""A figure that nothing declares: taken to be higher where outputs are more diverse, and to depend on every setting."""


def _quality(meaning: str, better: str = "higher", **facts: Any) -> Figure:
    return Figure(
        meaning, **{"range": (0, 1), "diverse": "", "better": better, "graded": True, "needs": ("verifier",), **facts}
    )


def _rate(meaning: str, **facts: Any) -> Figure:
    return Figure(meaning, **{"range": (0, 1), "diverse": "", "better": "lower", **facts})


_OF_GRADED = "over the n prompts with {k} graded completions: one with a truncated answer may have too few"

OF_NO_METRIC = {
    "accuracy": _quality("Share of graded completions that are correct", headline=200),
    "accuracy_no_answer_wrong": _quality("Accuracy with completions without an answer counted as wrong"),
    "pass_at{k}": _quality(f"Chance that one of {{k}} completions is correct (pass@{{k}}), {_OF_GRADED}", rank=210),
    "cover_at{k}": _quality("Chance that at least {k} of K completions are correct"),
    "pass_crossing": _quality(
        "k from which the reference's pass@k is at least that of the model now", "", range=(1, None)
    ),
    "coverage": _quality("Chance that some of K completions is correct"),
    "solve_all": _quality("Chance that all of K completions are correct"),
    "solve_none": _quality("Chance that none of K completions is correct", "lower"),
    "mixed": _quality("Chance that some of K completions are correct and some are not", ""),
    "majority_at{k}": _quality(f"Accuracy of the vote of {{k}} completions, {_OF_GRADED}"),
    "majority_gain": _quality("Accuracy of the vote of K completions minus that of one", range=(-1, 1)),
    "distinct_answers_at{k}": _quality("Expected different final answers among {k} completions", "", range=(1, "{k}")),
    "no_answer": _rate("Share of completions without an answer: truncated, or ended inside their reasoning", rank=220),
    "truncated": _rate("Share of completions that reached the token limit before their answer"),
    "empty": _rate("Share of completions without text"),
    "clipped_ratio": _rate("Share of completions that ended at the token limit"),
    "reward": Figure("Mean reward of a group of rollouts", diverse="", better="higher"),
    "reward_std": Figure("Standard deviation of the rewards within a group", range=(0, None), diverse=""),
    "frac_reward_zero_std": _rate("Share of groups whose rewards are all equal, so that they train nothing"),
}
"""Figures of quality, of how completions end, and of rollouts. "{k}" stands for every size of a set up to K."""


class Registry:
    """What figures are: those of a run or of chosen metrics, then those of no metric, then this package's metrics.

    Args:
        own: by name, what a run recorded (`Run.figures`), or what chosen metrics declare.
    """

    def __init__(self, own: Mapping[str, Figure] | None = None) -> None:
        self.own = dict(own or {})

    @classmethod
    def merged(cls, several: Iterable[Registry]) -> Registry:
        """Those of several runs, the first one's where they differ."""
        own: dict[str, Figure] = {}
        for one in several:
            own = one.own | own
        return cls(own)

    def __getitem__(self, name: str) -> Figure:
        """What the figure of this name is; `UNKNOWN` where nothing declares it."""
        known = self.own.get(name) or of_no_metric(name)
        if known is None and "/" in name:  # a term of a decomposition; to look for it among metrics would load torch
            return UNKNOWN
        return known or _of_the_package().get(name) or UNKNOWN

    def of(self, names: Iterable[str]) -> dict[str, Figure]:
        """What these are, for a snapshot that holds them."""
        return {name: self[name] for name in dict.fromkeys(names)}

    def headline(self, names: Iterable[str]) -> list[str]:
        """Of these, the ones shown first, in order."""
        return _in_order({name: self[name].headline for name in names})

    def ranked(self, names: Iterable[str]) -> list[str]:
        """Of these, the ones with a place among those compared, in order."""
        return _in_order({name: place_of(self[name]) for name in names})

    def diversity(self, names: Iterable[str]) -> list[str]:
        """Of these, the figures of diversity that comparisons show, in order; more of each is more diverse."""
        return [name for name in self.ranked(names) if self[name].diverse == "higher"]

    def shown(self, name: str) -> bool:
        """Whether it is one to look at: of those at every k up to K the powers of two are."""
        return self[name].size.bit_count() <= 1

    def pairwise(self, names: Iterable[str] | None = None) -> list[str]:
        """Of these, or of all declared, the means over pairs, in the order in which alerts choose one to be tested:
        what may be measured in the first and last snapshot alone comes last, unless it was put in the headline."""
        several = {**_of_the_package(), **self.own} if names is None else names
        means = [name for name in dict.fromkeys(several) if self[name].pairwise]

        def order(name: str) -> tuple[bool, float]:
            figure = self[name]
            return figure.headline is None and metrics.EXPENSIVE in figure.needs, _place(place_of(figure))

        return sorted(means, key=order)

    def bounded(self, scores: Iterable[Score]) -> list[Score]:
        """With intervals inside what each figure can be: an accuracy is not below 0, whatever its spread."""
        bounds = ((s, within_bounds(s.mean, s.low, s.high, self[s.metric].bounds)) for s in scores)
        return [replace(score, low=low, high=high) for score, (low, high) in bounds]

    def bounded_changes(self, changes: Iterable[Change]) -> list[Change]:
        """The same for changes."""
        bounds = ((c, within_bounds(c.change, c.low, c.high, self[c.metric].change_bounds)) for c in changes)
        return [replace(change, low=low, high=high) for change, (low, high) in bounds]

    def record(self) -> dict[str, Any]:
        """Plain data for a run's manifest, which `read_figures` reads."""
        return {name: plain(figure) for name, figure in (OF_NO_METRIC | self.own).items()}


def of_metrics(chosen: Iterable[metrics.Metric]) -> Registry:
    """The registry of these metrics.

    Raises:
        ValueError: two of them give a figure of the same name, which no record could tell apart.
    """
    own: dict[str, Figure] = {}
    for metric in chosen:
        for name, figure in metric.figures.items():
            if name in own and own[name].metric != metric.name:
                raise ValueError(
                    f"metrics {own[name].metric!r} and {metric.name!r} both give a figure named {name!r}; expected one"
                    " name for one figure: choose one of the two, or declare another name in its @metric(figures=...)"
                )
            if of_no_metric(name) is not None:
                raise ValueError(
                    f"metric {metric.name!r} gives a figure named {name!r}, which divmon computes itself; declare"
                    " another name in its @metric(figures=...)"
                )
            own[name] = figure
    return Registry(own)


def of_no_metric(name: str) -> Figure | None:
    """What a figure of no metric is; of one at a size k, with its k."""
    if name in OF_NO_METRIC:
        return OF_NO_METRIC[name]
    k = re.fullmatch(r"(.+_at)(\d+)", name)
    family = k and OF_NO_METRIC.get(f"{k[1]}{{k}}")
    if not k or not family:
        return None
    low, high = (int(k[2]) if bound == "{k}" else bound for bound in family.range)
    return replace(family, meaning=family.meaning.replace("{k}", k[2]), range=(low, high), size=int(k[2]))


@functools.cache
def _of_the_package() -> dict[str, Figure]:
    """Of the metrics here and of installed packages; loads torch."""
    found: dict[str, Figure] = {}
    for name in metrics.available():
        with contextlib.suppress(Exception):  # a broken package is named where its metric is chosen
            found |= metrics.load(name).figures
    return found


def place_of(figure: Figure) -> float | None:
    """Its place among the figures that comparisons show; None: not there."""
    return figure.headline if figure.rank is None else figure.rank


def _in_order(places: Mapping[str, float | None]) -> list[str]:
    return sorted((name for name, place in places.items() if place is not None), key=lambda name: _place(places[name]))


def _place(place: float | None) -> float:
    return float("inf") if place is None else place
