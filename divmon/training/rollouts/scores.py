"""Groups -> one Snapshot: verdicts, scores, what the group statistics of RL are, and what changed since the first."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from divmon.pipeline import outputs, with_verdicts
from divmon.scoring import quality, soundness
from divmon.scoring.decomposition import Decomposition, decompose, pairs
from divmon.scoring.figure_registry import Registry
from divmon.scoring.intervals import mean_interval
from divmon.scoring.reference import Correct, Measurement, by_prompt, terms_as_changes
from divmon.scoring.scorer import Scored, Scorer
from divmon.training.rollouts.groups import TASK, Drawn, as_prompt, samples, text_of
from divmon.training.rollouts.unpaired import decompose_unpaired, unpaired_change
from divmon.training.rollouts.verdicts import Array, GroupJudge
from divmon.types import Category, Change, Probe, Prompt, Sample, Score, Snapshot

FEWEST_PAIRED = 8
"""Prompts that two windows must share to be compared prompt by prompt; and half of the later one's."""

MOST_VOTES = 32
"""Largest majority vote that is computed: exact votes of 32 samples take 4 ms a prompt, of 64 take 50."""


class GroupScorer:
    """Scores windows of groups and compares each with the first.

    Args:
        scorer: the chosen metrics.
        judge: right or wrong.
        encoder_share: share of the run's time that metrics which need a model may take, 0 to 1: a window that they
            cannot pay for goes without them. The first always has them. None for no limit.
        opens_reasoning: as `groups.samples` takes it.
    """

    def __init__(
        self,
        scorer: Scorer,
        judge: GroupJudge,
        *,
        encoder_share: float | None = None,
        opens_reasoning: bool = False,
        category: Category = "other",
    ) -> None:
        self.scorer, self.judge = scorer, judge
        self.reference: Measurement | None = None
        """The first window."""
        self._cheap, self._dear = (_with(scorer, dear=dear) for dear in (False, True))
        self._allowance = _Allowance(encoder_share)
        self._opens_reasoning = opens_reasoning
        self._category = category

    def snapshot(self, drawn: Drawn, step: int, facts: dict[str, Any] | None = None) -> Snapshot:
        """Judges, scores and compares the groups of one window."""
        began = time.perf_counter()
        probe = Probe(TASK, tuple(as_prompt(id, group, self._category) for id, group in drawn.by_id.items()))
        rewards_PGF = [_floats(group.rewards) for group in drawn.by_id.values()]
        samples_PG, judged = self._judged(drawn, probe, rewards_PGF)
        decided = time.perf_counter()
        flat = [sample for row in samples_PG for sample in row]
        size = max(len(row) for row in samples_PG)
        rows = by_prompt(probe, flat, attrgetter("correct"), size) if judged else None
        scored, with_models = self._score(probe, flat, rows, size)
        scores = [
            *scored.scores,
            *_reward_scores([self.judge.total(rewards_GF) for rewards_GF in rewards_PGF]),
            *_rates(probe, flat),
            *_quality(samples_PG, size),
        ]
        scores = self.scorer.figures.bounded(scores)
        figures = self.scorer.figures.of(score.metric for score in scores)
        provenance = {
            "num_samples": size,
            "with_encoder": with_models,
            "left_out": scored.left_out,
            **self._provenance(drawn, flat),
            **(facts or {}),
        }
        snapshot = Snapshot(step, flat, scores, provenance=provenance, figures=figures)
        measured = Measurement(snapshot, scored.distances, {TASK: rows} if rows else {})
        changes, decomposition, how = self._since(measured, scored)
        seconds = {"grading": decided - began, "scoring": time.perf_counter() - decided}
        snapshot.provenance |= {"compared": how, "seconds": seconds}
        if self.reference is None:
            self.reference = measured
        return snapshot.replace(changes=changes, decomposition=decomposition)

    def _judged(self, drawn: Drawn, probe: Probe, rewards_PGF: list[Any]) -> tuple[list[list[Sample]], bool]:
        """The samples of each group with their verdicts, and whether there are any."""
        samples_PG = [samples(id, group, self._opens_reasoning) for id, group in drawn.by_id.items()]
        verdicts_PG = self.judge(list(drawn.by_id.values()), rewards_PGF, samples_PG, probe.prompts)
        if not verdicts_PG:
            return samples_PG, False
        return [with_verdicts(*both) for both in zip(samples_PG, verdicts_PG, strict=True)], True

    def _provenance(self, drawn: Drawn, flat: list[Sample]) -> dict[str, Any]:
        return {
            "groups": len(drawn.by_id),
            "groups_seen": drawn.seen,
            "verdicts": self.judge.how,
            "suspicion": soundness.suspicion(flat),
            "completions": len(flat),
            "prompts": {id: text_of(group.prompt)[:2000] for id, group in drawn.by_id.items()},
        }

    def remember(self, snapshot: Snapshot) -> None:
        """Takes a stored first window as the reference of a resumed run; its distances come from its texts again."""
        rows: Correct | None = None
        distances: dict[tuple[str, str], Any] = {}
        if any(sample.verdict for sample in snapshot.samples):
            asked = (Prompt(id, text, category=self._category) for id, text in _prompts(snapshot).items())
            probe = Probe(TASK, tuple(asked))
            size = int(snapshot.provenance["num_samples"])
            rows = by_prompt(probe, snapshot.samples, attrgetter("correct"), size)
            if snapshot.provenance.get("with_encoder"):
                distances = self._score(probe, snapshot.samples, rows, size)[0].distances
        self.reference = Measurement(snapshot, distances, {TASK: rows} if rows else {})

    def _score(
        self, probe: Probe, samples: Sequence[Sample], rows: Correct | None, size: int
    ) -> tuple[Scored, bool | None]:
        """The metrics, and whether those that need a model were among them; None where none is chosen."""
        given = [outputs(probe, samples, size, rows)]
        scored = self._cheap.score(given, size, distances=rows is not None, at_ends=False)
        if not self._dear.metrics:
            return scored, None
        if not self._allowance.covers(len(samples)):
            return scored, False
        began = time.perf_counter()
        dear = self._dear.score(given, size, distances=rows is not None, at_ends=False)
        self._allowance.spend(time.perf_counter() - began, len(samples))
        return (
            Scored(scored.scores + dear.scores, scored.left_out | dear.left_out, scored.distances | dear.distances),
            True,
        )

    def _since(self, now: Measurement, scored: Scored) -> tuple[list[Change], dict[str, dict[str, Any]], str]:
        """Changes and decompositions since the first window, and in words how the two were compared."""
        before = self.reference
        if before is None:
            return [], {}, "this is the first window"
        ids, ids_before = list(_prompts(now.snapshot)), list(_prompts(before.snapshot))
        both = [id for id in ids if id in set(ids_before)]
        paired = len(both) >= max(FEWEST_PAIRED, len(ids) / 2)
        since = f"since step {before.snapshot.step}"
        if paired:
            how = f"{since}, paired by prompt on the {len(both)} prompts of both windows"
            changes = self.scorer.changes(now.snapshot.scores, {TASK: ids}, before.snapshot.scores, {TASK: ids_before})
        else:
            shared = f" but for {len(both)}" if both else ""
            how = f"{since}, unpaired: the prompts of the two windows differ{shared}"
            changes = self._unpaired(now.snapshot.scores, before.snapshot.scores)
        found: dict[str, Any] = {}
        for key in now.distances.keys() & before.distances.keys() if now.correct and before.correct else ():
            sides = [(side.distances[key], side.correct[TASK]) for side in (before, now)]
            kept = [[there.index(id) for id in both] for there in (ids_before, ids)] if paired else None
            try:
                parts = _parts(sides, kept)
            except Exception as error:  # costs this metric its decomposition, and nothing else
                scored.leave_out(f"{'/'.join(key)}/decomposition", error)
                continue
            found[key[1]] = {**parts.as_dict(), "paired": paired}
            changes += terms_as_changes(*key, parts)
        return changes, {TASK: found} if found else {}, how

    def _unpaired(self, now: Sequence[Score], reference: Sequence[Score]) -> list[Change]:
        before = {score.metric: score.values for score in reference if score.values}
        changes = []
        for score in now:
            if score.values and score.metric in before:
                how = self.scorer.figures[score.metric].aggregate
                c = unpaired_change(score.values, before[score.metric], how)
                changes.append(Change(TASK, score.metric, c.reference, c.now, c.change, c.low, c.high, c.n))
        return self.scorer.figures.bounded_changes(changes)


