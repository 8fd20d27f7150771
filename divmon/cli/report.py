"""`divmon report RUN`: a run as one HTML file to look at, with its samples; tables and pictures too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from divmon.cli.command import argument, command, flag
from divmon.loggers.terminal import show

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
    from divmon.analysis.report import report

    show(*report(given.run, given.out, csv=given.csv, png=given.png, groups=given.groups).lines())
    return OK
