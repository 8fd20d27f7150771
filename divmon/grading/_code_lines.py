"""Which lines of an answer are Python code and which are prose, told by their beginnings alone."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

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
_LINE = 300  # of a long line no more is matched, or a hostile one would take quadratic time
_PIECES = 50  # of an answer, on either side of its program, in which a helper is looked for
_BINDS = re.compile(
    r"^(?:(?:async\s+)?def|class)\s+(?P<defined>\w+)|^(?P<assigned>\w+)\s*(?::[^=\n]*)?=(?!=)"
    r"|^(?:from\s+[\w.]+\s+)?import\s+(?P<imported>\([^)]*\)|[^\n#]+)",
    re.MULTILINE,
)
_BINDS_INSIDE = re.compile(
    r"\b(\w+)\s*=(?!=)|\bdef\s+\w+\s*\(([^)]{0,500})|\bfor\s+([\w\s,()]{1,200}?)\s+in\b|\blambda\s+([^:]{0,200}):|\bas\s+(\w+)"
)


def begins_code(line: str) -> bool:
    """Whether a line, wherever it is indented to, can only be read as a statement."""
    return bool(_START.match(line[:_LINE].lstrip()))


def begins_definition(line: str) -> bool:
    """Whether a line begins a function, a class or an import."""
    return bool(re.match(_DEFINITION, line[:_LINE].lstrip()))


def is_prose(line: str, quote: str = "") -> bool:
    """A line at the margin that is no code, outside a text in triple quotes."""
    at_margin = bool(line) and not line[0].isspace()
    return at_margin and not quote and not (_START.match(line[:_LINE]) or _INSIDE.match(line[:_LINE]))


def open_quote(line: str, quote: str) -> str:
    """The triple quote that is open at the end of a line, given the one that is open at its start."""
    for mark in re.findall(r"\"\"\"|'''", line):
        quote = "" if quote == mark else quote or mark
    return quote


def defines(source: str, names: Sequence[str]) -> bool:
    """One of the names is defined at the margin; any function at all where no names are given."""
    name = "|".join(map(re.escape, names)) or r"\w+"
    return bool(re.search(rf"^(((async\s+)?def|class)\s+({name})\b|({name})\s*=\s*lambda\b)", source, re.MULTILINE))


def dedented(source: str) -> str:
    """Without the margin that all lines share; a source that has none stays as it is, blank lines of strings too."""
    return textwrap.dedent(source) if source[:1].isspace() else source


def with_what_it_uses(source: str, before: Sequence[str], after: Sequence[str], names: Sequence[str]) -> str:
    """A program with the imports, helpers and constants that other pieces of the same answer define for it.

    Only the statements that bind a name which the program uses and does not bind itself: the rest of those pieces,
    drafts and examples of use, is not run.
    """
    blocks = [block for piece in before[-_PIECES:] for block in _statements(piece)][::-1]
    n_before = len(blocks)
    blocks += [block for piece in after[:_PIECES] for block in _statements(piece)]
    binder: dict[str, int] = {}
    for i, block in enumerate(blocks):
        for name in _bound(block):
            binder.setdefault(name, i)  # the last one before the program, else the first one after it
    if not binder:
        return source
    known, taken = _bound(source) | _bound_inside(source), set[int]()
    waiting = [name for name in {*re.findall(r"\b[A-Za-z_]\w*", source), *names, "*"} if name not in known]
    while waiting:
        i = binder.get(waiting.pop(), -1)
        if i >= 0 and i not in taken:
            taken.add(i)
            known |= _bound(blocks[i])
            inside = known | _bound_inside(blocks[i])
            waiting += [name for name in set(re.findall(r"\b[A-Za-z_]\w*", blocks[i])) if name not in inside]
    order = [i for i in range(n_before - 1, -1, -1) if i in taken] + [i for i in sorted(taken) if i >= n_before]
    return "\n".join([*(blocks[i] for i in order), source])


def _statements(source: str) -> list[str]:
    """The statements at the margin, each with its decorators and its body."""
    blocks: list[list[str]] = []
    quote, decorated = "", False
    for line in source.split("\n"):
        at_margin = bool(line) and not line[0].isspace() and not quote and not _INSIDE.match(line[:_LINE])
        if (at_margin and not decorated) or not blocks:
            blocks.append([])
        if at_margin:
            decorated = line.startswith("@")
        quote = open_quote(line, quote)
        blocks[-1].append(line)
    return ["\n".join(block).rstrip() for block in blocks]


def _bound(source: str) -> set[str]:
    """Names that the statements at the margin bind; "*" for `from x import *`."""
    return set(_names_bound(source))


def _names_bound(source: str) -> Iterator[str]:
    for match in _BINDS.finditer(source):
        if match["imported"] is None:
            yield match["defined"] or match["assigned"]
            continue
        for item in match["imported"].strip("() ").split(","):
            words = item.split()
            if words:
                yield words[-1].split(".")[0]


def _bound_inside(source: str) -> set[str]:
    """Parameters and variables of its own, which no statement of another piece is meant to bind."""
    found: set[str] = set()
    for groups in _BINDS_INSIDE.findall(source):
        found.update(re.findall(r"[A-Za-z_]\w*", " ".join(groups)))
    return found
