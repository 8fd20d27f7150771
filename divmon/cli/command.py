"""The frame of every command: a dataclass declares its flags, and what goes wrong is one line and an exit code.

    @dataclass
    class Flags:
        "What the command does, as --help says it."

        file: str = argument("FILE")
        "What it is."
        steps: int = flag(60, metavar="N")
        "Of each run."

    @command("divmon example")
    def main(given: Flags) -> int: ...

The string below a field is its help. `main(["rows.jsonl", "--steps", "3"])` parses, runs and returns the exit code.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import os
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import click

from divmon.loggers.terminal import show

WRONG = 2
"""Exit code of wrong input; the line says what was expected, what came and what to do."""
INTERRUPTED, READER_GONE = 130, 141
"""Exit codes of Ctrl-C and of a reader that has gone, as a shell counts the signals that end other programs then."""
EXPECTED = (OSError, ValueError, RuntimeError, ImportError)
"""What wrong input raises; with DIVMON_TRACEBACK=1 its traceback is shown."""
SHOWN = 120
"""Characters of a line of help."""


def argument(metavar: str, *, many: bool = False, required: bool = True) -> Any:
    """A value given by its place; `many` takes one or more."""
    return dataclasses.field(
        default_factory=list if many else lambda: None,  # type: ignore[arg-type]
        metadata={"argument": True, "metavar": metavar, "many": many, "required": required},
    )


def flag(
    default: Any = None,
    *,
    metavar: str | None = None,
    read: Callable[[str], Any] | None = None,
    bare: str | None = None,
    required: bool = False,
) -> Any:
    """A value given by name; one whose type is a list may be given again.

    Args:
        read: makes the value of the text, and raises ValueError where it cannot.
        bare: the value where the flag stands alone, without one.
    """
    metadata = {"metavar": metavar, "read": read, "bare": bare, "required": required}
    if isinstance(default, list):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


class Command(click.Command):
    """A command whose help keeps its lines, and whose variadic flags (`--at 1 2 3`) are read as they were by argparse.

    Args:
        variadic: flags that take all values up to the next flag.
        sections: further headings of the help, with the parameters below each.
    """

    variadic: frozenset[str] = frozenset()
    sections: dict[str, list[click.Parameter]]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(_repeated(args, self.variadic)))

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(f"\n{inspect.cleandoc(self.help or '')}\n")

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.epilog:
            formatter.write(f"\n{inspect.cleandoc(self.epilog)}\n")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        apart = [p for section in self.sections.values() for p in section]
        there = [p for p in self.get_params(ctx) if p not in apart and not isinstance(p, click.Argument)]
        for heading, parameters in {"Options": there, **self.sections}.items():
            records = [record for p in parameters if (record := p.get_help_record(ctx)) is not None]
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records, col_max=28)

    def __call__(self, argv: Sequence[str] | None = None) -> int:  # type: ignore[override]
        return run(self, argv, str(self.name))


class _Failed(click.ClickException):
    """A command could not do what was asked."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.ctx = click.get_current_context()


class _Reads(click.ParamType):
    """A type of ours: what the function makes of the text."""

    def __init__(self, read: Callable[[str], Any]) -> None:
        self._read, self.name = read, getattr(read, "__name__", "text").strip("_")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except (ValueError, OverflowError) as error:
            self.fail(str(error), param, ctx)


def command(
    name: str, *, epilog: str = "", fails: tuple[type[Exception], ...] = EXPECTED, kind: type[Command] = Command
) -> Callable[[Any], Command]:
    """Makes a command of a function of its flags, which returns the exit code.

    Args:
        name: with the program's, "divmon score".
        fails: what wrong input raises: said in a line, and exit code 2.
    """

    def of(function: Callable[[Any], int]) -> Command:
        flags = next(iter(typing.get_type_hints(function).values()))

        def call(**parsed: Any) -> int:
            values = {name: list(v) if isinstance(v, tuple) else v for name, v in parsed.items()}
            try:
                return function(flags.of(values) if hasattr(flags, "of") else flags(**values))
            except BrokenPipeError:
                raise
            except fails as error:
                if os.environ.get("DIVMON_TRACEBACK"):
                    raise
                raise _Failed(str(error) or type(error).__name__) from error

        made = kind(
            name,
            callback=call,
            params=list(parameters(flags)),
            help=flags.__doc__,
            epilog=epilog,
            context_settings={"max_content_width": SHOWN, "help_option_names": ["-h", "--help"]},
        )
        more = flags.more() if hasattr(flags, "more") else {}
        made.sections = more
        made.params += [parameter for section in more.values() for parameter in section]
        made.variadic = frozenset(p.opts[0] for p in made.params if getattr(p, "variadic", False))
        made.__doc__ = function.__doc__
        return made

    return of


