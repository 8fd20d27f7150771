"""Every option of the callback, in one place: for keywords, YAML files and the command line.

Keywords in Python are strict; text from a file or a command line is converted (`divmon.training.config.from_text`).
"""

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
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


class DefaultInt(int):
    """A number that nobody asked for by name: parsers hand a default on, and this one is still known as such."""


class DefaultFloat(float):
    """The same of a float."""


_THINK = ("auto", "on", "off", "both")


@dataclass
class Options:
    """What to measure, how to sample, when, and where to write. The defaults are the paper's protocol."""

    probes: Any = "starter"
    """A task's name, several ("gsm8k,starter"), "task@file", a JSONL file, strings, a Dataset, "eval", or a Probe."""
    num_prompts: int = 64
    """Prompts per task; a fixed subset chosen with `seed`."""
    num_samples: int = 16
    """K, completions per prompt."""
    reference_samples: int | None = None
    """Completions per prompt of the reference, the first snapshot; 4 x num_samples where None."""
    temperature: float = 0.6
    """Sampling temperature; 0 is greedy."""
    top_p: float = 0.95
    """Share of probability kept; 1 keeps every token."""
    max_new_tokens: int | None = None
    """Most tokens per answer; the task's own limit where None."""
    max_reasoning_tokens: int = 2048
    """Most tokens of reasoning, in addition to those of the answer."""
    seed: int = 0
    """Seed of the choice of prompts and of the samples."""
    metrics: str | list[Any] = "auto"
    """"auto" is all inexpensive metrics, with nli in the first and last snapshot; or names, "ead,sbert",
    "file.py:metric"; in a list also functions themselves."""
    verifier: Any = None
    """Grades every task's answers instead of the task's own verifier: a name, "file.py:function", or a callable."""
    allow_unsandboxed_code: bool = False
    """Run generated programs without bubblewrap where it is not available."""
    embedder: str = "auto"
    """Text encoder: a hub id, a local path or "minilm"; "auto" is all-mpnet-base-v2 (of packages, the hub's cache, the
    hub), else minilm."""
    code_embedder: str = "microsoft/unixcoder-base"
    """Encoder of programs: a hub id or a local path."""
    nli_model: str = "FacebookAI/roberta-large-mnli"
    """Entailment classifier: a hub id or a local path."""
    judge: str | None = None
    """Language model that the metric judge_clusters asks whether two answers take the same approach, at an
    OpenAI-compatible endpoint: "MODEL@http://localhost:8000/v1", its key in DIVMON_JUDGE_KEY. Naming one adds the
    metric to "auto"."""
    judge_calls: int = 2000
    """Questions to the judge per task and evaluation; 64 prompts take 448 to 1,792. Prompts beyond have no figure."""
    output_dir: str | None = None
    """Run directory; "<the trainer's output_dir>/_divmon" where None."""
    max_samples_mb: float = 500.0
    """Size of the stored samples of a run (10^6 bytes, compressed); beyond it samples are kept without their texts."""
    chat: str | bool = "auto"
    """Whether prompts go through the chat template: "auto" looks at the training rows, else true or false."""
    system_prompt: str | None = None
    """System prompt of each prompt that has none of its own, in chat mode."""
    chat_template_kwargs: dict[str, Any] | str | None = None
    """Further arguments of the chat template, as a dictionary or JSON."""
    think: Any = "auto"
    """Reasoning: "auto" reads the template, "on", "off" prefills the empty block, or Think(open, close, empty); "both"
    measures each task with reasoning and, as "<task>-no-think", with the empty block."""
    on: Literal["answer", "full"] = "answer"
    """What is scored: the "answer", or "full": also the reasoning with the answer, as "<task>-full"."""
    sampler: Literal["auto", "live", "generate", "vllm"] = "auto"
    """"auto", "live" (shared prompt cache), "generate" (the model's own generate), or "vllm": the engine of a GRPO or
    RLOO trainer that has one; in SFT, DPO and KTO one of its own on the same GPU, asleep while training."""
    max_batch_tokens: int | None = None
    """Prompt and new tokens decoded together; by free memory where None."""
    max_memory_gb: float | None = None
    """Memory (10^9 bytes) of one batch of samples, and of one batch of texts to encode; by free memory where None."""
    encoder_device: Literal["auto", "model", "cpu", "offload"] = "auto"
    """Where the encoders are: on the "model"'s device, on the "cpu", or "offload": on the model's device only while
    measuring. "auto" is offload on a GPU, so that training has its memory, and model on a CPU."""
    timeout: float = 3600.0
    """Seconds that sampling one snapshot may take; prompts not sampled by then are missing. Also how long the processes
    of a run wait for one another."""
    user_timeout: float | None = 300.0
    """Seconds that one call of your own code may take: a metric, verifier, reward function, logger or alert function.
    What does not return is left out from then on. Each runs in a thread of its own; None: no limit, and no thread."""
    processes: Literal["all", "main"] = "all"
    """In a run of several processes: "all" sample a share of the prompts each, or only the "main" one does."""
    reference: str = "first"
    """What changes are relative to: the "first" snapshot; the trainer's "ref_model"; the "base" model under an adapter;
    or the reference of an earlier run, by its directory."""
    every: int | None = DefaultInt(100)
    """Steps between measurements; None or 0 for none but the others asked for. Given by name it is kept, unless
    max_overhead is given too; the default is thinned to max_overhead, and measures once in the middle of a run."""
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
    """Also score the groups of completions that GRPO and RLOO generate to train on, at each logging step."""
    rollout_threshold: Any = None
    """Total reward above which a rollout is correct, or {reward function: reward}; 0.5 for rewards of 0 and 1."""
    alerts: Any = "log"
    """What an alert of collapse does: "log" prints it, "save" writes a checkpoint, "stop" ends training, a function (or
    "file.py:function") is called with the alert; several in a list or with commas. None tests nothing."""
    alert_delta: float = 0.05
    """Loss of diversity that is healthy, as a share of the reference."""
    keep_best: bool = False
    """Keep the best evaluation's weights in <run directory>/best, by the trainer's own save: the most diverse
    of those as accurate as the best; where nothing is graded, the last that kept 95 percent of the diversity."""
    max_overhead: float | None = DefaultFloat(0.05)
    """Share of the run's time that measuring may take, 0.05 for 5 percent: `every` is thinned to every x 2, x 4, ... to
    keep to it; the start, the middle, the end and listed steps are not. No limit where None, or where only `every` is
    given."""
    on_error: Literal["warn", "raise"] = "warn"
    """What a failure during training does: "warn" records it and training continues, "raise" is for tests."""
    likelihood: bool = True
    """Also measure the model's own probabilities: entropy and likelihood of samples while they are drawn, and of the
    reference's completions under the model now (lost modes)."""
    likelihood_every: int | None = 10
    """Steps between measurements of the latter alone, a forward over stored texts; thinned to every x 2, x 4, ... to
    keep to 1 percent of the run's time. None or 0 for none."""
    tensorboard: Literal["headline", "all"] = "headline"
    """Figures in TensorBoard and the other trackers: the "headline" of each task (about six), or "all"; the run
    directory holds all of them either way."""
    progress: bool = True
    """Show a progress bar while measuring."""
    data: Any = None
    """The raw training data, to record its composition: a Dataset, a file, a hub id, or {source: any of these}."""
    source_column: str | None = None
    """Column of `data` that names the source of a row."""
    stage: str | None = None
    """Name of this training among the stages of a lineage, kept with each snapshot."""
    first_step: int = 0
    """Steps of earlier stages: snapshots are numbered from there, and with their output_dir continue their curve."""

    def __post_init__(self) -> None:
        for name in option_types():
            setattr(self, name, checked(name, getattr(self, name)))
        if self.reference_samples is None:
            self.reference_samples = 4 * self.num_samples
        if self.every_is_asked_for and isinstance(self.max_overhead, DefaultFloat):
            self.max_overhead = None
        if self.reference_samples < self.num_samples:
            raise ValueError(
                f"reference_samples: expected at least num_samples ({self.num_samples}), got {self.reference_samples}"
            )

    @property
    def every_is_asked_for(self) -> bool:
        """Whether `every` was given by name: that cadence is kept."""
        return not isinstance(self.every, DefaultInt)

    @property
    def template_arguments(self) -> dict[str, Any]:
        """`chat_template_kwargs` as a dictionary."""
        assert not isinstance(self.chat_template_kwargs, str), "parsed when the options were made"
        return self.chat_template_kwargs or {}

    def record(self) -> dict[str, Any]:
        """The options as plain data, for the manifest; objects by their type and name."""
        plain = (str, int, float, bool, list, dict, type(None))
        named = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        named |= {
            "every": self.every and int(self.every),
            "max_overhead": self.max_overhead and float(self.max_overhead),
        }
        if isinstance(self.metrics, list):
            named["metrics"] = [getattr(metric, "__name__", metric) for metric in self.metrics]
        return {
            k: v if isinstance(v, plain) and k not in ("probes", "verifier", "data", "alerts") else _short(v)
            for k, v in named.items()
        }


