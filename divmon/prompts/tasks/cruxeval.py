"""What a short Python function returns for an input (Gu et al. 2024)."""

from __future__ import annotations

from divmon.prompts.tasks import Task


def cruxeval() -> Task:
    """CRUXEval's output prediction as the paper prompts it, graded by the value that is named."""
    return Task(
        name="cruxeval",
        category="code",
        dataset="cruxeval-org/cruxeval",
        split="test",
        rows=800,
        prompt=lambda row: (
            f"Given the following Python function:\n\n```python\n{row['code']}\n```\n\n"
            f"What is the output of `f({row['input']})`?\n\nAnswer:"
        ),
        gold=lambda row: row["output"],
        solution=lambda row: f" {row['output']}",
        id_field="id",
        max_new_tokens=512,
        stop=("\nGiven",),
        verifier="value_match",
    )
