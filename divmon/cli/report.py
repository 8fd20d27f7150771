"""`divmon report RUN`: a run as one HTML file to look at, with its samples; tables and pictures too."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from divmon.analysis.comparison.compare import Comparison

OK, NOTHING = 0, 2

_DESCRIPTION = """Writes a run as one HTML file that needs no network: what was lost, when, and how much of it was
narrowing among correct answers; curves, decompositions, where alerts would have fired, and the completions.
Several runs side by side: divmon compare RUN RUN ... --out FILE.html"""


def main(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code: 0 it is written, 2 wrong usage or nothing to report."""
    parser = argparse.ArgumentParser(prog="divmon report", description=_DESCRIPTION)
    parser.add_argument("run", metavar="RUN", help="a run directory, or the output_dir that holds one")
    parser.add_argument("--out", type=Path, default=Path("divmon-report.html"), metavar="FILE", help="%(default)s")
    add_exports(parser)
    given = parser.parse_args(argv)
    from divmon.analysis.comparison.compare import compare

    try:
        written = export(compare([given.run]), given.out, given.csv, given.png, given.groups)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        print(f"divmon report: {error}", file=sys.stderr)
        return NOTHING
    print("\n".join(written))
    return OK


def add_exports(parser: argparse.ArgumentParser) -> None:
    """What `divmon compare` offers too."""
    parser.add_argument("--csv", type=Path, metavar="DIR", help="write every table there as CSV")
    parser.add_argument("--png", type=Path, metavar="DIR", help="write the charts there as PNG")
    parser.add_argument(
        "--groups",
        choices=("auto", "meaning", "words"),
        default="auto",
        help="how the page groups a prompt's completions: by meaning, with the run's text encoder, which takes as long"
        " as it takes to encode them again; or by words, which is what auto does (%(default)s)",
    )


def export(
    comparison: Comparison, out: Path | None, csv: Path | None, png: Path | None, groups: str = "auto"
) -> list[str]:
    """Writes what is asked for; returns a line for each.

    Raises:
        NotADirectoryError, OSError: a place cannot be written.
        ImportError: the extra `report` is not installed.
        RuntimeError: completions cannot be grouped as asked.
    """
    from divmon.analysis.report import export as exports
    from divmon.analysis.report import write

    for folder in filter(None, (csv, png)):
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"{folder} is a file, expected a folder")
    said = []
    if out is not None:
        path = write(comparison, out, groups)
        said.append(f"{path} ({path.stat().st_size / 1e6:.1f} MB): open it in a browser")
    if csv is not None:
        said.append(f"{len(exports.csv(comparison, csv))} tables in {csv}")
    if png is not None:
        said.append(f"{len(exports.png(comparison, png))} pictures in {png}")
    return said