@functools.cache
def option_types() -> dict[str, Any]:
    """The type of each option by name."""
    return typing.get_type_hints(Options)


_COUNT = (lambda n: n >= 1, "a whole number of at least 1")
_POSITIVE = (lambda x: 0 < x < float("inf"), "a number above 0")
_SHARE = (lambda x: 0 < x < 1, "a share above 0 and below 1 (0.05 is 5 percent)")
_LIMITS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("num_prompts", "reference_samples", "max_new_tokens", "max_batch_tokens"), _COUNT),
    **dict.fromkeys(("max_memory_gb", "timeout", "user_timeout", "max_samples_mb"), _POSITIVE),
    **dict.fromkeys(("alert_delta", "max_overhead"), _SHARE),
    **dict.fromkeys(("first_step", "max_reasoning_tokens"), (lambda n: n >= 0, "a whole number of at least 0")),
    "judge_calls": (lambda n: n >= 28, "at least 28 (the questions that one prompt may take)"),
    "num_samples": (lambda n: n >= 2, "at least 2 (the diversity of a single completion is undefined)"),
    "temperature": (lambda x: x == 0 or 1e-3 <= x < float("inf"), "0 (greedy), or 0.001 and above"),
    "top_p": (lambda x: 0 < x <= 1, "a number above 0 and at most 1 (1 keeps every token)"),
    "likelihood_every": (lambda n: n >= 1, "a number of steps of at least 1, or None for never"),
    "every": (lambda n: n >= 1, "a number of steps of at least 1, or None for never"),
    "at": (lambda steps: all(step >= 0 for step in steps), "steps of at least 0"),
    "geometric": (lambda x: 1 < x < float("inf"), "a ratio above 1 (2 measures at 1, 2, 4, 8, ...)"),
    "chat": (lambda c: c in ("auto", True, False), "'auto', true or false"),
    "think": (lambda t: not isinstance(t, str) or t in _THINK, f"one of {', '.join(_THINK)}, or a Think"),
}
"""What a value must be beyond its type, and in words; None is let through where the type takes it."""


