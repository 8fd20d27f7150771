"""Each run's training data beside its result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from divmon.analysis.comparison.members import Member

COLUMNS = (
    "run",
    "group",
    "from_step",
    "source",
    "rows",
    "row_share",
    "tokens",
    "token_share",
    "unit",
    "sbert",
    "warning",
)


def compositions(member: Member) -> Iterator[dict[str, Any]]:
    """A row a source of the data of each stage, from the step it began at; of records without it, its first snapshot's.

    `sbert` is how far the source's own completions are apart, `warning` what was said of the mixture.
    """
    stage = member.curves.positions["stage"]
    for name, data in (member.run.manifest.get("data") or {}).items():
        for source in data.get("sources", ()):
            yield {
                "run": member.name,
                "group": member.group,
                "from_step": int(data.get("from_step", min(stage.index[stage == name], default=0))),
                "source": source["name"],
                "rows": source["rows"],
                "row_share": source["rows"] / max(data["rows"], 1),
                "tokens": source["tokens"],
                "token_share": source["tokens"] / max(data["tokens"], 1),
                "unit": data["unit"],
                "sbert": source.get("within", {}).get("sbert"),
                "warning": data.get("warning") or "",
            }
