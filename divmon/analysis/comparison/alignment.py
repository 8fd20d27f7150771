"""Runs -> the same prompts, asked the same way: what may be compared, and why the rest may not (contract 4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from divmon.analysis.comparability import Obstacle, obstacles, settings
from divmon.analysis.comparison.members import Member
from divmon.analysis.score_files.comparison import listed
from divmon.storage.manifest import asked


@dataclass(frozen=True)
class Refusal:
    """A run, or some figures of it, left out of a task, with the reason and the way out."""

    run: str
    task: str
    metrics: str
    """"all", or the figures' names."""
    reason: str
    remedy: str

    def __str__(self) -> str:
        figures = "" if self.metrics == "all" else f", {self.metrics}"
        return f"{self.run} is left out of {self.task}{figures}: {self.reason}. {self.remedy}"


@dataclass
class Task:
    """What is compared of one task."""

    name: str
    prompts: list[str]
    """Ids that all its runs share, in the order of the first."""
    members: list[Member]
    figures: dict[str, list[Member]] = field(default_factory=dict)
    """Figures with values by prompt, and the runs that have them and may be compared."""


def against_the_first(task: Task, groups: Mapping[str, Sequence[Member]]) -> Iterator[tuple[Member, Member, int]]:
    """The first run of the first group with that of each other, and the last step that both may be compared at."""
    heads = [members[0] for members in groups.values()]
    for other in heads[1:]:
        shared = set.intersection(*(m.sound_steps(task.name) for m in (heads[0], other)))
        if shared and heads[0] in task.members and other in task.members:
            yield heads[0], other, max(shared)


def align(
    members: Sequence[Member], figures: Sequence[str] | None, only: Sequence[str] | None = None
) -> tuple[list[Task], list[Refusal], list[str]]:
    """The tasks that the first run shares with others, each with the runs that were asked the same in the same way.

    Returns:
        Tasks, refusals, and notes on what to know.

    Raises:
        ValueError: a figure or task is in no run; the message lists those there are.
    """
    names = list(dict.fromkeys(task for member in members for task, _ in member.run.values))
    if unknown := [task for task in only or () if task not in names]:
        raise ValueError(f"no task {', '.join(map(repr, unknown))}; there are {', '.join(names)}")
    refused: list[Refusal] = []
    notes: list[str] = []
    tasks = []
    for name in names if only is None else only:
        task = Task(name, _prompt_ids(members[0], name), [])
        for member in members:
            reason, remedy = _other_prompts(members[0], member, name) or _other_ways(members[0], member, name)
            if reason and (len(members) == 1 or member is not members[0] or task.prompts):
                refused.append(Refusal(member.name, name, "all", reason, remedy))
            elif not reason:
                task.members.append(member)
        notes += _shared(task)
        refused += _by_figure(task, figures)
        tasks.append(task)
    there = sorted({figure for member in members for _, figure in member.curves.tables})
    if unknown := [figure for figure in figures or () if figure not in there]:
        raise ValueError(
            f"no metric {', '.join(map(repr, unknown))} with values by prompt; there are {', '.join(there)}"
        )
    return tasks, refused, notes


def _prompt_ids(member: Member, task: str) -> list[str]:
    return next((table.prompts for (name, _), table in member.curves.tables.items() if name == task), [])


def _other_prompts(first: Member, member: Member, task: str) -> tuple[str, str] | None:
    """Why its prompts are not the first run's, and what to do; None where they are."""
    probe = task.removesuffix("-full")
    sides = []
    for m in (first, member):
        prompts = asked(m.run.manifest)
        sides.append({id: (content, gold) for id, content, gold in prompts.get(task, prompts.get(probe, ()))})
        if not sides[-1] or not _prompt_ids(m, task):
            return f"{m.name} does not ask it a fixed set of prompts", "Runs are compared on the probes they share"
    ours, theirs = sides
    both = [id for id in ours if id in theirs]
    if not both:
        return (
            f"it shares no prompt with {first.name}",
            "A comparison needs the same prompts: measure both on one probe",
        )
    differ = [id for id in both if ours[id] != theirs[id]]
    if differ:
        return (
            f"{len(differ)} of {len(both)} prompt ids stand for another prompt or gold than in {first.name}:"
            f" {listed(differ)}",
            "A comparison needs the same prompts, letter by letter: measure both on one probe",
        )
    return None


def _other_ways(first: Member, member: Member, task: str) -> tuple[str, str]:
    """Why nothing of it can be compared, and what to do; "" where something can."""
    barring = [obstacle for obstacle in _obstacles(first, member, task) if obstacle.bars_all]
    return ("; ".join(map(str, barring)), barring[0].remedy) if barring else ("", "")


def _obstacles(first: Member, member: Member, task: str) -> list[Obstacle]:
    return list(obstacles(*(settings(m.run, m.last_step(task), task) for m in (first, member))))


def _shared(task: Task) -> Iterator[str]:
    """Narrows the prompts to those of all runs, and says so."""
    ids = [set(_prompt_ids(member, task.name)) for member in task.members]
    kept = [id for id in task.prompts if all(id in those for those in ids)]
    if ids and (left := len(set.union(*ids)) - len(kept)):
        yield f"{task.name}: {left} prompts are not in every run and left out; {len(kept)} are compared"
    task.prompts = kept
    for member in task.members:
        for step, count in _missing(member, task).items():
            yield f"{task.name}: {member.name} has no sample of {count} of {len(kept)} prompts at step {step}"


def _missing(member: Member, task: Task) -> dict[int, int]:
    """Step -> prompts that could not be drawn."""
    table = member.curves.tables.get((task.name, "no_answer"))  # defined wherever there is a sample
    if table is None:
        return {}
    count_S = np.isnan(table.at(table.steps, task.prompts)).sum(1)
    return {step: n for step, n in zip(table.steps, count_S.tolist(), strict=True) if n}


def _by_figure(task: Task, figures: Sequence[str] | None) -> Iterator[Refusal]:
    """Fills in the figures, and refuses a run those that it does not have as the first with them has."""
    barred: dict[tuple[Member, Obstacle], list[str]] = {}
    for member in task.members:
        for name, figure in member.curves.tables:
            if name != task.name or not (_is_default(member, figure) if figures is None else figure in figures):
                continue
            others = task.figures.setdefault(figure, [])
            found = _obstacles(others[0], member, task.name) if others else []
            against = next((obstacle for obstacle in found if obstacle.bars(member.curves.figures[figure])), None)
            if against is None:
                others.append(member)
            else:
                barred.setdefault((member, against), []).append(figure)
    for (member, obstacle), those in barred.items():
        yield Refusal(member.name, task.name, ", ".join(those), str(obstacle), obstacle.remedy)


def _is_default(member: Member, figure: str) -> bool:
    """Of pass@k and the like the powers of two but the first, which is the accuracy or 1."""
    return member.curves.figures.shown(figure) and not figure.endswith("_at1")
