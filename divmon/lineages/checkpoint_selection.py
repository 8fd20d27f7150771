"""The checkpoint of a run to keep: chosen by `divmon.scoring.best_point` among those that lie on the disk."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from divmon.analysis.candidates import candidates
from divmon.lineages.watch.checkpoints import NotWhole, Unusable, found
from divmon.scoring.best_point import Choice, NoChoice, Point, Rule, choose
from divmon.storage.best import BEST, best_step
from divmon.storage.reader import FOLDER, WATCH_FOLDER, Run


@dataclass(frozen=True)
class Selection:
    """A choice with the folder of its weights."""

    path: Path
    choice: Choice
    points: Sequence[Point]
    """What it was chosen from, by step."""
    left_out: dict[int, str]
    """Why an evaluation was no candidate, by step."""

    without: Point | None = None
    """What the rule names where it does not matter what is kept; None where that is the same."""
    reference: Point | None = None

    def lines(self) -> list[str]:
        """What was chosen and why, what from, and what was left out."""
        said = [f"{self.choice.point}", f"  {self.choice.why}"]
        if self.reference is not None:
            said.append(f"  the reference, {self.reference}")
        said.append(f"  chosen from steps {_listed([point.step for point in self.points])}")
        said += [f"  step {step} is no candidate: {why}" for step, why in self.left_out.items()]
        if self.without is not None:
            said.append(f"  the rule names {self.without}, of which no weights are kept (keep_best=True keeps them)")
        return said


def select(
    run: Run,
    rule: Rule | None = None,
    *,
    metric: str | None = None,
    tasks: Collection[str] | None = None,
    step: int | None = None,
    checkpoints: Path | None = None,
) -> Selection:
    """Chooses among the evaluations whose weights are kept.

    Args:
        metric: the figure of diversity; `divmon.scoring.best_point.figure_of` chooses where None.
        tasks: those that count; all where None.
        step: this one, whatever the rule says.
        checkpoints: the folder that holds checkpoint-N; the one around the run directory where None.

    Raises:
        NoChoice: no weights are kept, nothing was measured by which to choose, or the rule fits none.
    """
    kept, broken = weights_of(run, checkpoints)
    if step is not None and step not in run.steps:
        raise NoChoice(f"step {step} was not evaluated; {run.folder} has steps {_listed(run.steps)}")
    points, left_out = candidates(run, metric, tasks)
    first = int(run.manifest.get("reference_step", run.steps[0] if run.steps else 0))
    for point in points:
        if point.step not in kept and (point.step != first or step == first):
            left_out[point.step] = broken.get(point.step, "no checkpoint of it is kept")
    able = [point for point in points if point.step in kept and step in (None, point.step)]
    if not able:
        raise NoChoice(_nothing(run, kept, left_out, step))
    choice = Choice(able[0], "asked for") if step is not None else choose(able, rule)
    trained = [point for point in points if point.step != first]
    best = choose(trained, rule).point if step is None and trained else choice.point
    return Selection(
        kept[choice.point.step],
        choice,
        able,
        dict(sorted(left_out.items())),
        without=None if best.step == choice.point.step else best,
        reference=next((point for point in points if point.step == first and point not in able), None),
    )


def weights_of(run: Run, checkpoints: Path | None = None) -> tuple[dict[int, Path], dict[int, str]]:
    """The folders that hold weights of a run's evaluations, by step, and why others cannot be used.

    Raises:
        NoChoice: `checkpoints` is no folder.
    """
    if checkpoints is not None and not checkpoints.is_dir():
        raise NoChoice(f"there is no folder {str(checkpoints)!r}")
    inside = run.folder.name in (FOLDER, WATCH_FOLDER)
    options = ([run.manifest, *run.manifest.get("resumed", ())])[-1].get("options") or {}
    first = int(options.get("first_step") or 0)
    kept, broken = {}, {}
    for checkpoint in found(checkpoints or (run.folder.parent if inside else run.folder)):
        try:
            checkpoint.check()
            kept[first + checkpoint.step] = checkpoint.path
        except (NotWhole, Unusable) as reason:
            broken[first + checkpoint.step] = f"{checkpoint.path.name}: {reason}"
    best = best_step(run.folder)
    if best is not None:
        kept.setdefault(best, run.folder / BEST)
    return kept, broken


def _nothing(run: Run, kept: dict[int, Path], left_out: dict[int, str], step: int | None) -> str:
    what = "no evaluation has a checkpoint" if step is None else f"step {step}: {left_out.get(step, 'no checkpoint')}"
    there = f"checkpoints are kept of steps {_listed(sorted(kept))}" if kept else "no checkpoints are kept"
    return (
        f"{what}; {there}, and steps {_listed(run.steps)} were evaluated. Train with save_steps equal to `every` and"
        " without save_total_limit, or with keep_best=True; --checkpoints DIR names the folder that holds checkpoint-N"
    )


def _listed(items: Sequence[object]) -> str:
    return ", ".join(map(str, items)) or "none"