def checked(name: str, value: Any) -> Any:
    """The value of an option as it is kept: tuples as lists, paths and JSON read, `every=0` as None.

    Raises:
        ValueError: it has another type or is out of range; the message says what was expected and what came.
    """
    hint = option_types()[name]
    if isinstance(value, tuple) and takes(hint, list):
        value = list(value)
    elif isinstance(value, os.PathLike) and takes(hint, str):
        value = os.fspath(value)
    if not fits(hint, value):
        shown = type(value).__name__ if name == "chat_template_kwargs" else repr(value)  # it may hold secrets
        raise ValueError(f"{name}: expected {in_words(hint)}, got {shown}")
    if name in ("every", "likelihood_every"):
        value = value or None
    elif name == "chat_template_kwargs" and isinstance(value, str):
        value = _json_object(name, value)
    elif name == "chat" and isinstance(value, str):
        value = {"on": True, "true": True, "off": False, "false": False}.get(value.lower(), value)
    holds, words = _LIMITS.get(name, (lambda _: True, ""))
    if value is not None and not holds(value):
        raise ValueError(f"{name}: expected {words}, got {value!r}")
    return value


def takes(hint: Any, kind: Any) -> bool:
    """Whether a type is, or is a union with, `kind`."""
    return any(kind in (part, typing.get_origin(part)) for part in (hint, *typing.get_args(hint)))


def fits(hint: Any, value: Any) -> bool:
    """Whether a value is of this type; a whole number is also a number, numpy's too, and True is neither."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if origin in (typing.Union, types.UnionType):
        return any(fits(part, value) for part in inner)
    if origin is list:
        return isinstance(value, list) and all(fits(inner[0], item) for item in value)
    if hint in (int, float):
        return isinstance(value, numbers.Integral if hint is int else numbers.Real) and not isinstance(value, bool)
    return isinstance(value, origin or hint)


def in_words(hint: Any) -> str:
    """A type as messages name it."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", types.NoneType: "None"}
    if origin is Literal:
        return "one of " + ", ".join(map(str, inner))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(in_words, inner))
    if origin is list:
        return "a list" if inner[0] is Any else f"a list of ({in_words(inner[0])})"
    return "a mapping" if dict in (hint, origin) else words.get(hint, getattr(hint, "__name__", str(hint)))


def closest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?", or what there is."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; there are {', '.join(sorted(names))}"


RENAMED = {"encoder_lives": ("encoder_device", {"device": "model", "measuring": "offload"})}
"""Options of version 0.1 that have another name since, and what their values are called now."""


def current(options: Mapping[str, Any]) -> dict[str, Any]:
    """These options by their names of today; an old name works, with a DeprecationWarning."""
    found = {}
    for name, value in options.items():
        if name in RENAMED:
            new, values = RENAMED[name]
            value = values.get(value, value)
            warnings.warn(f"option {name} is {new}={value!r} since 0.2", DeprecationWarning, stacklevel=3)
            name = new
        found[name] = value
    return found


def check_names(names: Iterable[str]) -> None:
    """Raises TypeError for the first name that is no option, with the closest that is."""
    for name in names:
        if name not in option_types():
            raise TypeError(f"no option named '{name}'{closest(name, option_types())}")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 200 else f"{type(value).__name__} {text[:150]}..."


def _json_object(name: str, text: str) -> dict[str, Any]:
    try:
        return dict(json.loads(text).items())
    except (ValueError, AttributeError):
        raise ValueError(f"{name}: expected a JSON object, got text of {len(text)} characters that is none") from None


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
    except (Exception, SystemExit) as error:  # the user's own file may raise anything
        raise ValueError(f"{kind} {name!r}: {path} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(getattr(module, function, None)):
        there = ", ".join(n for n, f in vars(module).items() if inspect.isfunction(f)) or "none"
        raise ValueError(f"{kind} {name!r}: {path} defines no function {function!r}; it has {there}")
    return getattr(module, function)
