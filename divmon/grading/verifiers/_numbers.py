"""The number that an answer names: separators, currency, units, percentages and powers of ten understood."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

_EXPONENT = r"10\s*(?:\^|\*\*)\s*\{?\s*([-+\u2212]?\s*\d{1,5})(?!\d)\s*\}?"
POWER_OF_TEN = rf"\s*(?:\\times|\\cdot|×|⋅|·|\*|[xX])\s*{_EXPONENT}"
"""A regular expression of " \\times 10^{8}" as it follows a number."""
E_NOTATION = re.compile(r"(?<![\w.])(\d+(?:\.\d*)?|\.\d+)[eE]([-+]?\d+)(?!\w)")
MAX_LENGTH = 500  # characters of an answer that is read as a number
_UNITS = frozenset(
    [
        *("am", "cents", "cm", "db", "dm", "eur", "ft", "gb", "gbp", "hr", "hrs", "hz", "in", "kb", "kg", "kl", "km"),
        *("kmh", "kph", "kw", "kwh", "lb", "lbs", "mb", "mg", "mi", "min", "ml", "mm", "mph", "ms", "oz", "pm", "pt"),
        *("qt", "sec", "sq", "tb", "usd", "yd", "yds", "yr", "yrs", "st", "nd", "rd", "th"),
    ]
)
_LETTER_UNITS = frozenset("ghlLms")
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_ATTACHED = {"k": 1_000, "m": 10**6, "b": 10**9}
_BEFORE = frozenset(  # words that make of the number after them another one, or none
    [
        *("above", "at", "below", "between", "either", "exceeds", "fewer", "greater", "half", "least", "less", "minus"),
        *("more", "most", "negative", "neither", "nor", "not", "or", "over", "than", "twice", "under", "without"),
    ]
)
_AFTER = frozenset(
    ["and", "cubed", "divided", "half", "minus", "or", "plus", "quarter", "squared", "third", "times", "to", "versus"]
)
_COUNT = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"(?<![\w.])(?P<sign>[-+]?)\s?(?P<currency>[$€£¥₹]?)\s?(?P<sign2>-?)"
    rf"(?:(?P<whole>\d+)\s+)?(?P<top>{_COUNT})(?:[eE](?P<exponent>[-+]?\d{{1,3}})(?!\d))?(?:\s?/\s?(?P<bottom>{_COUNT}))?"
)


def readings(text: str) -> tuple[Fraction, ...]:
    r"""The values that a text names if it names one number, with or without a unit; the literal one comes first.

    A percentage reads as itself and as its share, a dozen as itself and as twelve. Empty where there is no number,
    more than one, or a word that makes it another ("not 5", "5 squared", "5 or so").

    >>> readings(r"\$1,234.50 per day"), readings("50%")
    ((Fraction(2469, 2),), (Fraction(50, 1), Fraction(1, 2)))
    """
    if len(text) > MAX_LENGTH:
        return ()
    text = _last_side(_spell(text))
    tokens = list(_NUMBER.finditer(text))
    if len(tokens) != 1 or (tokens[0]["whole"] and not tokens[0]["bottom"]):
        return ()
    token = tokens[0]
    before, after = text[: token.start()], text[token.end() :]
    if re.search(r"[^\w\s.,:;'’*()$€£-]", before) or re.search(r"[^\w\s.,:;'’*()%$€£/-]", after):
        return ()
    words_before = re.findall(r"[^\W\d_]+", before.lower())
    words_after = re.findall(r"[^\W\d_]+", after)
    if _BEFORE & set(words_before) or _AFTER & {word.lower() for word in words_after} or re.search(r"\d", after):
        return ()
    if words_after and not _is_unit(words_after[0], attached=after[:1].isalpha(), money=bool(token["currency"])):
        return ()
    value = _value(token)
    if value is None:
        return ()
    first = words_after[0].lower() if words_after else ""
    if after.lstrip().startswith("%") or first in ("percent", "percentage", "pct"):
        return value, value / 100
    if token["currency"] and after[:1].isalpha() and first in _ATTACHED:
        return (value * _ATTACHED[first],)
    if first == "dozen":
        return value, value * 12
    return (value * _SCALES.get(first, 1),)


def _value(token: re.Match[str]) -> Fraction | None:
    top = Fraction(token["top"].replace(",", "")) * Fraction(10) ** int(token["exponent"] or 0)
    if token["bottom"]:
        bottom = Fraction(token["bottom"].replace(",", ""))
        if not bottom:
            return None
        top = top / bottom + int(token["whole"] or 0)
    return -top if (token["sign"] + token["sign2"]).count("-") == 1 else top


def _is_unit(word: str, attached: bool, money: bool) -> bool:
    """Whether a word after a number is a unit and no variable: "5 km" is a length, "5x" and "3s^2" are formulas."""
    if money or len(word) > 3 or word.lower() in _UNITS:
        return True
    return word in _LETTER_UNITS if len(word) == 1 else not attached and len(word) == 3


def _last_side(text: str) -> str:
    """What an equation ends in: of "9 * 2 = 18" the 18. Of several equations side by side, the whole."""
    left, equals, right = text.rpartition("=")
    if equals and not re.search(r"[,;<>]|\b(?:and|or)\b", re.sub(r"(?<=\d),(?=\d{3})", "", left)):
        return right
    return text


# Numerals of another base than ten


_BASES = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
_BASES |= {"eleven": 11, "twelve": 12, "sixteen": 16}
_BASE = rf"(?:\d{{1,2}}|{'|'.join(_BASES)})"
_NUMERAL = re.compile(
    rf"(?<![\w.^{{\\])(?P<digits>\d[\dA-F]*|[A-F][\dA-F]+)"  # one letter with an index is a variable
    rf"(?:_\s*\{{?\s*(?:\\text\s*\{{\s*)?(?P<base>{_BASE})\b[\s}}]*"
    rf"|\s*,?\s*\(?(?:in )?[Bb]ase[\s-]+(?P<named>{_BASE})\b\)?)"
)


@dataclass(frozen=True)
class Numeral:
    """Digits and the base they are written in."""

    digits: str
    base: int

    def __str__(self) -> str:
        return f"{self.digits}_{self.base}"


def numeral(text: str) -> Numeral | None:
    """The numeral that a text is, where it names its base.

    >>> numeral("2516_8"), numeral("2516")
    (Numeral(digits='2516', base=8), None)
    """
    match = _NUMERAL.fullmatch(_last_side(plain_digits(text)).strip("$ ")) if len(text) <= MAX_LENGTH else None
    return _numeral(match) if match else None


def _numeral(match: re.Match[str]) -> Numeral:
    base = (match["base"] or match["named"]).lower()
    return Numeral(match["digits"].upper().lstrip("0") or "0", _BASES.get(base) or int(base))


def plain_digits(text: str) -> str:
    """Without separators between the digits and without the text mode around words."""
    text = re.sub(r"(?<=\d)(?:\{,\}|,|\\[,!]|,\\!)\s?(?=\d{3})", "", text.strip())
    return re.sub(r"\\(?:text|mathrm)\s*\{([^{}]*)\}(?!\})", r" \1", text)


def without_bases(latex: str) -> str:
    """A formula whose numerals of another base are written in base ten; left as it is where digits do not fit."""

    def decimal(match: re.Match[str]) -> str:
        found = _numeral(match)
        try:
            return str(int(found.digits, found.base))
        except ValueError:
            return match[0]

    return _NUMERAL.sub(decimal, latex)


# Spelling


_SUPERSCRIPTS = str.maketrans("⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "+-0123456789")
_SPELLINGS: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"\b10([⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)", lambda power: "10^" + power[1].translate(_SUPERSCRIPTS)),
    (r"\\(?:text|mathrm|textbf|mathbf|mbox|textrm|textit|operatorname)\s*\{([^{}]*)\}", r" \1 "),
    (r"(?<=\d)(?:\{,\}|[\u00a0\u2009\u202f]|\\[,!] ?|,\\! ?)(?=\d{3})", ","),
    (r"\\(?:left|right|displaystyle|,|!|;|:|quad|qquad)(?![a-zA-Z])", " "),
    (r"\\\$", "$"),
    (r"\\%", "%"),
    (r"\^\s*\{?\s*\\circ\s*\}?|°|\\degree", " degrees "),
    (r"\\[dtc]?frac\s*\{\s*(-?[\d.,]+)\s*\}\s*\{\s*([\d.,]+)\s*\}", r" \1/\2 "),
    (r"\\[dtc]?frac\s*(\d)\s*(\d)", r" \1/\2 "),
    (r"(?<=[a-zA-Z] )\^\s*\{?[23]\}?|(?<=[a-zA-Z]{2})\^\s*\{?[23]\}?|(?<!\d)[²³]", ""),
    (r"[\u2212\u2013\u2010]", "-"),
    (r"\\ |~", " "),
    (rf"(?<=\d){POWER_OF_TEN}", lambda power: "e" + power[1].replace(" ", "")),
    (rf"(?<![\w.^{{\\]){_EXPONENT}", lambda power: "1e" + power[1].replace(" ", "")),
]


def _spell(text: str) -> str:
    """LaTeX and typography in plain characters: "\\frac{1}{2}\\text{ cm}^2" is " 1/2  cm"."""
    for pattern, plain in _SPELLINGS:
        text = re.sub(pattern, plain, text)
    return re.sub(r"^\s*\$(.*)\$\s*$", r"\1", text)
