"""The runs of a comparison: read, grouped, and named so that they can be told apart."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from divmon.analysis.curves import Curves
from divmon.storage.reader import FOLDER, Run, read_run

OneRun = str | os.PathLike[str] | Run
Runs = OneRun | Sequence[OneRun] | Mapping[str, OneRun | Sequence[OneRun]]
"""A run, several, or groups of them by name: seeds of one recipe."""


@dataclass(frozen=True)
class Member:
    """One run of a comparison."""

    name: str
    group: str
    curves: Curves

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def run(self) -> Run:
        return self.curves.run

    def steps(self, task: str, figure: str, sound: bool = False) -> list[int]:
        """Where a figure was measured; where `sound`, only steps without trouble."""
        steps = self.curves.tables[task, figure].steps
        return [step for step in steps if not (sound and (step, task) in self.curves.troubles)]

    def last_step(self, task: str) -> int:
        """Of its snapshots with figures of a task by prompt."""
        return max(table.steps[-1] for (name, _), table in self.curves.tables.items() if name == task)

    def sound_steps(self, task: str) -> set[int]:
        """The steps whose figures of a task may be compared."""
        return {step for step in self.run.steps if (step, task) not in self.curves.troubles}

    def since_earlier_run(self, task: str, figure: str, step: int) -> str:
        """The paired change since the reference of an earlier run, in words; "" where the reference is its own."""
        reference = self.run.manifest.get("options", {}).get("reference", "first")
        changes = self.run.changes
        if reference in ("first", "ref_model", "base") or changes.empty:
            return ""
        at_step = (changes["task"] == task) & (changes["metric"] == figure) & (changes["step"] == step)
        of = f"since the reference of {reference}"
        said = [f"{c.change:+.3f} [{c.low:+.3f}, {c.high:+.3f}]" for c in changes[at_step].itertuples()]
        return f"{self.name} at step {step}: {figure} {said[0]} {of}" if said else ""

    def row(self) -> dict[str, Any]:
        """What the run is."""
        manifest, steps = self.run.manifest, list(self.run.provenance)
        return {
            "run": self.name,
            "group": self.group,
            "folder": str(self.run.folder),
            "model": manifest.get("model", ""),
            "first_step": min(steps, default=None),
            "last_step": max(steps, default=None),
            "snapshots": len(steps),
            "segments": 1 + len(manifest.get("resumed", ())),
        }


def members(runs: Runs) -> list[Member]:
    """Reads the runs. Raises FileNotFoundError: there is no run; ValueError: none is given, one is given twice, or one
    has no snapshot."""
    if isinstance(runs, (str, os.PathLike, Run)):
        runs = [runs]
    given: Iterable[tuple[str, Any]] = runs.items() if isinstance(runs, Mapping) else [("", [run]) for run in runs]
    groups = [(group, [one] if isinstance(one, (str, os.PathLike, Run)) else list(one)) for group, one in given]
    read = [(group, run if isinstance(run, Run) else read_run(run)) for group, those in groups for run in those]
    if not read:
        raise ValueError("no run is given; expected run directories, or groups of them by name")
    folders = [run.folder.resolve() for _, run in read]
    for (_, run), folder in zip(read, folders, strict=True):
        if folders.count(folder) > 1:
            raise ValueError(f"{folder} is given twice; a run can be compared with others only")
        if not run.provenance:
            why = "\n".join(f"  {line}" for line in run.problems.lines())
            raise ValueError(f"{run.folder} has no whole snapshot; there is nothing to compare{why and chr(10)}{why}")
    sizes = {group: len(those) for group, those in groups}
    names = [group or name for (group, _), name in zip(read, short_names(folders), strict=True)]
    whole = [
        f"{group}/{short}" if group and sizes[group] > 1 else name
        for (group, _), name, short in zip(read, names, short_names(folders), strict=True)
    ]
    return [Member(name, group, Curves(run)) for name, group, (_, run) in zip(whole, names, read, strict=True)]


def short_names(folders: Sequence[Path]) -> list[str]:
    """The ends of the paths, as long as it takes to tell them apart.

    >>> short_names([Path("/runs/x/a/_divmon"), Path("/runs/y/a/_divmon"), Path("/runs/b")])
    ['x/a', 'y/a', 'runs/b']
    """
    parts = [[part for part in folder.parts if part != FOLDER] or [FOLDER] for folder in folders]
    names: list[str] = []
    for depth in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(those[-depth:]) for those in parts]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]
