"""Each run's training data beside its result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from divmon.comparison.members import Member

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
    """A row a source of the run's data, and once more for each stage or resume that names other data.

    `sbert` is how far the source's own completions are apart, `warning` what was said of the mixture.
    """
    manifest, before = member.run.manifest, None
    for segment in (manifest, *manifest.get("resumed", ())):
        data = segment.get("composition")
        if not data or data.get("fingerprint") == before:
            continue
        before = data.get("fingerprint")
        for source in data.get("sources", ()):
            yield {
                "run": member.name,
                "group": member.group,
                "from_step": segment.get("step", 0),
                "source": source["name"],
                "rows": source["rows"],
                "row_share": source["rows"] / max(data["rows"], 1),
                "tokens": source["tokens"],
                "token_share": source["tokens"] / max(data["tokens"], 1),
                "unit": data["unit"],
                "sbert": source.get("within", {}).get("sbert"),
                "warning": data.get("warning") or "",
            }
