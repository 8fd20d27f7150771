"""Flags that several commands share: the options of the measurement, and how checkpoints are loaded and sampled."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click

from divmon.cli.command import docstrings, flag
from divmon.options import RENAMED, Options, checked, current, option_types, takes
from divmon.training.config import PREFIX, DiversityConfig, check_metrics, check_probes, from_text, read_options

SECTION = "Options of the measurement (divmon/options.py; these win over --config)"


@dataclass
class Measured:
    """`--config`, `--probes`, and every option as `--divmon_<name>`, which wins over the file's."""

    config: Path | None = flag(metavar="FILE")
    """Options as YAML, 'name: value' lines."""
    probes: str | None = flag(metavar="PROBES")
    """What to ask, short for --divmon_probes; starter where neither says."""
    options: dict[str, Any] = field(default_factory=dict, metadata={"hidden": True})
    """Those given as --divmon_<name>, by name."""

    @classmethod
    def more(cls) -> dict[str, list[click.Parameter]]:
        """The options' own flags: their help is the docstring of the option."""
        help = docstrings(Options)
        old = [
            _option(new, f"The name of --{PREFIX}{new} until version 0.2.", old) for old, (new, _) in RENAMED.items()
        ]
        return {SECTION: [*(_option(name, help[name]) for name in option_types()), *old]}

    @classmethod
    def of(cls, values: dict[str, Any]) -> Any:
        """The flags of what was parsed."""
        options = {
            name.removeprefix(PREFIX): value
            for name, value in values.items()
            if name.startswith(PREFIX) and value is not None
        }
        own = {name: value for name, value in values.items() if not name.startswith(PREFIX)}
        return cls(**own, options=options)

    def resolved(self, **defaults: Any) -> Any:
        """The `DiversityConfig` of defaults of the command's own, the file, and the flags, the last of which wins.
        Raises ValueError: the file cannot be read, or an option, or a task, metric or file that it names, is not there
        or out of range."""
        given = ({} if self.probes is None else {"probes": self.probes}) | self.options
        config = DiversityConfig(**defaults | (read_options(self.config) if self.config else {}) | given)
        check_metrics(config.options)
        check_probes(config.options)
        return config


@dataclass
class Loaded:
    """Where and how checkpoints are loaded."""

    device: str = flag("auto", metavar="NAME")
    """cuda:1, cpu, ...; auto is a GPU where there is one."""
    dtype: str = flag("auto", metavar="NAME")
    """float32, bfloat16, float16; auto is as the weights were saved."""
    tokenizer: str | None = flag(metavar="NAME")
    """In place of the checkpoints' own."""
    trust_remote_code: bool = False
    """Run code that comes with a model."""


@dataclass
class Served(Loaded):
    """The same, or the server that samples."""

    serve: str | None = flag(metavar="COMMAND")
    """Sample from a completion server, started for each checkpoint: 'vllm serve {checkpoint} --port {port}'."""
    serve_model: str | None = flag(metavar="NAME")
    """As the server names the model, where it serves several."""
    serve_timeout: float = flag(900.0, metavar="SECONDS")
    """Until the server answers."""


def names_of(text: str) -> list[str]:
    """Names with commas between them."""
    return [name.strip() for name in text.split(",") if name.strip()]


def numbers(text: str) -> list[float]:
    """Numbers with commas between them; raises ValueError where there is none, or one is no number."""
    try:
        found = list(map(float, names_of(text)))
    except ValueError:
        found = []
    if not found:
        raise ValueError(f"expected numbers with commas between them, got {text!r}")
    return found


def whole_number(text: str) -> int:
    """A whole number from 1 on; raises ValueError where it is none."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)


class _OptionFlag(click.Option):
    """`--divmon_<name>`: read as in a YAML file, several words as a list."""

    variadic = False

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        words = super().process_value(ctx, value)
        if not words:
            return None
        ((name, text),) = current({str(self.name).removeprefix(PREFIX): ", ".join(words)}).items()
        if option_types()[name] is bool:
            text = {"1": "true", "0": "false"}.get(text, text)
        try:
            return checked(name, from_text(name, text))
        except ValueError as error:
            raise click.BadParameter(str(error).removeprefix(f"{name}: "), ctx, self) from None


def _option(name: str, help: str, old: str = "") -> click.Option:
    """The flag of an option, or that of its `old` name, which is taken and not shown."""
    hint, default = option_types()[name], Options.__dataclass_fields__[name].default
    shown = "" if default is None else f"  [default: {str(default).lower() if isinstance(default, bool) else default}]"
    flag = f"--{PREFIX}{old or name}"
    made = _OptionFlag([flag], metavar=_metavar(hint), multiple=True, help=help + shown, hidden=bool(old))
    made.variadic = takes(hint, list) and not takes(hint, str)
    return made


def _metavar(hint: Any) -> str:
    choices = next((get_args(part) for part in (hint, *get_args(hint)) if get_origin(part) is Literal), ())
    words = {str: "TEXT", bool: "true|false", float: "X", int: "N", list: "N ..."}
    return "|".join(choices) or next((word for kind, word in words.items() if takes(hint, kind)), "VALUE")
