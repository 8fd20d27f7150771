"""Strings that a terminal would obey, or that show something else than they are; every command is tried on each."""

from __future__ import annotations

ESCAPES = {
    "color": "before \x1b[31mafter\x1b[0m",
    "clear the screen": "before \x1b[2J\x1b[Hafter",
    "cursor up and erase": "before \x1b[1A\x1b[2Kafter",
    "private mode": "before \x1b[?1049hafter",
    "CSI of one byte": "before \x9b31mafter",
    "title, ended by BEL": "before \x1b]0;owned\x07after",
    "title, ended by ST": "before \x1b]0;owned\x1b\\after",
    "link": "before \x1b]8;;http://evil.example\x1b\\after\x1b]8;;\x1b\\",
    "clipboard": "before \x1b]52;c;ZXZpbA==\x07after",
    "OSC of one byte": "before \x9d0;owned\x9cafter",
    "device control": "before \x1bP1$r0m\x1b\\after",
    "private message": "before \x1b^secret\x1b\\after",
    "character set": "before \x1b(0after",
    "reset": "before \x1bcafter",
    "bell": "before \x07after",
    "backspace": "before \x08after",
    "null and shift": "before \x00\x0e\x0fafter",
    "delete": "before \x7fafter",
    "other C1": "before \x84\x8d\x90after",
    "overwritten": "99 %\r0 %",
    "new line of one byte": "before\x85after",
    "line separator": "before\u2028after",
    "bidi override": "before \u202eafter\u202c",
    "bidi isolate": "before \u2066after\u2069",
    "marks": "before \u200e\u200f\u061cafter",
    "no width": "before \u200b\u2060\ufeffafter",
    "tags": "before \U000e0041after",
    "lone surrogate": "before \ud800after",
    "half an escape": "before after\x1b[",
}
READS = {"overwritten": "99 % 0 %", "new line of one byte": "before\nafter", "line separator": "before\nafter"}
"""What is read of those that are not "before after"."""

DANGEROUS = (
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
ALL = "".join(ESCAPES.values())
