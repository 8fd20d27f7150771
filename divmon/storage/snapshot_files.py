"""The two files of a snapshot: its scores, and its samples; read as the plain data they hold."""

from __future__ import annotations

import contextlib
import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from divmon.types import OLD_FIGURES

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment]


def parsed(data: bytes) -> Any:
    """Strict JSON read back, by orjson where it is installed: seven times as fast, and most of what a long run takes to
    read. An integer beyond 64 bits comes as a float from it.

    Raises:
        ValueError: it is no JSON.
    """
    if orjson is not None:
        with contextlib.suppress(ValueError):  # a lone surrogate, which is written as its escape and refused
            return orjson.loads(data)
    return json.loads(data)


Loads = Callable[[bytes], Any]
"""Of JSON: `parsed` for many snapshots at once, `json.loads` for one to the last digit of a long integer."""


def marker_path(folder: Path, step: int) -> Path:
    return folder / "snapshots" / f"{step:08d}.json"


def samples_path(folder: Path, step: int) -> Path:
    return folder / "snapshots" / f"{step:08d}.samples.jsonl.gz"


def read_marker(folder: Path, step: int, loads: Loads = parsed) -> dict[str, Any]:
    """The scores of a step as they are stored.

    Raises:
        ValueError: the file is damaged; the message names it.
    """
    file = marker_path(folder, step)
    try:
        marker = loads(file.read_bytes())
        if marker["step"] != step:
            raise ValueError(f"it says it is step {marker['step']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the snapshot of step {step} is damaged: {file}: {error!r}") from error
    return _by_names_of_today(marker)


def _by_names_of_today(marker: dict[str, Any]) -> dict[str, Any]:
    """Figures of version 0.1 by the names they have had since; what it called truncated was any that gave no answer."""
    rows = [*marker["scores"], *marker["changes"]]
    if any(row["metric"] in OLD_FIGURES for row in rows):
        for name in ("scores", "changes"):
            marker[name] += [{**row, "metric": "no_answer"} for row in marker[name] if row["metric"] == "truncated"]
        for row in rows:
            row["metric"] = OLD_FIGURES.get(row["metric"], row["metric"])
    return marker


def read_samples(folder: Path, step: int, loads: Loads = parsed) -> list[dict[str, Any]]:
    """The samples of a step as they are stored, in order; `cut` says that a size limit shortened or left out a text.

    Raises:
        ValueError: the file is damaged; the message names it.
    """
    file = samples_path(folder, step)
    try:
        rows: list[dict[str, Any]] = loads(b"[%s]" % b",".join(gzip.decompress(file.read_bytes()).splitlines()))
        return rows
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ValueError(f"the samples of step {step} are damaged: {file}: {error!r}") from error


def unreadable(file: Path) -> str:
    """Why a compressed file cannot be read back; "" where it can. Its checksum is tried, its JSON is not parsed."""
    try:
        gzip.decompress(file.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        return f"{file.name}: {type(error).__name__}: {error}"
    return ""
