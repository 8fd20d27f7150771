"""Plain values as nested lists of strings, the only thing that passes between a program and its tests.

No pickle: what the program sends is built up again from builtin types alone, so that no object of its own, with an
`__eq__` of its own, ever reaches the tests. Anything else stays where it is and is spoken of by number (`ref`).
"""

from __future__ import annotations

import builtins

TYPE_CHECKING = False  # the modules for types take longer to load than most programs to run
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

Tagged = list
"""[kind, part, ...], each part a string or again a Tagged."""

_SEQUENCES: dict[str, type] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
_BASES: tuple[Any, ...] = (str, int, float, complex, bytes, list, tuple, set, frozenset, dict)
_TYPES = ("bool", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "set", "str", "tuple")


class NotPlain(Exception):
    """A value that cannot leave its process."""


def tag(value: Any, refer: Callable[[Any], Tagged]) -> Tagged:
    """A value as nested lists of strings.

    A subclass counts as its builtin base (a named tuple is a tuple), for that is what it compares as.

    Args:
        value: what to send.
        refer: called for whatever is not plain; returns ["ref", number], ["global", name], or raises NotPlain.
    """
    kind = type(value)
    if value is None or kind is bool:
        return [repr(value)]
    if kind is str:
        return ["str", value]
    if kind is int:
        return ["int", hex(value)]
    if kind is float:
        return ["float", value.hex()]
    if kind in _SEQUENCES.values():
        return [kind.__name__, *[tag(item, refer) for item in value]]
    if kind is dict:
        return ["dict", *[tag(part, refer) for item in value.items() for part in item]]
    if kind is complex:
        return ["complex", value.real.hex(), value.imag.hex()]
    if kind is bytes or kind is bytearray:
        return ["bytes", value.hex()]
    if kind is range:
        return ["range", hex(value.start), hex(value.stop), hex(value.step)]
    if kind is type and value.__name__ in _TYPES and getattr(builtins, value.__name__) is value:
        return ["type", value.__name__]
    return _tag_relative(value, refer)


def _tag_relative(value: Any, refer: Callable[[Any], Tagged]) -> Tagged:
    """What compares as a builtin without being one: subclasses, and a few types of the standard library and numpy."""
    kind = type(value)
    home = getattr(kind, "__module__", "")
    if (home, kind.__name__) in (("decimal", "Decimal"), ("fractions", "Fraction")):
        return [kind.__name__, str(value)]
    if (home, kind.__name__) == ("collections", "deque"):
        return ["deque", *[tag(item, refer) for item in value]]
    for base in _BASES:
        if isinstance(value, base):
            return tag(base(value), refer)
    if home == "numpy" and getattr(value, "shape", None) == () and hasattr(value, "item"):
        return tag(value.item(), refer)
    return refer(value)


def untag(tagged: Tagged, resolve: Callable[[Tagged], Any]) -> Any:
    """The value that `tag` was given.

    Args:
        tagged: as it came, from a hostile program perhaps: nothing in it is trusted.
        resolve: called for ["ref", ...] and ["global", ...].

    Raises:
        Exception: it is not what `tag` returns. Of many types; the caller takes any.
    """
    kind, *parts = tagged
    match kind:
        case "None" | "True" | "False":
            return {"None": None, "True": True, "False": False}[kind]
        case "str":
            return str(*parts)
        case "int":
            return int(parts[0], 16)
        case "float":
            return float.fromhex(parts[0])
        case "list" | "tuple" | "set" | "frozenset":
            return _SEQUENCES[kind]([untag(part, resolve) for part in parts])
        case "dict":
            flat = [untag(part, resolve) for part in parts]
            return dict(zip(flat[::2], flat[1::2], strict=True))
        case "complex":
            return complex(*map(float.fromhex, parts))
        case "bytes":
            return bytes.fromhex(parts[0])
        case "range":
            return range(*[int(part, 16) for part in parts])
        case "type" if parts[0] in _TYPES:
            return getattr(builtins, parts[0])
        case "Decimal" | "Fraction" | "deque":
            return _untag_library(kind, parts, resolve)
        case "ref" | "global":
            return resolve(tagged)
    raise ValueError(f"no value is tagged {kind!r}")


def _untag_library(kind: str, parts: list[Any], resolve: Callable[[Tagged], Any]) -> Any:
    from collections import deque
    from decimal import Decimal
    from fractions import Fraction

    if kind == "deque":
        return deque(untag(part, resolve) for part in parts)
    return {"Decimal": Decimal, "Fraction": Fraction}[kind](str(parts[0]))
