"""Prints the time that each stage of a replay took."""

from __future__ import annotations

from typing import TYPE_CHECKING

from divmon.storage.reader import list_steps, read_run

if TYPE_CHECKING:
    from divmon.lineages.replay.lineage import Lineage

PHASES = ("sampling", "grading", "scoring")


def timetable(lineage: Lineage) -> str:
    """One line per stage that was run: its seconds, and the seconds of each phase of measuring.

    The rest of a stage is training, loading, and embedding the base model's answers again.
    """
    lines = [f"  {'stage':12}{'steps':>7}{'seconds':>9}{'snapshots':>11}" + "".join(f"{name:>10}" for name in PHASES)]
    run = read_run(lineage.run_directory) if list_steps(lineage.run_directory) else None
    total = 0.0
    for stage in lineage.recipe.stages.values():
        record = lineage.record_of(stage)
        if "seconds" not in record:
            continue
        took = [p.get("seconds", {}) for p in (run.provenance.values() if run else ()) if p.get("stage") == stage.name]
        total += record["seconds"]
        phases = "".join(f"{sum(phase.get(name, 0.0) for phase in took):>10.1f}" for name in PHASES)
        lines.append(f"  {stage.name:12}{record.get('steps', 0):>7,}{record['seconds']:>9.1f}{len(took):>11}{phases}")
    return "\n".join([*lines, f"  {'all':12}{total:>16.1f}"])
