"""JSON files that end with a digest of themselves, so that a changed byte is found when they are read.

    {"step": 100, ..., "sealed": "sha256", "sha256": "<digest of every byte before this entry>"}

Files without either key were written by an earlier divmon and are taken as they are.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from divmon.types import strict_json

_SEAL = re.compile(rb',\s*"sha256":\s*"([0-9a-f]{64})"\s*\}\s*$')
KEYS = ("sealed", "sha256")


class Changed(ValueError):
    """The file is not as divmon wrote it, but can be read; `value` is what it says now."""

    def __init__(self, value: dict[str, Any]) -> None:
        super().__init__("it was changed after divmon wrote it: its content does not match its own sha256")
        self.value = value


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def seal(value: Mapping[str, Any], indent: int | None = None) -> bytes:
    """Strict JSON with its own digest as the last entry."""
    data = strict_json({**value, "sealed": "sha256"}, indent=indent)
    body = data[:-1].rstrip()
    line = b"\n" if indent else b""
    return body + b',%s"sha256": "%s"%s}' % (line, digest(body).encode(), line)


def unseal(data: bytes, loads: Callable[[bytes], Any] = json.loads) -> tuple[dict[str, Any], bool]:
    """What a sealed file holds, and whether a digest vouches for it: False of a file from before there were any. Raises
    Changed: it does not match its digest, or has lost a part of it; ValueError: it is no JSON object."""
    try:
        value = loads(data)
    except RecursionError:
        raise ValueError("it is nested too deep to be JSON of divmon") from None
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {type(value).__name__}")
    had = [value.pop(key, None) is not None for key in KEYS]
    match = _SEAL.search(data)
    if not any(had) and match is None:
        return value, False
    if not all(had) or match is None or digest(data[: match.start()]) != match[1].decode():
        raise Changed(value)
    return value, True
