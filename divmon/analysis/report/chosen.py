"""Which step of each run to keep: what `keep_best` or a sweep kept, and what the rule of `divmon select` names."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from divmon.analysis.candidates import candidates
from divmon.analysis.comparison.members import Member
from divmon.scoring.best_point import NoChoice, choose
from divmon.storage.best import BEST, FACTS, MIXTURE, MIXTURE_FACTS, facts_of


def chosen(members: Sequence[Member]) -> str:
    """A line per run of several evaluations, as HTML; "" where no run has them."""
    lines = [line for member in members if len(member.run.steps) > 1 for line in _lines(member)]
    if not lines:
        return ""
    listed = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f'<h3>The checkpoint to keep</h3><ul id="chosen">{listed}</ul>'


def _lines(member: Member) -> list[str]:
    run, found = member.run, []
    if sweep := run.manifest.get("sweep"):
        found.append(
            f"{member.name} is a sweep: each step is a model between {sweep['base']} (step 0) and"
            f" {sweep['tuned']} (step 1000); a step is 1000 times the weight of the latter"
        )
    if kept := facts_of(run.folder / BEST, FACTS):
        found.append(f"{member.name}: kept in {BEST}/ while it trained: step {kept.get('step')}; {kept.get('why')}")
    if saved := facts_of(Path(run.folder).parent / MIXTURE, MIXTURE_FACTS) if sweep else {}:
        return [*found, f"{member.name}: saved in {MIXTURE}/: alpha {saved.get('alpha')}; {saved.get('why')}"]
    try:
        points, _ = candidates(run, curves=member.curves)
        trained = [point for point in points if sweep or point.step != run.manifest.get("reference_step", 0)]
        choice = choose(trained)
        found.append(f"{member.name}: the rule of divmon select names {choice.point}; {choice.why}")
    except (NoChoice, ValueError) as reason:  # ValueError: a damaged snapshot, which is among the run's problems
        found.append(f"{member.name}: the rule of divmon select names none: {reason}")
    return found
