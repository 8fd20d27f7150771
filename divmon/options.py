"""Every option of the callback, in one place: for keywords, YAML files and the command line."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib.util
import inspect
import json
import numbers
import os
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Options:
    """What to measure, how to draw, when, and where to write. The defaults are the paper's protocol."""

    probes: Any = "starter"
    """A task's name, several ("gsm8k,starter"), "task@file", a JSONL file, strings, a Dataset, "eval", or a Probe."""
    num_prompts: int = 64
    """Prompts per task; a fixed subset drawn with `seed`."""
    num_samples: int = 16
    """K, completions per prompt."""
    reference_samples: int | None = None
    """Completions per prompt of the first snapshot, which every later one is compared with; 4 x num_samples (64)."""
    temperature: float = 0.6
    """0 is greedy."""
    top_p: float = 0.95
    """Share of probability kept; 1 keeps every token."""
    max_new_tokens: int | None = None
    """Tokens an answer may have; the task's own limit where None."""
    max_reasoning_tokens: int = 2048
    """Tokens that reasoning may have on top."""
    seed: int = 0
    """Of the prompts' subset and of the samples."""
    metrics: str | list[Any] = "auto"
    """"auto" is all that are cheap, and nli in the first and last snapshot; or names, "ead,sbert", "file.py:metric"; in
    a list also functions themselves."""
    verifier: Any = None
    """Judges every probe's answers in place of the task's own: a name, "file.py:function", a callable."""
    allow_unsandboxed_code: bool = False
    """Run generated programs without bubblewrap where there is none."""
    embedder: str = "auto"
    """Text encoder: a hub id or a local path; "auto" is all-mpnet-base-v2, else a small one that is installed."""
    code_embedder: str = "microsoft/unixcoder-base"
    """Encoder of programs: a hub id or a local path."""
    nli_model: str = "FacebookAI/roberta-large-mnli"
    """Classifier of entailment: a hub id or a local path."""
    output_dir: str | None = None
    """Run directory; "<the trainer's output_dir>/_divmon" where None."""
    max_samples_mb: float = 500.0
    """Stored samples of a run (10^6 bytes, compressed); once spent, later samples are kept without their texts."""
    chat: str | bool = "auto"
    """Whether prompts go through the chat template: "auto" looks at the training rows, else true or false."""
    system_prompt: str | None = None
    """Put before each prompt that has none of its own, in chat mode."""
    chat_template_kwargs: dict[str, Any] | str | None = None
    """Further arguments of the chat template, as a dictionary or JSON."""
    think: Any = "auto"
    """Reasoning: "auto" reads the template, "on", "off" prefills the empty block, or Think(open, close, empty); "both"
    measures each probe with reasoning and, as "<probe>-no-think", with the empty block."""
    on: str = "answer"
    """What is scored: the "answer", or "full": as "<probe>-full", also the reasoning with the answer."""
    sampler: str = "auto"
    """"auto", "live" (shared prompt cache), "generate" (the model's own generate), or "vllm" (that of a GRPO or RLOO
    trainer that has one)."""
    max_batch_tokens: int | None = None
    """Prompt and new tokens decoded together; by free memory where None."""
    max_memory_gb: float | None = None
    """Memory (10^9 bytes) that a batch of samples, and one of texts to encode, may take; by free memory where None."""
    encoder_lives: str = "device"
    """Where the encoders are: on the model's "device", on the "cpu", or loaded only while "measuring"."""
    timeout: float = 3600.0
    """Seconds that drawing one snapshot may take; prompts not drawn by then are missing. Also how long the processes of
    a run wait for one another."""
    processes: str = "all"
    """Of a run with several: "all" draw a share of the prompts each, or the "main" one draws alone."""
    reference: str = "first"
    """What changes are taken against: the "first" snapshot; in its place one of the trainer's "ref_model", or of the
    "base" under an adapter; or the reference of an earlier run, by its directory."""
    every: int | None = 100
    """Steps between measurements; None or 0 for none but the others asked for."""
    at: list[int] | None = None
    """Further steps to measure at."""
    geometric: float | None = None
    """Ratio of further steps: 2 measures at 1, 2, 4, 8, ..."""
    at_start: bool = True
    """Measure before the first step: the reference."""
    at_end: bool = True
    """Measure after the last step."""
    on_evaluate: bool = False
    """Measure whenever the trainer evaluates."""
    rollouts: bool = False
    """Also score the groups of completions that GRPO and RLOO draw to train on, at each logging step."""
    rollout_threshold: Any = None
    """The total reward above which a rollout is correct, or {reward function: reward}; 0.5 for one of 0 and 1."""
    alerts: Any = "log"
    """What an alert of collapse does: "log" says it, "save" writes a checkpoint, "stop" ends training, a function (or
    "file.py:function") is called with the alert; several in a list or with commas. None tests nothing."""
    alert_delta: float = 0.05
    """The loss of diversity that is healthy, as a share of the reference."""
    max_overhead: float | None = None
    """Share of the run's time that measuring may take, 0.05 for 5 percent: `every` is thinned to every x 2, x 4, ... to
    keep to it; the start, the end and listed steps are not. None measures as asked."""
    on_error: str = "warn"
    """What a failure while training does: "warn" records it and goes on, "raise" is for tests."""
    progress: bool = True
    """Show a progress bar while measuring."""
    data: Any = None
    """The raw training data, to record what it is made of: a Dataset, a file, a hub id, or {source: any of these}."""
    source_column: str | None = None
    """Column of `data` that names the source of a row."""
    stage: str | None = None
    """Name of this training among the stages of a lineage, kept with each snapshot."""
    first_step: int = 0
    """Steps that earlier stages took: snapshots are numbered from there. With their output_dir, their curve goes on."""

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if isinstance(value, tuple) and _takes(_hints()[f.name], list):
                value = list(value)
            elif isinstance(value, os.PathLike) and _takes(_hints()[f.name], str):
                value = os.fspath(value)
            setattr(self, f.name, value)
            _check_type(f.name, value, _hints()[f.name])
        if self.reference_samples is None:
            self.reference_samples = 4 * self.num_samples
        self.every = self.every or None
        if isinstance(self.chat_template_kwargs, str):
            self.chat_template_kwargs = _json_object("chat_template_kwargs", self.chat_template_kwargs)
        if isinstance(self.chat, str):
            words: dict[str, str | bool] = {"auto": "auto", "on": True, "true": True, "off": False, "false": False}
            if self.chat.lower() not in words:
                raise ValueError(f"chat: expected 'auto', true or false, got {self.chat!r}")
            self.chat = words[self.chat.lower()]
        self._check()

    @property
    def template_arguments(self) -> dict[str, Any]:
        """`chat_template_kwargs` as a dictionary."""
        assert not isinstance(self.chat_template_kwargs, str), "parsed when the options were made"
        return self.chat_template_kwargs or {}

    def _check(self) -> None:
        from_one = {
            "num_prompts": self.num_prompts,
            "num_samples": self.num_samples,
            "reference_samples": self.reference_samples,
            "max_new_tokens": self.max_new_tokens,
            "max_batch_tokens": self.max_batch_tokens,
        }
        for name, value in from_one.items():
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ValueError(f"{name}: expected a whole number of at least 1, got {value!r}")
        assert self.reference_samples is not None
        if self.num_samples < 2:
            raise ValueError("num_samples: the diversity of a single completion is undefined; expected at least 2")
        if self.reference_samples < self.num_samples:
            raise ValueError(
                f"reference_samples: expected at least num_samples ({self.num_samples}), got {self.reference_samples}"
            )
        if not isinstance(self.first_step, int) or self.first_step < 0:
            raise ValueError(f"first_step: expected a whole number of at least 0, got {self.first_step!r}")
        if self.max_reasoning_tokens < 0:
            raise ValueError(f"max_reasoning_tokens: expected 0 or more, got {self.max_reasoning_tokens}")
        positive = {
            "max_memory_gb": self.max_memory_gb,
            "timeout": self.timeout,
            "max_overhead": self.max_overhead,
            "max_samples_mb": self.max_samples_mb,
        }
        for name, number in positive.items():
            if number is not None and not 0 < number < float("inf"):
                raise ValueError(f"{name}: expected a number above 0, got {number}")
        if not 0 < self.alert_delta < 1:
            raise ValueError(f"alert_delta: expected a share above 0 and below 1 (0.05), got {self.alert_delta}")
        if self.max_overhead is not None and self.max_overhead >= 1:
            raise ValueError(f"max_overhead: expected a share below 1 (0.05 is 5 percent), got {self.max_overhead}")
        if self.temperature != 0 and not 1e-3 <= self.temperature < float("inf"):
            raise ValueError(f"temperature: expected 0 (greedy), or 0.001 and above, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: expected above 0 and at most 1 (1 keeps every token), got {self.top_p}")
        choices = {
            "on_error": ("warn", "raise"),
            "sampler": ("auto", "live", "generate", "vllm"),
            "on": ("answer", "full"),
            "encoder_lives": ("device", "cpu", "measuring"),
            "processes": ("all", "main"),
        }
        if isinstance(self.think, str):
            choices["think"] = ("auto", "on", "off", "both")
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: expected one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        self._check_schedule()

    def _check_schedule(self) -> None:
        if self.every is not None and self.every < 1:
            raise ValueError(f"every: expected a number of steps of at least 1, or None for never, got {self.every}")
        if any(step < 0 for step in self.at or ()):
            raise ValueError(f"at: expected steps of at least 0, got {self.at}")
        if self.geometric is not None and self.geometric <= 1:
            raise ValueError(
                f"geometric: expected a ratio above 1 (2 measures at 1, 2, 4, 8, ...), got {self.geometric}"
            )

    def record(self) -> dict[str, Any]:
        """The options as plain data, for the manifest; objects by their type and name."""
        plain = (str, int, float, bool, list, dict, type(None))
        named = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if isinstance(self.metrics, list):
            named["metrics"] = [getattr(metric, "__name__", metric) for metric in self.metrics]
        return {
            k: v if isinstance(v, plain) and k not in ("probes", "verifier", "data", "alerts") else _short(v)
            for k, v in named.items()
        }


