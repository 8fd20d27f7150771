"""Times what comes after sampling (encoders, the NLI classifier, grading) on made-up texts at the token limit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from divmon.grading import verifiers
from divmon.sampling import Request
from divmon.scoring.encoders import TextEncoder
from divmon.scoring.metrics import EXPENSIVE, Metric
from divmon.scoring.scorer import Scorer
from divmon.training.protocol import Asking
from divmon.types import Probe, Sample

Row = TypeVar("Row", str, list[int], tuple[int, ...])

TIMED_TEXTS = 8
"""Texts, or pairs of sentences, that a model is timed on: a batch of it on a CPU."""
GRADED_TEXTS = 128
"""Texts that grading is timed on: with fewer not all of its processes are at work."""
SENTENCE = 100
"""Characters of a sentence."""


class ScoringTimes:
    """Seconds by completion, for every task alike; code of the user's own is not called, as it may do anything.

    Args:
        requests: of an ordinary measurement.
        clock: seconds.
    """

    def __init__(
        self,
        scorer: Scorer,
        asking: Asking,
        requests: Sequence[Request],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._scorer, self._clock = scorer, clock
        self._long, self._num_samples = _long(requests[0]), requests[0].num_samples
        self._text = sum(self._encoding(cost) for cost in sorted({metric.cost for metric in scorer.metrics}))
        self._pair = self._classifying([*scorer.metrics, *scorer.expensive])
        self._grade = {probe.name: self._grading(asking, probe) for probe in asking.probes}
        scorer.resources.release()

    def of(self, requests: Collection[Request], at_ends: bool) -> float:
        """Seconds of a measurement with these requests.

        Args:
            at_ends: the first or the last one, where expensive metrics come in.
        """
        texts = sum(r.num_samples * (self._text + self._grade.get(r.prompt.task, 0.0)) for r in requests)
        metrics = [*self._scorer.metrics, *(self._scorer.expensive if at_ends else [])]
        classifies = any(metric.cost == EXPENSIVE for metric in metrics)
        return texts + (len(requests) * self._pairs * self._pair if classifies else 0.0)

    @property
    def _pairs(self) -> int:
        """Of sentences, each read both ways, among the K completions of a prompt."""
        there = math.ceil(len(self._long) / SENTENCE)
        return self._num_samples * (self._num_samples - 1) * min(self._scorer.resources.nli_sentences or there, there)

    def _encoding(self, cost: str) -> float:
        encoder = self._scorer.resources.models.get(cost)
        if not isinstance(encoder, TextEncoder):
            return 0.0
        encoder.encode(["a text"])
        texts = [f"{i} {self._long}" for i in range(TIMED_TEXTS)]
        return self._seconds(lambda: encoder.encode(texts).sum().item()) / TIMED_TEXTS

    def _classifying(self, metrics: Sequence[Metric]) -> float:
        classifier = self._scorer.resources.models[EXPENSIVE]
        if isinstance(classifier, TextEncoder) or all(metric.cost != EXPENSIVE for metric in metrics):
            return 0.0
        classifier([("a text", "a text")])
        pairs = [(f"{i} {self._long[:SENTENCE]}", self._long[:SENTENCE]) for i in range(TIMED_TEXTS)]
        return self._seconds(lambda: classifier(pairs).sum().item()) / TIMED_TEXTS

    def _grading(self, asking: Asking, probe: Probe) -> float:
        rule = asking.verifier(probe)
        if rule is None or not verifiers.load(rule).is_ours:
            return 0.0
        short, long = ([self._answer(probe, i, text) for i in range(GRADED_TEXTS)] for text in ("", self._long))
        asking.grade(probe, short)  # starts its processes
        return self._seconds(lambda: asking.grade(probe, long)) / GRADED_TEXTS

    def _answer(self, probe: Probe, i: int, text: str) -> Sample:
        """The answer number `i` of many, to the prompts in turn."""
        turn, place = divmod(i, len(probe.prompts))
        prompt = probe.prompts[place]
        text = f"```python\nanswer = {i}\n```" if prompt.category == "code" else f"{i} {text}"
        return Sample(probe.name, prompt.id, turn, text, "length", len(text))

    def _seconds(self, work: Callable[[], object]) -> float:
        began = self._clock()
        work()
        return self._clock() - began


def _long(request: Request) -> str:
    """A text as long as the limit allows, in the words of the prompt."""
    text, ids = request.prompt.text or " ", request.prompt.input_ids
    characters = math.ceil(request.decoding.max_new_tokens * len(text) / max(1, len(ids)))
    return repeated(text, characters)


def repeated(over: Row, length: int) -> Row:
    """A text or a row of ids over again, `length` long."""
    return (over * (1 + length // max(1, len(over))))[:length]
