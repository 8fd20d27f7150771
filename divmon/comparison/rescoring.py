"""Stored samples -> scores, once more: what runs were scored with can be made alike, how they were drawn cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from divmon import pipeline
from divmon.comparison.members import Member
from divmon.curves import Curves
from divmon.drawing import Drawing, Request
from divmon.encode import MNLI, UNIXCODER
from divmon.judging import judge
from divmon.plain import plain
from divmon.reading import Run
from divmon.scoring import Scorer
from divmon.settings import settings
from divmon.types import Decoding, Probe, Prompt, RenderedPrompt, Sample, Snapshot, Verdict


class Rescored(Run):
    """A run with the scores that its samples got here; its folder is as it was."""

    def __init__(self, run: Run, manifest: dict[str, Any], snapshots: Sequence[Snapshot]) -> None:
        super().__init__(run.folder, manifest)
        self._snapshots = {snapshot.step: snapshot for snapshot in snapshots}

    @property
    def steps(self) -> list[int]:
        return list(self._snapshots)

    def read(self, step: int) -> Snapshot:
        return self._snapshots[step]

    @cached_property
    def _markers(self) -> dict[int, dict[str, Any]]:  # type: ignore[override]
        return {
            step: {**plain(vars(snapshot) | {"samples": [], "verdicts": []}), "missing": []}
            for step, snapshot in self._snapshots.items()
        }


class _Stored:
    """Draws what was drawn."""

    name = "stored"
    reason = "scored again"

    def __init__(self, snapshot: Snapshot) -> None:
        self._drawing = Drawing(snapshot.samples, snapshot.missing, snapshot.provenance.get("tokens_drawn", 0))

    def draw(
        self,
        requests: Sequence[Request],
        *,
        seed: int,
        step: int,
        progress: Callable[[int], None] = lambda samples: None,
    ) -> Drawing:
        return self._drawing


def rescored(members: Sequence[Member], embedder: str | None = None) -> tuple[list[Member], list[str]]:
    """The same runs, scored alike: as the first, by the fewest samples that each has, judged by the first's verifiers.

    Args:
        embedder: text encoder; the first run's where None.

    Returns:
        The runs, and notes on steps that had to be left out.

    Raises:
        ValueError, Unavailable: a metric, verifier or model of the first run cannot be had.
    """
    first = members[0].run
    tasks = {task for member in members for task, _ in member.curves.tables}
    of = {m: settings(m.run, m.run.steps[-1], next(iter(sorted(tasks)))) for m in members}
    models = of[members[0]].models | ({"encoder": embedder} if embedder else {})
    scorer = Scorer(
        first.manifest.get("metrics", "auto"),
        categories={prompt.category for probe in first.probes for prompt in probe.prompts},
        embedder=models.get("encoder", "auto"),
        code_embedder=models.get("code_encoder", UNIXCODER),
        nli_model=models.get("nli", MNLI),
        vocab_size=of[members[0]].vocab_size or 50257,
    )
    num_samples = min(one.num_samples for one in of.values())
    verifiers = first.manifest.get("verifiers", {})
    found, notes = [], []
    for member in members:
        run = member.run
        whole = [step for step, facts in run.provenance.items() if not facts.get("texts_cut")]
        if len(whole) < len(run.provenance):
            cut = sorted(set(run.provenance) - set(whole))
            notes.append(
                f"{member.name}: the texts of steps {cut} were shortened or left out by max_chars or max_samples_mb, so"
                " these are not scored again"
            )
        again = Rescored(
            run, _manifest(run, scorer, num_samples, verifiers), _scored(run, whole, scorer, num_samples, verifiers)
        )
        found.append(replace(member, curves=Curves(again)))
    return found, notes


def _manifest(run: Run, scorer: Scorer, num_samples: int, verifiers: dict[str, Any]) -> dict[str, Any]:
    """What took effect here, in place of what did then."""
    now = {
        "encoders": scorer.encoders(),
        "metrics": scorer.names,
        "vocab_size": scorer.resources.vocab_size,
        "verifiers": verifiers,
        "options": {**run.manifest.get("options", {}), "num_samples": num_samples},
    }
    resumed = [{**entry, **now} for entry in run.manifest.get("resumed", ())]
    return {**run.manifest, **now} | ({"resumed": resumed} if resumed else {})


def _scored(
    run: Run, steps: Sequence[int], scorer: Scorer, num_samples: int, verifiers: dict[str, Any]
) -> list[Snapshot]:
    """Every step's samples, by way of the pipeline that they came through."""
    reference, found = None, []
    for step in steps:
        stored = run.read(step)
        decodings = stored.provenance.get("decoding", {})
        snapshot, measured = pipeline.measure(
            run.probes,
            render=lambda probe, prompt: RenderedPrompt(probe.name, prompt.id, "", ()),
            sampler=_Stored(stored),
            scorer=scorer,
            decodings={p.name: Decoding(**_decoding(decodings.get(p.name, {}))) for p in run.probes},
            num_samples=max((sample.index + 1 for sample in stored.samples), default=num_samples),
            comparable_samples=num_samples,
            seed=0,
            step=step,
            judge=_judge(run, stored, verifiers),
            reference=reference,
            full=run.manifest.get("options", {}).get("on") == "full",
        )
        reference = reference or measured
        found.append(replace(snapshot, provenance={**snapshot.provenance, **stored.provenance}))
    return found


def _decoding(stored: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if name == "stop" else value for name, value in stored.items()}


def _judge(run: Run, stored: Snapshot, verifiers: dict[str, Any]) -> Callable[[Probe, Sequence[Sample]], list[Verdict]]:
    """The stored verdicts, where the same verifier gave them; else those of the one asked for."""
    known = {
        (s.task, s.prompt_id, s.index): v for s, v in zip(stored.samples, stored.verdicts, strict=bool(stored.verdicts))
    }

    def verdicts(probe: Probe, samples: Sequence[Sample]) -> list[Verdict]:
        rule = verifiers.get(probe.name)
        if rule == run.manifest.get("verifiers", {}).get(probe.name):
            return [known[s.task, s.prompt_id, s.index] for s in samples] if known else []
        if rule in (None, "None"):
            return []
        prompts: dict[str, Prompt] = {prompt.id: prompt for prompt in probe.prompts}
        return judge(rule, samples, [prompts[sample.prompt_id] for sample in samples])

    return verdicts
