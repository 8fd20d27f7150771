"""Files of rows in every usual format: each row with the words that name it, or why it is none.

.jsonl .ndjson .json .csv .tsv .parquet .arrow, plain or compressed (.gz .bz2 .xz); a saved data set's folder; .eval
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

SUFFIXES = (".jsonl", ".json", ".parquet", ".csv", ".tsv", ".ndjson", ".arrow", ".eval")
"""Of files of rows; each may be followed by one of `COMPRESSED`."""
COMPRESSED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
BIG = 200_000_000
"""Bytes of a file of training data above which it is not read into memory."""
MAPPED = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
"""What `datasets` keeps on disk, by the name of its loader."""
LISTS = ("samples", "data", "rows", "examples", "instances", "results")
"""Keys of a JSON object below which its rows may be."""


@dataclass(frozen=True)
class Record:
    """A row of a file."""

    number: int
    """Its line, counted from 1, or its place, counted from 0."""
    where: str
    """In words: "rows.jsonl, line 3"."""
    row: Any = None
    problem: str = ""
    """Why it is no row."""


def is_file_of_rows(name: str) -> bool:
    """Whether a name ends as a file of rows does."""
    return _kind(Path(name)) in SUFFIXES


def is_table_of_texts(path: str | os.PathLike[str]) -> bool:
    """Whether every cell of a file is text, lists among them."""
    return _kind(Path(path)) in (".csv", ".tsv")


def read_records(path: str | os.PathLike[str]) -> list[Record]:
    """All rows of a file, or of a data set that was saved by `datasets`. Raises FileNotFoundError: there is no such
    file; ValueError: it cannot be read as what its name says, or the folder holds no saved data set."""
    path = Path(path).expanduser()
    if path.is_dir():
        return _placed(path, _saved(path))
    if not path.is_file():
        raise FileNotFoundError(
            f"no file {str(path)!r} (looked in {Path.cwd()}); expected one of {', '.join(SUFFIXES)}"
        )
    kind = _kind(path)
    if kind in (".jsonl", ".ndjson") or kind not in READERS:
        return _lines(path)
    try:
        return _placed(path, READERS[kind](path))
    except (OSError, EOFError, ValueError, lzma.LZMAError, zipfile.BadZipFile, ImportError) as error:
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: cannot be read as {kind}: {error}") from error


def read_rows(path: str | os.PathLike[str]) -> Sequence[Mapping[str, Any]]:
    """The rows of training data: every one must be whole. Above `BIG` bytes they stay on disk, where `datasets` can.
    Raises FileNotFoundError, ValueError: as `read_records`; or a row is none, of which three at most are named."""
    path = Path(path).expanduser()
    if path.is_dir():
        return _saved(path)
    kind = MAPPED.get(path.suffix.lower())
    if kind and path.is_file() and path.stat().st_size > BIG:
        import datasets

        rows: Sequence[Mapping[str, Any]] = datasets.load_dataset(kind, data_files=str(path), split="train")
        return rows
    return [record.row for record in whole_records(path)]


def whole_records(path: str | os.PathLike[str]) -> list[Record]:
    """As `read_records`, where every row must be an object: of those that are none, ValueError names three."""
    records = read_records(path)
    bad = [record for record in records if not isinstance(record.row, Mapping)]
    if bad:
        said = [f"{r.where}: {r.problem or f'expected a JSON object, came {r.row!r:.60}'}" for r in bad[:3]]
        raise ValueError("; ".join(said) + (f"; and {len(bad) - 3} more" if len(bad) > 3 else ""))
    return records


def read_table(table: Any) -> list[Record]:
    """The rows of a `datasets.Dataset`, a pandas frame, or a list of mappings."""
    if hasattr(table, "to_dict") and hasattr(table, "columns"):
        table = table.to_dict("records")
    elif hasattr(table, "with_format"):
        table = table.with_format(None)  # the user's own transform is neither needed nor run
    return [Record(place, f"row {place} (counted from 0)", row) for place, row in enumerate(table)]


def parsed(text: str) -> Any:
    r"""JSON, with lone surrogates (\ud800), which no tokenizer or file takes, replaced by U+FFFD. Raises ValueError: it
    is no JSON."""
    try:
        value = json.loads(text)
        return json.loads(whole(json.dumps(value, ensure_ascii=False))) if "\\ud" in text.lower() else value
    except RecursionError:
        raise ValueError("nested too deep") from None


def whole(text: str) -> str:
    """With each lone surrogate replaced by U+FFFD, and pairs joined."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _kind(path: Path) -> str:
    """The suffix that says the format, in front of one that says the compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _open(path: Path) -> IO[bytes]:
    return COMPRESSED.get(path.suffix.lower(), open)(path, "rb")


def _lines(path: Path) -> list[Record]:
    """JSON, an object a line; a file that is one JSON value all the same is read as such."""
    records = []
    try:
        with _open(path) as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    records.append(_line(f"{path}, line {number}", number, line))
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error
    if records and all(record.problem.startswith("not JSON") for record in records[:2]):
        try:
            return _placed(path, _json(path))
        except ValueError:
            return records
    return records


def _line(where: str, number: int, line: bytes) -> Record:
    try:
        return Record(number, where, parsed(line.decode("utf-8-sig")))
    except json.JSONDecodeError as error:
        return Record(number, where, problem=f"not JSON: {error.msg} at column {error.colno}")
    except UnicodeDecodeError as error:
        return Record(number, where, problem=f"not UTF-8: {error.reason} at byte {error.start}")
    except ValueError as error:
        return Record(number, where, problem=f"not a row: {error}")


def _placed(path: Path, rows: Iterable[Any]) -> list[Record]:
    return [Record(place, f"{path}, row {place} (counted from 0)", row) for place, row in enumerate(rows)]


def _json(path: Path) -> list[Any]:
    """A list of rows; an object that holds one; or an object of columns, as pandas writes it."""
    with _open(path) as file:
        text = file.read().decode("utf-8-sig")
    try:
        value = parsed(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # an object a line under another name
            return [_line("", 0, line.encode()).row for line in text.split("\n") if line.strip()]
        raise ValueError(f"{path}: expected a JSON list of objects, came {error}") from error
    if isinstance(value, dict):
        value = _inside(value)
    if not isinstance(value, list):
        raise ValueError(f"{path}: expected a JSON list of objects, came one {type(value).__name__}")
    return value


def _inside(value: dict[str, Any]) -> Any:
    """The rows of a JSON object; itself where it holds none."""
    for key in LISTS:
        if isinstance(value.get(key), list):
            facts = {"eval": value["eval"]} if isinstance(value.get("eval"), dict) else {}  # inspect_ai names its task
            return [{**row, **facts} if isinstance(row, dict) else row for row in value[key]]
    columns = list(value.values())
    if columns and all(isinstance(own, list) and own and " " in key.strip() for key, own in value.items()):
        return [
            {"prompt": key, "completions": own} for key, own in value.items()
        ]  # what is no column's name is a prompt
    if columns and all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    if columns and all(isinstance(column, dict) and column.keys() == columns[0].keys() for column in columns):
        return [{name: column[key] for name, column in value.items()} for key in columns[0]]
    return value


def _parquet(path: Path) -> list[Any]:
    import pyarrow.parquet

    with _open(path) as file:
        return pyarrow.parquet.read_table(file).to_pylist()


def _arrow(path: Path) -> list[Any]:
    import datasets

    return list(datasets.Dataset.from_file(str(path)).with_format(None))


def _csv(path: Path) -> list[Any]:
    """Every cell as text, as it stands; an empty one is empty."""
    import pandas as pd

    with _open(path) as file:
        start = file.read(1 << 16)
    coding = "utf-16" if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"  # of Excel
    head = start.decode(coding, "ignore").partition("\n")[0]
    separator = max("\t,;" if _kind(path) == ".tsv" else ",;\t", key=head.count)
    try:
        with _open(path) as file:
            frame = pd.read_csv(file, sep=separator, dtype=str, keep_default_na=False, encoding=coding)
        frame.columns = [str(name).strip() for name in frame.columns]
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{path}: cannot be read as a table: {error}") from error
    return frame.to_dict("records")


def _eval(path: Path) -> list[Any]:
    """A log of inspect_ai: a zip with a JSON file for each sample, and one about the evaluation."""
    with zipfile.ZipFile(path) as log:
        names = log.namelist()
        about = json.loads(log.read("header.json" if "header.json" in names else "_journal/start.json"))
        samples = [name for name in names if name.startswith("samples/") and name.endswith(".json")]
        return [{**parsed(log.read(name).decode()), "eval": about.get("eval", {})} for name in samples]


def _saved(folder: Path) -> Any:
    """A data set saved by `datasets`; of one with several splits the folder of a split is to be named."""
    import datasets

    if not any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        files = sorted(path.name for path in folder.iterdir() if _kind(path) in SUFFIXES)
        there = f"its files are {', '.join(files[:8])}" if files else "it has no files of rows"
        raise ValueError(f"{folder} is a folder without a saved data set; {there}: name one of them")
    loaded = datasets.load_from_disk(str(folder))
    if isinstance(loaded, Mapping):
        if len(loaded) > 1:
            splits = ", ".join(str(folder / str(name)) for name in loaded)
            raise ValueError(f"{folder} holds several splits; name one of them: {splits}")
        (loaded,) = loaded.values()
    return loaded.with_format(None)


READERS: dict[str, Callable[[Path], Iterable[Any]]] = {
    ".json": _json,
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".csv": _csv,
    ".tsv": _csv,
    ".eval": _eval,
}
