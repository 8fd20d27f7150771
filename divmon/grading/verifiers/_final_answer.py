"""Where the final answer of a worked solution stands."""

from __future__ import annotations

import re
from dataclasses import dataclass

from divmon.grading.verifiers._numbers import MAX_LENGTH, POWER_OF_TEN

_BOX = re.compile(r"\\f?boxed\s*")
_UNBRACED = re.compile(
    r"-?\d[\d,]*(?:\.\d+)?|\\[a-zA-Z]+(?:\{[^{}]*\}|\d)*|[a-zA-Z](?=\s*(?:[.,;:!?$)\\]|$))", re.MULTILINE
)
"""What `\\boxed` without braces may hold; the next word of a sentence that speaks of boxes it does not."""
_BETWEEN_BOXES = re.compile(
    r"[\s$\\(){}]*(?:(?:,|;|\band\b|\bor\b|\\text\{\s*(?:and|or)\s*\})[\s$\\()]*)+(?:[a-zA-Z]\s*=\s*)?"
)
_PLACEHOLDER = re.compile(r"(?i)[\s.…]*|\\l?dots|\\cdots|(?:\\text\{)?(?:your |the |final )*answer(?: here)?\}?")
_TAG_NAME = r"(?:final[ _-]?)?(?:answer|ans|result|solution|output|response)"
_TAG = re.compile(rf"(?i)[<\[]\|?(?P<tag>{_TAG_NAME})\b[^<>\[\]\n]*[>\]]")
_TAG_END = re.compile(rf"(?i)[<\[]\|?\s*/\s*(?P<tag>{_TAG_NAME})\s*\|?[>\]]")
_HASHES = re.compile(r"####[ \t]*(?P<answer>[^\n#]+)")
_LABEL = re.compile(r"(?im)(?:(?<![a-z])answer|^[ \t>*_#-]*a(?:ns)?)[ \t]*[*_]*[ \t]*:\s*[*_]*[ \t]*(?P<answer>[^\n]+)")
_PHRASE = re.compile(
    r"(?i)\banswer\b[^.:\n]{0,60}?\s(?:is|was|equals|must be|should be|would be)\b:?\s*"
    r"(?P<answer>[^\n]+?)(?=[.!?](?:\s|$)|\n|$)"
)
_MATH = re.compile(r"\$\$(?P<a>[^$]+)\$\$|\\\((?P<b>.+?)\\\)|\\\[(?P<c>.+?)\\\]|\$(?P<d>[^$\n]+)\$", re.DOTALL)
_TUPLE = r"[(\[]\s*-?[\d./]+(?:\s*,\s*-?[\d./]+)+\s*[)\]]"
_UNMARKED = re.compile(
    rf"{_MATH.pattern}|{_TUPLE}|[-\u2212]?[$€£]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+|{POWER_OF_TEN})?(?:/\d+)?%?",
    re.DOTALL,
)
_EMPHASIS = re.compile(r"(?<![\w*])(\*{1,3}|__)(?=\S)([^*\n]+?)(?<=\S)\1(?![\w*])")
_FEW_WORDS = 4  # beside a number, of a line that names an answer and does not work towards it
_MAX_MARKS = 20  # boxes and tags: each unclosed one is read to the end, and many of them would take quadratic time


@dataclass(frozen=True)
class Found:
    """An answer as it stands in the text; `marked` where the text itself calls it the answer."""

    text: str
    marked: bool = True


def find_answer(text: str, complete: bool = True) -> Found | None:
    r"""The last answer that a text gives: in `\boxed{}` or `<answer>`, after `####`, `Answer:` or "the answer is ...".

    Boxes that a list joins ("\boxed{1} and \boxed{2}") are one answer. Of a complete text without any of these, the
    last formula or number of its last line, as base models answer (so the paper). Of a truncated one, an answer that
    ends where the text does may itself be cut, and does not count.

    >>> find_answer("She has 3 + 4 = 7.\n#### 7").text
    '7'
    """
    marks = _joined_boxes(text) + _tags(text, complete)
    for pattern in (_HASHES, _LABEL, _PHRASE):
        for match in pattern.finditer(text):
            inside, rest = _TAG_END.split(match["answer"])[0], text[match.end("answer") :]
            cut = not complete and "\n" not in rest and not rest.strip(" .*$")
            if _bare(inside) and not cut and not _leads_on(inside, pattern, rest):
                marks.append((match.start(), match.end(), _sentence(inside)))
    if marks:
        start, _, answer = max(marks)
        is_box = text.startswith("\\", start)
        return Found(_bare(answer, ".,;:" if is_box else ".,;:!"))  # in a box 5! is a factorial
    lines = [line for line in text.splitlines() if re.search(r"\w", line)]
    return _unmarked(lines[-1][-MAX_LENGTH:]) if complete and lines else None


def _joined_boxes(text: str) -> list[tuple[int, int, str]]:
    """The boxes of a text, those that are items of one list as one."""
    found: list[tuple[int, int, str]] = []
    for start, end, inside in boxes(text):
        if _PLACEHOLDER.fullmatch(inside.strip()):
            continue
        if found and _BETWEEN_BOXES.fullmatch(text[found[-1][1] : start][:80]):
            first, _, items = found.pop()
            inside = items if inside.strip() in re.split(r",\s*", items) else f"{items}, {inside.strip()}"
            start = first
        found.append((start, end, inside))
    return found


def _tags(text: str, complete: bool) -> list[tuple[int, int, str]]:
    """What stands between `<answer>` and `</answer>`, or after an `<answer>` whose end a stop string took."""
    found = []
    for tag in list(_TAG.finditer(text))[-_MAX_MARKS:]:
        ends = (end for end in _TAG_END.finditer(text, tag.end()) if end["tag"].lower() == tag["tag"].lower())
        closing = next(ends, None)
        inside = text[tag.end() : closing.start() if closing else len(text)].strip()
        if not closing and not (complete and "\n" not in inside and _count_words(inside) <= _FEW_WORDS):
            continue
        if "\n" in inside or _count_words(inside) > _FEW_WORDS:  # the work is in there too
            answer = find_answer(inside)
            inside = answer.text if answer else ""
        if _bare(inside):
            found.append((tag.start(), closing.end() if closing else len(text), inside))
    return found


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
    for match in list(_BOX.finditer(text))[-_MAX_MARKS:]:
        if text.startswith("{", match.end()):
            inside = _braces(text, match.end())
            end = match.end() + len(inside or "") + 2
        else:
            unbraced = _UNBRACED.match(text, match.end())
            inside = unbraced and unbraced[0]
            end = unbraced.end() if unbraced else match.end()
        if inside is not None:
            found.append((match.start(), end, inside))
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
    line = _EMPHASIS.sub(r"\2", line)
    # A box that was never closed, what the answer is not, and a sum that breaks off: "3 * 20 =", "$<<3*20".
    if re.search(r"(?i)boxed|\bnot\b|n['’]t\b|(?:[-=+*/({<^\\]|<<[^>]*)\s*$", line):
        return None
    last = None
    for last in _UNMARKED.finditer(line):  # noqa: B007 - the last one is wanted
        pass
    return Found(_bare(last[0]), marked=False) if last and _bare(last[0]) else None


def _bare(text: str, ends: str = ".,;:!") -> str:
    """Without what a sentence or markdown puts around an answer; a formula alone, without its dollars."""
    text = text.strip().strip("*_`\"'").strip().rstrip(ends).strip().strip("*_`\"'").strip()
    whole = _MATH.fullmatch(text)
    return next(part for part in whole.groups() if part).strip() if whole else text
