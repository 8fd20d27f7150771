"""The two files of a snapshot: its scores, and its samples; read as the plain data they hold, and checked.

The scores carry a digest of themselves and of the samples. What an earlier divmon wrote has none: there the keys and
their types are checked.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from divmon.storage.sealing import digest, unseal
from divmon.types import OLD_FIGURES

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment]


def parsed(data: bytes) -> Any:
    """Strict JSON read back, by orjson where it is installed: seven times as fast, and most of what a long run takes to
    read. An integer beyond 64 bits comes as a float from it. Raises ValueError: it is no JSON."""
    if orjson is not None:
        with contextlib.suppress(ValueError):  # a lone surrogate, which is written as its escape and refused
            return orjson.loads(data)
    return json.loads(data)


MOST_BYTES = 2 << 30
"""Of the samples of a step, unpacked: a small file may hold far more than any memory."""

Loads = Callable[[bytes], Any]
"""Of JSON: `parsed` for many snapshots at once, `json.loads` for one to the last digit of a long integer."""


def marker_path(folder: Path, step: int) -> Path:
    return folder / "snapshots" / f"{step:08d}.json"


def samples_path(folder: Path, step: int) -> Path:
    return folder / "snapshots" / f"{step:08d}.samples.jsonl.gz"


def read_marker(folder: Path, step: int, loads: Loads = parsed) -> dict[str, Any]:
    """The scores of a step as they are stored. Raises ValueError: the file is damaged."""
    file = marker_path(folder, step)
    try:
        marker, vouched = unseal(file.read_bytes(), loads)
        if not vouched:
            _check(marker, "Marker")
        if marker["step"] != step:
            raise ValueError(f"it says it is step {marker['step']}")
    except (OSError, ValueError) as error:
        raise ValueError(f"the snapshot of step {step} is damaged: {file}: {error or type(error).__name__}") from error
    return _by_names_of_today(marker)


def _by_names_of_today(marker: dict[str, Any]) -> dict[str, Any]:
    """Figures and phases by the names they have had since version 0.2, which called truncated what gave no answer."""
    if "judging" in (seconds := marker["provenance"].get("seconds") or {}):
        seconds["grading"] = seconds.pop("judging")
    rows = [*marker["scores"], *marker["changes"]]
    if any(row["metric"] in OLD_FIGURES for row in rows):
        for name in ("scores", "changes"):
            marker[name] += [{**row, "metric": "no_answer"} for row in marker[name] if row["metric"] == "truncated"]
        for row in rows:
            row["metric"] = OLD_FIGURES.get(row["metric"], row["metric"])
    return marker


def read_samples(
    folder: Path, step: int, loads: Loads = parsed, marker: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """The samples of a step as they are stored, in order; `cut` says that a size limit shortened or left out a text.

    Args:
        marker: the scores of the step, where they have been read.

    Raises:
        ValueError: the file, or that of the scores, is damaged; the message names it.
    """
    file = samples_path(folder, step)
    marker = read_marker(folder, step, loads) if marker is None else marker
    try:
        data = file.read_bytes()
        vouched = _vouched(data, marker)
        rows: list[dict[str, Any]] = loads(b"[%s]" % b",".join(_unpacked(data).splitlines()))
        for row in [] if vouched else rows:
            _check(row, "GradedRow" if marker["judged"] else "SampleRow")
    except (OSError, ValueError, RecursionError) as error:
        reason = error if str(error) else type(error).__name__
        raise ValueError(f"the samples of step {step} are damaged: {file}: {reason}") from error
    return rows


def unreadable(folder: Path, step: int, marker: Mapping[str, Any]) -> str:
    """Why the samples of a step cannot be read; "" where they can. Their checksum is tried, they are not parsed."""
    file = samples_path(folder, step)
    try:
        data = file.read_bytes()
        if not _vouched(data, marker):
            _unpacked(data)
    except (OSError, ValueError) as error:
        return f"{file.name}: {error}"
    return ""


def _vouched(data: bytes, marker: Mapping[str, Any]) -> bool:
    """Whether the samples are those that the scores were written with; False where the scores do not say. Raises
    ValueError: they are others."""
    expected = marker.get("samples_sha256")
    if expected is not None and digest(data) != expected:
        raise ValueError("it is not the file that was written with the scores of this step: its sha256 is another")
    return expected is not None


def _unpacked(data: bytes) -> bytes:
    """Raises ValueError where the data are no whole gzip file."""
    if not data:
        raise ValueError("it is empty")
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            unpacked = file.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"no whole gzip file ({type(error).__name__}: {error})") from error
    if len(unpacked) > MOST_BYTES:
        raise ValueError(f"it holds over {MOST_BYTES >> 20:,} MB, expected the samples of one step")
    return unpacked


def _check(value: Any, shape: str) -> None:
    from divmon.storage import validation  # pydantic, which a run with digests does not need

    validation.check(value, getattr(validation, shape))
