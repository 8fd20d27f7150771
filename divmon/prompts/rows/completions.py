"""Rows of completions that exist already, whoever wrote them: one prompt with its outputs, reasoning split off."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from divmon.prompts.rendering import Think, split_reasoning
from divmon.prompts.rows.columns import OF_ONE, OUTPUTS, PROMPTS, cell_of, check_known, first_of
from divmon.prompts.rows.files import Record, is_table_of_texts, read_records, read_table
from divmon.prompts.rows.formats import Format, format_of, text_of

GOLDS = ("gold", "answer", "target", "ground_truth", "reference_answer", "gold_answer")
CORRECTS = ("correct", "is_correct", "passed")
IDS = ("id", "prompt_id", "question_id", "task_id")


@dataclass
class Row:
    """One prompt's completions."""

    id: str | int
    prompt: str | list[dict[str, Any]]
    outputs: list[str | None]
    """Answers; None where there is none, as where the reasoning was never closed."""
    correct: list[bool | None] | None = None
    task: str | None = None
    gold: Any = None
    """The right answer; whether it can be graded by is for the verifier to say, since without one any will do."""
    row: Any = None
    """The upstream data set's row, for tasks whose gold is more than a string."""


@dataclass(frozen=True)
class Columns:
    """Which columns to read; None is one of the usual names."""

    prompt: str | None = None
    output: str | None = None
    group_by: str | None = None
    """Rows that share it are completions of one prompt."""


@dataclass
class Completions:
    """What a file holds."""

    rows: list[Row]
    problems: list[tuple[int, str]] = field(default_factory=list)
    """(line or place, reason) of what is no row."""
    format: str = ""
    """The tool that wrote it, where its columns are known."""


def read_completions(
    source: str | os.PathLike[str] | Any,
    columns: Columns = Columns(),
    tags: Think | None = Think(),  # noqa: B008
    requests: str | os.PathLike[str] | None = None,
) -> Completions:
    """The rows of a file, a saved data set, a `datasets.Dataset`, a pandas frame or a list of mappings.

    Rows of one completion each are put together by prompt.

    Args:
        tags: around the reasoning, which is split off as in a live run; None leaves the outputs as they stand.
        requests: the input file of a batch, whose outputs name their prompts by `custom_id` only.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no file of rows, or no column of it is known; the message says what would read it.
    """
    is_path = isinstance(source, str | os.PathLike)
    records = read_records(source) if is_path else read_table(source)
    name = Path(source).name if is_path else ""
    first = next((record.row for record in records if isinstance(record.row, Mapping)), None)
    own = None if columns.prompt or columns.output or first is None else format_of(first)
    asked = _requests(requests) if requests is not None else {}
    found = _Gathered(own, tags)
    table = is_path and is_table_of_texts(source)
    for record in records:
        try:
            found.add(record, _fields(record, own, columns, name, asked, table))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            found.problems.append((record.number, _reason(error)))
    if first is not None and own is None and not found.rows and all(isinstance(r.row, Mapping) for r in records):
        check_known(first, columns.prompt, columns.output, str(source) if is_path else "FILE")
    return Completions(found.done(), found.problems, own.name if own else "")


