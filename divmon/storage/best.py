"""Chosen weights in a folder for `from_pretrained`, put in place whole: those of `keep_best`, and of a sweep."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from divmon.types import plain, strict_json

BEST = "best"
"""Name of the folder in the run directory."""
FACTS = "divmon_best.json"
"""In the folder: which step it is, and why it was kept."""
MIXTURE, MIXTURE_FACTS = "model", "divmon_sweep.json"
"""The same of the model that a sweep chose, beside its run directory."""


def being_written(folder: Path, name: str = BEST) -> Path:
    """Where the next weights are to be written."""
    return folder / f"{name}.new"


def put_in_place(folder: Path, facts: dict[str, Any], name: str = BEST, file: str = FACTS) -> None:
    """Puts what was written in the place of what was kept.

    Args:
        facts: plain data, of `BEST` with the `step`; kept in `file`.

    Raises:
        RuntimeError: nothing was written.
        OSError: the disk refuses; what was kept is still there.
    """
    new, best, old = being_written(folder, name), folder / name, _before(folder, name)
    if not any(new.glob("*")):
        raise RuntimeError(f"saving wrote nothing into {new}")
    (new / file).write_bytes(strict_json(plain(facts), indent=1) + b"\n")
    if best.exists():
        best.rename(old)
    new.rename(best)
    shutil.rmtree(old, ignore_errors=True)


def recover(folder: Path, name: str = BEST) -> None:
    """After a process that was killed while it saved: what was kept stays, half-written weights go."""
    best, old = folder / name, _before(folder, name)
    if old.exists() and not best.exists():
        old.rename(best)
    for left in (being_written(folder, name), old):
        shutil.rmtree(left, ignore_errors=True)


def facts_of(folder: Path, file: str = FACTS) -> dict[str, Any]:
    """What was noted of the weights in a folder; nothing where there are none."""
    try:
        found = json.loads((folder / file).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def best_step(run_directory: Path) -> int | None:
    """The step whose weights are kept; None where there are none."""
    try:
        return int(facts_of(run_directory / BEST)["step"])
    except (ValueError, KeyError, TypeError):
        return None


def _before(folder: Path, name: str) -> Path:
    return folder / f"{name}.old"
