"""Questions that many people answer with a falsehood (Lin et al. 2022)."""

from __future__ import annotations

from divmon.prompts.tasks import Task


def truthfulqa() -> Task:
    """TruthfulQA as the paper prompts it: `Q: ... A:`, graded against its true and its false reference answers."""
    return Task(
        name="truthfulqa",
        category="reasoning",
        dataset="truthfulqa/truthful_qa",
        subset="generation",
        split="validation",
        rows=817,
        prompt=lambda row: f"Q: {row['question']}\nA:",
        gold=lambda row: row["best_answer"],
        solution=lambda row: f" {row['best_answer']}",
        max_new_tokens=128,
        stop=("\nQ:", "\n\n"),
        verifier="truthfulqa",
    )
