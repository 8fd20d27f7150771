"""The program in an answer: inside a fence, bare among prose, or as the rest of a function that the prompt begins.

By rules on lines alone. Nothing is parsed here, because what is read is hostile and this is the training process.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from divmon.grading._code_lines import begins_code, dedented, defines, is_prose, open_quote, with_what_it_uses
from divmon.grading._fences import PYTHON, Fence, fences

_FUTURE = re.compile(r"^from __future__ import .*(?:\n|\Z)", re.MULTILINE)


@dataclass(frozen=True)
class ExtractedProgram:
    """A program taken from an answer."""

    source: str
    """What can be run: with the prompt's part where the prompt begins it."""
    written: str
    """What the answer itself has of it."""
    closed: bool
    """A fence closes it; where none does, a truncated answer may end in the middle of it."""


def extract(text: str, names: Sequence[str] = (), prompt: str = "") -> ExtractedProgram | None:
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
    written, closed = _found(text, names, prompt)
    if not written.strip():
        return None
    return ExtractedProgram(_completed(written, names, prompt) if prompt else written, written, closed)


def _found(text: str, names: Sequence[str], prompt: str) -> tuple[str, bool]:
    """The program as the text has it and whether a fence closes it: in a block, else bare, else in a sentence."""
    blocks = fences(text)
    written, closed = _fenced([block for block in blocks if not block.in_line], names)
    if defines(written, names):
        return written, closed
    found = [(written, closed), (_unfenced(text, names, prompt), False)]
    found.append(_fenced([block for block in blocks if block.in_line], names))
    for wanted in (names, ()):
        found = [piece for piece in found if defines(piece[0], wanted)] or found
    return next((piece for piece in found if piece[0].strip()), ("", False))


def _fenced(blocks: Sequence[Fence], names: Sequence[str]) -> tuple[str, bool]:
    """The code of one of the fences, with what the others define for it, and whether it is closed; else empty."""
    blocks = [block for block in blocks if block.language in PYTHON] or list(blocks)
    if not blocks:
        return "", False
    codes = [block.code for block in blocks]
    chosen = _chosen(codes, names)
    if blocks[chosen].language in PYTHON:
        codes[chosen] = with_what_it_uses(codes[chosen], codes[:chosen], codes[chosen + 1 :], names)
    return codes[chosen], blocks[chosen].closed


def _unfenced(text: str, names: Sequence[str], prompt: str) -> str:
    is_body = not defines(text, names) if prompt else _is_body_without_its_indent(text)
    return _body(text) if is_body else _bare(text, names)


def _chosen(sources: Sequence[str], names: Sequence[str]) -> int:
    """The last that defines what is asked for, else the last that defines anything, else the last."""
    for wanted in (names, ()):
        for i in range(len(sources) - 1, -1, -1):
            if defines(sources[i], wanted):
                return i
    return len(sources) - 1


def _bare(text: str, names: Sequence[str]) -> str:
    """Of the runs of code between lines of prose the one that is asked for, with what the others define for it."""
    runs: list[list[str]] = []
    quote, in_run = "", False
    for line in text.splitlines():
        if in_run and not quote and _leaves_indent(runs[-1], line):
            in_run = False
        if not in_run and begins_code(line):
            runs.append([])
            in_run = True
        elif in_run and is_prose(line, quote):
            in_run = False
        if in_run:
            quote = open_quote(line, quote)
            runs[-1].append(line)
    if not runs:
        return ""
    sources = ["\n".join(run).rstrip() for run in runs]
    sources = [dedented(source) if defines(dedented(source), ()) else source for source in sources]
    chosen = _chosen(sources, names)
    return with_what_it_uses(sources[chosen], sources[:chosen], sources[chosen + 1 :], names)


def _leaves_indent(run: Sequence[str], line: str) -> bool:
    """Whether a run that began indented, as the rest of a function does, ends before a statement at the margin."""
    return run[0][:1].isspace() and begins_code(line) and not line[0].isspace()


def _is_body_without_its_indent(text: str) -> bool:
    """Whether the first line alone lost the indent of a function's body, as in "y = x", "    return y"."""
    lines = text.strip("\n").splitlines()
    if not lines or lines[0][:1].isspace() or not begins_code(lines[0]) or not _lost_on_first_only(lines):
        return False
    indents = [len(line) - len(line.lstrip()) for line in lines[1:] if line.strip()]
    return not defines(lines[0], ()) or 0 < min(itertools.takewhile(bool, indents)) < indents[0]


def _body(text: str) -> str:
    """The rest of a function, up to prose at the margin, with the indent it lost on its first line or on all."""
    lines = text.splitlines()
    lines = lines[next((i for i, line in enumerate(lines) if line.strip()), len(lines)) :]
    if not lines or is_prose(lines[0]):
        return ""
    if not lines[0][0].isspace():
        end = 1 if _lost_on_first_only(lines) else len(lines)
        lines = [f"    {line}" if line.strip() else line for line in lines[:end]] + lines[end:]
    kept: list[str] = []
    quote = ""
    for line in lines:
        if is_prose(line, quote):
            break
        quote = open_quote(line, quote)
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
    if not defines(source, names):
        return f"{prompt.rstrip()}\n{_body(source) or source}"
    name = "|".join(map(re.escape, names)) or r"\w+"
    heads = list(re.finditer(rf"^(async\s+)?def\s+({name})\b", prompt, re.MULTILINE))
    before = prompt[: heads[-1].start()].strip() if heads else ""
    future = "".join(_FUTURE.findall(source))  # must stand first
    return f"{future}{before}\n\n{_FUTURE.sub('', source)}".lstrip("\n")
