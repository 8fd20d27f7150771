"""Samples -> scores: gives each metric the inputs it names, and takes means, intervals and changes over prompts.

scorer = Scorer("auto", categories={"reasoning"})        chosen and checked once, before training
scored = scorer.score([outputs], num_samples=16)         once a snapshot
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from divmon.grading.users_code import called
from divmon.scoring.figure_registry import Registry, of_metrics
from divmon.scoring.intervals import from_replicates, jackknife, paired_change
from divmon.scoring.metric_inputs import Inputs, Outputs, classify_together, embed_together
from divmon.scoring.metric_selection import asked, select
from divmon.scoring.metrics import EXPENSIVE, Metric
from divmon.scoring.packaged_weights import MPNET, Unavailable
from divmon.scoring.resources import Resources
from divmon.types import Change, Figure, Score

logger = logging.getLogger("divmon")

JACKKNIFE_PROMPTS, JACKKNIFE_GROUPS = 128, 64
"""An across-prompt metric that has no `leave_one_out` is recomputed without each prompt up to the one, and without each
of so many groups beyond it."""


@dataclass
class Scored:
    """The scores of one snapshot, and what failed: "task/metric" or "task/metric/decomposition" -> reason."""

    scores: list[Score] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    distances: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    """(task, metric) -> [P, N, N] of each metric that is a mean over pairs, where asked for; N is that of all samples,
    and pairs that the metric was not given (of samples beyond the first K) are NaN."""

    def leave_out(self, name: str, error: Exception) -> None:
        """Notes what failed of a measurement that goes on without it."""
        self.left_out[name] = f"{type(error).__name__}: {error}"
        logger.warning("divmon: left out of this measurement: %s: %s", name, self.left_out[name])


class Scorer:
    """The chosen metrics with what they need, checked once and used for every snapshot.

    Args:
        metrics: as `select` takes them.
        categories: of the prompts that will be scored; "code" among them brings the metrics of programs into "auto".
        resources: the fields of `Resources`.

    Raises:
        ValueError, Unavailable: as `select`.
    """

    def __init__(
        self, metrics: str | Iterable[Any] = "auto", *, categories: Collection[str] = (), **resources: Any
    ) -> None:
        self.resources = Resources(**resources)
        self.metrics = select(metrics, self.resources, has_code="code" in categories)
        self.expensive = self._expensive(metrics)
        """Too expensive for every snapshot: measured in the first and the last one where nobody asked for more."""
        self.figures = of_metrics([*self.metrics, *self.expensive])
        """What its figures are."""
        self.resources.release()  # loaded so far to see that they can be had

    def _expensive(self, metrics: str | Iterable[Any]) -> list[Metric]:
        """NLI with "auto", where its classifier was chosen or there is a GPU that makes it affordable."""
        names = asked(metrics)
        on_device = self.resources.models[EXPENSIVE].device.type != "cpu"
        if "auto" not in names or "nli" in names or not (on_device or self.resources.is_chosen(EXPENSIVE)):
            return []
        try:
            return select("nli", self.resources)
        except Unavailable as error:
            if self.resources.is_chosen(EXPENSIVE):
                raise
            logger.warning("metric left out: nli, as there is %s", str(error).partition("\n")[0])
            return []

    @property
    def names(self) -> list[str]:
        return [metric.name for metric in self.metrics]

    def encoders(self) -> dict[str, str]:
        """The models in use, for the record."""
        in_use = {metric.cost for metric in [*self.metrics, *self.expensive]}
        models: dict[str, Any] = {**self.resources.models, "judge": self.resources.judge}
        return {cost: model.name for cost, model in models.items() if cost in in_use}

    def notes(self) -> list[str]:
        """Which text encoder was taken where none was named, a line to show a person; the small one is warned of."""
        taken = None if self.resources.is_chosen("encoder") else self.encoders().get("encoder")
        return [f"divmon: text encoder: {MPNET}, that of the paper"] if taken == MPNET else []

    def score(
        self,
        outputs: Sequence[Outputs],
        num_samples: int | None = None,
        *,
        distances: bool = False,
        at_ends: bool = True,
    ) -> Scored:
        """As `score`; `at_ends` says that this is the first or the last snapshot, where expensive metrics come in."""
        metrics = [*self.metrics, *self.expensive] if at_ends else self.metrics
        try:
            return score(outputs, metrics, self.resources, num_samples, distances=distances)
        finally:
            self.resources.release()

    def embedded(self, outputs: Sequence[Outputs], num_samples: int) -> list[Inputs]:
        """These outputs with what encoders say of them, on the CPU: the metrics of every snapshot (`score_inputs`) then
        ask no model, but for those that classify.

        Raises:
            Exception: what an encoder raised.
        """
        tasks = [Inputs(task, self.resources, num_samples) for task in outputs]
        try:
            embed_together(tasks, self.metrics)
            for task in tasks:
                task.hold_on_cpu(self.metrics)
        finally:
            self.resources.release()
        return tasks

    def changes(
        self,
        now: Sequence[Score],
        ids: Mapping[str, Sequence[str]],
        reference: Sequence[Score],
        reference_ids: Mapping[str, Sequence[str]] | None = None,
    ) -> list[Change]:
        """As `changes`, by the figures of the chosen metrics; the reference's ids are the same unless told."""
        return changes(now, ids, reference, ids if reference_ids is None else reference_ids, self.figures)


