"""Rows of local files, each with the words that name it in an error, and the fixed subset drawn from them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from divmon.prompts.rows.files import whole_records

Row = dict[str, Any]


def read_rows(path: str | Path) -> list[tuple[str, Row]]:
    """All rows of a local file as (where, row); `where` reads "prompts.jsonl, line 3". Raises FileNotFoundError: there
    is no such file; ValueError: a row is no JSON object, the file cannot be read, or there are no rows."""
    rows = [(record.where, record.row) for record in whole_records(path)]
    if not rows:
        raise ValueError(f"{path} has no rows; expected at least one")
    return rows


def draw(n: int, num_prompts: int, seed: int) -> list[int]:
    """Indices of a fixed subset of n rows, ascending; all of them where there are no more than `num_prompts`.

    The subset of a smaller `num_prompts` is contained in that of a larger one, so that raising it keeps the prompts
    that were measured before.

    >>> draw(10, 3, seed=0)
    [1, 7, 8]
    """
    order = list(range(n))
    random.Random(seed).shuffle(order)
    return sorted(order[:num_prompts])


def last_box(solution: str) -> str:
    r"""What the last box of a reference solution holds.

    Raises:
        TypeError: it is no text.
        ValueError: there is no box, or it is never closed.

    >>> last_box(r"so $x = \boxed{\frac{1}{9}}$.")
    '\\frac{1}{9}'
    """
    if not isinstance(solution, str):
        raise TypeError(f"expected a solution as text, got {type(solution).__name__}")
    _, opened, inside = solution.rpartition("\\boxed{")
    depth = 1
    for end, sign in enumerate(inside if opened else ""):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if not depth and inside[:end].strip():
            return inside[:end].strip()
    raise ValueError(f"expected a solution with its answer in \\boxed{{}}, came {solution[-60:]!r}")
