"""Competition problems in algebra (Hendrycks et al. 2021)."""

from __future__ import annotations

from divmon.prompts.tasks import Task
from divmon.prompts.tasks._rows import last_box


def math_algebra() -> Task:
    """MATH's algebra as the paper prompts it: `Problem: ... Solution:`, graded by the boxed answer."""
    return Task(
        name="math_algebra",
        category="reasoning",
        dataset="EleutherAI/hendrycks_math",
        subset="algebra",
        split="test",
        rows=1_187,
        prompt=lambda row: f"Problem: {row['problem']}\n\nSolution:",
        gold=lambda row: last_box(row["solution"]),
        solution=lambda row: row["solution"],
        max_new_tokens=512,
        stop=("\nProblem:",),
        verifier="math_answer",
    )
