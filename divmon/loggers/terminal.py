"""What a person sees in a terminal: strings from outside without their escapes, tables, and the one way to print."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TextIO

_ESCAPES = re.compile(
    r"""
      (?: \x1b[\]PX^_] | [\x90\x98\x9d-\x9f] ) (?: [^\x07\x1b\x9c\n]* (?: \x07 | \x1b\\ | \x9c ) )?  # OSC, DCS and such
    | (?: \x1b\[ | \x9b ) [0-?]* [\ -/]* [@-~]?                                  # CSI: colors, cursor, erasing
    | \x1b [\ -/]* [0-~]?                                                         # two bytes
    """,
    re.VERBOSE,
)
_BREAKS = re.compile("\r\n|[\u2028\u2029\x85]")
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # the other controls, CR and BEL among them
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff"  # reordering, and without a width
    "\ud800-\udfff\U000e0000-\U000e007f]"  # lone surrogates, which no terminal takes; tags, which none shows
)
_RED = ("\x1b[31m", "\x1b[0m")
WIDE = 100_000
"""Columns of a table that does not go to a terminal: nothing is cut or folded in a pipe."""


def clean(text: str) -> str:
    """A string from outside (a prompt, a model's output, a path, a server's error) as it may go to a terminal.

    Escape sequences are removed, links keep their text; what overwrites (CR), hides or reorders text goes too. Line
    breaks and tabs stay.

    >>> clean("\\x1b[2J\\x1b]8;;http://x\\x07a link\\x1b]8;;\\x07, 99 %\\r0 %")
    'a link, 99 % 0 %'
    """
    text = _BREAKS.sub("\n", _ESCAPES.sub("", text)).replace("\r", " ")
    return _UNSEEN.sub("", text)


def cell(text: object) -> str:
    """The same on one line, for a cell of a table."""
    return " ".join(clean(str(text)).split("\n")).replace("\t", " ")


def red(line: str) -> str:
    """In red, on a terminal that shows colors (https://no-color.org); the one color that `say` lets through."""
    shows = _is_terminal(sys.stdout) and not os.environ.get("NO_COLOR")
    return f"{_RED[0]}{clean(line)}{_RED[1]}" if shows else clean(line)


@dataclass(frozen=True)
class Table:
    """Rows under a head, which may be shorter: aligned columns in a file or a pipe, by rich in a terminal."""

    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    left: Sequence[int] = (0,)
    """Columns aligned to the left, the others to the right."""
    title: str = ""
    after: Sequence[str] = ()
    """Lines below it."""

    def __str__(self) -> str:
        return self.drawn()

    def drawn(self, width: int | None = None) -> str:
        """As text.

        Args:
            width: columns of the terminal; without one nothing is folded, and there are no escapes.
        """
        from rich import box
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        plain = width is None
        style = (
            {"box": None, "padding": (0, 2, 0, 0)}
            if plain
            else {"box": box.SIMPLE_HEAD, "header_style": "bold", "padding": 0}
        )
        made = RichTable(show_edge=False, pad_edge=False, **style)  # type: ignore[arg-type]
        for i, name in enumerate(self.head):
            made.add_column(Text(cell(name)), justify="left" if i in self.left else "right", overflow="fold")
        for row in self.rows:
            made.add_row(*(Text(cell(value)) for value in row))
        out = io.StringIO()
        console = Console(file=out, width=width or WIDE, force_terminal=not plain, no_color=True, legacy_windows=False)
        console.print(made, no_wrap=plain, crop=False)
        lines = [line.rstrip() for line in out.getvalue().splitlines()]
        return "\n".join([*([clean(self.title)] if self.title else []), *lines, *map(clean, self.after)])


Block = str | Table


def show(*parts: Block, file: Any = None, gap: str = "\n") -> None:
    """Prints texts and tables for a person, cleaned: the one way of every command to a terminal.

    Args:
        file: standard output where None.
        gap: between the parts, below the line's own end.
    """
    file = file or sys.stdout
    width = shutil.get_terminal_size().columns if _is_terminal(file) else None
    write(gap.join(part.drawn(width) if isinstance(part, Table) else said(part) for part in parts), file)


def show_json(text: str, file: Any = None) -> None:
    """Prints JSON: what a terminal would obey is spelled as JSON spells it, so that it reads back the same."""
    write(_UNSEEN.sub(lambda found: _spelled(found[0]), text), file or sys.stdout)


def write(text: str, file: TextIO | None) -> None:
    """Prints a line; characters that the stream's encoding lacks are spelled, and without a stream nothing happens."""
    if file is not None:
        print(encodable(text, file), file=file, flush=True)


def encodable(text: str, file: TextIO) -> str:
    """The text with what the stream's encoding lacks spelled, `\\u2588`."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def said(text: str) -> str:
    """A text, line by line cleaned, but for the red of `red`, which is ours."""
    return "\n".join(map(_line, text.split("\n")))


def _line(line: str) -> str:
    begin, end = _RED
    is_red = line.startswith(begin) and line.endswith(end)
    return f"{begin}{clean(line)}{end}" if is_red else clean(line)


def _is_terminal(file: Any) -> bool:
    return bool(getattr(file, "isatty", None) and file.isatty())


def is_watched(file: Any) -> bool:
    """Whether a person sees what is written there as it comes, bars among it: a terminal, or a notebook."""
    return _is_terminal(file) or type(file).__module__.startswith("ipykernel.")


def share_a_file(one: Any, other: Any) -> bool:
    """Whether two streams end in the same place, as after `2>&1`."""
    try:
        return os.path.sameopenfile(one.fileno(), other.fileno())
    except (OSError, ValueError, AttributeError):  # no file, closed, or none
        return False


def _spelled(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i] << 8 | units[i + 1]:04x}" for i in range(0, len(units), 2))
