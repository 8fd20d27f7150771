"""Resuming a damaged run: damaged parts are put aside under a name of their own, the rest is kept."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from divmon import __version__
from divmon.storage import reader
from divmon.storage.files import now, unused
from divmon.storage.manifest import FORMAT, TooNew, asked, checked_manifest
from divmon.storage.snapshot_files import marker_path, read_samples, samples_path


@dataclass
class Found:
    """The manifest that a run is resumed with, None where it begins anew; and lines for a person."""

    manifest: dict[str, Any] | None
    said: list[str] = field(default_factory=list)


def manifest_to_resume(folder: Path, given: dict[str, Any], step: int) -> Found:
    """The manifest there is or, where it is damaged, one of what can be read of it and what is given now. Raises
    TooNew: a newer divmon wrote it; nothing was changed."""
    try:
        manifest, faults = checked_manifest(folder)
    except TooNew:
        raise
    except ValueError as error:
        manifest, faults = {}, [str(error)]
    if not faults:
        return Found(manifest)
    aside = unused(folder / f"manifest-damaged-{_stamp()}.json")
    (folder / "manifest.json").rename(aside)
    why = f"the manifest was damaged and is now {aside.name} ({'; '.join(faults)})"
    if not _same_prompts(folder, given):
        return Found(None, [f"divmon: {why}; its snapshots answer other prompts, so the run begins anew"])
    if asked(manifest) != asked(given):
        manifest = {**given, "format": FORMAT, "divmon": __version__, "created": now()}
    failures = [*manifest.get("failures", []), {"step": step, "reason": why, "what": "the manifest"}]
    segments = [*manifest.get("segments", []), {"step": step, "why": why}]
    said = f"divmon: {why}; snapshots are kept, and from step {step} on changes are compared with a new reference"
    return Found({**manifest, "failures": failures, "segments": segments}, [said])


def put_aside(folder: Path, step: int) -> Path:
    """Moves a snapshot to a folder of its own below `damaged/`, which is returned."""
    aside = unused(folder / "damaged" / _stamp())
    aside.mkdir(parents=True)
    for file in (samples_path(folder, step), marker_path(folder, step)):
        if file.exists():
            file.rename(aside / file.name)
    return aside


def _same_prompts(folder: Path, given: dict[str, Any]) -> bool:
    """Whether the first snapshot that can be read answers prompts of the probes that are given; True where none can."""
    prompts = {(probe["name"], prompt["id"]) for probe in given.get("probes", ()) for prompt in probe["prompts"]}
    for step in reader.list_steps(folder):
        with contextlib.suppress(ValueError):
            answered = {(row["task"], row["prompt_id"]) for row in read_samples(folder, step)}
            return answered <= prompts
    return True


def _stamp() -> str:
    return now().replace(":", "-")
