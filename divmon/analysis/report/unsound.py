"""What comes before any word on diversity: completions that are no text to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from divmon.analysis.comparison.members import Member
from divmon.analysis.report.wording import listed

if TYPE_CHECKING:
    from divmon.analysis.comparison.compare import Comparison
    from divmon.scoring.alerts import Alert

DEGENERATE = {"repetition": "repeat themselves", "length": "are empty or do not end"}
UNSOUND = {"truncation": "are truncated before their answer", "sampler": "may not come from the prompts"}
"""Kinds of alerts that come before any word on diversity, and what is wrong with the completions."""


def kinds_of(alerts: Mapping[str, Sequence[Alert]], member: Member, kinds: Mapping[str, str]) -> list[Alert]:
    return [alert for alert in alerts.get(member.name, ()) if alert.kind in kinds]


def unsound(c: Comparison, alerts: Mapping[str, Sequence[Alert]]) -> list[tuple[str, str, str]]:
    """What leads where completions are no text to compare."""
    found: list[tuple[str, str, str]] = []
    for question, kinds, verb in (
        ("Is the text sound?", DEGENERATE, "degenerated"),
        ("Can the figures be trusted?", UNSOUND, "cannot be compared"),
    ):
        short, long = [], []
        for group, runs in c.groups.items():
            fired = [alert for m in runs for alert in kinds_of(alerts, m, kinds)]
            if fired:
                said = listed(list(dict.fromkeys(kinds[a.kind] for a in fired)))
                tasks = listed([task for task in dict.fromkeys(a.task for a in fired) if task])
                on = f" on {tasks}" if tasks else ""
                short.append(f"{group} {verb}{on} from step {min(a.step for a in fired)} on.")
                long.append(f"The completions of {group} {said}. {next(a for a in fired).text}")
        if short:
            found.append((question, " ".join(short), " ".join(long)))
    return found
