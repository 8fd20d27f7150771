"""What everything is compared with: the reference snapshot, and what changed since (contract 4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from divmon.scoring.decomposition import Decomposition, decompose, pairs
from divmon.scoring.paper_view import paper_view
from divmon.scoring.pass_crossing import pass_crossing
from divmon.scoring.same_decoding import described, differing, generated, segment_at
from divmon.scoring.scorer import Scored, Scorer
from divmon.scoring.within_strata import within
from divmon.storage.manifest import asked, read_figures, read_manifest
from divmon.storage.reader import find_folder, list_steps, read_snapshot
from divmon.types import TERMS, Change, Probe, Sample, Score, Snapshot, plain

Correct = list[list[bool | None]]
"""[P][N]: whether each sample of each prompt of a task is correct; None where it is missing or ungradable."""


@dataclass
class Measurement:
    """A snapshot with what later ones are compared to: pair distances are kept in memory, not in the store."""

    snapshot: Snapshot
    distances: dict[tuple[str, str], Any] = field(default_factory=dict)
    """(task, metric) -> [P, N, N]; of a resumed run only where something grades."""
    correct: dict[str, Correct] = field(default_factory=dict)
    """By task; tasks that nothing grades are not in it."""


def by_prompt(probe: Probe, samples: Sequence[Sample], value: Callable[[Sample], Any], wide: int) -> list[list[Any]]:
    """A value of a task's samples as [P][N], N = `wide`; None for missing samples."""
    rows: dict[str, list[Any]] = {prompt.id: [None] * wide for prompt in probe.prompts}
    for sample in samples:
        rows[sample.prompt_id][sample.index] = value(sample)
    return list(rows.values())


def compare(
    now: Measurement,
    reference: Measurement,
    scored: Scored,
    scorer: Scorer,
    ids: Mapping[str, Sequence[str]],
    num_samples: int,
) -> None:
    """Fills in the paired changes, and for each graded task the decomposition of each pairwise metric's change.

    The terms of a decomposition are among the changes as `<metric>/<term>`. `now.snapshot.decomposition` is task ->
    metric -> the whole decomposition, with the paper's own view under "paper" and the terms of `within_strata` under
    "per_prompt".

    Args:
        scored: notes what cannot be decomposed.
        ids: by task, the prompt ids that values belong to.
        num_samples: K.
    """
    before = reference.snapshot
    changes = scorer.changes(now.snapshot.scores, ids, before.scores)
    cosine = {metric.name for metric in [*scorer.metrics, *scorer.expensive] if metric.cosine}
    found: dict[str, dict[str, Any]] = {}
    for (task, metric), distances in now.distances.items():
        then = reference.distances.get((task, metric))
        if then is None or task not in now.correct or task not in reference.correct:
            continue
        if not any(bool(one.isfinite().any()) for one in (then, distances)):
            continue  # answers that show no steps, say
        sides = (then, distances, reference.correct[task], now.correct[task])
        try:
            parts = decompose(*sides)
            view = paper_view(*sides, num_samples=num_samples).as_dict() if metric in cosine else None
            terms = plain(within(pairs(then, reference.correct[task]), pairs(distances, now.correct[task])))
        except Exception as error:  # costs this metric its decomposition, and nothing else
            scored.leave_out(f"{task}/{metric}/decomposition", error)
            continue
        found.setdefault(task, {})[metric] = {**parts.as_dict(), "paper": view, "per_prompt": terms}
        changes += terms_as_changes(task, metric, parts)
    now.snapshot.changes, now.snapshot.decomposition = changes, found
    for task in now.correct.keys() & reference.correct.keys():
        k = pass_crossing(now.correct[task], reference.correct[task])
        if not math.isnan(k.value):
            now.snapshot.scores.append(Score(task, "pass_crossing", k.value, k.low, k.high, k.n))
            now.snapshot.figures |= scorer.figures.of(["pass_crossing"])


def terms_as_changes(task: str, metric: str, parts: Decomposition) -> list[Change]:
    """The terms as changes, so that every place that shows changes with their intervals shows them."""
    nan = float("nan")
    named = {**{name: getattr(parts, name) for name in TERMS}, "correct_pair_change": parts.correct_pair_change}
    changes = []
    for name, value in named.items():
        low, high = parts.ci95.get(name, (nan, nan))
        changes.append(Change(task, f"{metric}/{name}", nan, nan, value, low, high, parts.n))
    return changes


def reference_run(path: str, manifest: dict[str, Any]) -> tuple[Snapshot, list[str]]:
    """The reference of an earlier run, as far as its prompts and its decoding are the same.

    A base model's plain prompts and the chat of its descendants compare where their answers end alike
    (`divmon.scoring.same_decoding.end_alike`).

    Args:
        manifest: of the run that is to be compared with it.

    Returns:
        The snapshot, and a line for a person on each task that was left out of it because it was sampled otherwise.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: its prompts or the decoding of every task are others, or it has no snapshot.
    """
    folder = find_folder(path)
    earlier = read_manifest(folder)
    now = plain({name: manifest[name] for name in ("probes", "decoding", "options", "chat") if name in manifest})
    if asked(earlier) != asked(now):
        raise ValueError(f"reference: the prompts of {path} are not this run's; only the same prompts can be compared")
    steps = list_steps(folder)
    if not steps:
        raise ValueError(f"reference: {path} has no snapshot")
    snapshot = read_snapshot(folder, int(earlier.get("reference_step", steps[0])))
    unlike = _sampled_otherwise(snapshot, earlier, now)
    why = [f"{task} was sampled with {first} there, with {second} here" for task, (first, second) in unlike.items()]
    if len(unlike) == len(now["decoding"]):
        raise ValueError(f"reference: {path}: {'; '.join(why)}; only the same decoding can be compared")
    lines = [
        f"divmon: reference: changes of {line}: left out, as only the same decoding can be compared" for line in why
    ]
    return _without(snapshot, set(unlike)).replace(figures=read_figures(earlier)), lines


def _sampled_otherwise(snapshot: Snapshot, earlier: dict[str, Any], now: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """By task that cannot be compared, what differs in how it was sampled, in the words of both sides."""
    segment, found = segment_at(earlier, snapshot.step), {}
    for task in now["decoding"]:
        then = plain(snapshot.provenance.get("decoding", {}).get(task))
        sides = generated(segment, earlier["probes"], task, then), generated(now, now["probes"], task)
        if differ := differing(*sides):
            found[task] = (described(sides[0], differ), described(sides[1], differ))
    return found


def _without(snapshot: Snapshot, tasks: set[str]) -> Snapshot:
    """The snapshot without these tasks, nor their "-full" ones."""
    if not tasks:
        return snapshot

    def stays(task: str) -> bool:
        return task not in tasks and task.removesuffix("-full") not in tasks

    return snapshot.replace(
        samples=[sample for sample in snapshot.samples if stays(sample.task)],
        scores=[score for score in snapshot.scores if stays(score.task)],
        changes=[change for change in snapshot.changes if stays(change.task)],
        decomposition={task: parts for task, parts in snapshot.decomposition.items() if stays(task)},
        missing={key: reason for key, reason in snapshot.missing.items() if stays(key[0])},
    )
