"""Stored samples -> scores, once more: what runs were scored with can be made alike, how they were drawn cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from divmon.analysis.comparability import settings
from divmon.analysis.comparison.members import Member
from divmon.analysis.curves import Curves
from divmon.grading.grader import judge
from divmon.pipeline import Grader, Pipeline
from divmon.sampling import Request
from divmon.sampling.engines.replay import Replay
from divmon.scoring import metrics
from divmon.scoring.encoders import MNLI, UNIXCODER
from divmon.scoring.reference import Measurement
from divmon.scoring.scorer import Scorer
from divmon.storage.reader import Run
from divmon.types import Decoding, Probe, Prompt, RenderedPrompt, Sample, Snapshot, Verdict, plain


class Rescored(Run):
    """A run with the scores that its samples got here; its folder is as it was."""

    def __init__(self, run: Run, manifest: dict[str, Any], measured: Sequence[Measurement]) -> None:
        super().__init__(run.folder, manifest)
        self._damaged = run._damaged
        self.measured = {one.snapshot.step: one for one in measured}
        """By step the snapshot, with its pair distances and verdicts."""

    @property
    def steps(self) -> list[int]:
        return list(self.measured)

    def read(self, step: int, *, samples: bool = True) -> Snapshot:
        return self.measured[step].snapshot

    @cached_property
    def _markers(self) -> dict[int, dict[str, Any]]:  # type: ignore[override]
        return {
            step: {**plain(vars(one.snapshot) | {"samples": []}), "missing": []} for step, one in self.measured.items()
        }


def rescored(members: Sequence[Member], embedder: str | None = None) -> list[Member]:
    """The same runs, scored alike: as the first, by the fewest samples that each has, graded by the first's verifiers.

    A prompt whose texts the store shortened or left out is missing. Raises ValueError, Unavailable: a metric, verifier
    or model of the first run cannot be had.
    """
    first = members[0].run
    of = [settings(m.run, m.run.steps[-1], next(iter(m.curves.tables), ("", ""))[0]) for m in members]
    models = of[0].models | ({"encoder": embedder} if embedder else {})
    known = metrics.available()  # of a user's file only the name is recorded, of a judge no more than its address
    scorer = Scorer(
        [name for name in first.manifest.get("metrics", ()) if name in known and name != "judge_clusters"] or "auto",
        categories={prompt.category for probe in first.probes for prompt in probe.prompts},
        embedder=models.get("encoder", "auto"),
        code_embedder=models.get("code_encoder", UNIXCODER),
        nli_model=models.get("nli", MNLI),
        vocab_size=of[0].vocab_size or 50257,
    )
    num_samples = min(one.num_samples for one in of)
    verifiers = first.manifest.get("verifiers", {})
    found = []
    for member in members:
        now = _manifest(member.run, scorer, num_samples, verifiers)
        again = Rescored(member.run, now, _scored(member.run, scorer, num_samples, verifiers))
        found.append(replace(member, curves=Curves(again)))
    return found


def _manifest(run: Run, scorer: Scorer, num_samples: int, verifiers: dict[str, Any]) -> dict[str, Any]:
    now = {
        "encoders": scorer.encoders(),
        "metrics": scorer.names,
        "vocab_size": scorer.resources.vocab_size,
        "verifiers": verifiers,
        "options": {**run.manifest.get("options", {}), "num_samples": num_samples},
    }
    resumed = [{**entry, **now} for entry in run.manifest.get("resumed", ())]
    return {**run.manifest, **now} | ({"resumed": resumed} if resumed else {})


def _scored(run: Run, scorer: Scorer, num_samples: int, verifiers: dict[str, Any]) -> list[Measurement]:
    """Every step's samples, by way of the pipeline that they came through."""
    reference, found, engine = None, [], Replay(run.folder)
    for step in run.provenance:
        stored = run.read(step)
        full = run.manifest.get("options", {}).get("on") == "full"
        pipeline = Pipeline(scorer, _grader(run, stored, verifiers), num_samples, full=full)
        requests = _requests(run.probes, stored, num_samples)
        measured = pipeline.measure(run.probes, requests, engine, step, reference=reference)
        measured.snapshot.provenance |= stored.provenance
        reference = reference or measured
        found.append(measured)
    return found


def _requests(probes: Sequence[Probe], stored: Snapshot, num_samples: int) -> list[Request]:
    drawn = max((sample.index + 1 for sample in stored.samples), default=num_samples)
    said = stored.provenance.get("decoding", {})
    decodings = {probe.name: Decoding(**_decoding(said.get(probe.name, {}))) for probe in probes}
    return [
        Request(_as_asked(probe, prompt), decodings[probe.name], drawn) for probe in probes for prompt in probe.prompts
    ]


def _as_asked(probe: Probe, prompt: Prompt) -> RenderedPrompt:
    """Enough of a prompt to find its samples by."""
    if isinstance(prompt.content, str):
        return RenderedPrompt(probe.name, prompt.id, prompt.content, ())
    turns = [str(part["content"]) for part in prompt.content if isinstance(part, dict)]
    ids = tuple(part for part in prompt.content if isinstance(part, int))
    return RenderedPrompt(probe.name, prompt.id, "\n".join(turns), ids)


def _decoding(stored: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if name == "stop" else value for name, value in stored.items()}


def _grader(run: Run, stored: Snapshot, verifiers: dict[str, Any]) -> Grader:
    """The stored verdicts, where the same verifier gave them; else those of the one asked for."""
    known = {(s.task, s.prompt_id, s.index): s.verdict for s in stored.samples}

    def verdicts(probe: Probe, samples: Sequence[Sample]) -> list[Verdict]:
        rule = verifiers.get(probe.name)
        if rule == run.manifest.get("verifiers", {}).get(probe.name):
            found = [known[s.task, s.prompt_id, s.index] for s in samples]
            return [verdict for verdict in found if verdict is not None]
        if rule in (None, "None"):
            return []
        prompts: dict[str, Prompt] = {prompt.id: prompt for prompt in probe.prompts}
        return judge(rule, samples, [prompts[sample.prompt_id] for sample in samples])

    return verdicts
