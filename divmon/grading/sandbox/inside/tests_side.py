"""The process of the tests. It forks for each job, so that the tests of one job cannot touch those of another.

The program is in another sandbox; the tests hold proxies of its names. Only this process gives verdicts, over a
channel of its own.
"""

from __future__ import annotations

import ast
import builtins
import collections  # noqa: F401  what tests import is loaded before the forks
import copy  # noqa: F401
import hashlib  # noqa: F401
import json
import marshal
import math  # noqa: F401
import os
import random  # noqa: F401
import re  # noqa: F401
import resource
import select
import signal
import socket
import sys
import traceback
import typing  # noqa: F401
from typing import Any, NoReturn

from . import channel
from .values import NotPlain, Tagged, tag, untag

Outcome = tuple[bool | None, str, str | None]
"""Passed, failed or ungradable; why; and the value that was named, where that is what is graded."""

_WRITTEN = 1000
"""Characters of a value that are kept."""
ENDED = "the program ended before it answered"


def main() -> None:
    """Arguments: the control socket's descriptor, CPU seconds, memory bytes, bytes that one answer may have."""
    fd, cpu_s, memory, answer_bytes = map(int, sys.argv[1:5])
    control = socket.socket(fileno=fd)
    while True:
        head, passed, *_ = socket.recv_fds(control, 1, 1)
        if not head:
            return
        job = json.loads(channel.receive(fd))
        program = passed[0] if passed else None
        outcome = _in_child(job, program, (cpu_s, memory, answer_bytes), control)
        if program is not None:
            os.close(program)
        channel.send(fd, json.dumps(outcome).encode())


def _in_child(
    job: dict[str, Any], program: int | None, limits: tuple[int, int, int], control: socket.socket
) -> Outcome:
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(read)
            control.close()
            resource.setrlimit(resource.RLIMIT_CPU, (limits[0], limits[0]))
            resource.setrlimit(resource.RLIMIT_AS, (limits[1], limits[1]))
            outcome = grade(job, program, limits[2])
            channel.send(write, json.dumps(outcome).encode())
        finally:
            os._exit(0)
    os.close(write)
    poll = select.poll()
    poll.register(read, select.POLLIN)
    poll.register(control, 0)
    if control.fileno() in dict(poll.poll()):  # the run that asked was killed
        os.kill(child, signal.SIGKILL)
        sys.exit()
    try:
        passed, reason, answer = json.loads(channel.receive(read))
        return passed, reason, answer
    except channel.Closed:
        return None, "the process of the tests died or ran out of time", None
    finally:
        os.close(read)
        os.waitpid(child, 0)


def grade(job: dict[str, Any], program: int | None, answer_bytes: int) -> Outcome:
    """The verdict of one job: a literal answer against the expected one, or a program against its tests."""
    if program is None:
        return compare(job["answers"], job["expected"])
    return run_tests(ProgramProxy(program, answer_bytes), job)


def compare(answers: list[str], expected: str) -> Outcome:
    """The first of the readings of an answer that is a literal, against the expected value."""
    try:
        gold = ast.literal_eval(expected)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None, f"the expected value is not a literal: {expected[:80]}", None
    for answer in answers:
        try:
            value = ast.literal_eval(answer.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        written = repr(value)[:_WRITTEN]
        return (True, "", written) if value == gold else (False, f"{written[:80]} is not {expected[:80]}", written)
    return False, "the answer is not a literal value", None


class Fault(BaseException):
    """The program is at fault in a way that no test may catch."""


class ProgramError(Exception):
    """An exception of the program that is not a builtin one."""


class ProgramProxy:
    """The program in its own process: what is asked of it, and what came back."""

    def __init__(self, fd: int, answer_bytes: int) -> None:
        self.fd = fd
        self.answer_bytes = answer_bytes
        self.outcome: Outcome | None = None

    def ask(self, operation: str, *values: Any) -> Any:
        """What the operation gives there. Raises Exception: what it raised there, if that is a builtin exception; else
        ProgramError; Fault: the program ended, or gave what cannot be read; or the tests gave it what cannot be
        sent."""
        try:
            message = marshal.dumps([operation, *[tag(value, self._refer) for value in values]])
        except NotPlain as error:
            self._end(None, str(error))
        try:
            channel.send(self.fd, message)
            kind, *parts = json.loads(channel.receive(self.fd, self.answer_bytes))
            if kind == "value":
                return untag(parts[0], self._resolve)
            name, text = map(str, parts)
        except channel.Closed:
            self._end(False, ENDED)
        except channel.TooLong as error:
            self._end(False, f"the program gave {error}")
        except Exception as error:
            self._end(False, f"the program gave an answer that cannot be read ({type(error).__name__})")
        kind = getattr(builtins, name, None)
        if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, UnicodeError):
            raise kind(text)
        raise ProgramError(f"{name}: {text}")

    def _end(self, passed: bool | None, reason: str) -> NoReturn:
        self.outcome = passed, reason, None
        raise Fault(reason)

    def _refer(self, value: Any) -> Tagged:
        if isinstance(value, Remote):
            return value._tagged
        raise NotPlain(f"the tests hand the program a {type(value).__name__}, which cannot leave their process")

    def _resolve(self, tagged: Tagged) -> Remote:
        kind, number = tagged
        if kind != "ref":
            raise ValueError(f"the program has no business with {kind!r}")
        return Remote(self, [kind, str(number)])


