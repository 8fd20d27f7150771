"""`divmon select RUN`: the path of the checkpoint to keep, for scripts; why is said on the error stream."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from divmon.cli.command import argument, command, flag
from divmon.cli.flags import names_of
from divmon.loggers.terminal import clean, show

if TYPE_CHECKING:
    from divmon.scoring.best_point import Rule

OK = 0

_EPILOG = """standard output is the path alone: model=$(divmon select runs/a) || exit; what was chosen, and why, goes to
the error stream.

exit code: 0 a checkpoint was chosen; 2 wrong usage, no checkpoint is kept, or none fits the rule."""


@dataclass
class Chosen:
    """By which rule one point of several is chosen."""

    min_accuracy: float | None = flag(metavar="SHARE")
    """Choose the most diverse at this accuracy or above."""
    keep: float | None = flag(metavar="SHARE")
    """Choose the most accurate that keeps this share of the reference's diversity; ungraded, the last that does."""
    metric: str | None = flag(metavar="NAME")
    """The figure of diversity; sbert_correct where completions are graded, else sbert, if not told."""

    def rule(self) -> Rule:
        """Raises ValueError: both rules are given, or a number is no share."""
        from divmon.scoring.best_point import Rule

        return Rule(self.min_accuracy, self.keep)


@dataclass
class Flags(Chosen):
    """Prints the path of the checkpoint that lost least diversity at an accuracy as good as the best: of the kept
    checkpoints on the frontier of accuracy and diversity whose accuracy is within its paired 95 percent interval of the
    most accurate one's, the most diverse. Where nothing is graded: the last that kept 95 percent of the reference's
    diversity.

    Candidates are evaluations whose checkpoint-N is kept, and what keep_best=True kept."""

    run: str = argument("RUN")
    """A run directory, or the output_dir that holds one."""
    step: int | None = flag(metavar="N")
    """Choose this step, whatever the rule says."""
    task: list[str] | None = flag(read=names_of, metavar="NAMES")
    """Tasks that count, with commas; all if not told."""
    checkpoints: Path | None = flag(metavar="DIR")
    """Where checkpoint-N are, if not around the run directory."""


@command("divmon select", epilog=_EPILOG)
def main(given: Flags) -> int:
    """Runs the command and returns its exit code."""
    rule = given.rule()
    from divmon.lineages.checkpoint_selection import select
    from divmon.storage.reader import read_run

    run = read_run(given.run)
    chosen = select(run, rule, metric=given.metric, tasks=given.task, step=given.step, checkpoints=given.checkpoints)
    path = str(chosen.path)
    if clean(path) != path or "\n" in path:
        raise ValueError(f"the path {path!r} holds characters that a terminal would act on; rename the folder")
    show(*chosen.lines(), file=sys.stderr)
    show(path)
    return OK
