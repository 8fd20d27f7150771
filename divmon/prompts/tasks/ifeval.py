"""Instructions with constraints that a program can check (Zhou et al. 2023)."""

from __future__ import annotations

from divmon.prompts.tasks import Task


def ifeval() -> Task:
    """IFEval as the paper prompts it: the bare prompt, graded by whether every constraint is met (strict)."""
    return Task(
        name="ifeval",
        category="instruction",
        dataset="google/IFEval",
        subset="default",
        split="train",
        rows=541,
        prompt=lambda row: row["prompt"],
        id_field="key",
        max_new_tokens=1024,
        verifier="ifeval",
    )
