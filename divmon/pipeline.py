"""Pipeline.measure(): prompts -> samples -> grades -> scores -> changes and decomposition -> one Snapshot."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from divmon.sampling import Drawing, Engine, Key, Request
from divmon.scoring import quality, soundness
from divmon.scoring.metric_inputs import Inputs, Outputs
from divmon.scoring.reference import Correct, Measurement, by_prompt, compare
from divmon.scoring.scorer import Scored, Scorer, score, score_inputs
from divmon.types import Probe, Prompt, Sample, Score, Snapshot, Verdict

Grader = Callable[[Probe, Sequence[Sample]], list[Verdict]]
"""Gives a verdict for each sample of a task; none at all where nothing grades it."""


@dataclass(frozen=True)
class Sampled:
    """What one measurement has sampled: all that the model is needed for."""

    step: int
    drawing: Drawing
    num_samples: int
    """N, of every prompt."""
    provenance: dict[str, Any]
    """How it was sampled."""
    seconds: float
    embedded: Sequence[Inputs] | None = None
    """What encoders say of the texts, on the CPU, where scoring is not to ask them."""


@dataclass(frozen=True)
class Pipeline:
    """What every measurement of a run has in common; its parts are handed in."""

    scorer: Scorer
    grader: Grader
    num_samples: int
    """K: of more samples per prompt, figures that depend on their number take the first K."""
    seed: int = 0
    full: bool = False
    """Also score the reasoning with the answer, as task "<name>-full"."""

    def measure(
        self,
        probes: Sequence[Probe],
        requests: Sequence[Request],
        engine: Engine,
        step: int,
        *,
        reference: Measurement | None = None,
        at_ends: bool = False,
        progress: Callable[[int], None] = lambda samples: None,
    ) -> Measurement:
        """Samples, grades, scores and compares once.

        Args:
            requests: the prompts of the probes, each for the same number of samples.
            reference: what changes are relative to; None where this measurement is the reference.
            at_ends: this is the first or the last measurement, where expensive metrics are measured too.
        """
        return self.scored(probes, self.sample(requests, engine, step, progress), reference, at_ends=at_ends)

    def sample(
        self,
        requests: Sequence[Request],
        engine: Engine,
        step: int,
        progress: Callable[[int], None] = lambda samples: None,
    ) -> Sampled:
        """The first half of a measurement, which needs the model."""
        began = time.perf_counter()
        wide = max((request.num_samples for request in requests), default=self.num_samples)
        drawing = engine.draw(requests, seed=self.seed, step=step, progress=progress)
        provenance: dict[str, Any] = {
            "num_samples": wide,
            "seed": self.seed,
            "decoding": {request.prompt.task: vars(request.decoding) for request in requests},
            "vocab_size": self.scorer.resources.vocab_size,
            "sampler": engine.name,
            "sampler_reason": engine.reason,
            "tokens_drawn": drawing.tokens,
        }
        if drawing.fewer:
            provenance["fewer_samples"] = {"/".join(key): why for key, why in drawing.fewer.items()}
        return Sampled(step, drawing, wide, provenance, time.perf_counter() - began)

    def embedded(self, probes: Sequence[Probe], sampled: Sampled) -> Sampled:
        """The same, its texts read by the encoders: the second half then runs on the CPU alone.

        Raises:
            Exception: what an encoder raised.
        """
        began = time.perf_counter()
        own = {probe.name: samples_of(probe, sampled.drawing.samples) for probe in probes}
        answers = self._outputs(probes, own, {}, sampled)
        tasks = self.scorer.embedded(answers, self.num_samples)
        return replace(sampled, embedded=tasks, seconds=sampled.seconds + time.perf_counter() - began)

    def scored(
        self, probes: Sequence[Probe], sampled: Sampled, reference: Measurement | None, *, at_ends: bool = False
    ) -> Measurement:
        """The second half: grades, scores and compares.

        Args:
            reference, at_ends: as of `measure`.
        """
        began = time.perf_counter()
        graded = {probe.name: self._graded(probe, sampled.drawing.samples) for probe in probes}
        decided = time.perf_counter()
        correct = {
            probe.name: by_prompt(probe, graded[probe.name], attrgetter("correct"), sampled.num_samples)
            for probe in probes
            if any(sample.verdict for sample in graded[probe.name])
        }
        answers = self._outputs(probes, graded, correct, sampled)
        # Of the reference always: from its distances alerts tell what they can see.
        scored = self._figures(answers, sampled, distances=bool(correct) or reference is None, at_ends=at_ends)
        now = Measurement(self._snapshot(probes, graded, scored, sampled), scored.distances, correct)
        if reference is not None:
            ids = {task.task: list(task.prompt_ids) for task in answers}
            compare(now, reference, scored, self.scorer, ids, self.num_samples)
        scoring = time.perf_counter() - decided
        now.snapshot.provenance["seconds"] = {
            "sampling": sampled.seconds,
            "grading": decided - began,
            "scoring": scoring,
        }
        return now

    def _outputs(
        self,
        probes: Sequence[Probe],
        samples: Mapping[str, Sequence[Sample]],
        correct: Mapping[str, Correct],
        sampled: Sampled,
    ) -> list[Outputs]:
        """The samples of each task, by its name, as the metrics take them; then those of each task in full."""
        wide, nll = sampled.num_samples, sampled.drawing.stored_nll
        answers = [outputs(probe, samples[probe.name], wide, correct.get(probe.name)) for probe in probes]
        answers = [with_stored_nll(answer, nll) for answer in answers]
        if self.full:
            answers += [outputs_in_full(probe, samples[probe.name], wide) for probe in probes]
        return answers

    def _figures(self, answers: Sequence[Outputs], sampled: Sampled, *, distances: bool, at_ends: bool) -> Scored:
        if sampled.embedded is None:
            return self.scorer.score(answers, self.num_samples, distances=distances, at_ends=at_ends)
        for task, answer in zip(sampled.embedded, answers, strict=True):
            task.outputs = answer  # graded since
        return score_inputs(sampled.embedded, self.scorer.metrics, distances=distances)

    def _snapshot(
        self, probes: Sequence[Probe], graded: Mapping[str, list[Sample]], scored: Scored, sampled: Sampled
    ) -> Snapshot:
        scores = list(scored.scores)
        for probe in probes:
            own = graded[probe.name]
            scores += [
                *soundness.rates(probe, own),
                *quality_scores(probe, own, sampled.num_samples, self.num_samples),
            ]
        scores = self.scorer.figures.bounded(scores)
        samples = [sample for own in graded.values() for sample in own]
        of_the_samples = {
            "left_out": scored.left_out,
            "suspicion": soundness.suspicion(samples),
            "completions": len(samples),
        }
        return Snapshot(
            step=sampled.step,
            samples=samples,
            scores=scores,
            missing=sampled.drawing.missing,
            provenance={**sampled.provenance, **of_the_samples},
            figures=self.scorer.figures.of(score.metric for score in scores),
        )

    def stored(self, snapshot: Snapshot, graded: Sequence[Probe]) -> Measurement:
        """A stored snapshot as the reference of a resumed run; its pair distances are computed again from its texts.

        Args:
            graded: the probes that something grades.
        """
        wide = int(snapshot.provenance["num_samples"])
        answers, correct = [], {}
        for probe in graded:
            samples = samples_of(probe, snapshot.samples)
            if samples:
                correct[probe.name] = by_prompt(probe, samples, attrgetter("correct"), wide)
                answers.append(outputs(probe, samples, wide, correct[probe.name]))
        scored = self.scorer.score(answers, self.num_samples, distances=True)
        return Measurement(snapshot, scored.distances, correct)

    def of_stored_texts(
        self, probes: Sequence[Probe], nll: Mapping[Key, Sequence[float]], step: int, reference: Measurement
    ) -> Snapshot:
        """The figures of stored completions alone, between two measurements: a snapshot without samples.

        Args:
            nll: by prompt, as `Drawing.stored_nll`.
        """
        answers = [with_stored_nll(outputs(probe, [], 1, None), nll) for probe in probes]
        metrics = [metric for metric in self.scorer.metrics if "stored_nll_PF" in metric.needs]
        found = score(answers, metrics, self.scorer.resources).scores
        scores = self.scorer.figures.bounded([one for one in found if one.n])
        ids = {answer.task: list(answer.prompt_ids) for answer in answers}
        changes = self.scorer.changes(scores, ids, reference.snapshot.scores)
        return Snapshot(step, [], scores, changes, figures=self.scorer.figures.of(one.metric for one in scores))

    def _graded(self, probe: Probe, samples: Sequence[Sample]) -> list[Sample]:
        """A task's samples with their verdicts."""
        own = samples_of(probe, samples)
        return with_verdicts(own, self.grader(probe, own))


