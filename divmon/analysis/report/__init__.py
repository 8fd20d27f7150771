"""Runs -> one page to look at, tables and pictures.

from divmon.analysis.report import write
write(divmon.compare(["runs/narrow", "runs/broad"]), "report.html")

    headline                what the page says first, and which prompts show it
    chart_rows -> charts    what is drawn, and how (Vega-Lite)
    samples -> groups       completions by prompt, the same answers together
    facts                   tables beside the charts: stages, training data, warnings, record
    page                    all of it as one HTML file; export: CSV and PNG
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from divmon.analysis.comparison.compare import Comparison


def write(comparison: Comparison, path: str | os.PathLike[str], groups: str = "auto") -> Path:
    """Writes the page of one run or several, and returns where; raises as `page.page`, and OSError."""
    from divmon.analysis.report.page import page

    made = page(comparison, groups)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(made, encoding="utf-8", errors="replace")  # a lone surrogate of a tokenizer has no UTF-8
    return path
