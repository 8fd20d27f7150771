"""Rows of completions that exist already: read from JSONL, and what is no row named by its line and reason."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Row:
    """One prompt's completions."""

    id: str | int
    prompt: str | list[dict[str, Any]]
    outputs: list[str | None]
    correct: list[bool | None] | None = None
    task: str | None = None
    gold: Any = None
    """The right answer; whether it can be judged by is for the judge to say, since without a judge any will do."""
    row: Any = None
    """The upstream data set's row, for tasks whose gold is more than a string."""


def read_rows(path: Path) -> tuple[list[Row], list[tuple[int, str]]]:
    """The rows of a file, and those that are none: (line number, reason).

    Raises:
        OSError: the file cannot be read.
    """
    rows: list[Row] = []
    problems: list[tuple[int, str]] = []
    first_line: dict[str, int] = {}
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = _row(line, number)
                if str(row.id) in first_line:
                    raise ValueError(f"its id {row.id!r} was used on line {first_line[str(row.id)]} already")
            except ValueError as error:
                problems.append((number, str(error)))
            else:
                first_line[str(row.id)] = number
                rows.append(row)
    return rows, problems


def _row(line: bytes, number: int) -> Row:
    """Raises ValueError with the reason where the line is no row."""
    try:
        text = line.decode("utf-8-sig")
        row = json.loads(text)
        if "\\ud" in text.lower():  # lone surrogates, which JSON can spell (\ud800) and no tokenizer or file takes
            row = json.loads(_whole(json.dumps(row, ensure_ascii=False)))
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise ValueError("not a row: nested too deep") from None
    if not isinstance(row, dict):
        raise ValueError(f"expected an object with 'prompt' and 'outputs', got {_kind(row)}")
    _check_prompt(row)
    outputs = _checked_list(row, "outputs", str, "texts or null")
    if not outputs:
        raise ValueError("'outputs' is empty, expected at least one completion")
    correct = None
    if row.get("correct") is not None:
        correct = _checked_list(row, "correct", bool, "true, false or null")
        if len(correct) != len(outputs):
            raise ValueError(f"'correct' has {len(correct)} entries for {len(outputs)} outputs")
    id, task = row.get("id"), row.get("task")
    if id is not None and (isinstance(id, bool) or not isinstance(id, str | int)):
        raise ValueError(f"'id' is {_kind(id)}, expected text or a whole number")
    if task is not None and not isinstance(task, str):
        raise ValueError(f"'task' is {_kind(task)}, expected text")
    return Row(
        f"line-{number}" if id is None else id,
        row["prompt"],
        outputs,
        correct,
        task,
        row.get("gold"),
        row.get("row"),
    )


def _check_prompt(row: dict[str, Any]) -> None:
    prompt = row.get("prompt")
    if prompt is None:
        raise ValueError(f"no 'prompt'; the row has {', '.join(map(repr, row)) or 'nothing'}")
    messages = isinstance(prompt, list) and prompt and all(isinstance(m, dict) and "role" in m for m in prompt)
    if not isinstance(prompt, str) and not messages:
        raise ValueError(f"'prompt' is {_kind(prompt)}, expected text or a list of messages with a role each")


def _checked_list(row: dict[str, Any], key: str, kind: type, expected: str) -> list[Any]:
    if key not in row:
        raise ValueError(f"no '{key}'; the row has {', '.join(map(repr, row))}")
    if not isinstance(row[key], list):
        raise ValueError(f"'{key}' is {_kind(row[key])}, expected a list of {expected}")
    for i, entry in enumerate(row[key]):
        if entry is not None and not isinstance(entry, kind):
            raise ValueError(f"'{key}' holds {_kind(entry)} at position {i}, expected {expected}")
    return list(row[key])


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _whole(text: str) -> str:
    """With each lone surrogate replaced by U+FFFD, and pairs joined."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
