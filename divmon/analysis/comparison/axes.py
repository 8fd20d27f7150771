"""Where runs are compared along an axis: at equal steps, tokens, examples or accuracy.

A look is one place on the axis. For each run it is an index into its snapshots, whole where a snapshot lies there, and
2.25 a quarter of the way from the third to the fourth, where figures are interpolated linearly between the two.

- step: the steps that all runs measured; nothing is interpolated.
- tokens, examples: every run's snapshots, as far as all runs reach, the others interpolated.
- accuracy: round levels that every run passes. A run is taken where its path from snapshot to snapshot, the straight
  line between two in accuracy and figure, first meets the level: where one would have stopped to have that accuracy.
  With each prompt left out the path is another, and meets the level elsewhere; that is how the noise of the accuracies
  comes into the interval. Not in it: training seeds, and what lies off the straight line. A level that some run meets
  more than once has no one diversity at that accuracy: `passes` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from divmon.analysis.comparison.alignment import Task
from divmon.analysis.comparison.members import Member
from divmon.analysis.curves import left_out

Array = NDArray[np.float64]

SPACINGS = (0.1, 0.05, 0.02, 0.01)
"""Of levels of accuracy; the widest that gives `LEVELS` is taken."""
LEVELS = 3


@dataclass(frozen=True)
class Looks:
    """Places on an axis, and where each run is there."""

    axis: str
    at_L: Array
    steps: dict[Member, list[int]]
    """The snapshots that the indices count."""
    index: dict[Member, Array]
    """[L] into the snapshots."""
    without: dict[Member, Array]
    """[L, P], the same with each prompt left out; only where the axis is accuracy."""
    passes_L: NDArray[np.int64]
    """How often the run that meets the level most often does; 1 on other axes."""

    def between(self, member: Member, look: int) -> list[int]:
        """The steps of the snapshots that the run is taken from: one, or the two around the look."""
        index = self.index[member][look]
        return [self.steps[member][i] for i in dict.fromkeys((int(np.floor(index)), int(np.ceil(index))))]

    def step(self, member: Member) -> Array:
        """Where the run is at every look [L], between the two snapshots as far as the look is."""
        steps = self.steps[member]
        return np.interp(self.index[member], np.arange(len(steps)), steps) if steps else np.array([])


def looks(axis: str, task: Task, steps: Mapping[Member, Sequence[int]]) -> Looks:
    """The places at which these runs of a task are compared.

    Args:
        axis: one of `divmon.analysis.curves.AXES`.
        steps: the snapshots of each run that may be taken.

    Raises:
        ValueError: a run does not record the axis; the message says what to do.
    """
    given = {member: sorted(map(int, chosen)) for member, chosen in steps.items()}
    if axis == "accuracy":
        return _at_accuracies(task, given)
    if axis == "step":
        at = sorted(set.intersection(*map(set, given.values())))
        index = {member: np.searchsorted(own, at).astype(np.float64) for member, own in given.items()}
        return Looks(axis, np.array(at, dtype=np.float64), given, index, {}, np.ones(len(at), dtype=np.int64))
    places = {member: _places(member, axis, own) for member, own in given.items()}
    if not all(map(len, places.values())):
        return Looks(axis, np.array([]), given, dict.fromkeys(given, np.array([])), {}, np.array([], dtype=np.int64))
    low, high = max(x_S[0] for x_S in places.values()), min(x_S[-1] for x_S in places.values())
    at_L = np.unique(np.concatenate(list(places.values())))
    at_L = at_L[(low <= at_L) & (at_L <= high)]
    index = {member: np.interp(at_L, x_S, np.arange(len(x_S))) for member, x_S in places.items()}
    return Looks(axis, at_L, given, index, {}, np.ones(len(at_L), dtype=np.int64))


def _places(member: Member, axis: str, steps: Sequence[int]) -> Array:
    x_S = member.curves.positions.loc[list(steps), axis].to_numpy()
    if np.isnan(x_S).any():
        how = (
            "set include_num_input_tokens_seen in the TrainingArguments, or give tokens= to DiversityMonitor.measure"
            if axis == "tokens"
            else f"give {axis}= to DiversityMonitor.measure"
        )
        raise ValueError(f"{member.name} has snapshots without a number of {axis}; compare by step, or {how}")
    return x_S


def _at_accuracies(task: Task, steps: dict[Member, list[int]]) -> Looks:
    """Levels that every run passes, also with any one prompt left out."""
    tables = {m: m.curves.tables.get((task.name, "accuracy")) for m in steps}
    own = {m: [s for s in steps[m] if table is not None and s in table.steps] for m, table in tables.items()}
    values = {m: t.at(own[m], task.prompts) for m, t in tables.items() if t is not None and own[m]}
    none = Looks("accuracy", np.array([]), own, {m: np.array([]) for m in own}, {}, np.array([], dtype=np.int64))
    if len(values) < len(steps):
        return none
    # One set of prompts for all: else a path moves because its prompts do.
    judged_P = ~np.any([np.isnan(value_SP).any(0) for value_SP in values.values()], axis=0)
    if judged_P.sum() < 2:
        return none
    paths = {m: left_out(np.where(judged_P, value_SP, np.nan)) for m, value_SP in values.items()}
    level_L = _levels([path for path, _ in paths.values()])
    index = {m: np.array([first_meets(path_S, level) for level in level_L]) for m, (path_S, _) in paths.items()}
    without = {
        m: np.array([[first_meets(path_S, level) for path_S in path_SP.T] for level in level_L]).reshape(
            len(level_L), len(judged_P)
        )
        for m, (_, path_SP) in paths.items()
    }
    kept_L = ~np.any([np.isnan(index[m]) | np.isnan(without[m]).any(1) for m in paths], axis=0)
    passes_L = np.array([max(_meetings(path_S, level) for path_S, _ in paths.values()) for level in level_L[kept_L]])
    return Looks(
        "accuracy",
        level_L[kept_L],
        own,
        {m: f_L[kept_L] for m, f_L in index.items()},
        {m: f_LP[kept_L] for m, f_LP in without.items()},
        passes_L.astype(np.int64),
    )


def _levels(paths: Sequence[Array]) -> Array:
    """Round accuracies that all paths reach."""
    low, high = max(path_S.min() for path_S in paths), min(path_S.max() for path_S in paths)
    level_L = np.array([])
    for spacing in SPACINGS:
        level_L = np.round(np.arange(np.ceil(low / spacing), np.floor(high / spacing) + 1) * spacing, 10)
        if len(level_L) >= LEVELS:
            break
    return level_L


def first_meets(path_S: Array, level: float) -> float:
    """The index at which a path of straight lines first meets a level, from above or below; NaN where it never does.

    >>> first_meets(np.array([0.5, 0.4, 0.8]), 0.6)
    1.5
    """
    if path_S[0] == level:
        return 0.0
    meets_S = (path_S[:-1] - level) * (path_S[1:] - level) <= 0
    if not meets_S.any():
        return float("nan")
    s = int(meets_S.argmax())
    return s + float((level - path_S[s]) / (path_S[s + 1] - path_S[s]))


def _meetings(path_S: Array, level: float) -> int:
    """How often a path meets a level; staying on it for a while is once."""
    side_S = np.sign(path_S - level)
    on_it = (side_S == 0) & np.append(True, side_S[:-1] != 0)  # arrives at it
    return int((side_S[:-1] * side_S[1:] < 0).sum() + on_it.sum())


def interpolated(value_S: Array, index_L: Array) -> Array:
    """Values [..., S] at fractional indices, linear between snapshots; both may have further dimensions that fit.

    Args:
        value_S: [S], or [S, P] with `index_L` of [L, P].
        index_L: [L], or [L, P].
    """
    index_L = index_L.reshape(*index_L.shape, *(1,) * (value_S.ndim - index_L.ndim))
    low_L = np.floor(index_L).astype(np.int64)
    share_L = index_L - low_L
    below, above = (np.take_along_axis(value_S, at, axis=0) for at in (low_L, np.minimum(low_L + 1, len(value_S) - 1)))
    return np.where(share_L == 0, below, (1 - share_L) * below + share_L * above)
