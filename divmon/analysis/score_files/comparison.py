"""Two files of completions -> paired changes, and how much of a loss of diversity is quality control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from divmon.analysis.score_files.correctness import corrects
from divmon.prompts.rows.completions import Row
from divmon.scoring.decomposition import decompose, plain
from divmon.scoring.figure_registry import Registry
from divmon.scoring.paper_view import paper_view

if TYPE_CHECKING:
    from divmon.analysis.score_files.scored import Side
    from divmon.scoring.scorer import Scorer

NAMED = 5
"""Ids named in a message; the JSON has all."""


@dataclass
class Match:
    """The prompts that two files share, by id."""

    now: list[int]
    """Rows of the present file that the reference has too."""
    reference: list[int]
    """The same prompts' rows in the reference."""
    only_now: list[str | int]
    only_reference: list[str | int]


def match(now: Sequence[Row], reference: Sequence[Row]) -> Match:
    """Pairs the rows of two files. Raises ValueError: they share no id, or an id stands for different prompts."""
    place = {str(row.id): p for p, row in enumerate(reference)}
    both = [(p, place[str(row.id)]) for p, row in enumerate(now) if str(row.id) in place]
    ids, other_ids = ([row.id for row in rows] for rows in (now, reference))
    if not both:
        raise ValueError(f"the files share no id; one has {listed(ids)}, and the reference {listed(other_ids)}")
    differ = [now[p].id for p, r in both if now[p].prompt != reference[r].prompt]
    if differ:
        by_line = "; rows without an id are matched by their line" if str(differ[0]).startswith("line-") else ""
        raise ValueError(
            f"{len(differ)} of {len(both)} ids stand for another prompt in the reference: {listed(differ)}. A"
            f" comparison needs the same prompts, letter by letter{by_line}"
        )
    mine = {str(id) for id in ids}
    return Match(
        now=[p for p, _ in both],
        reference=[r for _, r in both],
        only_now=[id for id in ids if str(id) not in place],
        only_reference=[id for id in other_ids if str(id) not in mine],
    )


def listed(ids: Sequence[str | int]) -> str:
    """The first few of them."""
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return ", ".join(map(str, ids[:NAMED])) + more


def compare(now: Side, reference: Side, match: Match, scorer: Scorer) -> dict[str, Any]:
    """The changes, the decomposition and the paper's view, ready for JSON."""
    ids, before = ([str(row.id) for row in side.rows] for side in (now, reference))
    task = {score.task for score in now.scores}
    changes = scorer.changes(now.scores, dict.fromkeys(task, ids), reference.scores, dict.fromkeys(task, before))
    found: dict[str, Any] = {
        c.metric: plain({"reference": c.reference, "now": c.now, "change": c.change, "ci95": (c.low, c.high), "n": c.n})
        for c in changes
    }
    parts, paper = _decompositions(now, reference, match)
    return {
        "changes": found,
        "decomposition": parts,
        "paper": paper,
        "notes": [*_uneven(now, reference, match, scorer), *_without_decomposition(now, reference)],
    }


def _decompositions(now: Side, reference: Side, match: Match) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """By metric of pairs, and the paper's view of SBERT; nothing where a side has no verdicts."""
    parts: dict[str, Any] = {}
    paper = None
    for name, now_PNN in now.scored.distances.items():
        before_PNN = reference.scored.distances.get(name)
        if before_PNN is None:  # it failed there, which is said
            continue
        verdicts = [corrects(side.verdicts or []) for side in (reference, now)]
        both = (before_PNN, now_PNN[match.now], verdicts[0], [verdicts[1][p] for p in match.now])
        _, metric = name
        parts[metric] = decompose(*both).as_dict()
        if metric == "sbert":
            paper = paper_view(*both, num_samples=now.num_samples).as_dict()
    return parts, paper


def _without_decomposition(now: Side, reference: Side) -> list[str]:
    without = [side.name for side in (now, reference) if not side.judged]
    if without:
        return [
            f"the decomposition needs verdicts on both sides, and there are none in {' and '.join(without)}: give"
            " 'correct' in its rows, or 'gold' or 'row' and a task; figures of correct answers are left out"
        ]
    if not now.scored.distances:
        figures = Registry()
        there = ", ".join(figures[name].metric for name in figures.pairwise())
        return [f"the decomposition is of metrics of pairs ({there}); none was chosen"]
    return []


def _uneven(now: Side, reference: Side, match: Match, scorer: Scorer) -> list[str]:
    dependent = [
        metric.name
        for metric in scorer.metrics
        if not metric.across_prompts and (not metric.uses_all_samples or "num_samples" in metric.takes)
    ]
    if not dependent:
        return []
    figures = f"figures that depend on the number of outputs (of {', '.join(dependent)})"
    most, before = (max(len(row.outputs) for row in side.rows) for side in (now, reference))
    notes = []
    if most != before:
        notes.append(
            f"up to {most} outputs a prompt now and up to {before} in the reference: {figures} are not comparable on"
            f" all of them and take the first {now.num_samples}"
        )
    uneven = [
        row.id
        for p, row in zip(match.now, reference.rows, strict=True)
        if min(len(now.rows[p].outputs), now.num_samples) != min(len(row.outputs), now.num_samples)
    ]
    if uneven:
        notes.append(f"{figures} are not comparable on {len(uneven)} prompts with fewer outputs: {listed(uneven)}")
    return notes
