"""SCORES: one file per metric, this folder is the registry of metrics (`scoring/figure_registry.py` that of figures).

A metric is a pure, batched function of its file's name. It asks for its inputs by parameter name (see `INPUTS`),
imports torch and nothing of ours but this module, and returns float64 values per prompt, NaN where undefined (fewer
than two samples, never 0): `Tensor[P]`, or a dict of named `Tensor[P]`. What its figures are stands in its decorator:

    @metric(
        "Share of distinct first words",
        figures={"first_word": Figure(range=(0, 1), headline=70)},
        source="ours",
    )
    def first_word(texts_PK): ...

A function without the decorator works too: it has one figure, of its own name, higher where outputs are more diverse,
averaged over prompts, and not in the headline. tests/scoring/metrics/test_contract.py holds a new file to this.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from typing import Any, TypeVar

from divmon.options import from_file
from divmon.scoring.partition import effective_number as effective_number
from divmon.scoring.partition import entropy as entropy
from divmon.scoring.segmentation import words as words
from divmon.types import Figure

INPUTS = {
    "texts_PK": "list[list[str | None]]; None is no answer: missing, or truncated inside its reasoning",
    "mask_PK": "bool [P, K], True where there is an answer",
    "embeddings_PKD": "float32 unit vectors of the texts, zero where masked",
    "prompt_embeddings_PD": "float32 unit vectors of the prompts; not given where their texts are unknown",
    "answers_PK": "list[list[str | None]], final answers that the verifier took from the texts, equal where answers are"
    " the same; not given where there are none",
    "prose_PK": "like texts_PK, None for prompts whose answers are code",
    "programs_PK": "like texts_PK, None for prompts whose answers are not code; taken out of markdown fences",
    "program_mask_PK": "bool [P, K], True where there is a program",
    "code_embeddings_PKD": "float32 unit vectors of the programs, zero where masked",
    "correct_PK": "bool [P, K], True where graded correct; not given where nothing was graded",
    "lengths_PK": "float64 [P, K], new tokens, NaN where missing; not given where unknown",
    "likelihood_PKF": "float64 [P, K, 4], means over each completion's tokens of entropy (nats), being a fork, largest"
    " probability and negative log-likelihood (nats); NaN where not recorded",
    "stored_nll_PF": "float64 [P, 4], nats per token of the reference's completions under the model now and under the"
    " reference, and of completions now under the model now and under the reference; NaN where not measured",
    "judged_PK": "list[list[int | None]], the class of approach that a judge puts each of a prompt's first 8 (correct)"
    " answers in; not given where no judge or no prompt's text is at hand",
    "num_samples": "int, K: of more samples than K a figure that is not unbiased takes the first K",
    "vocab_size": "int, size of the tokenizer's vocabulary",
    "classify_nli": "list[(premise, hypothesis)] -> float64 [N, 3]: contradiction, neutral, entailment",
    "nli_sentences": "int, aligned sentences sampled for each pair of texts; not given for all of them",
    "seed": "int, for figures that sample subsets",
}
"""What a metric may ask for. A parameter with a default is given where the input exists, one without is required."""

EXPENSIVE = "nli"
"""The cost of metrics that "auto" measures in the first and last snapshot alone."""

_MODELS = {
    "encoder": "text encoder",
    "code_encoder": "code encoder",
    "nli": "NLI classifier",
    "judge": "judge at an endpoint",
}
_MODEL_OF = {
    "judged_PK": "judge",
    "classify_nli": "nli",
    "code_embeddings_PKD": "code_encoder",
    "embeddings_PKD": "encoder",
    "prompt_embeddings_PD": "encoder",
}
"""The model that an input comes from, the most expensive first."""
_DECLARED = "_divmon_metric"
_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Metric:
    """A metric with what it declares of itself."""

    name: str
    function: Callable[..., Any]
    figures: Mapping[str, Figure] = field(default_factory=dict)
    """What it gives, by name."""
    what: str = ""
    source: str = ""
    pairwise: Callable[..., Any] | None = None
    leave_one_out: Callable[..., Any] | None = None
    uses_all_samples: bool = False
    across_prompts: bool = False
    on_request: bool = False
    """It is no part of "auto"."""
    declared: bool = False
    """It has the decorator, so that it gives the figures it declares and no others."""

    @property
    def takes(self) -> tuple[str, ...]:
        return tuple(inspect.signature(self.function).parameters)

    @property
    def needs(self) -> tuple[str, ...]:
        parameters = inspect.signature(self.function).parameters.values()
        return tuple(p.name for p in parameters if p.default is p.empty)

    @property
    def cost(self) -> str:
        """What it needs: "nli", "code_encoder" or "encoder" by the inputs it asks for; "cheap" where none is of a
        model."""
        return next((model for name, model in _MODEL_OF.items() if name in self.takes), "cheap")

    @property
    def reads_programs(self) -> bool:
        """It scores code, and has nothing to say where no answer is code."""
        return any(name.startswith(("program", "code_")) for name in self.needs)

    @property
    def cosine(self) -> bool:
        """Its pair distances are 1 minus a cosine."""
        return any(figure.cosine for figure in self.figures.values())


def metric(
    what: str = "",
    *,
    figures: Mapping[str, Figure] | None = None,
    source: str = "",
    all_samples: bool = False,
    across_prompts: bool = False,
    on_request: bool = False,
    pairwise: Callable[..., Any] | None = None,
    leave_one_out: Callable[..., Any] | None = None,
) -> Callable[[_Function], _Function]:
    """Declares what a metric is; the function stays as it is.

    Args:
        what: what it measures, in words; also the meaning of figures that say none of their own.
        figures: by name, what it gives; one of the function's name where None.
        source: where it comes from: "paper, SBERT", "Li et al. 2016".
        all_samples: it is unbiased for every number of samples, so it is given all N >= K that there are.
        across_prompts: it returns named 0-d tensors, one figure for all prompts together.
        on_request: it is measured where it is asked for by name; "auto" leaves it out.
        pairwise: takes inputs by name and gives the distances `Tensor[P, K, K]` that one figure, marked `pairwise`, is
            the mean of; NaN where undefined.
        leave_one_out: of a metric across prompts, its figures without each prompt in turn, `dict[str, Tensor[P]]`, in
            one pass; NaN for a prompt that a figure is not taken over. A figure that it leaves out has no interval.
            Without it all are recomputed for their interval, which is a loop.

    Raises:
        ValueError: the declarations contradict one another.
    """

    def declare(function: _Function) -> _Function:
        name = function.__name__
        mine = dict(figures) if figures is not None else {name: Figure(pairwise=pairwise is not None)}
        found = Metric(
            name=name,
            function=function,
            figures=mine,
            what=what,
            source=source,
            pairwise=pairwise,
            leave_one_out=leave_one_out,
            uses_all_samples=all_samples,
            across_prompts=across_prompts,
            on_request=on_request,
            declared=True,
        )
        _check(found)
        setattr(function, _DECLARED, replace(found, figures={n: _filled(f, found) for n, f in mine.items()}))
        return function

    return declare


def _filled(figure: Figure, metric: Metric) -> Figure:
    """With what follows from its metric."""
    models = {model for name, model in _MODEL_OF.items() if name in metric.takes}
    needs = models | {"vocab_size"} & set(metric.takes) | ({"verifier"} if figure.graded else set())
    return replace(
        figure,
        meaning=figure.meaning or metric.what,
        metric=metric.name,
        source=figure.source or metric.source,
        needs=tuple(sorted(needs)),
    )


def _check(found: Metric) -> None:
    """Raises ValueError where declarations contradict one another."""
    name, means = found.name, [figure for figure, facts in found.figures.items() if facts.pairwise]
    if not found.figures:
        raise ValueError(f"metric {name!r} declares no figure; expected figures={{name: Figure(...)}}")
    if bool(found.pairwise) != (len(means) == 1):
        given = "pairwise= is given" if found.pairwise else "no pairwise= is given"
        raise ValueError(
            f"metric {name!r}: {given}, and {len(means)} figures are marked pairwise=True; expected one figure that is"
            " the mean of the distances that pairwise= gives, or neither"
        )
    if means and found.figures[means[0]].diverse != "higher":
        raise ValueError(
            f"metric {name!r}: distances are higher where outputs are more diverse, so {means[0]!r} is too"
        )
    for figure, facts in found.figures.items():
        if facts.aggregate not in ("mean", "harmonic_mean"):
            raise ValueError(
                f"figure {figure!r}: expected an aggregate of mean or harmonic_mean, got {facts.aggregate!r}"
            )


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
    """The metrics as a markdown table."""
    rows = ["| metric | what it measures | range and direction | source | needs |", "| --- | --- | --- | --- | --- |"]
    for name in available():
        one = load(name)
        needs = [_MODELS[one.cost]] if one.cost in _MODELS else []
        needs += ["programs"] if one.reads_programs else []
        needs += ["correctness (optional)"] if "correct_PK" in one.takes else []
        columns = (name, one.what, _spans(one), one.source, "; ".join(needs) or "nothing")
        rows.append(f"| {' | '.join(columns)} |")
    return "\n".join(rows)


def _spans(metric: Metric) -> str:
    """The range and direction of its figures, those that share one together; names where they are not the metric's."""
    by_span: dict[str, list[str]] = {}
    for name, figure in metric.figures.items():
        by_span.setdefault(span(figure), []).append(name)
    if list(metric.figures) == [metric.name]:
        return next(iter(by_span))
    return "; ".join(f"{', '.join(f'`{name}`' for name in names)}: {words}" for words, names in by_span.items())