def samples_of(probe: Probe, samples: Sequence[Sample]) -> list[Sample]:
    """Those of one task."""
    return [sample for sample in samples if sample.task == probe.name]


def with_verdicts(samples: Sequence[Sample], verdicts: Sequence[Verdict]) -> list[Sample]:
    """The samples, each with its verdict; as they are where there are none at all."""
    if not verdicts:
        return list(samples)
    return [replace(sample, verdict=verdict) for sample, verdict in zip(samples, verdicts, strict=True)]


def outputs(probe: Probe, samples: Sequence[Sample], num_samples: int, correct: Correct | None) -> Outputs:
    """A task's samples as the metrics take them: [P][N] answers, None where there is none."""

    def rows(value: Callable[[Sample], Any]) -> list[list[Any]]:
        return by_prompt(probe, samples, value, num_samples)

    return Outputs(
        task=probe.name,
        prompt_ids=[prompt.id for prompt in probe.prompts],
        categories=[prompt.category for prompt in probe.prompts],
        texts=rows(lambda sample: sample.text if sample.answered else None),
        correct=correct,
        lengths=rows(attrgetter("n_tokens")),
        likelihoods=rows(attrgetter("likelihood")),
        answers=rows(attrgetter("final_answer")),
        prompts=[asked(prompt) for prompt in probe.prompts] if all(map(asked, probe.prompts)) else None,
    )


