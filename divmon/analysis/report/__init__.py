"""divmon.report: runs -> one page to look at, tables and pictures.

divmon.report("runs/a")                                                  # writes divmon-report.html
divmon.report(["runs/narrow", "runs/broad"], "both.html", csv="tables", png="pictures")

    headline                what the page says first, and which prompts show it
    chart_rows -> charts    what is drawn, and how (Vega-Lite)
    samples -> groups       completions by prompt, the same answers together
    facts                   tables beside the charts: stages, training data, warnings, record
    page                    all of it as one HTML file; export: CSV and PNG
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from divmon.analysis.comparison.compare import Comparison
    from divmon.analysis.comparison.members import Runs

PathLike = str | os.PathLike[str]
Groups = Literal["auto", "meaning", "words"]


@dataclass(frozen=True)
class Report:
    """What was written."""

    page: Path | None = None
    tables: list[Path] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """A line for each kind."""
        if self.page is not None:
            yield f"{self.page} ({self.page.stat().st_size / 1e6:.1f} MB): open it in a browser"
        for what, paths in (("tables", self.tables), ("pictures", self.pictures)):
            if paths:
                yield f"{len(paths)} {what} in {paths[0].parent}"


def report(
    runs: Runs | Comparison,
    page: PathLike | None = "divmon-report.html",
    *,
    csv: PathLike | None = None,
    png: PathLike | None = None,
    groups: Groups = "auto",
) -> Report:
    """Writes one run or several as one HTML page that needs no network; tables and pictures too.

    >>> divmon.report("runs/a", "a.html").page                         # doctest: +SKIP
    PosixPath('a.html')

    Args:
        runs: as `divmon.compare` takes them, or what it gave.
        page: the page's file; None writes none.
        csv: folder for every table as CSV.
        png: folder for the charts as PNG.
        groups: how the page groups a prompt's completions: by "meaning", with the run's text encoder, or by "words",
            which is "auto".

    Raises:
        FileNotFoundError, OSError: there is no run; a place cannot be written.
        ImportError: the extra `report` is not installed, which pictures need.
        ValueError, RuntimeError: nothing can be reported; completions cannot be grouped as asked.
    """
    from divmon.analysis.comparison.compare import Comparison, compare
    from divmon.analysis.report import export

    for folder in (Path(place) for place in (csv, png) if place is not None):
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"{folder} is a file, expected a folder")
    one = [runs] if isinstance(runs, str | os.PathLike) else runs
    found = one if isinstance(one, Comparison) else compare(one)
    return Report(
        None if page is None else write(found, page, groups),
        [] if csv is None else export.csv(found, Path(csv)),
        [] if png is None else export.png(found, Path(png)),
    )


def write(comparison: Comparison, path: str | os.PathLike[str], groups: str = "auto") -> Path:
    """Writes the page of one run or several, and returns where; raises as `page.page`, and OSError."""
    from divmon.analysis.report.page import page

    made = page(comparison, groups)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(made, encoding="utf-8", errors="replace")  # a lone surrogate of a tokenizer has no UTF-8
    return path