def span(figure: Figure) -> str:
    """The range and direction of a figure in words.

    >>> span(Figure(range=(0, 2))), span(Figure(range=(0, None), diverse=""))
    ('0 to 2, higher is more diverse', '0 up, not a diversity')
    """
    low, high = ("" if bound is None else f"{bound}" for bound in figure.range)
    bounds = f"{low} to {high}" if low and high else f"{low} up" if low else f"up to {high}" if high else ""
    way = f"{figure.diverse} is more diverse" if figure.diverse else "not a diversity"
    way = f"{figure.better} is better" if figure.better and not figure.diverse else way
    return ", ".join(part for part in (bounds, way) if part)


def _hint(name: str) -> str:
    """Where the name is a figure that some metric gives, that metric; else the closest name."""
    for owner in available():
        if name in load(owner).figures:
            return f" ({owner!r} gives the figure of that name)"
    close = difflib.get_close_matches(name, available(), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _metric(name: str, function: Callable[..., Any]) -> Metric:
    found: Metric | None = getattr(function, _DECLARED, None)
    if found is None:
        found = Metric(name, function)
        found = replace(found, figures={name: _filled(Figure(), found)})
    elif name != found.name:  # an entry point's; a figure of the function's name takes it on
        figures = {name if figure == found.name else figure: facts for figure, facts in found.figures.items()}
        found = replace(found, name=name, figures={n: replace(facts, metric=name) for n, facts in figures.items()})
    unknown = [p for p in found.needs if p not in INPUTS]
    if unknown:
        raise ValueError(f"metric {name!r} asks for {', '.join(unknown)}; on offer are {', '.join(INPUTS)}")
    return found
