"""Is the sampler sound (contract 5), and were completions truncated before their answer (contract 3)?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from divmon.scoring.stats import mean_interval
from divmon.types import CUT_OFF, Probe, Sample, Score, Verdict


def cut_off(sample: Sample, verdict: Verdict | None = None) -> bool:
    """Truncated before its answer: inside its reasoning, or by length where a verifier then found no answer."""
    return not sample.answered or (verdict is not None and verdict.reason == CUT_OFF)


def rates(probe: Probe, samples: Sequence[Sample], verdicts: Sequence[Verdict] = ()) -> list[Score]:
    """Shares of a task's completions, per prompt: `truncated` (ended before their answer), `empty` (answered with
    nothing), `length_limit` (ended by the token limit, whatever came before)."""
    graded: Sequence[Verdict | None] = verdicts or [None] * len(samples)
    by_prompt: dict[str, list[tuple[Sample, Verdict | None]]] = {prompt.id: [] for prompt in probe.prompts}
    for sample, verdict in zip(samples, graded, strict=True):
        by_prompt[sample.prompt_id].append((sample, verdict))
    shares = {
        "truncated": lambda s, v: cut_off(s, v),
        "empty": lambda s, v: s.answered and not s.text.strip(),
        "length_limit": lambda s, v: s.finish == "length",
    }
    scores = []
    for name, holds in shares.items():
        values = [sum(holds(s, v) for s, v in own) / len(own) if own else math.nan for own in by_prompt.values()]
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
