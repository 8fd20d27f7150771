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

from divmon.grading.verifiers._final_answer import Found, find_answer
from divmon.grading.verifiers._numbers import E_NOTATION, Numeral, numeral, plain_digits, readings, without_bases
from divmon.types import Prompt, Verdict

IMPORTS = ("math_verify",)

_TOO_LONG = 500
"""Characters: no gold answer has half as many, and a parser's time grows faster than its text."""


_DIGITS = 400
_SMALL = 1e-3


def math_answer(text: str, prompt: Prompt, complete: bool = True) -> Verdict:
    r"""Whether the last answer given equals the gold one.

    Without math-verify (the extra `verify`) an answer that is neither a number nor the gold's own spelling is None.

    >>> math_answer(r"Half of it, so $\boxed{\frac{1}{2}}$.", Prompt("1", "?", gold="0.5")).correct
    True
    """
    if not prompt.gold or not prompt.gold.strip():
        return Verdict(None, "no gold answer")
    in_gold = find_answer(prompt.gold)
    gold = in_gold.text if in_gold and in_gold.marked else prompt.gold.strip()  # a gold may be a worked solution
    is_gold = complete and len(text) <= _TOO_LONG and _tidy(text) == _tidy(gold)  # "10:30" has two numbers
    found = Found(gold) if is_gold else find_answer(text, complete)
    if found is None:
        return Verdict(False, "no answer found")
    correct = _same(gold, found.text)
    answer = _shared_form(gold if correct else found.text)
    how = "" if found.marked else " (unmarked: the last one of the last line)"
    if correct is None:
        return Verdict(None, "comparing formulas needs math-verify: pip install 'divmon[verify]'", answer)
    return Verdict(correct, f"{found.text[:80]!r} {'equals' if correct else 'is not'} {gold[:80]!r}{how}", answer)


def _same(gold: str, answer: str) -> bool | None:
    if base := numeral(gold):
        return _same_numeral(base, answer)
    if (other := numeral(answer)) and other.base != 10:
        return False  # the reference answer says nothing of a base, so it is decimal
    gold_name, answer_name = _name(gold), _name(answer)
    if _tidy(gold) == _tidy(answer):
        return True
    if gold_name is _EQUATION and "=" not in answer:
        return False  # its right side alone would be a free point
    numbers, given = readings(gold), readings(answer)
    if gold_name is not _EQUATION and numbers and given:
        of_another = gold_name and answer_name not in ("", gold_name, _EQUATION)
        return not of_another and any(_near(a, b) for a in numbers for b in given)
    if _is_words(gold) or len(answer) > max(_TOO_LONG, 2 * len(gold)):
        return False
    try:
        return _equal(gold, answer)
    except ImportError:
        return None


def _same_numeral(gold: Numeral, answer: str) -> bool:
    """The digits in that base; the question names the base, so that an answer may leave it out."""
    other = numeral(answer)
    if other:
        return other == gold
    digits = plain_digits(answer).rpartition("=")[2].strip("$ ").upper().lstrip("0") or "0"
    return digits == gold.digits


_EQUATION = "an equation"
_RELATION = re.compile(r"(?<![<>!:=\\])=(?!=)")
_FUNCTION = (
    r"(?:\\(?:sin|cos|tan|cot|sec|csc|log|ln|gcd|lcm|deg|arg|det)(?![a-zA-Z]).*"
    r"|[a-zA-Z]'*\((?:[^()a-zA-Z]*|[a-zA-Z])\)|[fghpqEFGPQ]'*\(.*\))"
)
_SYMBOL = r"(?:[a-zA-Z]|\\[a-zA-Z]+)(?:_\w+)?'*"
_FIGURE = r"(?:m?\\(?:angle|overline|widehat|overarc)[A-Z]+|\[?[A-Z]{2,}\]?)"
_WORDS = r"[^\\=]*[a-zA-Z]{3}[^\\=]*"