def _parts(sides: Sequence[tuple[Any, Correct]], kept: Sequence[Sequence[int]] | None) -> Decomposition:
    """The decomposition between two windows' distances and verdicts.

    Args:
        kept: of each side the rows of the prompts that both have; None where windows are compared without pairing.
    """
    if kept is None:
        return decompose_unpaired(*(pairs(*side) for side in sides))
    (then_d, then_v), (now_d, now_v) = (
        (distance[rows], [verdicts[p] for p in rows]) for (distance, verdicts), rows in zip(sides, kept, strict=True)
    )
    return decompose(then_d, now_d, then_v, now_v)


class _Allowance:
    """What models may still cost: a share of the time since it was made, less what was spent."""

    def __init__(self, share: float | None) -> None:
        self._share = share
        self._began = time.perf_counter()
        self._spent = 0.0
        self._per_text = 0.0

    def covers(self, texts: int) -> bool:
        """Whether so many texts can be paid for, at the last price; what has no price yet can."""
        if self._share is None or not self._per_text:
            return True
        return self._spent + texts * self._per_text <= self._share * (time.perf_counter() - self._began)

    def spend(self, seconds: float, texts: int) -> None:
        self._spent += seconds
        self._per_text = seconds / max(texts, 1)


def _with(scorer: Scorer, *, dear: bool) -> Scorer:
    """The same with the metrics alone that need a model, or that need none; a judge is not asked of rollouts."""
    part = copy.copy(scorer)
    part.metrics = [m for m in scorer.metrics if (m.cost != "cheap") == dear and m.cost != "judge"]
    return part


