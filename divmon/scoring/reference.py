"""What everything is compared with: the reference snapshot, and what changed since (contract 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from divmon.scoring.decomposition import Decomposition, decompose, pairs
from divmon.scoring.paper_view import paper_view
from divmon.scoring.scorer import Scored, Scorer
from divmon.scoring.within_strata import within
from divmon.storage.manifest import asked, read_figures, read_manifest
from divmon.storage.reader import find_folder, list_steps, read_snapshot
from divmon.types import TERMS, Change, Probe, Sample, Snapshot, plain

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
    now.snapshot.changes, now.snapshot.decomposition = scorer.figures.bounded_changes(changes), found


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
