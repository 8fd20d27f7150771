"""The options as a dataclass for parsers and YAML files, each with the prefix `divmon_`."""

from __future__ import annotations

import dataclasses
import os
import types
import typing
from pathlib import Path
from typing import Any

from divmon.options import Options, check_names
from divmon.prompts import tasks
from divmon.prompts.tasks._rows import SUFFIXES
from divmon.scoring import metrics

PREFIX = "divmon_"


def _parser_type(annotation: Any) -> Any:
    """What the command line can hold of an option: `str | list[str]` is a comma list, `Any` a string."""
    if annotation is Any:
        return str
    if isinstance(annotation, types.UnionType):
        parts = [a for a in typing.get_args(annotation) if a is not type(None)]
        simple = str if str in parts else parts[0]
        return simple | None if type(None) in typing.get_args(annotation) else simple
    return annotation


def _initialise(self: Any, **options: Any) -> None:
    """Takes each option with the prefix or without."""
    plain = {name.removeprefix(PREFIX): value for name, value in options.items()}
    check_names(plain)
    self.options = Options(**plain)
    self.derived = {} if plain.get("reference_samples") else {"reference_samples": self.options.reference_samples}
    for field in dataclasses.fields(Options):
        setattr(self, PREFIX + field.name, getattr(self.options, field.name))


def _from_yaml(cls: Any, path: str | os.PathLike[str]) -> Any:
    """Reads options from a YAML file, each named with the prefix or without.

    Raises:
        ValueError: the file holds no mapping, or a value is out of range.
        TypeError: a key is no option.
    """
    import yaml

    values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected options as 'name: value' lines, got {type(values).__name__}")
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {error}") from None


def _fields() -> list[tuple[str, Any, Any]]:
    hints = typing.get_type_hints(Options)
    made = []
    for f in dataclasses.fields(Options):
        made.append((PREFIX + f.name, _parser_type(hints[f.name]), dataclasses.field(default=f.default)))
    return made


DiversityConfig = dataclasses.make_dataclass(
    "DiversityConfig",
    _fields(),
    init=False,
    namespace={
        "__init__": _initialise,
        "__doc__": "The options as a dataclass for `HfArgumentParser` and `TrlParser`: each field is an option with "
        "the prefix `divmon_`, so that none clashes with TrainingArguments. `DiversityCallback(config=...)` takes it.",
        "from_yaml": classmethod(_from_yaml),
        "__module__": __name__,
    },
)


def given_options(config: Any, named: dict[str, Any]) -> Options:
    """The options of keywords, or of a `DiversityConfig` overridden by keywords.

    Raises:
        TypeError: a keyword is no option, or `config` is something else.
        ValueError: a value is out of range.
    """
    check_names(named)
    if config is None:
        return Options(**named)
    if not isinstance(config, DiversityConfig):
        raise TypeError(f"config: expected a DiversityConfig, got {type(config).__name__}")
    given = {name.removeprefix(PREFIX): value for name, value in vars(config).items() if name.startswith(PREFIX)}
    for name, value in vars(config)["derived"].items():  # what nobody gave is derived from what holds now
        if given[name] == value:
            given[name] = None
    return Options(**{**given, **named})


def check_metrics(options: Options) -> None:
    """Raises ValueError where a metric that is named is not there, as far as can be told without importing torch."""
    asked = options.metrics.split(",") if isinstance(options.metrics, str) else options.metrics
    for name in map(str.strip, asked):
        if name and name != "auto" and ":" not in name and name not in metrics.available():
            metrics.load(name)


def check_probes(options: Options) -> None:
    """Raises ValueError where a task or a file that is named is not there."""
    if not isinstance(options.probes, str) or os.path.isfile(options.probes.rpartition("@")[2]):
        return
    for part in map(str.strip, options.probes.split(",")):
        name, _, source = part.partition("@")
        file = source or (part if Path(part).suffix in SUFFIXES else "")
        if file and not os.path.exists(file):
            raise ValueError(f"probes: there is no file {file!r}")
        if not file and name != "eval" and name not in tasks.groups():
            tasks.load(name)
