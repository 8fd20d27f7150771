"""The process of one program. It answers calls with plain values, and knows neither the tests nor what would pass.

What runs here may do anything to this process, to its files and to its channel: all it can win is to give other values.
"""

from __future__ import annotations

import marshal
import operator
import sys
import types

from . import channel
from .values import Tagged, tag, untag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

try:
    from _json import encode_basestring_ascii as _quote  # json itself takes longer to load than all of this
except ImportError:
    from json.encoder import py_encode_basestring_ascii as _quote  # type: ignore[no-redef,assignment]


def main() -> None:
    """Arguments: the channel's descriptor, CPU seconds, memory and file bytes, the parent, folders to import from.

    The parent is 0 in a sandbox.
    """
    fd, cpu_s, memory, file_size, parent = map(int, sys.argv[1:6])
    _limit(cpu_s, memory, file_size)
    if parent:
        from .syscalls import confine

        confine(parent)
    sys.path.extend(sys.argv[6:])
    del sys.argv[1:]
    ProgramServer(fd).serve()


def _limit(cpu_s: int, memory: int, file_size: int) -> None:
    """Hard limits, which cannot be raised again. At a hard CPU limit the kernel kills: there is no signal to catch."""
    import resource

    limits = {"CPU": cpu_s, "AS": memory, "FSIZE": file_size, "CORE": 0, "NOFILE": 64, "NPROC": 1, "MSGQUEUE": 0}
    for name, value in limits.items():
        number = getattr(resource, f"RLIMIT_{name}", None)
        if number is not None:
            hard = resource.getrlimit(number)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            try:
                resource.setrlimit(number, (value, value))
            except (OSError, ValueError):
                if sys.platform == "linux":  # others lack some of them
                    raise


class ProgramServer:
    """The program's module, and those of its objects that the tests hold by number."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        # Not "__main__": its functions are asked for, not its demonstration.
        self.module = types.ModuleType("program")
        self.kept: list[Any] = []
        self.operations: dict[str, Callable[..., Any]] = {
            "load": self.load,
            "call": self.call,
            "get": getattr,
            "set": setattr,
            "item": operator.getitem,
            "iter": iter,
            "next": next,
            "len": len,
            "bool": bool,
            "str": str,
        }

    def serve(self) -> None:
        """Answers until the tests are done with it."""
        while True:
            try:
                name, *parts = marshal.loads(channel.receive(self.fd))  # from the tests, which are trusted
            except channel.Closed:
                return
            if channel.is_closed(self.fd):  # the run was killed while this process started
                return
            channel.send(self.fd, _dump(self.answer(name, parts)).encode())

    def answer(self, name: str, parts: list[Tagged]) -> Tagged:
        """What an operation gives, or the exception that it raises."""
        try:
            return ["value", tag(self.operations[name](*[untag(part, self.resolve) for part in parts]), self.refer)]
        except BaseException as error:  # SystemExit too: it ends the call, not the tests
            try:
                message = str(error)[:200]
            except BaseException:
                message = ""
            return ["raise", type(error).__name__, message]

    def load(self, source: str, open_ended: bool, names: list[str]) -> str | None:
        """Runs the program; the name of its function that stands in for the first of `names`, if one has to."""
        sys.modules["program"] = self.module
        space = self.module.__dict__
        exec(_compiled(source, open_ended), space)
        if len(names) != 1 or names[0] in space:  # of several nobody can tell which is which
            return None
        meant = _meant(space)
        if meant is not None:
            space[names[0]] = space[meant]
        return meant

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return function(*args, **kwargs)

    def resolve(self, tagged: Tagged) -> Any:
        kind, key = tagged
        if kind == "ref":
            return self.kept[int(key)]
        if key not in self.module.__dict__:
            raise NameError(f"name {key!r} is not defined")
        return self.module.__dict__[key]

    def refer(self, value: Any) -> Tagged:
        self.kept.append(value)
        return ["ref", str(len(self.kept) - 1)]


_NOT_MEANT = ("main", "test", "__")
"""Beginnings of names of functions that call what was asked for."""


def _meant(space: dict[str, Any]) -> str | None:
    """The last function at the top level that no other one uses; a helper may follow the function asked for."""
    own = [name for name, value in space.items() if _is_function(value) and not name.startswith(_NOT_MEANT)]
    used = {word for name in own for word in _words(getattr(space[name], "__code__", None)) if word != name}
    return next((name for name in reversed(own) if name not in used), own[-1] if own else None)


def _words(code: types.CodeType | None) -> set[str]:
    """Global names and attributes in a function, those of the functions inside it too."""
    found: set[str] = set()
    waiting = [code]
    while waiting:
        code = waiting.pop()
        if isinstance(code, types.CodeType):
            found.update(code.co_names)
            waiting += code.co_consts
    return found


def _is_function(value: Any) -> bool:
    """A function of the program's own, decorated ones too; neither a class nor what it imported."""
    return callable(value) and not isinstance(value, type) and getattr(value, "__module__", None) == "program"


def _compiled(source: str, open_ended: bool) -> types.CodeType:
    """The program; where it may end anyhow, without the statements at its end that cannot be read."""
    try:
        return compile(source, "<program>", "exec")
    except SyntaxError:
        lines = source.splitlines()
        margins = [i for i, line in enumerate(lines) if line and not line[0].isspace()]
        for end in reversed(margins[-50:] if open_ended else []):
            try:
                return compile("\n".join(lines[:end]), "<program>", "exec")
            except SyntaxError:
                pass
        raise


def _dump(tagged: Any) -> str:
    return _quote(tagged) if type(tagged) is str else f"[{','.join(map(_dump, tagged))}]"
