"""What each figure is, in words for a reader who has not met it; and numbers as they are written on the page."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

from divmon.scoring.figure_registry import Registry
from divmon.scoring.metrics import span

TERM_WORDS = {
    "quality_control": "quality control: wrong answers removed, or added",
    "narrowing_correct": "change among correct ones: a loss is narrowing among correct answers, as its encoder sees it",
    "narrowing_wrong": "change among wrong answers",
    "narrowing_cross": "change among wrong answers (against correct ones)",
}
"""The parts of a change, with what they mean."""


def what(figure: str, figures: Registry) -> tuple[str, str]:
    """What a figure is, and its range and direction; empty where nothing declares it."""
    known = figures[figure]
    return (known.meaning, span(known)) if known.meaning else ("", "")


def number(value: Any, form: str = ".3f") -> str:
    """A figure, or a dash where it is undefined."""
    if value is None or math.isnan(value):
        return "–"
    text = f"{value:{form}}"
    if not text.strip("+-0.,"):  # what rounds to nothing has no sign
        text = text.lstrip("+-")
    return text.replace("-", "−")


def interval(low: float, high: float, form: str = ".3f") -> str:
    return "" if math.isnan(low) or math.isnan(high) else f"[{number(low, form)}, {number(high, form)}]"


def listed(names: Sequence[str], mark: str = ",") -> str:
    """`a`, `a and b`, `a, b and c`."""
    *before, last = names or [""]
    return f"{f'{mark} '.join(before)}{mark if mark == ';' else ''} and {last}" if before else last


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], caption: str, numbers: Sequence[int] = ()) -> str:
    """An HTML table; every cell is shown as text.

    Args:
        numbers: columns that are set to the right.
    """

    def cells(tag: str, row: Sequence[Any]) -> str:
        found = []
        for i, cell in enumerate(row):
            scope = ' scope="col"' if tag == "th" else ""
            right = ' class="number"' if i in numbers else ""
            found.append(f"<{tag}{scope}{right}>{html.escape(str(cell))}</{tag}>")
        return f"<tr>{''.join(found)}</tr>"

    body = "\n".join(cells("td", row) for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(caption)}">'
        f"<table><caption>{html.escape(caption)}</caption><thead>{cells('th', head)}</thead>"
        f"<tbody>{body}</tbody></table></div>"
    )
