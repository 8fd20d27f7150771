"""The miniature's requests for a story (`divmon.lineages.miniature`), of the tenth that no training data asks."""

from __future__ import annotations

from pathlib import Path

from divmon.prompts.tasks import Task


def stories() -> Task:
    """A name and a thing to tell of in a line or two, with no right answer; for models of divmon's replays."""
    return Task(
        name="stories",
        file=Path(__file__).with_name("stories.jsonl"),
        prompt=lambda row: row["prompt"],
        category_field="category",  # of no group: groups are of real tasks
        rows=40,
        max_new_tokens=80,
    )