def score(
    outputs: Sequence[Outputs],
    metrics: Sequence[Metric],
    resources: Resources,
    num_samples: int | None = None,
    *,
    distances: bool = False,
) -> Scored:
    """Scores each task with each metric.

    A metric that fails is left out of this snapshot with its reason, and the others go on.

    Args:
        num_samples: K; only metrics that are unbiased for every number of samples are given more. All where None.
        distances: also give the distances between a prompt's samples, which the decomposition splits.
    """
    classified: dict[tuple[str, str], Tensor] = {}
    tasks = [Inputs(task, resources, num_samples, classified) for task in outputs]
    embed_together(tasks, metrics)
    classify_together(tasks, metrics)
    return score_inputs(tasks, metrics, distances=distances)


def score_inputs(tasks: Sequence[Inputs], metrics: Sequence[Metric], *, distances: bool = False) -> Scored:
    """As `score`, of tasks whose texts models have read as far as they are held already."""
    scored = Scored()
    for inputs in tasks:
        task = inputs.outputs.task
        for metric in metrics:
            if not inputs.concern(metric):
                continue
            try:
                scored.scores += _across(metric, inputs) if metric.across_prompts else _per_prompt(metric, inputs)
                if distances and metric.pairwise is not None:
                    scored.distances[task, metric.name] = _pairwise(metric, inputs)
            except Exception as error:  # whatever a metric raises, training goes on and the record says why
                scored.leave_out(f"{task}/{metric.name}", error)
    return scored


def _per_prompt(metric: Metric, inputs: Inputs) -> list[Score]:
    scores = []
    for name, value_P in _figures(metric, inputs.given(metric)).items():
        if value_P.shape != (len(inputs.outputs.texts),):
            raise ValueError(f"'{name}' has the shape {tuple(value_P.shape)}, expected one value for each prompt")
        values = tuple(value_P.double().tolist())
        interval = jackknife(metric.figures.get(name, Figure()).aggregate, values)
        scores.append(Score(inputs.outputs.task, name, interval.value, interval.low, interval.high, interval.n, values))
    return scores


def _pairwise(metric: Metric, inputs: Inputs) -> Tensor:
    """The distances between all N samples of each prompt, beside which the correctness of N samples stands.

    Raises:
        ValueError: the metric gave another shape.
    """
    assert metric.pairwise is not None
    # On the CPU: the reference's are kept as long as the run lasts.
    distance_PKK = torch.as_tensor(_called(metric.pairwise, inputs.given(metric, metric.pairwise))).double().cpu()
    prompts, wide = len(inputs.outputs.texts), inputs.width
    given = wide if metric.uses_all_samples else min(inputs.num_samples, wide)
    if distance_PKK.shape != (prompts, given, given):
        raise ValueError(
            f"'pairwise' has the shape {tuple(distance_PKK.shape)}, expected [prompts, samples, samples],"
            f" {(prompts, given, given)}"
        )
    return (
        torch.nn.functional.pad(distance_PKK, (0, wide - given) * 2, value=torch.nan) if given < wide else distance_PKK
    )


