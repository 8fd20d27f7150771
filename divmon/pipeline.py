"""measure(): prompts -> samples -> scores -> one Snapshot. The flow on one screen; its parts are handed in."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from divmon import health
from divmon.inputs import Outputs
from divmon.rendering import Renderer
from divmon.sampling import Request, Sampler
from divmon.scoring import Scorer
from divmon.types import Decoding, Probe, Sample, Snapshot


def measure(
    probes: Sequence[Probe],
    *,
    renderer: Renderer,
    sampler: Sampler,
    scorer: Scorer,
    decodings: dict[str, Decoding],
    num_samples: int,
    comparable_samples: int,
    seed: int,
    step: int,
    reference: Snapshot | None,
    progress: Callable[[int], None] = lambda samples: None,
) -> Snapshot:
    """Draws, scores and compares once.

    Args:
        decodings: how each probe is drawn, by its name.
        num_samples: completions drawn for each prompt, N.
        comparable_samples: K, the first of them that figures which depend on their number take.
        reference: what changes are taken against; None where this is the reference itself.
    """
    began = time.perf_counter()
    requests = [
        Request(renderer.render(probe.name, prompt), decodings[probe.name], num_samples)
        for probe in probes
        for prompt in probe.prompts
    ]
    drawing = sampler.draw(requests, seed=seed, step=step, progress=progress)
    drawn = time.perf_counter()
    by_task = {probe.name: [s for s in drawing.samples if s.task == probe.name] for probe in probes}
    scored = scorer.score([outputs(probe, by_task[probe.name], num_samples) for probe in probes], comparable_samples)
    scores = [*scored.scores, *(rate for probe in probes for rate in health.rates(probe, by_task[probe.name]))]
    ids = {probe.name: [prompt.id for prompt in probe.prompts] for probe in probes}
    done = time.perf_counter()
    return Snapshot(
        step=step,
        samples=drawing.samples,
        scores=scores,
        changes=scorer.changes(scores, ids, reference.scores) if reference is not None else [],
        missing=drawing.missing,
        provenance={
            "num_samples": num_samples,
            "seed": seed,
            "decoding": {name: vars(decoding) for name, decoding in decodings.items()},
            "sampler": sampler.name,
            "sampler_reason": sampler.reason,
            "tokens_drawn": drawing.tokens,
            "seconds": {"sampling": drawn - began, "scoring": done - drawn},
            "left_out": scored.left_out,
            "suspicion": health.suspicion(drawing.samples),
            "completions": len(drawing.samples),
        },
    )


def outputs(probe: Probe, samples: Sequence[Sample], num_samples: int) -> Outputs:
    """A task's samples as the metrics take them: [P][N] answers, None where there is none."""
    texts: dict[str, list[str | None]] = {prompt.id: [None] * num_samples for prompt in probe.prompts}
    lengths: dict[str, list[int | None]] = {prompt.id: [None] * num_samples for prompt in probe.prompts}
    for s in samples:
        texts[s.prompt_id][s.index] = s.text if s.answered else None
        lengths[s.prompt_id][s.index] = s.n_tokens
    return Outputs(
        task=probe.name,
        prompt_ids=[prompt.id for prompt in probe.prompts],
        categories=[prompt.category for prompt in probe.prompts],
        texts=list(texts.values()),
        lengths=list(lengths.values()),
    )
