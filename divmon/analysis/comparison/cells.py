"""What a comparison for the terminal is written with: numbers, places and bars."""

from __future__ import annotations

import math
import sys
import textwrap

from divmon.loggers.console import number

BAR, WIDTH = 10, 118
"""Characters of a full bar, and of a line of words."""


def place(axis: str, at: float, short: bool = False) -> str:
    """A place on an axis: `step 10`, `40 %`, `1,200 tokens`."""
    if axis == "accuracy":
        return f"{100 * at:.0f} %"
    return f"{at:,.0f}" if short else f"step {at:.0f}" if axis == "step" else f"{at:,.0f} {axis}"


def accuracies(start: float, end: float) -> str:
    """`40 to 60 %`; a dash for a side that is ungraded."""
    if math.isnan(start) and math.isnan(end):
        return "-"
    return f"{' to '.join('-' if math.isnan(end) else f'{100 * end:.0f}' for end in (start, end))} %"


def p_value(value: float) -> str:
    """`p = 0.012`."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def signed(value: float) -> str:
    """A number with its sign."""
    return number(value, "+")


def interval(low: float, high: float, form: str) -> str:
    """`[0.1, 0.2]`; empty where a bound is undefined."""
    if math.isnan(low) or math.isnan(high):
        return ""
    bounds = (f"{end:{form}}" for end in (low, high))
    return f"[{', '.join(text if text.strip('+-0.') else text.lstrip('+-') for text in bounds)}]"


def bar(value: float, most: float) -> str:
    """A bar of text, full at `most`."""
    if not most > 0 or math.isnan(value):
        return " " * BAR
    return (block() * round(BAR * min(max(value / most, 0.0), 1.0))).ljust(BAR)


def block() -> str:
    """What bars are made of, as far as the terminal can show it."""
    try:
        "█".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "#"
    return "█"


def wrapped(line: str) -> str:
    """The line in lines, those after the first a bit further in."""
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.fill(line, WIDTH, subsequent_indent=f"{indent}  ", break_long_words=False, break_on_hyphens=False)
