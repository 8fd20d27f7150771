"""Values in the terms of strict JSON: what the store and the command line write."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment]


def plain(value: Any) -> Any:
    """`value` in the terms of strict JSON, so that no stray type can cost a run its snapshot.

    NaN becomes None, an infinity text, numpy's and torch's numbers Python's, a dataclass a dictionary; what JSON has no
    word for becomes its `str`, without the memory address that would differ between two runs.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None if math.isnan(value) else str(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(plain, value), key=str)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(fields(value))
    if hasattr(value, "tolist"):  # numpy and torch: a number for what has no dimension, else lists
        return plain(value.tolist())
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


def fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass, shallow: `dataclasses.asdict` copies every value, which takes ten times as long."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def strict_json(value: Any, indent: int | None = None) -> bytes:
    """Strict JSON in ASCII: a lone surrogate that a tokenizer let through has no UTF-8, but has an escape."""
    return json.dumps(value, allow_nan=False, indent=indent, separators=None if indent else (",", ":")).encode()


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


def floats(values: ArrayLike) -> NDArray[np.float64]:
    """Numbers as strict JSON holds them: None is NaN, "Infinity" is infinite."""
    import numpy as np

    return np.array(values, dtype=np.float64)
