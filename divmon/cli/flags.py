"""The options as flags of a command, `--config divmon.yaml --divmon_every 50`, checked before anything is loaded."""

from __future__ import annotations

import argparse
import dataclasses
import types
import typing
from typing import Any

from divmon.training.config import PREFIX, DiversityConfig, check_metrics, check_probes, read_options


def add_options(parser: argparse.ArgumentParser) -> None:
    """Gives a parser `--config`, `--probes`, and every option as `--divmon_<name>`, which stands above the file's."""
    parser.add_argument("--config", metavar="FILE", help="options as YAML, 'name: value' lines")
    what = "what to ask, short for --divmon_probes (starter)"
    parser.add_argument("--probes", dest="divmon_probes", default=argparse.SUPPRESS, metavar="PROBES", help=what)
    group = parser.add_argument_group("options of the measurement", "as in divmon/options.py; these win over --config")
    for field in dataclasses.fields(DiversityConfig):
        metavar = field.name.removeprefix(PREFIX).upper()
        group.add_argument(f"--{field.name}", default=argparse.SUPPRESS, metavar=metavar, **_reading(field.type))


def add_model_flags(parser: argparse.ArgumentParser, tokenizer: str) -> None:
    """Gives a parser what measuring checkpoints takes: where and how they are loaded, or the server that draws.

    Args:
        tokenizer: what the tokenizer's name stands in place of.
    """
    add = parser.add_argument
    add("--device", default="auto", help="cuda:1, cpu, ...; a GPU where there is one (auto)")
    add("--dtype", default="auto", help="float32, bfloat16, float16; as the weights were saved (auto)")
    add("--tokenizer", metavar="NAME", help=tokenizer)
    add(
        "--serve",
        metavar="COMMAND",
        help="draw from a completion server, started for each checkpoint: 'vllm serve {checkpoint} --port {port}'",
    )
    add("--serve-model", metavar="NAME", help="as the server names the model, where it serves several")
    add("--serve-timeout", type=float, default=900.0, metavar="SECONDS", help="until it answers (%(default)g)")


def names_of(text: str) -> list[str]:
    """Names with commas between them."""
    return [name.strip() for name in text.split(",") if name.strip()]


def config_of(given: argparse.Namespace, **defaults: Any) -> Any:
    """The `DiversityConfig` of a parsed command line.

    Args:
        defaults: options of the command's own, below the file's and the flags.

    Raises:
        ValueError: the file cannot be read, or an option, or a task, metric or file that it names, is not there or out
            of range.
    """
    flags = {name.removeprefix(PREFIX): value for name, value in vars(given).items() if name.startswith(PREFIX)}
    config = DiversityConfig(**defaults | (read_options(given.config) if given.config else {}) | flags)
    check_metrics(config.options)
    check_probes(config.options)
    return config


def _reading(annotation: Any) -> dict[str, Any]:
    """How argparse reads an option of that type."""
    union = isinstance(annotation, types.UnionType)
    kind = next(a for a in typing.get_args(annotation) if a is not type(None)) if union else annotation
    if typing.get_origin(kind) is list:
        return {"nargs": "+", "type": typing.get_args(kind)[0]}
    return {"type": _boolean if kind is bool else kind}


def _boolean(text: str) -> bool:
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return words[text.lower()]