class Remote:
    """Something of the program's that the tests hold: a function, a class, an object. It never leaves its process.

    What is asked of it is asked there, and comes back as a plain value or again as a Remote. How it compares is not
    asked, for the program would say "equal": it is equal to itself alone.
    """

    __slots__ = ("_program", "_tagged")

    def __init__(self, program: ProgramProxy, tagged: Tagged) -> None:
        object.__setattr__(self, "_program", program)
        object.__setattr__(self, "_tagged", tagged)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._program.ask("call", self, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._program.ask("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._program.ask("set", self, name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._program.ask("item", self, key)

    def __iter__(self) -> Any:
        return self._program.ask("iter", self)

    def __next__(self) -> Any:
        return self._program.ask("next", self)

    def __len__(self) -> int:
        return self._program.ask("len", self)

    def __bool__(self) -> bool:
        return self._program.ask("bool", self)

    def __str__(self) -> str:
        return self._program.ask("str", self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and self._tagged == other._tagged

    def __hash__(self) -> int:
        return hash(tuple(self._tagged))


def run_tests(program: ProgramProxy, job: dict[str, Any]) -> Outcome:
    """Loads the program, then runs the tests with proxies for its names.

    Names that the tests use and neither they nor the prelude define are the program's; a builtin is the program's only
    if it is one of the job's `names`, so that a program cannot bring a `set` or `sorted` of its own.
    """
    try:
        own_name = program.ask("load", job["program"], job["open_ended"], job["names"] if job["any_name"] else [])
    except (Exception, Fault) as error:
        return program.outcome or (False, f"the program does not load: {_named(error)}", None)
    space: dict[str, Any] = {"__name__": "tests"}
    try:
        exec(compile(job["prelude"], "<prelude>", "exec"), space)
        tree = ast.parse(job["tests"], "<tests>")
    except Exception as error:
        return None, f"the tests cannot be read: {_named(error)}", None
    for name in {*job["names"], *(_unbound(tree) - space.keys())}:
        space[name] = Remote(program, ["global", name])
    try:
        exec(compile(tree, "<tests>", "exec"), space)
        outcome = program.outcome or (True, "", None)
    except (Exception, Fault) as error:
        outcome = program.outcome or (False, _where(error, job["tests"]), None)
    return outcome[0], f"{outcome[1]} {_renamed(own_name, job['names'])}".strip(), None


def _renamed(own_name: Any, names: list[str]) -> str:
    """What is to be said of a function that stood in for the one of the tests; its name comes from the program."""
    if not isinstance(own_name, str) or not own_name.isidentifier():
        return ""
    return f"({own_name[:80]} called as {names[0]})"


def _unbound(tree: ast.AST) -> set[str]:
    """Names that are used and nowhere bound."""
    loaded, bound = set(), set(dir(builtins))
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                loaded.add(name)
            case ast.Name(id=name) | ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                bound.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                bound.add(name)
            case ast.alias(name=name, asname=asname):
                bound.add((asname or name).split(".")[0])
    return loaded - bound


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:160].removesuffix(": ")


def _where(error: BaseException, tests: str) -> str:
    """The failure with the line of the tests where it happened."""
    lines = tests.splitlines()
    numbers = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<tests>"]
    line = lines[numbers[-1] - 1].strip()[:120] if numbers and numbers[-1] else ""
    return f"{_named(error)} at `{line}`"
