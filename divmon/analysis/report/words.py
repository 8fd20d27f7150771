"""What each figure is, in words for a reader who has not met it; and numbers as they are written on the page."""

from __future__ import annotations

import functools
import html
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from divmon.analysis.metric_sources import metric_sources

QUALITY = {
    "accuracy": ("Share of graded completions that are correct", "0 to 1, not a diversity"),
    "accuracy_cut_off_wrong": ("Accuracy with truncated completions counted as wrong", "0 to 1"),
    "coverage": ("Chance that some of K completions is correct", "0 to 1"),
    "solve_all": ("Chance that all of K completions are correct", "0 to 1"),
    "solve_none": ("Chance that none of K completions is correct", "0 to 1"),
    "mixed": ("Chance that some of K completions are correct and some are not", "0 to 1"),
    "majority_gain": ("Accuracy of the vote of K completions minus that of one", "-1 to 1"),
    "truncated": ("Share of completions that ended before their answer", "0 to 1, should be near 0"),
    "empty": ("Share of completions without text", "0 to 1, should be near 0"),
    "length_limit": ("Share of completions that ended at the token limit", "0 to 1, should be near 0"),
    "pass_at": ("Chance that one of {k} completions is correct (pass@{k})", "0 to 1"),
    "majority_at": ("Accuracy of the vote of {k} completions", "0 to 1"),
    "distinct_answers_at": ("Expected different final answers among {k} completions", "1 to {k}"),
}

TERM_WORDS = {
    "quality_control": "quality control: wrong answers removed, or added",
    "narrowing_correct": "change among correct answers: a loss here is narrowing among correct answers",
    "narrowing_wrong": "change among wrong answers",
    "narrowing_cross": "change among wrong answers (against correct ones)",
}
"""The parts of a change, with what they mean."""


@functools.cache
def what(figure: str) -> tuple[str, str]:
    """What a figure is, and its range and direction; empty where nothing here knows it."""
    k = re.search(r"_at(\d+)$", figure)
    known = QUALITY.get(figure) or (k and QUALITY.get(figure.removesuffix(k[1])))
    if known:
        return tuple(part.replace("{k}", k[1] if k else "K") for part in known)  # type: ignore[return-value]
    for name, source in metric_sources().items():
        about = source.doc
        if figure == name or f"`{figure}`" in about:
            meaning, span, *_ = [*about.partition("\n")[0].split(" | "), ""]
            among = ", among correct answers" if figure.endswith("_correct") and figure != name else ""
            return meaning + among, span
    return "", ""


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


def count(number: int, noun: str) -> str:
    """`1 prompt`, `2 prompts`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def chance(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


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
