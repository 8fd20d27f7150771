"""Rows of training data as text: which source, which prompt, which completion, whatever the format of the data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from divmon.prompts.rows.files import is_file_of_rows, read_rows


@dataclass(frozen=True)
class TextRow:
    """A row of training data."""

    source: str
    prompt: str
    completion: str | None
    """What is learned: the completion, the last assistant turn, or the chosen one; None where a row only asks."""
    rest: str = ""
    """Further text of the row that training sees: the rejected completion."""

    @property
    def text(self) -> str:
        return "\n".join(part for part in (self.prompt, self.completion, self.rest) if part)


@dataclass(frozen=True)
class Part:
    """One data set of a mixture, with the column that names the source of a row; else the part is one source."""

    name: str
    rows: Any
    source_column: str | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def texts(self) -> Iterator[TextRow]:
        """Its rows, in their order.

        Raises:
            ValueError: a row has no text that is known.
        """
        for number, row in enumerate(self.rows):
            source = self.name if self.source_column is None else str(row[self.source_column])
            try:
                prompt, completion, rest = _texts(row)
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{self.name}, row {number} (counted from 0): {error}") from None
            yield TextRow(source, prompt, completion, rest)


def characters(parts: Sequence[Part], looked_at: int = 64) -> int:
    """About how many there are in all, from the first rows of each part."""
    total = 0
    for part in parts:
        lengths = [len(row.text) for row, _ in zip(part.texts(), range(looked_at), strict=False)]
        total += len(part) * sum(lengths) // max(len(lengths), 1)
    return total


def parts_of(data: Any, source_column: str | None = None, split: str = "train") -> list[Part]:
    """The data sets of a mixture.

    Args:
        data: a `datasets.Dataset`, a list of rows, a file, a hub id, or a mapping of names to any of these, which are
            then the sources unless `source_column` names them.
        source_column: the column that says where a row comes from.
        split: of a hub id.

    Raises:
        ValueError: it is none of these, has no rows, or lacks the column.
        OSError: it cannot be read.
    """
    if isinstance(data, Mapping) and not hasattr(data, "column_names"):
        return [part for name, one in data.items() for part in _part(str(name), one, source_column, split)]
    name = data if isinstance(data, str) else "data"
    return _part(name, data, source_column, split)


def _part(name: str, data: Any, source_column: str | None, split: str) -> list[Part]:
    rows = _read(data, split) if isinstance(data, str | Path) else data
    if isinstance(rows, Sequence) and not isinstance(rows, str) and rows and isinstance(rows[0], Mapping):
        columns = list(rows[0])
    elif hasattr(rows, "column_names") and hasattr(rows, "__len__"):
        rows = rows.with_format(None)  # a user's random transform would move the run's generators
        columns = rows.column_names
    else:
        raise ValueError(
            f"{name}: expected a data set of rows (datasets.Dataset, a list, a file, a hub id), or a mapping of names"
            f" to these; got {type(rows).__name__}"
        )
    if not len(rows):
        raise ValueError(f"{name} has no rows")
    if source_column is not None and source_column not in columns:
        raise ValueError(f"{name} has no column {source_column!r} that names sources; there are {', '.join(columns)}")
    return [Part(name, rows, source_column)]


def _read(path: str | Path, split: str) -> Any:
    if is_file_of_rows(str(path)) or Path(path).expanduser().exists():
        return read_rows(path)
    import datasets

    return datasets.load_dataset(str(path), split=split)


def _texts(row: Mapping[str, Any]) -> tuple[str, str | None, str]:
    """(prompt, completion, rest) of a row of any format that TRL trains on."""
    if row.get("chosen") is not None:
        chosen, before = _last(row["chosen"])
        rejected, _ = _last(row["rejected"]) if row.get("rejected") is not None else ("", "")
        return before or _plain(row.get("prompt") or ""), chosen, rejected
    if row.get("completion") is not None:
        return _plain(row.get("prompt") or ""), _plain(row["completion"]), ""
    if row.get("messages") is not None:
        answer, before = _last(row["messages"])
        return before, answer, ""
    if row.get("prompt") is not None:
        return _plain(row["prompt"]), None, ""
    if row.get("text") is not None:
        return "", str(row["text"]), ""
    raise ValueError(
        f"expected `messages`, `prompt` and `completion`, `chosen`, `text` or `prompt`; there are {', '.join(row)}"
    )


def _last(turns: Any) -> tuple[str, str]:
    """(the last assistant turn, all before it); text is a completion as it is."""
    if isinstance(turns, str):
        return turns, ""
    for i in range(len(turns) - 1, -1, -1):
        if turns[i]["role"] == "assistant":
            return _content(turns[i]), _plain(turns[:i])
    raise ValueError("the conversation has no assistant turn")


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else "\n".join(_content(turn) for turn in value)


def _content(turn: Mapping[str, Any]) -> str:
    content = turn.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
