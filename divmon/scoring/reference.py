"""What everything is compared with: the reference snapshot, and what changed since (contract 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

from divmon.scoring.decomposition import Decomposition, decompose, pairs
from divmon.scoring.paper_view import paper_view
from divmon.scoring.same_decoding import described, differing, generated, segment_at
from divmon.scoring.scorer import Scored, Scorer
from divmon.scoring.within_strata import within
from divmon.storage.reader import asked, find_folder, list_steps, read_figures, read_manifest, read_snapshot
from divmon.types import TERMS, Change, Probe, Sample, Score, Snapshot, plain

Rows = list[list[bool | None]]
"""For each prompt of a task whether its samples are correct, by their number."""


@dataclass
class Reference:
    """A snapshot with what later ones are compared to: pair distances are kept in memory, not in the store."""

    snapshot: Snapshot
    distances: dict[tuple[str, str], Any] = field(default_factory=dict)
    """(task, metric) -> [P, N, N]; of a resumed run only where something grades."""
    verdicts: dict[str, Rows] = field(default_factory=dict)


def in_rows(probe: Probe, samples: Sequence[Sample], values: Sequence[Any], num_samples: int) -> list[list[Any]]:
    """What stands beside a task's samples as [P][N]; None for missing samples."""
    rows: dict[str, list[Any]] = {prompt.id: [None] * num_samples for prompt in probe.prompts}
    for sample, value in zip(samples, values, strict=True):
        rows[sample.prompt_id][sample.index] = value
    return list(rows.values())


@dataclass
class Measured:
    """What one measurement gives to be compared with the reference."""

    scores: Sequence[Score]
    """Those of the metrics and of quality."""
    scored: Scored
    """With the pair distances; what cannot be decomposed is noted in it."""
    verdicts: dict[str, Rows]
    """By task; tasks that were not graded are not in it."""
    ids: dict[str, list[str]]
    """By task, the prompt ids that values belong to."""


def since(
    reference: Reference, measured: Measured, scorer: Scorer, num_samples: int
) -> tuple[list[Change], dict[str, dict[str, Any]]]:
    """The paired changes, and for each graded task the decomposition of each pairwise metric's change.

    Args:
        num_samples: K.

    Returns:
        Changes; the parts of a decomposition are among them as `<metric>/<part>`. And task -> metric -> the whole
        decomposition with the paper's own view under "paper" and the terms of `within_strata` under "per_prompt".
    """
    changes = scorer.changes(measured.scores, measured.ids, reference.snapshot.scores)
    scored, verdicts = measured.scored, measured.verdicts
    cosine = {metric.name for metric in [*scorer.metrics, *scorer.expensive] if metric.cosine}
    found: dict[str, dict[str, Any]] = {}
    for (task, metric), now in scored.distances.items():
        before = reference.distances.get((task, metric))
        if before is None or task not in verdicts or task not in reference.verdicts:
            continue
        sides = (before, now, reference.verdicts[task], verdicts[task])
        try:
            parts = decompose(*sides)
            view = paper_view(*sides, num_samples=num_samples).as_dict() if metric in cosine else None
            terms = plain(within(pairs(before, reference.verdicts[task]), pairs(now, verdicts[task])))
        except Exception as error:  # costs this metric its decomposition, and nothing else
            scored.leave_out(f"{task}/{metric}/decomposition", error)
            continue
        found.setdefault(task, {})[metric] = {**parts.as_dict(), "paper": view, "per_prompt": terms}
        changes += terms_as_changes(task, metric, parts)
    return changes, found


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

    kept = [stays(sample.task) for sample in snapshot.samples]
    return snapshot.replace(
        samples=list(compress(snapshot.samples, kept)),
        verdicts=list(compress(snapshot.verdicts, kept)),
        scores=[score for score in snapshot.scores if stays(score.task)],
        changes=[change for change in snapshot.changes if stays(change.task)],
        decomposition={task: parts for task, parts in snapshot.decomposition.items() if stays(task)},
        missing={key: reason for key, reason in snapshot.missing.items() if stays(key[0])},
    )
