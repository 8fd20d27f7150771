"""The miniature's word problems (`divmon.lineages.miniature`), of the tenth that no training data asks."""

from __future__ import annotations

from pathlib import Path

from divmon.prompts.tasks import Task


def word_problems() -> Task:
    """Two steps of small numbers each, answered after `####`; for models trained by divmon's demo and its replays."""
    return Task(
        name="word_problems",
        file=Path(__file__).with_name("word_problems.jsonl"),
        prompt=lambda row: row["prompt"],
        category_field="category",  # of no group: groups are of real tasks
        rows=64,
        gold=lambda row: row["gold"],
        solution=lambda row: f"#### {row['gold']}",
        max_new_tokens=80,
        verifier="math_answer",
    )
