"""`divmon compare RUN RUN ...`: which run kept more diversity, where they diverge, and at equal accuracy too."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from divmon.cli.command import argument, command, flag
from divmon.cli.flags import names_of
from divmon.cli.report import Exports
from divmon.loggers.terminal import show, show_json
from divmon.types import strict_json

if TYPE_CHECKING:
    from divmon.analysis.comparison.compare import Comparison

OK, PARTLY = 0, 3

_EPILOG = """exit code: 0 all was compared; 2 wrong usage, or nothing could be compared; 3 a run was left out of a task
or of some metrics, each named with its reason, and the rest was compared."""


@dataclass
class Flags(Exports):
    """Compares runs on the prompts they share: paired differences with 95 percent intervals at matched steps, tokens or
    examples and at equal accuracy, where the curves diverge and whether that is more than chance over the whole curve,
    the decomposition of each run's change, and what each stage of a lineage took.

    A RUN is a run directory or the output_dir that holds one. Seeds of one recipe are grouped:
      divmon compare narrow=runs/n1,runs/n2,runs/n3 broad=runs/b1,runs/b2,runs/b3
    With several runs in every group the intervals cover training seeds too."""

    runs: list[str] = argument("RUN", many=True)
    """Run directories, or groups of them: NAME=RUN[,RUN...]."""
    by: Literal["step", "tokens", "examples", "accuracy"] = "step"
    """What runs are matched by; at equal accuracy they are compared in any case."""
    metric: list[str] | None = flag(read=names_of, metavar="NAMES")
    """Metrics to compare, with commas; all, showing sbert, if not told."""
    task: list[str] | None = flag(read=names_of, metavar="NAMES")
    """Tasks to compare, with commas; all if not told."""
    chain: bool = False
    """The runs are the stages of one lineage, in this order."""
    rescore: str | None = flag(bare="", metavar="[MODEL]")
    """Score the stored completions of all runs again, alike: with the first run's encoder, or MODEL (a hub id, a
    folder, or minilm), and the fewest completions that all have."""
    out: Path | None = flag(metavar="FILE.html")
    """Write it as one page to look at, with the runs' completions."""
    json: bool = False
    """Print JSON in place of tables."""


@command("divmon compare", epilog=_EPILOG)
def main(given: Flags) -> int:
    """Runs the command and returns its exit code."""
    runs = _runs(given.runs)
    if given.csv is not None and given.csv.exists() and not given.csv.is_dir():
        raise ValueError(f"--csv: {given.csv} is a file, expected a folder")
    from divmon.analysis.comparison.compare import compare

    rescore = False if given.rescore is None else given.rescore or True
    comparison = compare(runs, given.by, given.metric, tasks=given.task, chain=given.chain, rescore=rescore)
    write(comparison, given)
    return PARTLY if len(comparison.refused) else OK


def write(comparison: Comparison, given: Flags) -> None:
    """Everything that was asked for, each from the same comparison."""
    from divmon.analysis.report import report
    from divmon.storage.data_frames import write_csv

    if given.csv is not None:
        given.csv.mkdir(parents=True, exist_ok=True)
        for name, frame in comparison.frames().items():
            write_csv(frame, given.csv / f"{name}.csv")
    if given.json:
        show_json(strict_json(comparison.as_dict(), indent=1).decode())
    else:
        from divmon.analysis.comparison.table import blocks

        show(*blocks(comparison, given.metric), gap="\n\n")
    if given.out is not None or given.png is not None:
        written = report(comparison, given.out, png=given.png, groups=given.groups)
        show(*written.lines(), file=sys.stderr)


def _runs(names: Sequence[str]) -> list[str] | dict[str, list[str]]:
    """Runs, or groups of them. Raises ValueError: some are named groups and some are not, or a group is named twice or
    is empty."""
    named = [name for name in names if "=" in name and not Path(name).exists()]
    if not named:
        return list(names)
    if len(named) < len(names):
        others = ", ".join(name for name in names if name not in named)
        raise ValueError(f"give every run a group, NAME=RUN[,RUN...], or none; without one: {others}")
    groups: dict[str, list[str]] = {}
    for group, _, runs in (name.partition("=") for name in named):
        if group in groups or not group or not runs.strip(","):
            raise ValueError(f"{group}={runs}: expected each group once, as NAME=RUN[,RUN...]")
        groups[group] = [run for run in runs.split(",") if run]
    return groups
