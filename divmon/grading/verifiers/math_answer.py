r"""One final answer of mathematics: a number, a formula, an interval, a set.

The last answer that the text gives counts: `\boxed{}`, `####`, `Answer:`, "the answer is". Numbers are compared as
fractions, with thousands separators, currency, units and percentages understood; formulas by math-verify.
"""

from __future__ import annotations

import functools
import logging
import re
from fractions import Fraction
from typing import Any

from divmon.grading.verifiers._math_text import find_answer, readings
from divmon.types import Prompt, Verdict

IMPORTS = ("math_verify",)

_TOO_LONG = 500
"""Characters: no gold answer has half as many, and a parser's time grows faster than its text."""


def math_answer(text: str, prompt: Prompt, complete: bool = True) -> Verdict:
    r"""Whether the last answer given equals the gold one.

    Without math-verify (the extra `verify`) an answer that is neither a number nor the gold's own spelling is None.

    >>> math_answer(r"Half of it, so $\boxed{\frac{1}{2}}$.", Prompt("1", "?", gold="0.5")).correct
    True
    """
    if not prompt.gold or not prompt.gold.strip():
        return Verdict(None, "no gold answer")
    found = find_answer(text, complete)
    if found is None:
        return Verdict(False, "no answer found")
    in_gold = find_answer(prompt.gold)
    gold = in_gold.text if in_gold and in_gold.marked else prompt.gold.strip()  # a gold may be a worked solution
    correct = _same(gold, found.text)
    answer = _shared_form(gold if correct else found.text)
    how = "" if found.marked else " (unmarked: the last one of the last line)"
    if correct is None:
        return Verdict(None, "comparing formulas needs math-verify: pip install 'divmon[verify]'", answer)
    return Verdict(correct, f"{found.text[:80]!r} {'equals' if correct else 'is not'} {gold[:80]!r}{how}", answer)


def _same(gold: str, answer: str) -> bool | None:
    numbers, named = readings(gold), readings(answer)
    if numbers and named:
        return any(_near(a, b) for a in numbers for b in named)
    if _tidy(gold) == _tidy(answer):
        return True
    if _is_words(gold) or len(answer) > max(_TOO_LONG, 2 * len(gold)):
        return False
    try:
        return _equal(gold, answer)
    except ImportError:
        return None


def _near(gold: Fraction, answer: Fraction) -> bool:
    """Equal, but for the sixth decimal: 1/3 may be written 0.333333."""
    return abs(gold - answer) <= min(Fraction(1, 2_000_000), abs(gold) / 100_000)


def _is_words(gold: str) -> bool:
    """Compared as text: to a parser "Evelyn" is the product E*v*e*l*y*n, and every anagram would do."""
    return bool(re.fullmatch(r"[^\W\d_]{3,}(?:[\s'-]*[^\W\d_]{2,})*", _tidy(gold)))


def _shared_form(answer: str) -> str:
    """One spelling for equal answers, as far as that can be told of an answer alone."""
    if numbers := readings(answer):
        return str(numbers[0])
    if not _is_words(answer) and len(answer) <= _TOO_LONG:
        try:
            return str(_parsed(answer)[0])[:200]
        except (ImportError, IndexError, ValueError):  # no math-verify; no formula; a number too long to print
            pass
    return _tidy(answer)[:200]


def _tidy(latex: str) -> str:
    """The text of an answer without the spacing, sizes and labels that do not change it."""
    for pattern, plain in (
        (r"\\(?:text|mathrm|textbf|mathbf|mbox|textrm)\s*\{([^{}]*)\}", r"\1"),
        (r"\\(?:left|right|displaystyle|quad|,|!|;|:)(?![a-zA-Z])|\^\s*\{?\\circ\}?|\\?\$|[.\s]+$", ""),
        (r"\\[dt]frac", r"\\frac"),
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\%", "%"),
        (r"\s+", ""),
        (r"^[a-zA-Z](?:=|\\in(?![a-zA-Z]))", ""),
        (r"^\(([a-zA-Z])\)$", r"\1"),
    ):
        latex = re.sub(pattern, plain, latex.strip())
    return latex.casefold() if re.search(r"[^\W\d_]{3}", latex) and "\\" not in latex else latex


@functools.lru_cache(maxsize=4096)
def _equal(gold: str, answer: str) -> bool:
    from math_verify import verify

    # Its own time limits set the process's alarm, which is the host's where this runs in a host; ours is the worker's.
    return bool(verify(_parsed(gold), _parsed(answer), timeout_seconds=None))


@functools.lru_cache(maxsize=256)
def _parsed(latex: str) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse

    for name in ("math_verify.parser", "math_verify.grader"):
        logging.getLogger(name).setLevel(logging.ERROR)  # it warns that its time limits are off
    formula = re.search(r"\$([^$]+)\$|\\\((.+?)\\\)", latex)
    inside = (formula[1] or formula[2]) if formula else latex.replace("$", "")
    return parse(f"${inside}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None)