@functools.cache
def _hints() -> dict[str, Any]:
    return typing.get_type_hints(Options)


def _takes(hint: Any, kind: type) -> bool:
    return any(kind in (part, typing.get_origin(part)) for part in (hint, *typing.get_args(hint)))


def _check_type(name: str, value: Any, hint: Any) -> None:
    """Raises ValueError where a value has not the type of its option; a whole number is a number, True is neither."""
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if Any not in parts and not any(_fits(value, part) for part in parts):
        wanted = " or ".join(map(_in_words, parts))
        raise ValueError(f"{name}: expected {wanted}, got {value!r} ({type(value).__name__})")


_WORDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a dictionary",
    types.NoneType: "None",
}


def _in_words(kind: Any) -> str:
    of = [part for part in typing.get_args(kind) if part is not Any]
    inside = " of whole numbers" if of == [int] else ""
    return _WORDS[typing.get_origin(kind) or kind] + inside


def _fits(value: Any, kind: Any) -> bool:
    if typing.get_origin(kind) is list:
        return isinstance(value, list) and all(_fits(item, typing.get_args(kind)[0]) for item in value)
    if isinstance(value, bool) or kind is bool:
        return kind is Any or (kind is bool and isinstance(value, bool))
    numbers_of = {int: numbers.Integral, float: numbers.Real}
    return kind is Any or isinstance(value, numbers_of.get(kind, typing.get_origin(kind) or kind))


