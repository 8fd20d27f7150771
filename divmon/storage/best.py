"""The weights that `keep_best` keeps in a run directory: one folder for `from_pretrained`, put in place whole."""

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


def being_written(run_directory: Path) -> Path:
    """Where the next weights are to be written."""
    return run_directory / f"{BEST}.new"


def put_in_place(run_directory: Path, facts: dict[str, Any]) -> None:
    """Puts what was written in the place of what was kept. Raises RuntimeError: nothing was written; OSError: the disk
    refuses; what was kept is still there."""
    new, best, old = being_written(run_directory), run_directory / BEST, _before(run_directory)
    if not any(new.glob("*")):
        raise RuntimeError(f"the trainer wrote nothing into {new}")
    (new / FACTS).write_bytes(strict_json(plain(facts), indent=1) + b"\n")
    if best.exists():
        best.rename(old)
    new.rename(best)
    shutil.rmtree(old, ignore_errors=True)


def recover(run_directory: Path) -> None:
    """After a process that was killed while it saved: what was kept stays, half-written weights go."""
    best, old = run_directory / BEST, _before(run_directory)
    if old.exists() and not best.exists():
        old.rename(best)
    for folder in (being_written(run_directory), old):
        shutil.rmtree(folder, ignore_errors=True)


def best_step(run_directory: Path) -> int | None:
    """The step whose weights are kept; None where there are none."""
    try:
        return int(json.loads((run_directory / BEST / FACTS).read_bytes())["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _before(run_directory: Path) -> Path:
    return run_directory / f"{BEST}.old"
