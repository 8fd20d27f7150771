"""Python functions to complete from their signature and docstring (Chen et al. 2021)."""

from __future__ import annotations

from divmon.prompts.tasks import Task


def humaneval() -> Task:
    """HumanEval as the paper prompts it: the bare prompt, graded by its unit tests."""
    return Task(
        name="humaneval",
        category="code",
        dataset="openai/openai_humaneval",
        subset="openai_humaneval",
        split="test",
        rows=164,
        prompt=lambda row: row["prompt"],
        solution=lambda row: row["canonical_solution"],
        id_field="task_id",
        max_new_tokens=512,
        stop=("\nclass ", "\ndef ", "\n#", "\nif __name__"),
        verifier="python_tests",
    )
