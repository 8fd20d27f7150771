"""Prints the time that each stage of a replay took."""

from __future__ import annotations

from typing import TYPE_CHECKING

from divmon.loggers.terminal import Table
from divmon.storage.reader import list_steps, read_run

if TYPE_CHECKING:
    from divmon.lineages.replay.lineage import Lineage

PHASES = ("sampling", "grading", "scoring")


def timetable(lineage: Lineage) -> Table:
    """One line per stage that was run: its seconds, and the seconds of each phase of measuring.

    The rest of a stage is training, loading, and embedding the base model's answers again.
    """
    rows: list[list[object]] = []
    run = read_run(lineage.run_directory) if list_steps(lineage.run_directory) else None
    total = 0.0
    for stage in lineage.recipe.stages.values():
        record = lineage.record_of(stage)
        if "seconds" not in record:
            continue
        took = [p.get("seconds", {}) for p in (run.provenance.values() if run else ()) if p.get("stage") == stage.name]
        total += record["seconds"]
        phases = [f"{sum(phase.get(name, 0.0) for phase in took):.1f}" for name in PHASES]
        rows.append([stage.name, f"{record.get('steps', 0):,}", f"{record['seconds']:.1f}", len(took), *phases])
    return Table(["stage", "steps", "seconds", "snapshots", *PHASES], [*rows, ["all", "", f"{total:.1f}"]])