class _Gathered:
    """Rows as they come: those of one completion each are put together, other ids are used once."""

    def __init__(self, own: Format | None, tags: Think | None) -> None:
        self.problems: list[tuple[int, str]] = []
        self.rows: dict[str, Row] = {}
        self._own, self._tags = own, tags
        self._first: dict[str, int] = {}
        self._long: list[tuple[int, str | None, Row]] = []

    def add(self, record: Record, fields: dict[str, Any]) -> None:
        row = _row(record, fields, self._tags)
        if fields["long"]:
            self._long.append((record.number, fields.get("group"), row))
            self.rows[f"long-{record.number}"] = row
            return
        key = str(row.id)
        if key in self._first:
            if self._own is not None and self._own.first_of_an_id:
                return
            raise ValueError(f"its id {row.id!r} was used on line {self._first[key]} already")
        self._first[key] = record.number
        self.rows[key] = row

    def done(self) -> list[Row]:
        """The rows, in the order in which their prompts came first."""
        if not self._long:
            return list(self.rows.values())
        prompts: dict[str, set[str]] = {}
        for _, _, row in self._long:
            prompts.setdefault(str(row.id), set()).add(_spelled(row.prompt))
        # An id that comes again with another prompt numbers the samples of each.
        by_id = len(prompts) < len(self._long) and max(map(len, prompts.values())) == 1
        groups: dict[str, Row] = {key: row for key, row in self.rows.items() if not key.startswith("long-")}
        for _, group, row in self._long:
            key = group or (str(row.id) if by_id else _spelled(row.prompt))
            there = groups.get(f"group {key}")
            if there is None:
                groups[f"group {key}"] = row
                continue
            if (there.correct is None) != (row.correct is None):
                there.correct = there.correct or [None] * len(there.outputs)
                row.correct = row.correct or [None] * len(row.outputs)
            there.outputs += row.outputs
            there.correct = None if there.correct is None else [*there.correct, *(row.correct or [])]
        rows = list(groups.values())
        if len({str(row.id) for row in rows}) < len(rows):
            rows = [replace(row, id=f"prompt-{place}") for place, row in enumerate(rows)]
        return rows


def _spelled(prompt: Any) -> str:
    return json.dumps(prompt, sort_keys=True)


def _fields(
    record: Record, own: Format | None, columns: Columns, file: str, asked: Mapping[str, Any], table: bool
) -> dict[str, Any]:
    """What a record says by the names that a `Row` has, unchecked.

    Args:
        table: the cells of the file are texts, lists among them.

    Raises:
        ValueError: it is no row.
    """
    if record.problem:
        raise ValueError(record.problem)
    row = record.row
    if not isinstance(row, Mapping):
        raise ValueError(f"expected an object with 'prompt' and 'outputs', got {kind(row)}")
    row = {name: None if isinstance(value, float) and value != value else value for name, value in row.items()}
    if own is not None:
        found = own.read(row, file) | {"long": own.long}
        if found.get("id") in asked and own.name == "batch output":
            found |= {"prompt": asked[found["id"]], "long": True, "id": None}
        return found
    found = _usual(row, columns, table)
    if columns.group_by is not None:
        if columns.group_by not in row:
            raise ValueError(f"no '{columns.group_by}'; the row has {_listed(row)}")
        found["group"] = str(row[columns.group_by])
    return found


def _usual(row: Mapping[str, Any], columns: Columns, table: bool) -> dict[str, Any]:
    prompt = first_of(row, [columns.prompt] if columns.prompt else PROMPTS)
    output = first_of(row, [columns.output] if columns.output else OUTPUTS, but=prompt)
    if prompt is None:
        raise ValueError(f"no '{columns.prompt or 'prompt'}'; the row has {_listed(row)}")
    asks = cell_of(row[prompt], of_texts=False)
    if output is None:
        said = asks if isinstance(asks, list) else None
        if not said or not isinstance(said[-1], Mapping) or said[-1].get("role") != "assistant":
            raise ValueError(f"no '{columns.output or 'outputs'}'; the row has {_listed(row)}")
        asks, gave, output = said[:-1], [said[-1]], prompt
        long = True
    else:
        gave = cell_of(row[output], of_texts=table and output.lower() not in OF_ONE)
        turns = isinstance(gave, list) and bool(gave) and all(isinstance(g, Mapping) and "role" in g for g in gave)
        long = isinstance(gave, str | Mapping) or (turns and output in ("completion", "response", "output"))
        gave = [gave] if long else gave
        if prompt == "messages" and isinstance(asks, list):
            while asks and isinstance(asks[-1], Mapping) and asks[-1].get("role") == "assistant":
                asks = asks[:-1]
    correct, gold, id = first_of(row, CORRECTS), first_of(row, GOLDS, but=output), first_of(row, IDS)
    return {
        "id": None if id is None else row[id],
        "prompt": asks,
        "outputs": gave,
        "correct": None if correct is None else cell_of(row[correct]),
        "gold": None if gold is None else row[gold],
        "task": row.get("task"),
        "row": row.get("row"),
        "named": output,
        "asks": prompt,
        "long": long,
    }


