"""Run directories without training, for tests: by given values, or by texts that go through the real pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from divmon.pipeline import Pipeline
from divmon.sampling import Drawing, Request
from divmon.scoring.intervals import jackknife
from divmon.scoring.scorer import Scorer
from divmon.storage.writer import Store
from divmon.types import Decoding, Probe, Prompt, RenderedPrompt, Sample, Score, Snapshot, Verdict

DECODING = {"max_new_tokens": 64, "temperature": 0.6, "top_p": 0.95, "stop": ()}
MODELS = {"encoder": "minilm"}


def probe(name: str, prompts: int, first: int = 0) -> Probe:
    asked = tuple(Prompt(f"p{i}", f"What is {i} plus 1?", gold=str(i + 1)) for i in range(first, first + prompts))
    return Probe(name, asked, max_new_tokens=64, verifier="value_match")


def manifest(probes: Sequence[Probe], **facts: Any) -> dict[str, Any]:
    return {
        "probes": list(probes),
        "options": {"num_samples": 8, "max_new_tokens": None, "max_reasoning_tokens": 2048},
        "decoding": {p.name: DECODING for p in probes},
        "verifiers": {p.name: "value_match" for p in probes},
        "encoders": MODELS,
        "vocab_size": 400,
        "model": "tiny",
        **facts,
    }


def provenance(probes: Sequence[Probe], **facts: Any) -> dict[str, Any]:
    return {"num_samples": 8, "decoding": {p.name: DECODING for p in probes}, **facts}


def write(
    folder: Path,
    steps: Sequence[int],
    values: Mapping[tuple[str, str], Any],
    *,
    first: int = 0,
    facts: Mapping[int, Mapping[str, Any]] | None = None,
    resumed: tuple[int, Mapping[str, Any]] | None = None,
    **of_manifest: Any,
) -> Path:
    """A run whose figures are given.

    Args:
        values: (task, figure) -> [S, P] of every step and prompt.
        first: number of the first prompt; prompts of the same number are the same in every run.
        facts: step -> further provenance.
        resumed: the step of the checkpoint that it went on from, and what its manifest said then.
    """
    arrays = {key: np.asarray(value, dtype=float) for key, value in values.items()}
    probes = [
        probe(task, next(v.shape[1] for (name, _), v in arrays.items() if name == task), first)
        for task in dict.fromkeys(task for task, _ in arrays)
    ]
    store = Store(folder).open(manifest(probes, **of_manifest))
    for s, step in enumerate(steps):
        if resumed and step > resumed[0] and not store.manifest.get("resumed"):
            store.close()
            store = Store(folder).open(manifest(probes, **resumed[1]), resume_step=resumed[0])
        scores = []
        for (task, figure), value_SP in arrays.items():
            i = jackknife("harmonic_mean" if figure == "vendi2_at8" else "mean", value_SP[s])
            scores.append(Score(task, figure, i.value, i.low, i.high, i.n, tuple(value_SP[s].tolist())))
        known = provenance(probes) | dict((facts or {}).get(step, {}))
        store.write(Snapshot(step, [], scores=scores, provenance=known))
    store.close()
    return folder


Draw = Callable[[int, Prompt, int], tuple[str, bool]]
"""Of step, prompt and sample number: the text, and whether it is right."""


class Drawn:
    """An engine whose texts a function gives."""

    name, reason = "drawn", "a test's own"

    def __init__(self, task: Probe, draw: Draw) -> None:
        self.prompts, self.text = {prompt.id: prompt for prompt in task.prompts}, draw

    def draw(
        self, requests: Sequence[Request], *, seed: int, step: int, progress: Callable[[int], None] = print
    ) -> Drawing:
        return Drawing(
            [
                Sample(r.prompt.task, r.prompt.id, k, self.text(step, self.prompts[r.prompt.id], k)[0], "eos", 3)
                for r in requests
                for k in range(r.num_samples)
            ]
        )


def draw(
    folder: Path,
    steps: Sequence[int],
    text: Draw,
    scorer: Scorer,
    *,
    prompts: int = 12,
    num_samples: int = 8,
    **of_store: Any,
) -> Path:
    """A run whose samples are given and went through the pipeline: scored, judged, decomposed, stored."""
    task = probe("sums", prompts)
    engine = Drawn(task, text)

    def judge(asked: Probe, samples: Sequence[Sample]) -> list[Verdict]:
        known = {prompt.id: prompt for prompt in asked.prompts}
        return [Verdict(text(step, known[s.prompt_id], s.index)[1], answer=s.text) for s in samples]

    decoding = Decoding(**DECODING)
    rendered = [RenderedPrompt(task.name, prompt.id, str(prompt.content), (1, 2)) for prompt in task.prompts]
    options = {"num_samples": num_samples, "max_new_tokens": None, "max_reasoning_tokens": 2048}
    facts = {"options": options, "encoders": scorer.encoders(), "metrics": scorer.names}
    facts["vocab_size"] = scorer.resources.vocab_size
    with Store(folder, **of_store).open(manifest([task], **facts)) as store:
        reference = None
        for step in steps:
            wide = num_samples if reference else 2 * num_samples
            requests = [Request(prompt, decoding, wide) for prompt in rendered]
            measured = Pipeline(scorer, judge, num_samples).measure([task], requests, engine, step, reference=reference)
            snapshot, reference = measured.snapshot, reference or measured
            snapshot.provenance.update(examples=16 * step, tokens=100 * step or None)
            store.write(snapshot)
    return folder
