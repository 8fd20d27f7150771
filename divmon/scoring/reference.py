"""What everything is compared with: the reference snapshot, and what changed since (contract 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from divmon.scoring.decomposition import Decomposition, decompose, pairs
from divmon.scoring.paper_view import paper_view
from divmon.scoring.scorer import Scored, Scorer
from divmon.scoring.within_strata import within
from divmon.storage.manifest import asked, read_figures, read_manifest
from divmon.storage.reader import find_folder, list_steps, read_snapshot
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


def reference_run(path: str, manifest: dict[str, Any]) -> Snapshot:
    """The reference of an earlier run, where its prompts and its decoding are the same.

    Args:
        manifest: of the run that is to be compared with it.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: its prompts or its decoding are others, or it has no snapshot.
    """
    folder = find_folder(path)
    earlier = read_manifest(folder)
    now = plain({"probes": manifest["probes"], "decoding": manifest["decoding"]})
    if asked(earlier) != asked(now):
        raise ValueError(f"reference: the prompts of {path} are not this run's; only the same prompts can be compared")
    if earlier["decoding"] != now["decoding"]:
        raise ValueError(
            f"reference: {path} was drawn with {earlier['decoding']}, this run draws with {now['decoding']}; only the"
            " same decoding can be compared"
        )
    steps = list_steps(folder)
    if not steps:
        raise ValueError(f"reference: {path} has no snapshot")
    snapshot = read_snapshot(folder, int(earlier.get("reference_step", steps[0])))
    return snapshot.replace(figures=read_figures(earlier))
