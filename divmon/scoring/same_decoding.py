"""How a task's samples were generated, and whether two sets of them were generated alike (contract 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What decides a task's samples, but for the model and their number."""

    decoding: dict[str, Any]
    """`max_new_tokens` is the answer's limit; what is scored is the answer alone, so room to reason stands apart."""
    reasoning_tokens: int
    """Room to reason on top."""
    chat: bool | None = None
    """Whether prompts went through a chat template; None where it is not recorded."""
    chat_stops_chosen: bool = False
    """Stop strings in chat were set for chat: versions that knew no such choice cut chat answers by accident."""


def segment_at(manifest: dict[str, Any], step: int) -> dict[str, Any]:
    """The manifest of the segment of a run, first or resumed, that a step belongs to."""
    for resumed in manifest.get("resumed", ()):
        if resumed["step"] < step:
            manifest = {**manifest, **resumed}
    return manifest


def generated(
    segment: dict[str, Any], probes: Sequence[dict[str, Any]], probe: str, decoding: dict[str, Any] | None = None
) -> Generated:
    """How a probe's samples were generated.

    Args:
        segment: a manifest, as plain data.
        probes: of the run.
        decoding: of the snapshot; the segment's where None.
    """
    options = segment.get("options", {})
    known = {p["name"]: p for p in probes}.get(probe, {})
    decoding = dict(decoding or segment.get("decoding", {}).get(probe, {}))
    total = int(decoding.get("max_new_tokens", 0))
    answer = int(options.get("max_new_tokens") or known.get("max_new_tokens") or total)
    reasons = total == answer + options.get("max_reasoning_tokens", 0)
    return Generated(
        decoding=decoding | ({"max_new_tokens": answer} if reasons else {}),
        reasoning_tokens=total - answer if reasons else 0,
        chat=segment.get("chat"),
        chat_stops_chosen="chat_stop" in known,
    )


def differing(first: Generated, second: Generated) -> list[str]:
    """What of the decoding differs; "stop", the last, where answers end by other rules."""
    names = sorted((first.decoding.keys() | second.decoding.keys()) - {"stop"})
    differ = [name for name in names if first.decoding.get(name) != second.decoding.get(name)]
    return differ if end_alike(first, second) else [*differ, "stop"]


def described(took: Generated, names: Sequence[str]) -> str:
    """These of the decoding, for a message."""
    form = {True: " in chat", False: " in plain text", None: ""}[took.chat]
    return ", ".join(f"{name} {took.decoding.get(name, 'unknown')!r}{form if name == 'stop' else ''}" for name in names)


def end_alike(first: Generated, second: Generated) -> bool:
    """Whether answers end by the same rule: the same stop strings in the same form.

    Between chat and plain text, as of a base model and its chat-tuned descendants, the end of a turn stands for the
    plain prompts' stop strings (the paper's harness), so chat has none; or both have the same, set for chat too.
    """
    stops = [tuple(side.decoding.get("stop") or ()) for side in (first, second)]
    if first.chat == second.chat or None in (first.chat, second.chat):
        return stops[0] == stops[1]
    chat, in_chat = (first, stops[0]) if first.chat else (second, stops[1])
    return not in_chat or (chat.chat_stops_chosen and stops[0] == stops[1])
