"""The program in an answer: inside a fence, bare among prose, or as the rest of a function that the prompt begins.

By rules on lines alone. Nothing is parsed here, because what is read is hostile and this is the training process.
"""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

_FENCE = re.compile(
    r"^[^\n`~]*(?P<fence>`{3,}|~{3,})[ \t]*(?P<language>[\w+.-]*)[^\n`]*\n"
    r"(?P<code>.*?)(?P<end>^[ \t]*(?P=fence)|(?P=fence)[ \t]*$|\Z)",
    re.DOTALL | re.MULTILINE,
)
_PYTHON = ("", "py", "py3", "python", "python3")
_TARGET = r"\*?[A-Za-z_][\w.]*(\[[^\]]*\])*"
_DEFINITION = r"@\w|(async\s+)?def\s+\w+\s*\(|class\s+\w+\s*[:(]|import\s+\w|from\s+[\w.]+\s+import\b"
_START = re.compile(
    rf"{_DEFINITION}"
    r"|(if|for|while|with|try|async|match)\b.*:\s*((#|return|raise|yield|pass|break|continue|[\w.]+\s*\W?=|[\w.]+\().*)?$"
    r"|(return|raise|yield|assert|del|global|nonlocal)\b|(pass|break|continue)\s*(#|;|$)"
    rf"|{_TARGET}(\s*,\s*{_TARGET})*(\s*:\s*[\w.\[\], |]+)?\s*([-+*/%&|^@]|//|\*\*|<<|>>)?=[^=]"
    r"|[A-Za-z_][\w.]*\("
)
_INSIDE = re.compile(r"(elif|else|except|finally|case)\b.*:\s*(#.*)?$|#|\"\"\"|'''|[)\]}]")
_FUTURE = re.compile(r"^from __future__ import .*(?:\n|\Z)", re.MULTILINE)
_LINE = 300  # of a long line no more is matched, or a hostile one would take quadratic time


@dataclass(frozen=True)
class Program:
    """A program taken from an answer."""

    source: str
    """What can be run: with the prompt's part where the prompt begins it."""
    written: str
    """What the answer itself has of it."""
    closed: bool
    """A fence closes it; where none does, an answer that was cut off may end in the middle of it."""


def extract(text: str, names: Sequence[str] = (), prompt: str = "") -> Program | None:
    r"""The program in an answer; None where there is none.

    Of several fences the last that defines one of `names` (any function, where none are given), else the last one.
    Without a fence, the lines of code without the prose around them.

    Args:
        text: the answer.
        names: functions that the task asks for.
        prompt: source that ends in the head of the function asked for (HumanEval). An answer without that head is
            taken as its continuation; one that has it gets what stands before the head (imports, helpers).

    >>> extract("Sure:\n```python\ndef f(x):\n    return x\n```\nDone.").written
    'def f(x):\n    return x'
    >>> extract("I would rather not.") is None
    True
    """
    written, closed = _fenced(text, names)
    if not written:
        is_whole = not prompt or _defines(text, names)
        written = _bare(text, names) if is_whole else _body(text)
    if not written.strip():
        return None
    return Program(_completed(written, names, prompt) if prompt else written, written, closed)


def _fenced(text: str, names: Sequence[str]) -> tuple[str, bool]:
    """The code of a fence, empty where there is none, and whether the fence is closed."""
    matches = list(_FENCE.finditer(text))
    matches = [match for match in matches if match["language"].lower() in _PYTHON] or matches
    fences = [(textwrap.dedent(match["code"]).strip("\n"), bool(match["end"])) for match in matches]
    fences = [(code, closed) for code, closed in fences if code.strip()]
    for wanted in (names, ()):
        for code, closed in reversed(fences):
            if _defines(code, wanted):
                return code, closed
    return fences[-1] if fences else ("", False)


def _defines(source: str, names: Sequence[str]) -> bool:
    """One of the names is defined at the margin; any function at all where no names are given."""
    name = "|".join(map(re.escape, names)) or r"\w+"
    return bool(re.search(rf"^(((async\s+)?def|class)\s+({name})\b|({name})\s*=\s*lambda\b)", source, re.MULTILINE))


def _bare(text: str, names: Sequence[str]) -> str:
    """Of the runs of code between lines of prose, the last that defines what is asked for, else the last one."""
    runs: list[list[str]] = []
    quote, in_run = "", False
    for line in text.splitlines():
        begins = bool(_START.match(line[:_LINE].lstrip()))
        if not in_run and begins:
            runs.append([])
            in_run = True
        elif in_run and _is_prose(line, quote):
            in_run = False
        if in_run:
            quote = _open_quote(line, quote)
            runs[-1].append(line)
    sources = ["\n".join(run).rstrip() for run in runs]
    for wanted in (names, ()):
        for source in reversed(sources):
            if _defines(source, wanted):
                return source
    return sources[-1] if sources else ""


def _is_prose(line: str, quote: str = "") -> bool:
    """A line at the margin that is no code, outside a text in triple quotes."""
    at_margin = bool(line) and not line[0].isspace()
    return at_margin and not quote and not (_START.match(line[:_LINE]) or _INSIDE.match(line[:_LINE]))


def _open_quote(line: str, quote: str) -> str:
    """The triple quote that is open at the end of a line, given the one that is open at its start."""
    for mark in re.findall(r"\"\"\"|'''", line):
        quote = "" if quote == mark else quote or mark
    return quote


def _body(text: str) -> str:
    """The rest of a function, up to prose at the margin, with the indent it lost on its first line or on all."""
    lines = text.splitlines()
    lines = lines[next((i for i, line in enumerate(lines) if line.strip()), len(lines)) :]
    if not lines or _is_prose(lines[0]):
        return ""
    if not lines[0][0].isspace():
        end = 1 if _lost_on_first_only(lines) else len(lines)
        lines = [f"    {line}" if line.strip() else line for line in lines[:end]] + lines[end:]
    kept: list[str] = []
    quote = ""
    for line in lines:
        if _is_prose(line, quote):
            break
        quote = _open_quote(line, quote)
        kept.append(line)
    return "\n".join(kept).rstrip()


def _lost_on_first_only(lines: list[str]) -> bool:
    """Whether the lines after a first one at the margin have their indent still; else all have lost it."""
    indents = [len(line) - len(line.lstrip()) for line in lines[1:] if line.strip()]
    block = list(itertools.takewhile(bool, indents))
    if not block or not lines[0].rstrip().endswith(":"):
        return bool(block)
    return block[0] >= 8 or min(block) < block[0]


def _completed(source: str, names: Sequence[str], prompt: str) -> str:
    """A whole program of what the prompt begins."""
    if not _defines(source, names):
        return f"{prompt.rstrip()}\n{_body(source) or source}"
    name = "|".join(map(re.escape, names)) or r"\w+"
    heads = list(re.finditer(rf"^(async\s+)?def\s+({name})\b", prompt, re.MULTILINE))
    before = prompt[: heads[-1].start()].strip() if heads else ""
    future = "".join(_FUTURE.findall(source))  # must stand first
    return f"{future}{before}\n\n{_FUTURE.sub('', source)}".lstrip("\n")
