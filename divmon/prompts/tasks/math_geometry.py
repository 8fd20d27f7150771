"""Competition problems in geometry (Hendrycks et al. 2021)."""

from __future__ import annotations

from divmon.prompts.tasks import Task
from divmon.prompts.tasks._rows import last_box


def math_geometry() -> Task:
    """MATH's geometry as the paper prompts it: `Problem: ... Solution:`, graded by the boxed answer."""
    return Task(
        name="math_geometry",
        category="reasoning",
        dataset="EleutherAI/hendrycks_math",
        subset="geometry",
        split="test",
        rows=479,
        prompt=lambda row: f"Problem: {row['problem']}\n\nSolution:",
        gold=lambda row: last_box(row["solution"]),
        solution=lambda row: row["solution"],
        max_new_tokens=512,
        stop=("\nProblem:",),
        verifier="math_answer",
    )