def run(command: click.Command, argv: Sequence[str] | None, name: str) -> int:
    """Runs a command and returns its exit code; nothing but what a program under `attach` raises comes out of it."""
    try:
        with command.make_context(name, list(sys.argv[1:] if argv is None else argv)) as context:
            code = command.invoke(context)
        if sys.stdout is not None:
            sys.stdout.flush()
        return int(code or 0)
    except click.exceptions.Exit as end:  # --help, --version
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        show(error.format_message(), file=sys.stderr)
        return WRONG
    except click.ClickException as error:
        where = getattr(error, "ctx", None)
        show(f"{where.command_path if where else name}: {_words(error)}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        show(f"{name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        try:
            print(flush=True)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # flushed once more as the interpreter ends
            return READER_GONE
        raise  # of another pipe


def warn(message: str) -> None:
    """A line on the error stream."""
    show(message, file=sys.stderr)


def _words(error: click.ClickException) -> str:
    """The message on one line, with what was meant where that can be told."""
    near = getattr(error, "possibilities", None)
    message = error.message if near else error.format_message()
    if isinstance(error, click.UsageError):
        message = message[:1].lower() + message[1:].rstrip(".").replace("\n", " ")
    help = f" (help: {error.ctx.command_path} --help)" if isinstance(error, click.UsageError) and error.ctx else ""
    return f"{message}{f'; did you mean {near[0]!r}?' if near else ''}{help}"


def parameters(flags: type) -> Iterator[click.Parameter]:
    """A parameter for each field, those of the class itself before those that it inherits."""
    hints, help = typing.get_type_hints(flags), docstrings(flags)
    inherited = {name for base in flags.__mro__[1:] if dataclasses.is_dataclass(base) for name in base.__annotations__}
    for field in sorted(dataclasses.fields(flags), key=lambda field: field.name in inherited):
        if field.metadata.get("hidden"):  # filled by the command itself
            continue
        yield _parameter(field, hints[field.name], help[field.name])


def _parameter(field: dataclasses.Field[Any], hint: Any, help: str) -> click.Parameter:
    told = field.metadata
    kind, several = _kind(hint)
    many = several and not told.get("read")
    reads = _Reads(told["read"]) if told.get("read") else kind
    if told.get("argument"):
        count = {"nargs": -1} if many else {}
        return click.Argument(
            [field.name], metavar=told["metavar"], type=reads, required=told["required"], help=help, **count
        )
    name = f"--{field.name.replace('_', '-')}"
    if kind is bool:
        return click.Option([name, field.name], is_flag=True, default=False, help=help)
    default = None if field.default in (None, dataclasses.MISSING) else field.default
    bare = {} if told.get("bare") is None else {"is_flag": False, "flag_value": told["bare"]}
    return click.Option(
        [name, field.name],
        type=reads,
        default=None if many else default,
        multiple=many,
        metavar=told.get("metavar") or (None if isinstance(reads, click.Choice) else _metavar(field.name)),
        show_default=default is not None and default != "",
        required=told.get("required", False),
        help=help,
        **bare,
    )


def _metavar(name: str) -> str:
    return name.rpartition("_")[2].upper()


def _kind(hint: Any) -> tuple[Any, bool]:
    """(click's type, whether several) of an annotation: `int | None`, `Literal[...]`, `list[Path]`."""
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    many = typing.get_origin(hint) is list
    if many:
        (hint,) = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return click.Choice(typing.get_args(hint)), many
    return (click.Path(path_type=Path) if hint is Path else hint if hint in (int, float, bool) else str), many


def docstrings(of: type) -> dict[str, str]:
    """The string below each field of a dataclass and of those it inherits, on one line."""
    found: dict[str, str] = {}
    for cls in reversed([base for base in of.__mro__ if dataclasses.is_dataclass(base)]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                name, text = typing.cast(ast.Name, field.target).id, typing.cast(ast.Constant, below.value).value
                found[name] = " ".join(str(text).split())
    return found


def _repeated(args: Iterable[str], variadic: frozenset[str]) -> Iterator[str]:
    """`--at 1 2 3` as `--at 1 --at 2 --at 3`, up to a `--`."""
    words, current, given = iter(args), None, False
    for word in words:
        if word == "--":
            yield word
            yield from words
        elif word.startswith("-") and word[1:2] and not word[1:2].isdigit():
            current, given = (word, False) if word in variadic else (None, False)
            yield word
        elif current is not None and given:
            yield from (current, word)
        else:
            given = current is not None
            yield word
