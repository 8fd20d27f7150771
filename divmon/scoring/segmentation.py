"""Text -> words, also of scripts that are written without spaces."""

from __future__ import annotations

import re

SEGMENTATION = "white space; characters in scripts without spaces"
"""How words are counted, for the record."""

_UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Myanmar, Khmer
    "\u3001-\u303f\u3040-\u30ff\u31f0-\u31ff\uff01-\uff9f"  # Japanese and full-width signs
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fa1f"  # Chinese characters
)
_MARKS = (
    "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u102b-\u103e\u17b4-\u17d3\u3099\u309a\uff9e\uff9f"
)
"""Vowel signs and tones, which belong to the character before them."""
_HAS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_WORD = re.compile(f"[{_UNSPACED}][{_MARKS}]*|[^\\s{_UNSPACED}]+")


def words(text: str) -> list[str]:
    """Words between white space, as the paper counts them; each character of a script that has no spaces is one.

    >>> words("It is 4."), words("答えは four です")
    (['It', 'is', '4.'], ['答', 'え', 'は', 'four', 'で', 'す'])
    """
    return _WORD.findall(text) if _HAS_UNSPACED.search(text) else text.split()