def check_names(names: typing.Iterable[str]) -> None:
    """Raises TypeError for the first name that is no option, with the closest that is."""
    known = [f.name for f in dataclasses.fields(Options)]
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise TypeError(f"no option named '{name}'{hint} There are: {', '.join(known)}")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 200 else f"{type(value).__name__} {text[:150]}..."


def _json_object(name: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{name}: expected a JSON object, got {text!r} ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"{name}: expected a JSON object, got {text!r}")
    return value


def from_file(kind: str, name: str) -> Callable[..., Any]:
    """The function that `name` ("file.py:function") names.

    Args:
        kind: what it is to be, for the messages: "metric", "verifier".

    Raises:
        ValueError: there is no such file or function, or the file cannot be imported.
    """
    path, _, function = name.rpartition(":")
    if not Path(path).is_file():
        raise ValueError(f"{kind} {name!r}: there is no file {path!r}; expected 'file.py:function'")
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if script and Path(script).resolve() == Path(path).resolve():
        raise ValueError(
            f"{kind} {name!r}: {path} is the script that is running, and importing it would run it again; hand over the"
            f" function itself, or move it to a file of its own"
        )
    spec = importlib.util.spec_from_file_location(f"divmon_{kind}_{Path(path).stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{kind} {name!r}: {path!r} is not a Python file; expected 'file.py:function'")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's own file may raise anything
        raise ValueError(f"{kind} {name!r}: {path} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(getattr(module, function, None)):
        there = ", ".join(n for n, f in vars(module).items() if inspect.isfunction(f)) or "none"
        raise ValueError(f"{kind} {name!r}: {path} defines no function {function!r}; it has {there}")
    return getattr(module, function)
