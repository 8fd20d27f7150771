"""A run that continues an earlier training: with its reference where that still compares, else with a new one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from divmon.storage.writer import Store
from divmon.types import Snapshot, plain

T = TypeVar("T")

DECIDE = ("temperature", "top_p", "num_samples", "max_new_tokens", "seed")
"""Options by which figures of other samples would be compared with one another."""
UNREADABLE = (ValueError, KeyError, IndexError, TypeError, AttributeError)
"""Of a stored reference whose content is not what divmon writes."""


def reference_to_go_on_with(
    store: Store, record: Mapping[str, Any], step: int, restored: Callable[[Snapshot], T]
) -> T | None:
    """The reference of the run in an open store; None where the next snapshot is one.

    Settings that differ from those before, or a reference that is damaged, begin a new segment of the run, which is
    said: its changes and alerts have a reference of their own, and training goes on.

    Args:
        record: the manifest of this training.
        step: that it resumes from; 0 of a fresh start.
        restored: makes a reference of a stored snapshot.
    """
    if differ := list(_differences(store.manifest, plain(dict(record)))):
        store.begin_segment(step, f"{', '.join(differ)}; samples under other settings cannot be compared")
    return stored_reference(store, step, restored)


def stored_reference(store: Store, step: int, restored: Callable[[Snapshot], T]) -> T | None:
    """The same without a look at the settings."""
    try:
        read = store.reference()
        return None if read is None else restored(read)
    except UNREADABLE as error:
        lost = int(store.manifest.get("reference_step", min(store.steps())))
        store.begin_segment(step, f"the reference, step {lost}, cannot be read ({error})", lost=lost)
        return None


def _differences(manifest: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What decides the figures and is not as it was before the resume, in words."""
    *earlier, last = manifest.get("resumed") or [None]
    if last is None:
        return
    before: dict[str, Any] = {}
    for segment in (manifest, *earlier):
        before |= segment
    for name in DECIDE:
        then, today = (one.get("options", {}).get(name) for one in (before, now))
        if name in before.get("options", {}) and then != today:
            yield f"{name} was {then} and is {today}"
    for kind in ("encoders", "verifiers"):
        then, today = before.get(kind) or {}, now.get(kind) or {}
        for key in sorted(then.keys() & today.keys()):
            if then[key] != today[key]:
                yield f"the {kind.removesuffix('s')} of {key} was {then[key]} and is {today[key]}"


def new_metrics(manifest: Mapping[str, Any], names: list[str]) -> str:
    """A line for a person on metrics that the run did not have before; "" where there are none.

    Each metric is compared with itself alone, so the others go on; these have no change since the reference.
    """
    *_, last = [manifest, *(manifest.get("resumed") or [])][:-1] or [None]
    known = (last or {}).get("metrics")
    added = [] if known is None else [name for name in names if name not in known]
    gone = [] if known is None else [name for name in known if name not in names]
    said = [f"{', '.join(added)} measured from here on, without a change since the reference"] if added else []
    said += [f"{', '.join(gone)} no longer measured"] if gone else []
    return f"divmon: metrics are not those before the resume: {'; '.join(said)}" if said else ""
