"""The fenced blocks of an answer, read line by line as their writer meant them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from divmon.grading._code_lines import begins_code, begins_definition, dedented, is_prose, open_quote

_FENCE = re.compile(r"^(?P<before>[^`~]*)(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>.*)$")
_LANGUAGE = re.compile(r"[\w+.-]*")
PYTHON = frozenset(["", "py", "py3", "python", "python3"])
_MARKDOWN = ("markdown", "md")


@dataclass(frozen=True)
class Fence:
    """One fenced block."""

    code: str
    language: str
    """In lower case; empty where none is named."""
    closed: bool
    in_line: bool = False
    """Opened and closed on one line, as code in the middle of a sentence is."""


def fences(text: str) -> list[Fence]:
    """The blocks in their order.

    Fences in a text in triple quotes belong to the code around them. A closing fence with none before it closes the
    code above, as where the prompt opened it. A language after the fence is its own, and so is code there.
    """
    reader = _Reader(text.replace("\r\n", "\n").split("\n"))
    found = reader.read()
    if not found and reader.ends_in_quote:  # it was no quote then
        reader.minds_quotes = False
        found = reader.read()
    return found


class _Reader:
    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.minds_quotes = True
        self.ends_in_quote = False

    def read(self) -> list[Fence]:
        found: list[Fence] = []
        documents: list[str] = []  # fences of Markdown, whose inner ones are what is meant
        run, in_run, quote, i = 0, False, "", 0
        while i < len(self.lines):
            line = self.lines[i]
            match = _FENCE.match(line)
            if match and in_run and quote and self.minds_quotes:
                match = None
            if match is None:
                if in_run and is_prose(line, quote):
                    in_run = False
                elif not in_run and (begins_code(line) or _begins_body(self.lines, i, run)):
                    run, in_run, quote = i, True, ""
                quote = open_quote(line, quote) if in_run else ""
                i += 1
                continue
            fence, info = match["fence"], match["info"].strip()
            if fence in info:
                found += _in_line(info, fence)
                i += 1
            elif not info and documents and documents[-1] == fence:
                documents.pop()
                i += 1
            elif info.lower() in _MARKDOWN:
                documents.append(fence)
                i += 1
            elif not info and in_run and not match["before"].strip():
                found.append(_block(self.lines[run:i], "", closed=True))
                i += 1
            else:
                if match["before"].strip() == ">":
                    self._unquote(i + 1)
                block, i = self._block(i, fence, info)
                found.append(block)
            in_run, run, quote = False, i, ""
        self.ends_in_quote = bool(quote)
        return [block for block in found if block.code.strip()]

    def _unquote(self, start: int) -> None:
        """Takes the marks of Markdown's block quote from the lines that follow."""
        while start < len(self.lines) and self.lines[start].lstrip().startswith(">"):
            self.lines[start] = re.sub(r"^\s*> ?", "", self.lines[start])
            start += 1

    def _block(self, start: int, fence: str, info: str) -> tuple[Fence, int]:
        """The block that opens at a line, and the index of the line after it."""
        language, first = _read_info(info)
        for minds_quotes in (True, False) if self.minds_quotes else (False,):
            quote = open_quote(first, "")
            for i in range(start + 1, len(self.lines)):
                line = self.lines[i]
                bare = line.strip()
                if not (quote and minds_quotes) and (bare.startswith(fence) or bare.endswith(fence)):
                    reopens = bare.startswith(fence) and bare.strip("`~ ").lower() in PYTHON - {""}
                    kept = [] if bare.startswith(fence) else [line.rstrip().removesuffix(fence)]
                    code = [first, *self.lines[start + 1 : i], *kept]
                    return _block(code, language, closed=True), i if reopens else i + 1
                quote = open_quote(line, quote)
            if not quote:
                break
            self.minds_quotes = False  # once for a text, or one of many open quotes would take quadratic time
        return _block([first, *self.lines[start + 1 :]], language, closed=False), len(self.lines)


def _begins_body(lines: list[str], i: int, start: int) -> bool:
    """Whether an indented line is the first of the text: the rest of a function that the prompt begins."""
    return start == 0 and lines[i][:1].isspace() and bool(lines[i].strip()) and not any(map(str.strip, lines[:i][-50:]))


def _block(lines: list[str], language: str, closed: bool) -> Fence:
    return Fence(dedented("\n".join(lines).strip("\n")), language, closed)


def _in_line(info: str, fence: str) -> list[Fence]:
    """Of "python x = 1``` and ```y = 2```" both."""
    parts = info.split(fence)[:-1:2]
    return [Fence(code.strip(), language, True, in_line=True) for language, code in map(_read_info, parts)]


def _read_info(info: str) -> tuple[str, str]:
    """The language that follows an opening fence, and the code that does."""
    word = _LANGUAGE.match(info)
    language = word[0].lower() if word else ""
    rest = info[len(language) :].strip()
    if language in PYTHON:
        is_option = re.match(r"\w+=\S*$", rest) and not begins_definition(rest)  # "title=main.py"
        return language, rest if begins_code(rest) and not is_option else ""
    return ("", info) if begins_code(info) else (language, "")
