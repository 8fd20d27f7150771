"""Is the sampler sound (contract 5), and did completions reach their answer (contract 3)?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from divmon.scoring.intervals import mean_interval
from divmon.types import TRUNCATED, Probe, Sample, Score


def no_answer(sample: Sample) -> bool:
    """It ended inside its reasoning, or at the token limit before a verifier found an answer in it."""
    return not sample.answered or (sample.verdict is not None and sample.verdict.reason == TRUNCATED)


RATES = {
    "no_answer": no_answer,
    "truncated": lambda sample: sample.finish == "length" and no_answer(sample),
    "clipped_ratio": lambda sample: sample.finish == "length",
    "empty": lambda sample: sample.answered and not sample.text.strip(),
}
"""Shares of completions: without an answer (truncated, or ended by themselves inside their reasoning); truncated, at
the token limit before the answer; at the token limit, before it or after (TRL's `clipped_ratio`); empty."""


def rates(probe: Probe, samples: Sequence[Sample]) -> list[Score]:
    """`RATES` of a task's completions, per prompt; NaN for a prompt without samples."""
    own: dict[str, list[Sample]] = {prompt.id: [] for prompt in probe.prompts}
    for sample in samples:
        own[sample.prompt_id].append(sample)
    scores = []
    for name, holds in RATES.items():
        values = [sum(map(holds, drawn)) / len(drawn) if drawn else math.nan for drawn in own.values()]
        interval = mean_interval(values)
        scores.append(Score(probe.name, name, interval.value, interval.low, interval.high, interval.n, tuple(values)))
    return scores


def suspicion(samples: Sequence[Sample]) -> str | None:
    """Why the sampler itself may be at fault, in words; None where it looks sound."""
    if not samples:
        return None
    answered = [s for s in samples if s.answered]
    empty = sum(not s.text.strip() for s in answered)
    if answered and empty > len(answered) / 2:
        return (
            f"{empty} of {len(answered)} completions are empty: the model ends at once, or the prompts do not suit it"
        )
    prompts = {(s.task, s.prompt_id) for s in samples}
    text, count = Counter(s.text for s in answered).most_common(1)[0] if answered else ("", 0)
    if len(prompts) >= 4 and count > len(answered) / 2 and text.strip():
        reached = len({(s.task, s.prompt_id) for s in answered if s.text == text})
        return (
            f"{count} of {len(answered)} completions, of {reached} of {len(prompts)} prompts, are the same"
            f" ({text[:40]!r}): the prompts may not reach the model"
        )
    return None
