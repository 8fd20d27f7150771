"""Prompts of our own that ship with divmon: the default probe, with nothing to download."""

from __future__ import annotations

from pathlib import Path

from divmon.prompts.tasks import Task


def starter() -> Task:
    """64 short prompts over the paper's categories; those with one right number carry it as gold."""
    return Task(
        name="starter",
        file=Path(__file__).with_name("starter.jsonl"),
        prompt=lambda row: row["prompt"],
        rows=64,
        gold=lambda row: row.get("gold"),
        solution=lambda row: f"Answer: {row['gold']}",
        id_field="id",
        category_field="category",
        max_new_tokens=256,
        verifier="math_answer",
    )
