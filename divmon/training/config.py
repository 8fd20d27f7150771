"""The options as a dataclass for parsers and YAML files, each with the prefix `divmon_`."""

from __future__ import annotations

import dataclasses
import os
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

from divmon.options import Options, check_names, checked, current, fits, option_types, takes
from divmon.prompts import tasks
from divmon.prompts.rows.files import is_file_of_rows
from divmon.scoring import metrics
from divmon.training.composition import Composition
from divmon.training.composition.rows import parts_of
from divmon.training.yaml_file import read_value, read_yaml

PREFIX = "divmon_"


class OptionsDict(TypedDict, total=False):
    """The options as keywords, `**options: Unpack[OptionsDict]`, for editors and type checkers; probes come first."""

    num_prompts: int
    num_samples: int
    reference_samples: int | None
    temperature: float
    top_p: float
    max_new_tokens: int | None
    max_reasoning_tokens: int
    seed: int
    metrics: str | Sequence[Any]
    verifier: Any
    allow_unsandboxed_code: bool
    embedder: str
    code_embedder: str
    nli_model: str
    judge: str | None
    judge_calls: int
    output_dir: str | os.PathLike[str] | None
    max_samples_mb: float
    chat: str | bool
    system_prompt: str | None
    chat_template_kwargs: dict[str, Any] | str | None
    think: Any
    on: Literal["answer", "full"]
    sampler: Literal["auto", "live", "generate", "vllm"]
    max_batch_tokens: int | None
    max_memory_gb: float | None
    encoder_device: Literal["auto", "model", "cpu", "offload"]
    timeout: float
    user_timeout: float | None
    processes: Literal["all", "main"]
    reference: str
    every: int | None
    at: Sequence[int] | None
    geometric: float | None
    at_start: bool
    at_end: bool
    on_evaluate: bool
    rollouts: bool
    rollout_threshold: Any
    alerts: Any
    alert_delta: float
    keep_best: bool
    max_overhead: float | None
    on_error: Literal["warn", "raise"]
    likelihood: bool
    likelihood_every: int | None
    tensorboard: Literal["headline", "all"]
    progress: bool
    data: Any
    source_column: str | None
    stage: str | None
    first_step: int


def _parser_type(annotation: Any) -> Any:
    """What the command line can hold of an option: `str | list[str]` is a comma list, `Any` and choices are text."""
    if annotation is Any or typing.get_origin(annotation) is Literal:
        return str
    if isinstance(annotation, types.UnionType):
        parts = [a for a in typing.get_args(annotation) if a is not type(None)]
        simple = str if str in parts else parts[0]
        return simple | None if type(None) in typing.get_args(annotation) else simple
    return annotation


def _initialise(self: Any, **options: Any) -> None:
    """Takes each option with the prefix or without; remembers which were derived and not given."""
    plain = current({name.removeprefix(PREFIX): value for name, value in options.items()})
    check_names(plain)
    self.options = Options(**plain)
    self.derived = {} if plain.get("reference_samples") else {"reference_samples": self.options.reference_samples}
    for field in dataclasses.fields(Options):
        setattr(self, PREFIX + field.name, getattr(self.options, field.name))


def _from_yaml(cls: Any, path: str | os.PathLike[str]) -> Any:
    """Reads options from a YAML file, each named with the prefix or without.

    Raises:
        ValueError: the file cannot be read, a key is no option, or a value is wrong; the message names the line.
    """
    given = read_options(path)
    try:
        return cls(**given)
    except ValueError as error:  # of values that do not go together
        raise ValueError(f"{path}: {error}") from None


def read_options(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The options of a YAML file by name without the prefix, each checked.

    Raises:
        ValueError: the file cannot be read, a key is no option, or a value is wrong; the message names the line.
    """
    file, values = read_yaml(Path(path))
    given = {}
    for key, value in values.items():
        ((name, value),) = current({str(key).removeprefix(PREFIX): value}).items()
        try:
            check_names([name])
            given[name] = checked(name, from_text(name, value) if isinstance(value, str) else value)
        except (TypeError, ValueError) as error:
            raise file.error((key,), str(error).removeprefix(f"{name}: ")) from None
    return given


def from_text(name: str, text: str) -> Any:
    """The value of an option that a file or a command line gives as text.

    An option that takes text keeps it. For another the text is read as YAML ("10", "true", "null", "1, 2" for a list);
    what does not come to its type stays text, which `divmon.options.checked` refuses.
    """
    hint = option_types()[name]
    if hint is Any or takes(hint, str) or takes(hint, Literal):
        return text
    try:
        value = None if text.lower() == "none" else read_value(text)
        if takes(hint, list) and not isinstance(value, list | None):
            value = read_value(f"[{text}]")
    except ValueError:
        return text
    return value if fits(hint, value) else text


def _fields() -> list[tuple[str, Any, Any]]:
    defaults = {f.name: f.default for f in dataclasses.fields(Options)}
    return [
        (PREFIX + name, _parser_type(hint), dataclasses.field(default=defaults[name]))
        for name, hint in option_types().items()
    ]


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


def given_options(config: Any, named: Mapping[str, Any], probes: Any = None) -> Options:
    """The options of keywords, or of a `DiversityConfig` overridden by keywords.

    Args:
        named: the keywords, such as an `OptionsDict`.
        probes: the option of that name, where it is given by place.

    Raises:
        TypeError: a keyword is no option, or `config` is something else.
        ValueError: a value is out of range.
    """
    named = current(named if probes is None else {**named, "probes": probes})
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
        file = source or (part if is_file_of_rows(part) else "")
        if file and not os.path.exists(file):
            raise ValueError(f"probes: there is no file {file!r}")
        if not file and name != "eval" and name not in tasks.groups():
            tasks.load(name)


def training_data(options: Options) -> tuple[Composition | None, list[Any]]:
    """What the option `data` names: composed already, or in parts that are still to be read.

    Raises:
        ValueError, FileNotFoundError: it names nothing that can be read.
    """
    if isinstance(options.data, Composition):
        return options.data, []
    return None, [] if options.data is None else parts_of(options.data, options.source_column)
