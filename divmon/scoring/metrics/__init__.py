"""SCORES: one file a metric, and this folder is the registry.

A metric is a pure, batched function of its file's name. It asks for its inputs by parameter name (see `INPUTS`),
imports torch and nothing of ours, and returns float64 values per prompt, NaN where undefined (fewer than two samples,
never 0): `Tensor[P]`, named like the file, or a dict of named `Tensor[P]`. The docstring's first line is its row of the
table: `what it measures | range and direction | source`. tests/metrics/test_contract.py holds a new file to this.

Constants a metric's file may set:

    USES_ALL_SAMPLES = True     unbiased for every number of samples, so it is given all N >= K that were drawn
    AGGREGATE = {"v2": "harmonic_mean"}   where the value over prompts is not the plain mean
    ACROSS_PROMPTS = True       it returns named 0-d tensors, one figure for all prompts together
    COST = "encoder"            what it needs: "cheap" (the default), "encoder", "code_encoder" or "nli"

A file may also define `pairwise(...) -> Tensor[P, K, K]`: the distances its mean is a mean of, NaN where undefined.
One with `ACROSS_PROMPTS` may define `leave_one_out(...) -> dict[str, Tensor[P]]`: its figures without each prompt in
turn, in one pass; NaN for a prompt that a figure is not taken over. A figure that it leaves out has no interval.
Without it all are recomputed for their interval, which is a loop.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from divmon.options import from_file

INPUTS = {
    "texts_PK": "list[list[str | None]]; None is no answer: not drawn, or cut off inside its reasoning",
    "mask_PK": "bool [P, K], True where there is an answer",
    "embeddings_PKD": "float32 unit vectors of the texts, zero where masked",
    "prose_PK": "like texts_PK, None for prompts whose answers are code",
    "programs_PK": "like texts_PK, None for prompts whose answers are not code; taken out of markdown fences",
    "program_mask_PK": "bool [P, K], True where there is a program",
    "code_embeddings_PKD": "float32 unit vectors of the programs, zero where masked",
    "correct_PK": "bool [P, K], True where judged correct; not given where nothing was judged",
    "lengths_PK": "float64 [P, K], new tokens, NaN where not drawn; not given where unknown",
    "num_samples": "int, K: of more samples than K a figure that is not unbiased takes the first K",
    "vocab_size": "int, size of the tokenizer's vocabulary",
    "classify_nli": "list[(premise, hypothesis)] -> float64 [N, 3]: contradiction, neutral, entailment",
    "nli_sentences": "int, aligned sentences drawn for each pair of texts; not given for all of them",
    "seed": "int, for figures that draw subsets",
}
"""What a metric may ask for. A parameter with a default is given where the input exists, one without is required."""

_NEEDS = {"encoder": "text encoder", "code_encoder": "code encoder", "nli": "NLI classifier"}


@dataclass(frozen=True)
class Metric:
    """A metric with what its file says about it."""

    name: str
    function: Callable[..., Any]
    pairwise: Callable[..., Any] | None = None
    leave_one_out: Callable[..., Any] | None = None
    uses_all_samples: bool = False
    aggregate: Mapping[str, str] = field(default_factory=dict)
    across_prompts: bool = False
    cost: str = "cheap"

    @property
    def takes(self) -> tuple[str, ...]:
        return tuple(inspect.signature(self.function).parameters)

    @property
    def needs(self) -> tuple[str, ...]:
        parameters = inspect.signature(self.function).parameters.values()
        return tuple(p.name for p in parameters if p.default is p.empty)

    @property
    def reads_programs(self) -> bool:
        """It scores code, and has nothing to say where no answer is code."""
        return any(name.startswith(("program", "code_")) for name in self.needs)


def available() -> list[str]:
    """Names of the metrics in this folder and of those that installed packages bring (group "divmon.metrics")."""
    here = {module.name for module in pkgutil.iter_modules(__path__)}
    return sorted(here | {point.name for point in entry_points(group="divmon.metrics")})


def load(name: str | Callable[..., Any]) -> Metric:
    """The metric of that name, of "file.py:function", of an entry point, or of the function itself.

    Raises:
        ValueError: there is none, or it asks for an input that is not on offer; the message says which there are.
    """
    if not isinstance(name, str):
        return _metric(name.__name__, name)
    if ":" in name:
        return _metric(name.rpartition(":")[2], from_file("metric", name))
    if name in {module.name for module in pkgutil.iter_modules(__path__)}:
        return _metric(name, getattr(importlib.import_module(f"{__name__}.{name}"), name))
    for point in entry_points(group="divmon.metrics", name=name):
        return _metric(name, point.load())
    there = ", ".join(available())
    raise ValueError(f"no metric named {name!r}{_hint(name)}; there are {there}, or give 'file.py:name'")


def table() -> str:
    """The metrics as a markdown table, from the first lines of their docstrings."""
    rows = ["| metric | what it measures | range and direction | source | needs |", "| --- | --- | --- | --- | --- |"]
    for name in available():
        metric = load(name)
        what, span, source = [*_summary(metric).split(" | "), "", ""][:3]
        needs = [_NEEDS[metric.cost]] if metric.cost in _NEEDS else []
        needs += ["programs"] if metric.reads_programs else []
        needs += ["verdicts (optional)"] if "correct_PK" in metric.takes else []
        rows.append(f"| {name} | {what} | {span} | {source} | {'; '.join(needs) or 'nothing'} |")
    return "\n".join(rows)


def _summary(metric: Metric) -> str:
    return (inspect.getdoc(metric.function) or "").partition("\n")[0]


def _hint(name: str) -> str:
    """Where the name is a figure that some metric gives, that metric; else the closest name."""
    for owner in available():
        if name in (inspect.getdoc(load(owner).function) or "").replace("`", " ").split():
            return f" ({owner!r} gives the figure of that name)"
    close = difflib.get_close_matches(name, available(), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _metric(name: str, function: Callable[..., Any]) -> Metric:
    constants = vars(sys.modules[function.__module__])
    metric = Metric(
        name=name,
        function=function,
        pairwise=constants.get("pairwise"),
        leave_one_out=constants.get("leave_one_out"),
        uses_all_samples=constants.get("USES_ALL_SAMPLES", False),
        aggregate=constants.get("AGGREGATE", {}),
        across_prompts=constants.get("ACROSS_PROMPTS", False),
        cost=constants.get("COST", "cheap"),
    )
    unknown = [p for p in metric.needs if p not in INPUTS]
    if unknown:
        raise ValueError(f"metric {name!r} asks for {', '.join(unknown)}; on offer are {', '.join(INPUTS)}")
    return metric
