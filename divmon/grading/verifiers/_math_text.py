"""Where the final answer of a worked solution stands, and the number it names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_BOX = re.compile(r"\\f?boxed\s*")
_HASHES = re.compile(r"####[ \t]*(?P<answer>[^\n#]+)")
_LABEL = re.compile(r"(?im)(?:(?<![a-z])answer|^[ \t>*_#-]*a(?:ns)?)[ \t]*[*_]*[ \t]*:\s*[*_]*[ \t]*(?P<answer>[^\n]+)")
_PHRASE = re.compile(
    r"(?i)\banswer\b[^.:\n]{0,60}?\s(?:is|was|equals|must be|should be|would be)\b:?\s*"
    r"(?P<answer>[^\n]+?)(?=[.!?](?:\s|$)|\n|$)"
)
_MATH = re.compile(r"\$\$(?P<a>[^$]+)\$\$|\\\((?P<b>.+?)\\\)|\\\[(?P<c>.+?)\\\]|\$(?P<d>[^$\n]+)\$", re.DOTALL)
_UNMARKED = re.compile(rf"{_MATH.pattern}|[-\u2212]?[$€£]?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?", re.DOTALL)
_FEW_WORDS = 4  # beside a number, of a line that names an answer and does not work towards it
_MAX_BOXES = 20  # each unclosed box is read to the end of the text: a text of nothing else would take quadratic time


@dataclass(frozen=True)
class Found:
    """An answer as it stands in the text; `marked` where the text itself calls it the answer."""

    text: str
    marked: bool = True


def find_answer(text: str, complete: bool = True) -> Found | None:
    r"""The last answer that a text gives: in `\boxed{}`, after `####` or `Answer:`, or "the answer is ...".

    Of a complete text without any of these, the last formula or number of its last line, as base models answer (so the
    paper). Of one that was cut off, an answer that ends where the text does may itself be cut, and does not count.

    >>> find_answer("She has 3 + 4 = 7.\n#### 7").text
    '7'
    """
    marks = [(start, end, inside) for start, end, inside in boxes(text) if inside.strip()]
    for pattern in (_HASHES, _LABEL, _PHRASE):
        for match in pattern.finditer(text):
            inside, rest = match["answer"], text[match.end("answer") :]
            cut = not complete and "\n" not in rest and not rest.strip(" .*$")
            if _bare(inside) and not cut and not _leads_on(inside, pattern, rest):
                marks.append((match.start(), match.end(), _sentence(inside)))
    if marks:
        return Found(_bare(max(marks)[2]))
    lines = [line for line in text.splitlines() if re.search(r"\w", line)]
    return _unmarked(lines[-1][-_MAX_LENGTH:]) if complete and lines else None


def _leads_on(inside: str, pattern: re.Pattern[str], rest: str) -> bool:
    """Whether what a marker stands before is no answer: a denial, or the first line of the work that leads to one."""
    if re.match(r"(?i)not\b", inside):
        return True
    if pattern is _PHRASE or not rest.strip():
        return False
    if pattern is _HASHES:  # a heading of markdown, "#### Step 1"
        return inside.strip("*_ ")[:1].isalpha()
    return _count_words(_sentences(inside)[0]) > _FEW_WORDS  # "Answer: She sells 16 - 3 = 13 eggs. ..."


def _sentence(text: str) -> str:
    """The one that holds the answer: the first if it is short ("18. I hope it is correct"), else the last."""
    parts = _sentences(text)
    return parts[0] if _count_words(parts[0]) <= _FEW_WORDS else parts[-1]


def _sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?])\s+", text.strip())


def _count_words(text: str) -> int:
    return len(re.findall(r"[^\W\d_]{2,}", re.sub(r"\\[a-zA-Z]+", " ", text)))


def boxes(text: str) -> list[tuple[int, int, str]]:
    r"""(start, end, inside) of the last closed `\boxed{...}`, nested braces and `\boxed 7` included."""
    found = []
    for match in list(_BOX.finditer(text))[-_MAX_BOXES:]:
        inside = _braces(text, match.end()) if text[match.end() :].startswith("{") else text[match.end() :][:1]
        if inside is not None:
            found.append((match.start(), match.end() + len(inside) + 2, inside))
    return found


def _braces(text: str, start: int) -> str | None:
    """What the braces that open at `start` hold; None where they are never closed."""
    depth = 0
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0 and match[0] == "}":
            return text[start + 1 : match.start()]
    return None


def _unmarked(line: str) -> Found | None:
    # A box that was never closed, what the answer is not, and a sum that breaks off: "3 * 20 =", "$<<3*20".
    if re.search(r"(?i)boxed|\bnot\b|n['’]t\b|(?:[-=+*/({<^\\]|<<[^>]*)\s*$", line):
        return None
    last = None
    for last in _UNMARKED.finditer(line):  # noqa: B007 - the last one is wanted
        pass
    return Found(_bare(last[0]), marked=False) if last and _bare(last[0]) else None


def _bare(text: str) -> str:
    """Without what a sentence or markdown puts around an answer; a formula alone, without its dollars."""
    text = text.strip().strip("*_`\"'").strip().rstrip(".,;:!").strip().strip("*_`\"'").strip()
    whole = _MATH.fullmatch(text)
    return next(part for part in whole.groups() if part).strip() if whole else text


# Reading a number


_MAX_LENGTH = 500  # characters of an answer that is read as a number
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
    rf"(?:(?P<whole>\d+)\s+)?(?P<top>{_COUNT})(?:\s?/\s?(?P<bottom>{_COUNT}))?"
)


def readings(text: str) -> tuple[Fraction, ...]:
    r"""The values that a text names if it names one number, with or without a unit; the literal one comes first.

    A percentage reads as itself and as its share, a dozen as itself and as twelve. Empty where there is no number,
    more than one, or a word that makes it another ("not 5", "5 squared", "5 or so").

    >>> readings(r"\$1,234.50 per day"), readings("50%")
    ((Fraction(2469, 2),), (Fraction(50, 1), Fraction(1, 2)))
    """
    if len(text) > _MAX_LENGTH:
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
    top = Fraction(token["top"].replace(",", ""))
    if token["bottom"]:
        bottom = Fraction(token["bottom"].replace(",", ""))
        if not bottom:
            return None
        top = top / bottom + int(token["whole"] or 0)
    return -top if "-" in token["sign"] + token["sign2"] else top


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


_SPELLINGS = [
    (r"\\(?:text|mathrm|textbf|mathbf|mbox|textrm|textit|operatorname)\s*\{([^{}]*)\}", r" \1 "),
    (r"(?<=\d)(?:\{,\}|[\u00a0\u2009\u202f]|\\[,!] ?|,\\! ?)(?=\d{3})", ","),
    (r"\\(?:left|right|displaystyle|,|!|;|:|quad|qquad)(?![a-zA-Z])", " "),
    (r"\\\$", "$"),
    (r"\\%", "%"),
    (r"\^\s*\{?\s*\\circ\s*\}?|°|\\degree", " degrees "),
    (r"\\[dtc]?frac\s*\{\s*(-?[\d.,]+)\s*\}\s*\{\s*([\d.,]+)\s*\}", r" \1/\2 "),
    (r"\\[dtc]?frac\s*(\d)\s*(\d)", r" \1/\2 "),
    (r"(?<=[a-zA-Z] )\^\s*\{?[23]\}?|(?<=[a-zA-Z]{2})\^\s*\{?[23]\}?|[²³]", ""),
    (r"[\u2212\u2013\u2010]", "-"),
    (r"\\ |~", " "),
]


def _spell(text: str) -> str:
    """LaTeX and typography in plain characters: "\\frac{1}{2}\\text{ cm}^2" is " 1/2  cm"."""
    for pattern, plain in _SPELLINGS:
        text = re.sub(pattern, plain, text)
    return re.sub(r"^\s*\$(.*)\$\s*$", r"\1", text)