def _row(record: Record, fields: dict[str, Any], tags: Think | None) -> Row:
    named, prompt, id, task = (fields.get(name) for name in ("named", "prompt", "id", "task"))
    named = named or "outputs"
    messages = isinstance(prompt, list) and prompt and all(isinstance(m, Mapping) and "role" in m for m in prompt)
    if not isinstance(prompt, str) and not messages:
        expected = "expected text or a list of messages with a role each"
        raise ValueError(f"'{fields.get('asks') or 'prompt'}' is {kind(prompt)}, {expected}")
    outputs = fields["outputs"]
    if not isinstance(outputs, Sequence) or isinstance(outputs, str):
        raise ValueError(f"'{named}' is {kind(outputs)}, expected a list of texts or null")
    if not outputs:
        raise ValueError(f"'{named}' is empty, expected at least one completion")
    if id is not None and (isinstance(id, bool) or not isinstance(id, str | int)):
        raise ValueError(f"'id' is {kind(id)}, expected text or a whole number")
    if task is not None and not isinstance(task, str):
        raise ValueError(f"'task' is {kind(task)}, expected text")
    texts = [_text(value, place, named) for place, value in enumerate(outputs)]
    assert prompt is not None
    return Row(
        (f"line-{record.number}" if ", line " in record.where else f"row-{record.number}") if id is None else id,
        prompt,
        [_answer(text, prompt, tags) for text in texts],
        _verdicts(fields.get("correct"), len(texts), named),
        task or None,
        fields.get("gold"),
        fields.get("row"),
    )


def _text(value: Any, place: int, named: str) -> str | None:
    try:
        return text_of(value)
    except ValueError:
        raise ValueError(f"'{named}' holds {kind(value)} at position {place}, expected texts or null") from None


def _answer(text: str | None, prompt: Any, tags: Think | None) -> str | None:
    """The answer of a completion; None where its reasoning was never closed."""
    if text is None or tags is None:
        return text
    last = prompt if isinstance(prompt, str) else text_of(prompt[-1]) or ""
    answer, _, answered = split_reasoning(text, tags, in_reasoning=last.rstrip().endswith(tags.open))
    return answer if answered else None


def _verdicts(value: Any, count: int, named: str) -> list[bool | None] | None:
    if value is None:
        return None
    values = value if isinstance(value, list) else [value]
    words = {"true": True, "false": False, "1": True, "0": False, "": None}
    read: list[Any] = [words.get(v.lower(), v) if isinstance(v, str) else bool(v) if v in (0, 1) else v for v in values]
    for place, verdict in enumerate(read):
        if verdict is not None and not isinstance(verdict, bool):
            raise ValueError(f"'correct' holds {kind(verdict)} at position {place}, expected true, false or null")
    if len(read) != count:
        raise ValueError(f"'correct' has {len(read)} entries for {count} {named}")
    return read


def _requests(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The prompts of a batch's input file by `custom_id`. Raises ValueError: a line is no request."""
    asked = {}
    for record in read_records(path):
        body = record.row.get("body") if isinstance(record.row, Mapping) else None
        prompt = (body.get("messages") or body.get("prompt")) if isinstance(body, Mapping) else None
        if prompt is None or "custom_id" not in record.row:
            raise ValueError(f"{record.where}: expected a request of a batch, with custom_id and body")
        asked[record.row["custom_id"]] = prompt
    return asked


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"no {error.args[0]!r}"
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def _listed(row: Mapping[str, Any]) -> str:
    return ", ".join(f"'{name}'" for name in row) or "nothing"


def kind(value: Any) -> str:
    """A value's type as messages name it."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
