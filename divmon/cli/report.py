"""`divmon report RUN`: a run as one HTML file to look at, with its samples; tables and pictures too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from divmon.cli.command import argument, command, flag
from divmon.loggers.terminal import show

if TYPE_CHECKING:
    from divmon.analysis.comparison.compare import Comparison

OK = 0


@dataclass
class Exports:
    """What `divmon report` and `divmon compare` write beside the page."""

    csv: Path | None = flag(metavar="DIR")
    """Write every table there as CSV."""
    png: Path | None = flag(metavar="DIR")
    """Write the charts there as PNG."""
    groups: Literal["auto", "meaning", "words"] = "auto"
    """How the page groups a prompt's completions: by meaning, with the run's text encoder, which encodes them again; or
    by words, which is what auto does."""


@dataclass
class Flags(Exports):
    """Writes a run as one HTML file that needs no network: what was lost, when, and how much of it was narrowing among
    correct answers; curves, decompositions, where alerts would have fired, and the completions.
    Several runs side by side: divmon compare RUN RUN ... --out FILE.html"""

    run: str = argument("RUN")
    """A run directory, or the output_dir that holds one."""
    out: Path = flag(Path("divmon-report.html"), metavar="FILE")
    """The page."""


@command("divmon report")
def main(given: Flags) -> int:
    """Writes the page and what else was asked for."""
    from divmon.analysis.comparison.compare import compare

    show(*export(compare([given.run]), given.out, given.csv, given.png, given.groups))
    return OK


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
