"""What a snapshot was measured with, and what of it bars a comparison with another (contract 4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from divmon.scoring.same_decoding import Generated, described, differing, generated, segment_at
from divmon.storage.reader import Run
from divmon.types import Figure

RESCORE = "--rescore scores the stored samples of all runs again, alike"


@dataclass(frozen=True, kw_only=True)
class Settings(Generated):
    """All that decides a task's figures, but for the model."""

    num_samples: int
    """K: figures that depend on the number of samples took the first K."""
    verifier: str | None
    models: dict[str, str]
    """By what needs it ("encoder", "code_encoder", "nli"), the model in use."""
    vocab_size: int | None
    """Of the tokenizer, which EAD counts with."""


@dataclass(frozen=True)
class Obstacle:
    """Why two snapshots cannot be compared."""

    what: str
    """decoding, num_samples, verifier, encoder, code_encoder, nli, vocab_size."""
    first: Any
    second: Any
    remedy: str

    @property
    def bars_all(self) -> bool:
        """Whether no figure may be compared."""
        return self.what in ("decoding", "num_samples")

    def bars(self, figure: Figure) -> bool:
        """Whether this figure hangs on it."""
        return self.bars_all or self.what in figure.needs

    def __str__(self) -> str:
        return f"{self.what} differs: {self.first} and {self.second}"


def settings(run: Run, step: int, task: str) -> Settings:
    """What took effect at a step: its own provenance, and the manifest of the segment of the run that it belongs to."""
    segment, facts = segment_at(run.manifest, step), run.provenance[step]
    probe = task if task in facts.get("decoding", {}) else task.removesuffix("-full")
    took = generated(segment, run.manifest.get("probes", ()), probe, facts.get("decoding", {}).get(probe))
    return Settings(
        **vars(took),
        num_samples=int(segment.get("options", {}).get("num_samples") or _fewest_drawn(run)),
        verifier=segment.get("verifiers", {}).get(probe),
        models=segment.get("encoders", {}),
        vocab_size=facts.get("vocab_size", segment.get("vocab_size")),
    )


def _other_decoding(first: Settings, second: Settings) -> Iterator[Obstacle]:
    """At most one: all that differs in how samples were generated."""
    differ = differing(first, second)
    if not differ:
        return
    again = [f"{name}={first.decoding.get(name)!r}" for name in differ if name != "stop"]
    of_probe = ", with stop strings that fit (`stop`, `chat_stop` of a probe or its rows)" if "stop" in differ else ""
    yield Obstacle(
        "decoding",
        described(first, differ),
        described(second, differ),
        "samples drawn under other limits cannot be made alike: measure the checkpoints again with the same"
        f" decoding, DiversityMonitor({', '.join(['probes', *again, 'output_dir=...'])}).measure(model, tokenizer,"
        f" step){of_probe}",
    )


def _fewest_drawn(run: Run) -> int:
    """K of a run whose options do not say it: the reference may have more."""
    return min((int(facts["num_samples"]) for facts in run.provenance.values() if "num_samples" in facts), default=0)


def obstacles(first: Settings, second: Settings) -> Iterator[Obstacle]:
    """What differs between two that bars some figure or all."""
    yield from _other_decoding(first, second)
    if first.num_samples != second.num_samples:
        fewer = min(first.num_samples, second.num_samples)
        yield Obstacle(
            "num_samples",
            first.num_samples,
            second.num_samples,
            f"{RESCORE}, by the first {fewer} samples of each prompt",
        )
    if first.verifier != second.verifier:
        yield Obstacle("verifier", first.verifier, second.verifier, f"{RESCORE}, graded by {first.verifier}")
    for cost in sorted(first.models.keys() | second.models.keys()):
        models = first.models.get(cost, "unknown"), second.models.get(cost, "unknown")
        if models[0] != models[1]:
            again = f"{RESCORE}, with {models[0]} (--rescore MODEL with another text encoder)"
            again = "measure both with one judge: --rescore asks none" if cost == "judge" else again
            yield Obstacle(cost, models[0], models[1], again)
    if first.vocab_size != second.vocab_size:
        yield Obstacle("vocab_size", first.vocab_size, second.vocab_size, RESCORE)
