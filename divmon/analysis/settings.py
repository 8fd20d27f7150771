"""What a snapshot was measured with, and what of it bars a comparison with another (contract 4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from divmon.storage.reader import Run
from divmon.types import Figure

RESCORE = "--rescore scores the stored samples of all runs again, alike"


@dataclass(frozen=True)
class Settings:
    """All that decides a task's figures, but for the model."""

    decoding: dict[str, Any]
    """`max_new_tokens` is the answer's limit; what is scored is the answer alone, so room to reason stands apart."""
    reasoning_tokens: int
    """Room to reason on top."""
    num_samples: int
    """K: figures that depend on the number of samples took the first K."""
    verifier: str | None
    models: dict[str, str]
    """By what needs it ("encoder", "code_encoder", "nli"), the model in use."""
    vocab_size: int | None
    """Of the tokenizer, which EAD counts with."""
    chat: bool | None = None
    """Whether prompts went through a chat template; None where it is not recorded."""
    chat_stops_chosen: bool = False
    """Stop strings in chat were set for chat: versions that knew no such choice cut chat answers by accident."""


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
    segment = run.manifest
    for resumed in run.manifest.get("resumed", ()):
        if resumed["step"] < step:
            segment = {**segment, **resumed}
    facts, options = run.provenance[step], segment.get("options", {})
    probe = task if task in facts.get("decoding", {}) else task.removesuffix("-full")
    decoding = dict(facts.get("decoding", {}).get(probe) or segment.get("decoding", {}).get(probe, {}))
    probes = {p["name"]: p for p in run.manifest.get("probes", ())}
    total = int(decoding.get("max_new_tokens", 0))
    answer = int(options.get("max_new_tokens") or probes.get(probe, {}).get("max_new_tokens") or total)
    reasons = total == answer + options.get("max_reasoning_tokens", 0)
    return Settings(
        decoding=decoding | ({"max_new_tokens": answer} if reasons else {}),
        reasoning_tokens=total - answer if reasons else 0,
        num_samples=int(options.get("num_samples") or _fewest_drawn(run)),
        verifier=segment.get("verifiers", {}).get(probe),
        models=segment.get("encoders", {}),
        vocab_size=facts.get("vocab_size", segment.get("vocab_size")),
        chat=segment.get("chat"),
        chat_stops_chosen="chat_stop" in probes.get(probe, {}),
    )


def _other_decoding(first: Settings, second: Settings) -> Iterator[Obstacle]:
    """At most one: all that differs in how samples were generated."""
    names = sorted((first.decoding.keys() | second.decoding.keys()) - {"stop"})
    differ = [name for name in names if first.decoding.get(name) != second.decoding.get(name)]
    again = [f"{name}={first.decoding.get(name)!r}" for name in differ]
    sides = [[f"{name} {s.decoding.get(name, 'unknown')!r}" for name in differ] for s in (first, second)]
    stops_differ = not _end_alike(first, second)
    if stops_differ:
        for side, took in zip(sides, (first, second), strict=True):
            form = {True: " in chat", False: " in plain text", None: ""}[took.chat]
            side.append(f"stop {took.decoding.get('stop', 'unknown')!r}{form}")
    if differ or stops_differ:
        of_probe = ", with stop strings that fit (`stop`, `chat_stop` of a probe or its rows)" if stops_differ else ""
        yield Obstacle(
            "decoding",
            ", ".join(sides[0]),
            ", ".join(sides[1]),
            "samples drawn under other limits cannot be made alike: measure the checkpoints again with the same"
            f" decoding, DiversityMonitor({', '.join(['probes', *again, 'output_dir=...'])}).measure(model, tokenizer,"
            f" step){of_probe}",
        )


def _end_alike(first: Settings, second: Settings) -> bool:
    """Whether answers end by the same rule: the same stop strings in the same form.

    Between chat and plain text, as of a base model and its chat-tuned descendants, the end of a turn stands for the
    plain prompts' stop strings (the paper's harness), so chat has none; or both have the same, set for chat too.
    """
    stops = [tuple(s.decoding.get("stop") or ()) for s in (first, second)]
    if first.chat == second.chat or None in (first.chat, second.chat):
        return stops[0] == stops[1]
    chat, in_chat = (first, stops[0]) if first.chat else (second, stops[1])
    return not in_chat or (chat.chat_stops_chosen and stops[0] == stops[1])


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
        yield Obstacle("verifier", first.verifier, second.verifier, f"{RESCORE}, judged by {first.verifier}")
    for cost in sorted(first.models.keys() | second.models.keys()):
        models = first.models.get(cost, "unknown"), second.models.get(cost, "unknown")
        if models[0] != models[1]:
            yield Obstacle(
                cost, models[0], models[1], f"{RESCORE}, with {models[0]} (--rescore MODEL with another text encoder)"
            )
    if first.vocab_size != second.vocab_size:
        yield Obstacle("vocab_size", first.vocab_size, second.vocab_size, RESCORE)
