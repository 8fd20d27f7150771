"""Rows of local files, each with the words that name it in an error, and the fixed subset drawn from them."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

Row = dict[str, Any]

SUFFIXES = (".jsonl", ".json", ".parquet", ".csv")


def read_rows(path: str | Path) -> list[tuple[str, Row]]:
    """All rows of a local file as (where, row); `where` reads "prompts.jsonl, line 3".

    JSON Lines by default; .json (a list of objects), .parquet and .csv by their suffix.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is not a JSON object, or there are no rows.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"no file {str(path)!r} (looked in {Path.cwd()}); expected one of {', '.join(SUFFIXES)}"
        )
    readers = {".json": _read_json, ".parquet": _read_parquet, ".csv": _read_csv}
    rows = readers.get(path.suffix.lower(), _read_jsonl)(path)
    if not rows:
        raise ValueError(f"{path} has no rows; expected at least one")
    for where, row in rows:
        if not isinstance(row, dict):
            raise ValueError(f"{where}: expected a JSON object, came {type(row).__name__}: {str(row)[:60]!r}")
    return rows


def _read_jsonl(path: Path) -> list[tuple[str, Row]]:
    rows = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                rows.append((f"{path}, line {number}", json.loads(line)))
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: expected one JSON object a line, came {error}") from error
    return rows


def _read_json(path: Path) -> list[tuple[str, Row]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: expected a JSON list of objects, came {error}") from error
    if not isinstance(rows, list):
        raise ValueError(f"{path}: expected a JSON list of objects, came one {type(rows).__name__}")
    return _numbered(path, rows)


def _read_parquet(path: Path) -> list[tuple[str, Row]]:
    import pyarrow.parquet

    return _numbered(path, pyarrow.parquet.read_table(path).to_pylist())


def _read_csv(path: Path) -> list[tuple[str, Row]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return _numbered(path, list(csv.DictReader(file)))


def _numbered(path: Path, rows: list[Row]) -> list[tuple[str, Row]]:
    return [(f"{path}, row {index} (counted from 0)", row) for index, row in enumerate(rows)]


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
