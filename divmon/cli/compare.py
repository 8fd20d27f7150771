"""`divmon compare RUN RUN ...`: which run kept more diversity, where they diverge, and at equal accuracy too."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from divmon.cli.flags import names_of
from divmon.cli.report import add_exports, export
from divmon.types import strict_json

if TYPE_CHECKING:
    from divmon.analysis.comparison.compare import Comparison

OK, NOTHING, PARTLY = 0, 2, 3

_DESCRIPTION = """Compares runs on the prompts they share: paired differences with 95 percent intervals at matched
steps, tokens or examples and at equal accuracy, where the curves diverge and whether that is more than chance over the
whole curve, the decomposition of each run's change, and what each stage of a lineage took.

A RUN is a run directory or the output_dir that holds one. Seeds of one recipe are grouped:
  divmon compare narrow=runs/n1,runs/n2,runs/n3 broad=runs/b1,runs/b2,runs/b3
With several runs in every group the intervals cover training seeds too."""

_EPILOG = """exit code: 0 all was compared; 2 wrong usage, or nothing could be compared; 3 a run was left out of a task
or of some metrics, each named with its reason, and the rest was compared."""


def main(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code."""
    given = _parser().parse_args(argv)
    try:
        runs = _runs(given.runs)
        if given.csv is not None and given.csv.exists() and not given.csv.is_dir():
            raise ValueError(f"--csv: {given.csv} is a file, expected a folder")
        from divmon.analysis.comparison.compare import compare

        comparison = compare(runs, given.by, given.metric, tasks=given.task, chain=given.chain, rescore=given.rescore)
        write(comparison, given)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        print(f"divmon compare: {error}", file=sys.stderr)
        return NOTHING
    return PARTLY if len(comparison.refused) else OK


def write(comparison: Comparison, given: argparse.Namespace) -> None:
    """Everything that was asked for, each from the same comparison."""
    if given.csv is not None:
        given.csv.mkdir(parents=True, exist_ok=True)
        for name, frame in comparison.frames().items():
            frame.to_csv(given.csv / f"{name}.csv", index=False)
    if given.json:
        print(strict_json(comparison.as_dict(), indent=1).decode())
    else:
        from divmon.analysis.comparison.table import text

        print(text(comparison, given.metric))
    if given.out is not None or given.png is not None:
        print("\n".join(export(comparison, given.out, None, given.png, given.groups)), file=sys.stderr)


def _runs(names: Sequence[str]) -> list[str] | dict[str, list[str]]:
    """Runs, or groups of them.

    Raises:
        ValueError: some are named groups and some are not, or a group is named twice or is empty.
    """
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="divmon compare",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="run directories, or groups of them: NAME=RUN[,RUN...]")
    add(
        "--by",
        choices=("step", "tokens", "examples", "accuracy"),
        default="step",
        help="what runs are matched by (step); at equal accuracy they are compared in any case",
    )
    add(
        "--metric",
        type=names_of,
        metavar="NAMES",
        help="metrics to compare, by commas; all, showing sbert, if not told",
    )
    add("--task", type=names_of, metavar="NAMES", help="tasks to compare, by commas; all if not told")
    add("--chain", action="store_true", help="the runs are the stages of one lineage, in this order")
    add(
        "--rescore",
        nargs="?",
        const=True,
        default=False,
        metavar="MODEL",
        help="score the stored samples of all runs again, alike: with the first run's encoder, or MODEL (a hub id, a"
        " folder, or minilm), and the fewest samples that all have",
    )
    add("--out", type=Path, metavar="FILE.html", help="write it as one page to look at, with the runs' samples")
    add_exports(parser)
    add("--json", action="store_true", help="print JSON in place of tables")
    return parser
