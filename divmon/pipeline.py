"""measure(): prompts -> samples -> verdicts -> scores -> decomposition -> one Snapshot; its parts are handed in."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from divmon.sampling import Engine, Request
from divmon.scoring import quality, soundness
from divmon.scoring.metric_inputs import Outputs
from divmon.scoring.reference import Measured, Reference, Rows, in_rows, since
from divmon.scoring.scorer import Scorer
from divmon.types import Probe, Sample, Score, Snapshot, Verdict

Judge = Callable[[Probe, Sequence[Sample]], list[Verdict]]


def measure(
    probes: Sequence[Probe],
    requests: Sequence[Request],
    *,
    sampler: Engine,
    scorer: Scorer,
    comparable_samples: int,
    seed: int,
    step: int,
    judge: Judge,
    reference: Reference | None,
    at_ends: bool = False,
    full: bool = False,
    progress: Callable[[int], None] = lambda samples: None,
) -> tuple[Snapshot, Reference]:
    """Draws, judges, scores and compares once.

    Args:
        requests: the prompts of the probes, all as often, N times.
        comparable_samples: K, the first of them that figures which depend on their number take.
        judge: gives a verdict for each sample of a task, or none where nothing judges it.
        reference: what changes are taken against; None where this is the reference itself.
        at_ends: this is the first or the last measurement, where dear metrics are measured too.
        full: also score the reasoning with the answer, as task "<name>-full".

    Returns:
        The snapshot, and the same as a reference for later ones.
    """
    began = time.perf_counter()
    num_samples = max((request.num_samples for request in requests), default=comparable_samples)
    drawing = sampler.draw(requests, seed=seed, step=step, progress=progress)
    drawn = time.perf_counter()
    by_task = {probe.name: [s for s in drawing.samples if s.task == probe.name] for probe in probes}
    judged = {probe.name: judge(probe, by_task[probe.name]) for probe in probes}
    verdicts = {name: found for name, found in judged.items() if found}
    decided = time.perf_counter()
    rows = {
        probe.name: in_rows(probe, by_task[probe.name], [v.correct for v in verdicts[probe.name]], num_samples)
        for probe in probes
        if probe.name in verdicts
    }
    answers = [outputs(probe, by_task[probe.name], num_samples, rows.get(probe.name)) for probe in probes]
    if full:
        answers += [outputs_in_full(probe, by_task[probe.name], num_samples) for probe in probes]
    # Of the reference always: from them alerts tell what they can see.
    scored = scorer.score(answers, comparable_samples, distances=bool(rows) or reference is None, at_ends=at_ends)
    scores = list(scored.scores)
    for probe in probes:
        task = probe, by_task[probe.name], judged[probe.name]
        scores += [*soundness.rates(*task), *quality_scores(*task, num_samples, comparable_samples)]
    ids = {task.task: list(task.prompt_ids) for task in answers}
    changes, decomposition = (
        since(reference, Measured(scores, scored, rows, ids), scorer, comparable_samples)
        if reference is not None
        else ([], {})
    )
    done = time.perf_counter()
    snapshot = Snapshot(
        step=step,
        samples=drawing.samples,
        verdicts=in_order(drawing.samples, verdicts),
        scores=scores,
        changes=changes,
        decomposition=decomposition,
        missing=drawing.missing,
        provenance={
            "num_samples": num_samples,
            "seed": seed,
            "decoding": {request.prompt.task: vars(request.decoding) for request in requests},
            "vocab_size": scorer.resources.vocab_size,
            "sampler": sampler.name,
            "sampler_reason": sampler.reason,
            "tokens_drawn": drawing.tokens,
            "seconds": {"sampling": drawn - began, "judging": decided - drawn, "scoring": done - decided},
            "left_out": scored.left_out,
            "suspicion": soundness.suspicion(drawing.samples),
            "completions": len(drawing.samples),
        },
        figures=scorer.figures.of(score.metric for score in scores),
    )
    return snapshot, Reference(snapshot, scored.distances, rows)


def as_reference(snapshot: Snapshot, judged: Sequence[Probe], scorer: Scorer, comparable_samples: int) -> Reference:
    """A stored snapshot as the reference of a resumed run; pair distances are computed again from its texts.

    Args:
        judged: the probes that something judges.
        comparable_samples: K, as for `measure`.
    """
    num_samples = int(snapshot.provenance["num_samples"])
    drawn = list(zip(snapshot.samples, snapshot.verdicts, strict=False))
    answers, rows = [], {}
    for probe in judged:
        samples = [sample for sample, _ in drawn if sample.task == probe.name]
        if samples:
            verdicts = [verdict.correct for sample, verdict in drawn if sample.task == probe.name]
            rows[probe.name] = in_rows(probe, samples, verdicts, num_samples)
            answers.append(outputs(probe, samples, num_samples, rows[probe.name]))
    scored = scorer.score(answers, comparable_samples, distances=True)
    return Reference(snapshot, scored.distances, rows)


def outputs_in_full(probe: Probe, samples: Sequence[Sample], num_samples: int) -> Outputs:
    """The whole completions, reasoning and answer, also of those that never came to answer."""
    whole = [replace(s, text=f"{s.reasoning or ''}\n{s.text}".strip(), answered=True) for s in samples]
    return replace(outputs(probe, whole, num_samples, None), task=f"{probe.name}-full")


def in_order(samples: Sequence[Sample], verdicts: dict[str, list[Verdict]]) -> list[Verdict]:
    """The tasks' verdicts, parallel to the samples of all tasks; none where nothing judged any."""
    if not verdicts:
        return []
    waiting = {task: iter(judged) for task, judged in verdicts.items()}
    return [next(waiting[s.task]) if s.task in waiting else Verdict(None, "no verifier") for s in samples]


def quality_scores(
    probe: Probe, samples: Sequence[Sample], verdicts: Sequence[Verdict], num_samples: int, comparable_samples: int
) -> list[Score]:
    """How good a task's samples are; nothing where none was judged."""
    if all(verdict.correct is None for verdict in verdicts):
        return []

    def rows(values: Sequence[Any]) -> list[list[Any]]:
        return in_rows(probe, samples, values, num_samples)

    correct = rows([verdict.correct for verdict in verdicts])
    cut_off = rows([soundness.cut_off(*pair) for pair in zip(samples, verdicts, strict=True)])
    answers = rows([verdict.answer for verdict in verdicts])
    figures = quality.quality(
        correct, comparable_samples, cut_off=[[bool(c) for c in row] for row in cut_off], answers=answers
    )
    return quality.scores(probe.name, figures)


def outputs(probe: Probe, samples: Sequence[Sample], num_samples: int, correct: Rows | None) -> Outputs:
    """A task's samples as the metrics take them: [P][N] answers, None where there is none."""
    return Outputs(
        task=probe.name,
        prompt_ids=[prompt.id for prompt in probe.prompts],
        categories=[prompt.category for prompt in probe.prompts],
        texts=in_rows(probe, samples, [s.text if s.answered else None for s in samples], num_samples),
        correct=correct,
        lengths=in_rows(probe, samples, [s.n_tokens for s in samples], num_samples),
    )