def _prompts(snapshot: Snapshot) -> dict[str, str]:
    """What a window asked, by id, in the order of its values."""
    return snapshot.provenance["prompts"]


def _floats(rewards: Any) -> Array:
    """[G, F], from a tensor wherever it lies or from lists."""
    values = rewards.tolist() if hasattr(rewards, "tolist") else rewards
    return np.array(values, dtype=np.float64).reshape(len(values), -1)


def _reward_scores(total_PG: Sequence[Array]) -> list[Score]:
    """By group: `reward`, its mean; `reward_std`, its spread (n - 1); `frac_reward_zero_std`, 1 where all
    are equal, so that their advantages are 0. NaN with fewer than one or two rewards."""
    given = [total_G[~np.isnan(total_G)] for total_G in total_PG]
    figures = {
        "reward": [float(total_G.mean()) if len(total_G) else math.nan for total_G in given],
        "reward_std": [float(total_G.std(ddof=1)) if len(total_G) > 1 else math.nan for total_G in given],
        "frac_reward_zero_std": [float(np.ptp(total_G) < 1e-8) if len(total_G) > 1 else math.nan for total_G in given],
    }
    return [_mean(name, values) for name, values in figures.items()]


def _rates(probe: Probe, samples: Sequence[Sample]) -> list[Score]:
    """How completions end; where that is not known, only whether they are empty."""
    ended = soundness.rates(probe, [sample for sample in samples if sample.finish != "unknown"])
    return [
        *(rate for rate in ended if rate.metric != "empty"),
        *(rate for rate in soundness.rates(probe, samples) if rate.metric == "empty"),
    ]


def _quality(samples_PG: Sequence[Sequence[Sample]], size: int) -> list[Score]:
    """Accuracy, pass@k, groups all right or all wrong; votes and distinct answers where a verifier names answers."""
    correct_PG = [[sample.correct for sample in row] for row in samples_PG]
    if all(correct is None for row in correct_PG for correct in row):
        return []
    no_answer = [[soundness.no_answer(sample) for sample in row] for row in samples_PG]
    figures = quality.quality(correct_PG, size, no_answer=no_answer)
    answers = [[sample.final_answer for sample in row] for row in samples_PG]
    if any(answer is not None for row in answers for answer in row):
        figures = quality.quality(correct_PG, min(size, MOST_VOTES), answers=answers) | figures
    known = Registry()
    found = quality.scores(TASK, figures)
    return [score for score in found if known.shown(score.metric) or score.metric.endswith(f"_at{size}")]


def _mean(name: str, values: Sequence[float]) -> Score:
    mean = mean_interval(values)
    return Score(TASK, name, mean.value, mean.low, mean.high, mean.n, tuple(values))