def _name(text: str) -> str:
    """What an answer says that its value is of: "x" of `x = 3`, "f(2)" of `f(2) = 7`; empty where it names nothing.

    Words and sums of numbers name nothing either. _EQUATION where it is a relation of quantities, as `3x - y = 5` is,
    which no value stands for.
    """
    if len(_RELATION.findall(text)) != 1 and not re.match(rf"\s*\$?{_SYMBOL}\s*=", text):
        return ""
    left = re.sub(r"\\(?:text|mathrm)\s*\{([^{}]*)\}", r"\1", _RELATION.split(text, maxsplit=1)[0])
    left = re.sub(r"\\(?:left|right)|\\[,;!: ]|[\s${}]+|^m(?=\\angle)", "", left)
    if re.search(r"[,;]", re.sub(r"\(.*\)", "", text)):
        return ""  # several
    variables = re.sub(r"\\(?:[dt]?frac|cdot|times|div|sqrt|pi)(?![a-zA-Z])", "", left)
    if not re.search(r"[a-zA-Z]", variables) or re.fullmatch(_WORDS, left):
        return ""
    return left if re.fullmatch(rf"{_SYMBOL}|{_FUNCTION}|{_FIGURE}", left) else _EQUATION


def _near(gold: Fraction, answer: Fraction) -> bool:
    """Equal, but for the sixth decimal: 1/3 may be written 0.333333."""
    return abs(gold - answer) <= min(Fraction(1, 2_000_000), abs(gold) / 100_000)


def _is_words(gold: str) -> bool:
    """Compared as text: to a parser "Evelyn" is the product E*v*e*l*y*n, and every anagram would do; a date is a
    difference of numbers."""
    return bool(re.fullmatch(r"[^\W\d_]{3,}(?:[\s'-]*[^\W\d_]{2,})*|\d{4}-\d\d-\d\d|\d\d?/\d\d?/\d{4}", _tidy(gold)))


def _shared_form(answer: str) -> str:
    """One spelling for equal answers, as far as that can be told of an answer alone."""
    if base := numeral(answer):
        return str(base)
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
        (r"^\(([a-zA-Z])\)$", r"\1"),
    ):
        latex = re.sub(pattern, plain, latex.strip())
    return latex.casefold() if re.search(r"[^\W\d_]{3}", latex) and "\\" not in latex else latex


@functools.lru_cache(maxsize=4096)
def _equal(gold: str, answer: str) -> bool:
    from math_verify import verify

    right, given = _parsed(gold), _parsed(answer)
    # Its own time limits set the process's alarm, which is the host's where this runs in a host; ours is the worker's.
    # Fifteen digits, its default, take every two values below 1e-15 for equal.
    equal = verify(
        right, given, timeout_seconds=None, numeric_precision=_DIGITS, allow_set_relation_comp=_is_solved(answer)
    )
    return bool(equal) and not (right and given and _differ_in_scale(right[0], given[0]))


_INEQUALITY = re.compile(r"<=?|>=?|≤|≥|\\[lg](?:eq?|t)(?:slant)?(?![a-zA-Z])")


def _is_solved(answer: str) -> bool:
    """Whether it bounds a variable by numbers, `0 < x \\le 1`, and so names an interval; any other inequality may be
    the question's own."""
    sides = [re.sub(r"\\[a-zA-Z]+|[\s$]", "", side) for side in _INEQUALITY.split(answer)]
    names = [side for side in sides if re.search(r"[a-zA-Z]", side)]
    return len(sides) > 1 and [len(name) for name in names] == [1] and not _RELATION.search(answer)


def _differ_in_scale(gold: Any, answer: Any) -> bool:
    """Whether values too small for math-verify's six decimals to tell apart differ all the same."""
    if not hasattr(gold, "args") or not hasattr(answer, "args"):
        return False
    if getattr(gold, "is_number", False) and getattr(answer, "is_number", False):
        a, b = abs(gold.evalf()), abs(answer.evalf())
        return bool(0 < max(a, b) < _SMALL and abs(a - b) > max(a, b) / 1000)
    if len(gold.args) == len(answer.args) and type(gold) is type(answer):
        return any(map(_differ_in_scale, gold.args, answer.args))
    return False


@functools.lru_cache(maxsize=256)
def _parsed(latex: str) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse

    for name in ("math_verify.parser", "math_verify.grader"):
        logging.getLogger(name).setLevel(logging.ERROR)  # it warns that its time limits are off
    formula = re.search(r"\$([^$]+)\$|\\\((.+?)\\\)", latex)
    inside = (formula[1] or formula[2]) if formula else latex.replace("$", "")
    inside = E_NOTATION.sub(r"\1 \\times 10^{\2}", without_bases(inside))  # it reads Euler's number and drops the base
    return parse(f"${inside}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None)