def asked(prompt: Prompt) -> str:
    """A prompt in words: its text, or what the last turn of its conversation says; "" where there are none."""
    if isinstance(prompt.content, str):
        return prompt.content
    last = prompt.content[-1] if prompt.content else ""
    return str(last.get("content") or "") if isinstance(last, dict) else ""


def with_stored_nll(answer: Outputs, nll: Mapping[Key, Sequence[float]]) -> Outputs:
    """With the likelihood of stored completions, by (task, prompt id); as it is where none was measured."""
    nothing = (math.nan,) * 4
    rows = [nll.get((answer.task, id), nothing) for id in answer.prompt_ids]
    return replace(answer, stored_nll=rows) if any(row is not nothing for row in rows) else answer


def outputs_in_full(probe: Probe, samples: Sequence[Sample], num_samples: int) -> Outputs:
    """The whole completions, reasoning and answer, also of those without an answer."""
    whole = [replace(s, text=f"{s.reasoning or ''}\n{s.text}".strip(), answered=True) for s in samples]
    return replace(outputs(probe, whole, num_samples, None), task=f"{probe.name}-full")


def quality_scores(probe: Probe, samples: Sequence[Sample], wide: int, num_samples: int) -> list[Score]:
    """How good a task's samples are; nothing where none was graded.

    Args:
        wide: N, the samples of a prompt; num_samples: K.
    """
    if all(sample.correct is None for sample in samples):
        return []
    figures = quality.quality(
        by_prompt(probe, samples, attrgetter("correct"), wide),
        num_samples,
        no_answer=[[bool(none) for none in row] for row in by_prompt(probe, samples, soundness.no_answer, wide)],
        answers=by_prompt(probe, samples, attrgetter("final_answer"), wide),
    )
    return quality.scores(probe.name, figures)