def _across(metric: Metric, inputs: Inputs) -> list[Score]:
    answered = [p for p, texts in enumerate(inputs.texts_PK) if any(text is not None for text in texts)]
    given = _take(inputs.given(metric), answered)
    figures = _figures(metric, given)
    over = dict.fromkeys(figures, len(answered))
    if metric.leave_one_out is None:
        without = _recomputed(metric, given, len(answered), figures)
    else:
        one_pass = _called(metric.leave_one_out, _take(inputs.given(metric, metric.leave_one_out), answered))
        without = {name: value_P[~value_P.isnan()].tolist() for name, value_P in one_pass.items()}
        over |= {name: len(replicates) for name, replicates in without.items() if replicates}
    scores = []
    for name, value in figures.items():
        interval = from_replicates(value.item(), without.get(name, []), n=over[name])
        scores.append(Score(inputs.outputs.task, name, interval.value, interval.low, interval.high, interval.n))
    return scores


def _recomputed(metric: Metric, given: dict[str, Any], prompts: int, names: Iterable[str]) -> dict[str, list[float]]:
    """These figures without each prompt, or without each group of many."""
    groups = prompts if prompts <= JACKKNIFE_PROMPTS else JACKKNIFE_GROUPS
    kept = [[p for p in range(prompts) if p % groups != group] for group in range(groups)] if prompts > 2 else []
    replicates = [_figures(metric, _take(given, some)) for some in kept]
    return {name: [replicate[name].item() for replicate in replicates] for name in names}


def _called(function: Callable[..., Any], given: dict[str, Any]) -> Any:
    """What a metric's function returns; one of the user's own has a time limit, in which its result is read too."""
    return called(function, lambda: _tensors(function(**given)))


def _tensors(result: Any) -> Any:
    """A result as tensors of torch's own: those of another class run code at every use."""
    if isinstance(result, dict):
        return {str(name): _tensors(value) for name, value in result.items()}
    with torch._C.DisableTorchFunctionSubclass():
        return torch.as_tensor(result).detach().as_subclass(Tensor)


def _figures(metric: Metric, given: dict[str, Any]) -> dict[str, Tensor]:
    result = _called(metric.function, given)
    figures: dict[str, Tensor] = result if isinstance(result, dict) else {metric.name: result}
    if metric.declared and (others := [name for name in figures if name not in metric.figures]):
        raise ValueError(f"it gives {', '.join(others)}, and its @metric declares {', '.join(metric.figures)} only")
    return figures


def changes(
    now: Sequence[Score],
    ids: Mapping[str, Sequence[str]],
    reference: Sequence[Score],
    reference_ids: Mapping[str, Sequence[str]],
    figures: Registry | None = None,
) -> list[Change]:
    """The paired changes since the reference, on the prompts that both have.

    An across-prompt figure has no values by prompt, so it has no paired change.

    Args:
        ids, reference_ids: by task, the prompt ids that the scores' values belong to, in their order.
        figures: say how values are averaged; those of the metrics in this package where None.
    """
    figures = figures or Registry()
    before = {(score.task, score.metric): score for score in reference if score.values}
    found = []
    for score in now:
        other = before.get((score.task, score.metric))
        if not score.values or other is None:
            continue
        by_id = dict(zip(reference_ids[score.task], other.values, strict=True))
        both = [(v, by_id[id]) for id, v in zip(ids[score.task], score.values, strict=True) if id in by_id]
        values, reference_values = zip(*both, strict=True) if both else ((), ())
        c = paired_change(values, reference_values, figures[score.metric].aggregate)
        found.append(Change(score.task, score.metric, c.reference, c.now, c.change, c.low, c.high, c.n))
    return figures.bounded_changes(found)


def _take(given: dict[str, Any], prompts: list[int]) -> dict[str, Any]:
    """The same arguments for some of the prompts."""
    return {
        name: ([value[p] for p in prompts] if isinstance(value, list) else value[prompts])
        if name.endswith(("_PK", "_PKD"))
        else value
        for name, value in given.items()
    }
