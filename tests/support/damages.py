"""Ways to damage a file of a run directory, for tests."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Damage = Callable[[Path], None]


def cut(share: float) -> Damage:
    return lambda file: file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])


def flip(seed: int, among: bytes | None = None) -> Damage:
    """Another byte in a random place, or another digit for a digit."""

    def damage(file: Path) -> None:
        data, rng = bytearray(file.read_bytes()), random.Random(seed)
        places = [i for i, byte in enumerate(data) if among is None or byte in among]
        place = rng.choice(places)
        others = among or bytes(range(256))
        data[place] = rng.choice([byte for byte in others if byte != data[place]])
        file.write_bytes(data)

    return damage


def written(data: bytes) -> Damage:
    return lambda file: file.write_bytes(data)


def of_another_step(file: Path) -> None:
    file.write_bytes((file.parent / file.name.replace("00000010", "00000020")).read_bytes())


def emptied(file: Path) -> None:
    file.write_bytes(gzip.compress(b""))


BYTES: dict[str, Damage] = {
    "empty": written(b""),
    "null": written(b"null"),
    "list": written(b"[]"),
    "object": written(b"{}"),
    "deep": written(b"[" * 100_000),
    "zeros": written(b"\0" * 4096),
    "not utf-8": written(b'{"step": "\xff"}'),
    **{f"cut to {share}": cut(share) for share in (0.1, 0.5, 0.9, 0.999)},
    **{f"digit {seed}": flip(seed, b"0123456789") for seed in range(8)},
    **{f"byte {seed}": flip(seed) for seed in range(8)},
}


VALUES: list[Any] = [None, True, -1, 1e300, 10**30, "x", "1", [], {}, [[]], {"a": 1}, [None, "x"]]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key and position in a value; of a list the first alone."""
    items = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value))[:1]
        if isinstance(value, list)
        else []
    )
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def with_key(value: Any, path: tuple[Any, ...], how: str, new: Any = None) -> Any:
    """A copy whose entry at `path` is deleted, renamed or replaced."""
    copy = json.loads(json.dumps(value))
    holder = copy
    for key in path[:-1]:
        holder = holder[key]
    if how == "replaced":
        holder[path[-1]] = new
    elif (old := holder.pop(path[-1])) is not None and how == "renamed" and isinstance(holder, dict):
        holder[f"{path[-1]}x"] = old
    return copy
